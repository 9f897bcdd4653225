//! Interrupts and NMIs: sent, pending, delivered.
//!
//! Rules: H36 for the sender, H25 and H26 for the target, whose buffers a delivery drains.

use crate::cpu_model::IpiOrder;
use crate::machine::{Machine, Outcome, Stop};
use crate::mutant::{Mutant, broken};
use crate::state::{State, members};

impl Machine {
    pub(crate) fn send(
        &self,
        state: &mut State,
        cpu: usize,
        targets: u64,
        non_maskable: bool,
    ) -> Result<Outcome, Stop> {
        // H36: by the model, no drain: the handler may run before this CPU's earlier stores are seen.
        let waits = self.cpu_model.ipi == IpiOrder::AfterStores && !broken(Mutant::IpiNeverWaits)
            || broken(Mutant::IpiWaitsForStores);
        if waits && !self.empties(state, cpu, |readings| readings.uncached) {
            return Ok(Outcome::Blocked);
        }
        for target in members(targets) {
            if target >= self.layout.cpus() {
                return Err(self.misuse(cpu, format!("sent an IPI to CPU {target}")));
            }
            if non_maskable {
                self.layout.set_nmi_pending(state, target, true);
            } else {
                self.layout.set_pending(state, target, true);
            }
        }
        Ok(Outcome::NOTHING)
    }

    /// Says whether an interrupt can be delivered, as far as the machine is concerned: it is pending, and
    /// the buffers are empty as far as they must be, because delivery drains them (H25, H26).
    #[inline]
    pub fn can_deliver(&self, state: &State, cpu: usize) -> bool {
        self.layout.is_pending(state, cpu) && self.delivery_drained(state, cpu)
    }

    /// As [`Machine::can_deliver`], for an NMI.
    pub fn can_deliver_nmi(&self, state: &State, cpu: usize) -> bool {
        self.layout.is_nmi_pending(state, cpu) && self.delivery_drained(state, cpu)
    }

    #[inline]
    fn delivery_drained(&self, state: &State, cpu: usize) -> bool {
        if broken(Mutant::DeliveryDrainsNothing) {
            return true;
        }
        let combining = self.layout.combining_len(state, cpu);
        self.layout.buffered_len(state, cpu) == 0
            && (combining == 0
                || self.lets_go(state, &self.layout.combining(state, cpu), |readings| {
                    readings.interrupt
                }))
    }

    /// Delivers the flush interrupt: from now on it is not pending.
    pub fn deliver(&self, state: &mut State, cpu: usize) {
        self.layout.set_pending(state, cpu, false);
        self.empties_combining(state, cpu, |readings| readings.interrupt);
    }

    /// Delivers an NMI.
    pub fn deliver_nmi(&self, state: &mut State, cpu: usize) {
        self.layout.set_nmi_pending(state, cpu, false);
        self.empties_combining(state, cpu, |readings| readings.interrupt);
    }
}
