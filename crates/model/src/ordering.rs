//! What waits for the buffers: locked and serializing instructions, and fences.
//!
//! Rules: H18, H24, H25, H26, H36.

use crate::call::{Call, Cr4, Rmw};
use crate::cpu_model::IpiOrder;
use crate::machine::{Machine, MemoryModel, Outcome, Stop};
use crate::mutant::{Mutant, broken};
use crate::state::{BARRIER, Buffered, CacheSet, FENCE, State};
use crate::writers::Write;

impl Machine {
    /// A read-modify-write with a LOCK prefix: it waits for the buffers to drain (H25, H26).
    pub(crate) fn locked(
        &self,
        state: &mut State,
        cpu: usize,
        call: &Call,
        choice: usize,
    ) -> Result<Outcome, Stop> {
        let is_ready = match broken(Mutant::LockDrainsNoWriteCombining) {
            true => self.layout.buffered_len(state, cpu) == 0,
            false => self.empties(state, cpu, |readings| readings.locked),
        };
        if !is_ready {
            return Ok(Outcome::Blocked);
        }
        match *call {
            Call::Rmw(cell, rmw, operand) => {
                let clears = rmw == Rmw::And || rmw == Rmw::Swap && operand == 0;
                let write = if clears {
                    Write::ClearsBits
                } else {
                    Write::Any
                };
                self.writers.wrote(cell, self.who(state, cpu), write);
                let old = self.load(state, cpu, cell);
                let new = self.values.encode(rmw.apply(old, operand))?;
                state[self.layout.location(cell.0)] = new;
                self.forget_if_fence_invalidates(state, cpu);
                Ok(Outcome::answer(old))
            }
            Call::RmwBytes {
                cell,
                bytes,
                rmw,
                operand,
            } => {
                self.writers.wrote(cell, self.who(state, cpu), Write::Any);
                let (old, new) = rmw.apply_to_bytes(self.load(state, cpu, cell), bytes, operand);
                state[self.layout.location(cell.0)] = self.values.encode(new)?;
                Ok(Outcome::answer(old))
            }
            Call::RmwEntry(table, index, rmw, operand) => {
                let location = self.entry_location(table, index)?;
                let (old, more) = self.read_settled(state, cpu, location, choice)?;
                let value = self.values.encode(rmw.apply(old, operand))?;
                self.write(
                    state,
                    cpu,
                    Buffered {
                        location,
                        value,
                        version: 0,
                    },
                )?;
                Ok(Outcome::Done { answer: old, more })
            }
            _ => unreachable!("the caller has only locked calls"),
        }
    }

    /// A serializing instruction: it waits for the buffers to drain (H18, H26).
    pub(crate) fn serializing(
        &self,
        state: &mut State,
        cpu: usize,
        call: &Call,
    ) -> Result<Outcome, Stop> {
        if !broken(Mutant::InvalidationsDoNotSerialize)
            && !self.empties(state, cpu, |readings| readings.serializing)
        {
            return Ok(Outcome::Blocked);
        }
        match *call {
            Call::LoadCr3(cr3, load) => {
                let root = self.frame(cr3)?;
                let pcid = (cr3.0 & 0xfff) as u16;
                self.mov_to_cr3(state, cpu, root, pcid, load)?;
            }
            Call::Invlpg(addr) => self.invlpg(state, cpu, addr)?,
            Call::Invpcid(what) => self.invpcid(state, cpu, what)?,
            Call::WriteCr4(cr4) => self.mov_to_cr4(state, cpu, cr4)?,
            Call::ChangeCr4 { set, clear } => {
                let cr4 = Cr4(self.layout.cr4(state, cpu));
                let cr4 = cr4.with(set, true).with(clear, false);
                self.mov_to_cr4(state, cpu, cr4)?;
            }
            Call::Tlbsync => return self.tlbsync(state, cpu),
            _ => {}
        }
        Ok(Outcome::NOTHING)
    }

    /// MFENCE. Loads and stores wait for it; an IPI through an x2APIC does not, without an LFENCE in between
    /// (H36): then the fence waits in the store buffer.
    pub(crate) fn full_fence(&self, state: &mut State, cpu: usize) -> Outcome {
        if self.empties(state, cpu, |readings| readings.mfence) {
            self.forget_if_fence_invalidates(state, cpu);
            return Outcome::NOTHING;
        }
        let room = usize::from(self.memory.buffer_depth());
        let is_passed = self.features.weak_fences
            && self.cpu_model.ipi == IpiOrder::Unordered
            && self.layout.buffered_len(state, cpu) < room
            && !broken(Mutant::IpiWaitsForFences);
        if !is_passed {
            return Outcome::Blocked;
        }
        let fence = Buffered {
            location: FENCE,
            value: 0,
            version: 0,
        };
        self.layout.push_buffered(state, cpu, fence);
        Outcome::NOTHING
    }

    /// Says whether an MFENCE waits in a CPU's store buffer.
    #[inline]
    pub(crate) fn fence_waits(&self, state: &State, cpu: usize) -> bool {
        self.features.weak_fences
            && self
                .layout
                .buffered(state, cpu)
                .any(|slot| slot.location == FENCE)
    }

    /// H24, broken: a fence does not touch what is cached.
    fn forget_if_fence_invalidates(&self, state: &mut State, cpu: usize) {
        if broken(Mutant::FenceInvalidates) {
            for set in CacheSet::ALL {
                self.layout.put_set(state, cpu, set, 0);
            }
        }
    }

    /// SFENCE: later stores of this CPU wait for its earlier ones, of both kinds; loads do not (H26).
    pub(crate) fn store_fence(&self, state: &mut State, cpu: usize) -> Result<Outcome, Stop> {
        // Without write-combining, the store buffer keeps its order by itself.
        let nothing_waits = self.layout.combining_len(state, cpu) == 0
            && (self.features.write_combining == 0 || self.layout.buffered_len(state, cpu) == 0);
        if nothing_waits || broken(Mutant::SfenceDrainsNothing) {
            return Ok(Outcome::NOTHING);
        }
        match self.memory {
            MemoryModel::Sc => {
                let emptied = self.empties_combining(state, cpu, |readings| readings.sfence);
                Ok(match emptied {
                    true => Outcome::NOTHING,
                    false => Outcome::Blocked,
                })
            }
            MemoryModel::Tso { buffer_depth } => {
                if self.layout.buffered_len(state, cpu) == usize::from(buffer_depth) {
                    return Ok(Outcome::Blocked);
                }
                let barrier = Buffered {
                    location: BARRIER,
                    value: 0,
                    version: 0,
                };
                self.layout.push_buffered(state, cpu, barrier);
                Ok(Outcome::NOTHING)
            }
        }
    }
}
