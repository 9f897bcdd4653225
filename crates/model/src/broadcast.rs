//! Broadcast invalidation: INVLPGB reaches every CPU some time later; TLBSYNC waits for it.
//!
//! Rules: H29, H30. Each request is numbered; a CPU that has still to do it has a bit set.

use crate::call::Broadcast;
use crate::machine::{Machine, Outcome, Stop};
use crate::mutant::{Mutant, broken};
use crate::state::{State, members};

/// A broadcast invalidation under way: who issued it, and what it invalidates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    issuer: u8,
    what: Broadcast,
}

/// Different requests that a program may make: a bit each in a byte.
pub(crate) const MOST_REQUESTS: usize = 8;

impl Machine {
    /// INVLPGB: every CPU, this one too, invalidates some time later.
    pub(crate) fn invlpgb(
        &self,
        state: &mut State,
        cpu: usize,
        what: Broadcast,
    ) -> Result<Outcome, Stop> {
        if !self.cpu_model.broadcast {
            return Err(self.refused(cpu, "executed INVLPGB on a CPU without it: #UD"));
        }
        let issuer = cpu as u8;
        let number = self.requests.number(Request { issuer, what })?;
        for target in 0..self.layout.cpus() {
            let requests = self.layout.broadcasts(state, target) | 1 << number;
            self.layout.set_broadcasts(state, target, requests);
            if broken(Mutant::BroadcastIsSynchronous) {
                self.receive_broadcast(state, target, number)?;
            }
        }
        Ok(Outcome::NOTHING)
    }

    /// A CPU does an invalidation that was broadcast; says whether there was one with this number.
    ///
    /// # Errors
    /// [`Stop::Violation`] if a property is violated by this step.
    pub fn receive_broadcast(
        &self,
        state: &mut State,
        cpu: usize,
        number: usize,
    ) -> Result<bool, Stop> {
        let requests = self.layout.broadcasts(state, cpu);
        if requests >> number & 1 == 0 {
            return Ok(false);
        }
        self.layout
            .set_broadcasts(state, cpu, requests & !(1 << number));
        let request = self.requests.get(number);
        self.invalidate_broadcast(state, cpu, request.what)?;
        Ok(true)
    }

    /// TLBSYNC: blocked until every CPU has done what *this* CPU has broadcast (H29).
    pub(crate) fn tlbsync(&self, state: &State, cpu: usize) -> Result<Outcome, Stop> {
        if !self.cpu_model.broadcast {
            return Err(self.refused(cpu, "executed TLBSYNC on a CPU without it: #UD"));
        }
        let waits = (0..self.layout.cpus()).any(|target| {
            members(u64::from(self.layout.broadcasts(state, target))).any(|number| {
                self.requests.get(number).issuer == cpu as u8 || broken(Mutant::TlbsyncWaitsForAll)
            })
        });
        Ok(match waits && !broken(Mutant::TlbsyncWaitsForNothing) {
            true => Outcome::Blocked,
            false => Outcome::NOTHING,
        })
    }
}
