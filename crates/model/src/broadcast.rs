//! Broadcast invalidation: INVLPGB reaches every CPU some time later; TLBSYNC waits for it.
//!
//! Rules: H29, H30. Each broadcast is numbered; a CPU that has still to do it has a bit set.

use crate::call::Broadcast;
use std::ops::Deref;

use crate::cpu_model::{BroadcastAnswer, Tlbsync};
use crate::index::{BroadcastId, BroadcastSet};
use crate::machine::IssuedBroadcast;
use crate::progress::{Progress, Stop};
use crate::state::State;
use crate::translation_set::TranslationSet;
use crate::view::{CpuIn, CpuMut};

impl<S: Deref<Target = State>> CpuIn<'_, S> {
    /// Returns the invalidations that were broadcast, and that this CPU could do now.
    pub(crate) fn broadcasts_to_do(&self) -> Result<BroadcastSet, Stop> {
        let left = self.broadcasts();
        if self.machine.cpu_model.broadcast_answer == BroadcastAnswer::AtOnce || left.is_empty() {
            return Ok(left);
        }
        let through: TranslationSet = self.in_store_buffer_through().collect();
        let mut to_do = left;
        for number in left.iter() {
            let goes = self.what_goes_by(self.machine.broadcasts.get(number).what)?;
            let mut used = through.iter();
            if used.any(|used| goes(self.machine.translations.get(used))) {
                to_do = to_do.without(number);
            }
        }
        Ok(to_do)
    }
}

impl CpuMut<'_> {
    /// INVLPGB: every CPU, this one too, invalidates some time later.
    pub(crate) fn invlpgb(&mut self, what: Broadcast) -> Result<Progress<()>, Stop> {
        let machine = self.machine;
        if !machine.cpu_model.broadcast {
            return Err(self.refused("executed INVLPGB on a CPU without it: #UD"));
        }
        if machine.layout.broadcasts.is_none() {
            let what = "executed INVLPGB in a program whose features have no broadcasts";
            return Err(machine.misuse(self.cpu, what));
        }
        let issuer = self.cpu;
        let number = machine
            .broadcasts
            .number(&IssuedBroadcast { issuer, what })?;
        for cpu in machine.layout.every_cpu() {
            let mut target = self.other_mut(cpu);
            target.set_broadcasts(target.broadcasts().with(number));
        }
        Ok(Progress::DONE)
    }

    /// Does an invalidation that was broadcast; says whether the CPU had still to do one with this number, and could.
    pub(crate) fn receive_broadcast(&mut self, number: BroadcastId) -> Result<bool, Stop> {
        if !self.broadcasts_to_do()?.contains(number) {
            return Ok(false);
        }
        let left = self.broadcasts();
        self.set_broadcasts(left.without(number));
        self.invalidate_broadcast(self.machine.broadcasts.get(number).what)?;
        // ASSUMED: what ends walks in flight ends a fetch's, too, though it is no serializing instruction here.
        self.forget_former();
        Ok(true)
    }

    /// TLBSYNC: blocked until every CPU has done what *this* CPU has broadcast (H29).
    pub(crate) fn tlbsync(&mut self) -> Result<Progress<()>, Stop> {
        let cpu_model = &self.machine.cpu_model;
        if !cpu_model.broadcast {
            return Err(self.refused("executed TLBSYNC on a CPU without it: #UD"));
        }
        match cpu_model.tlbsync {
            Tlbsync::OnlyWaits => Ok(self.wait_for_broadcasts()),
            Tlbsync::Serializes => self.serializing(|cpu| Ok(cpu.wait_for_broadcasts())),
        }
    }

    /// Waits for what this CPU has broadcast, and for nothing else.
    fn wait_for_broadcasts(&self) -> Progress<()> {
        let machine = self.machine;
        let waits = self.every_cpu().any(|target| {
            let mut left = target.broadcasts().iter();
            left.any(|number| machine.broadcasts.get(number).issuer == self.cpu)
        });
        Progress::once(!waits)
    }
}
