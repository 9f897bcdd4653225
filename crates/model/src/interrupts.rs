//! Interrupts and NMIs: sent, pending, delivered. A timer interrupt comes by itself.
//!
//! Rules: H36 for the sender, H25 and H26 for the target, whose buffers a delivery drains.

use std::ops::Deref;

use crate::cpu_model::IpiOrder;
use crate::features::{Tick, Ticks};
use crate::index::{Cpu, Targets};
use crate::limit::MOST_CPUS;
use crate::progress::{Progress, Stop};
use crate::state::{Interrupt, Pending, State};
use crate::view::{CpuIn, CpuMut};

impl CpuMut<'_> {
    /// Sends an interrupt to CPUs, a bit each.
    pub(crate) fn send(&mut self, targets: Targets, kind: Interrupt) -> Result<Progress<()>, Stop> {
        let machine = self.machine;
        // H36: by the model, no drain: the handler may run before this CPU's earlier stores are seen.
        let waits = machine.cpu_model.ipi == IpiOrder::AfterStores;
        if waits && !self.empties(|readings| readings.uncached) {
            return Ok(Progress::Blocked);
        }
        if let Some(target) = targets.beyond(machine.layout.cpus()) {
            return Err(machine.misuse(
                self.cpu,
                format!("sent an IPI to CPU {target}, which the machine does not have"),
            ));
        }
        for target in Cpu::first(MOST_CPUS).filter(|&cpu| targets.contains(cpu)) {
            let layout = self.layout();
            layout.set_pending(self.state, target, kind, Pending::Yes);
        }
        Ok(Progress::DONE)
    }

    /// Delivers an interrupt: from now on it is not pending.
    pub(crate) fn deliver(&mut self, kind: Interrupt) {
        let (layout, cpu) = (self.layout(), self.cpu);
        layout.set_pending(self.state, cpu, kind, Pending::No);
        self.empties_combining(|readings| readings.interrupt);
    }

    /// Takes a timer interrupt, and counts it where their number has a bound.
    pub(crate) fn tick(&mut self, tick: Tick) {
        if let (Some(taken), Tick::Counted) = (self.layout().ticks(self.cpu), tick) {
            self.state[taken.bytes()] += 1;
        }
        self.empties_combining(|readings| readings.interrupt);
    }
}

impl<S: Deref<Target = State>> CpuIn<'_, S> {
    /// Says whether an interrupt can be delivered, as far as the machine is concerned: it is pending, and
    /// the buffers are empty as far as they must be, because delivery drains them (H25, H26).
    #[inline]
    pub(crate) fn can_deliver(&self, kind: Interrupt) -> bool {
        let is_pending = match kind {
            Interrupt::Flush => self.layout().is_pending(&self.state, self.cpu),
            Interrupt::NonMaskable => self.layout().is_nmi_pending(&self.state, self.cpu),
        };
        is_pending && self.delivery_drained()
    }

    /// Says whether a timer interrupt can be delivered, as far as the machine is concerned.
    pub(crate) fn can_tick(&self, tick: Tick) -> bool {
        let taken = self.layout().ticks(self.cpu);
        let is_within_bound = match self.machine.features.ticks {
            Ticks::Never => false,
            Ticks::AnyNumber => true,
            Ticks::AtMost(most) => {
                tick == Tick::Uncounted
                    || taken.is_some_and(|taken| self.state[taken.bytes()] < most)
            }
        };
        is_within_bound && self.delivery_drained()
    }

    #[inline]
    fn delivery_drained(&self) -> bool {
        // H41: and the updates that this CPU owes come first.
        self.buffered_len() == 0
            && self.owes_nothing()
            && (self.combining_len() == 0
                || self.lets_go(&self.combining(), |readings| readings.interrupt))
    }
}
