//! Executes an instruction, or goes on with it.

use lazytlb_litmus_syntax::{Handler, InvpcidType, Width};

use crate::access::Use;
use crate::code::{Column, Op, Place};
use crate::data::Located;
use crate::machine::{Held, Machine, Stop, Tried};

impl Machine<'_> {
    /// Goes on with the instruction of a CPU.
    pub(crate) fn execute(&mut self, cpu: usize, column: &Column, op: &Op) -> Tried<()> {
        if self.cpus[cpu].fence && !self.passes_fence(cpu, op) {
            return Err(Held::Wait);
        }
        // A store without translation is passed by loads only.
        let is_passing = matches!(op, Op::Load { .. } | Op::Set { .. } | Op::Compute { .. });
        if self.cpus[cpu].untranslated.is_some() && !is_passing {
            return Err(Held::Wait);
        }
        if let Some(half) = self.cpus[cpu].half {
            return self.second_half(cpu, op, half);
        }
        match *op {
            Op::Load { to, from } => self.load(cpu, column, to, from),
            Op::Store {
                to,
                from,
                width,
                non_temporal,
            } => self.store(cpu, column, to, from, width, non_temporal),
            Op::Set { to, from } => self.set(cpu, column, to, from),
            Op::Exchange { memory, register } => self.exchange(cpu, column, memory, register),
            Op::ExchangeRegisters(one, other) => {
                let registers = &mut self.context(cpu).registers;
                let (first, second) = (registers.get(one), registers.get(other));
                registers.set(one, second);
                registers.set(other, first);
                Ok(())
            }
            Op::Modify {
                op,
                locked,
                memory,
                source,
                width,
            } => self.modify(cpu, column, (op, locked), memory, source, width),
            Op::Compute { op, to, source } => {
                let operand = self.value(cpu, source, to.width);
                let old = self.context(cpu).registers.get(to);
                let new = self.computed(cpu, op, to.width, old, operand);
                self.context(cpu).registers.set(to, new);
                self.leave_old(cpu, op, to.width, source, old);
                Ok(())
            }
            Op::Wait { word, value } => {
                let state = &self.cpus[cpu];
                wait_for(state.read(&self.memory, word, state.stores) == value)
            }
            Op::Fetch(place) => self.fetch(cpu, column, place),
            _ => self.control(cpu, op),
        }
    }

    /// Says whether an instruction need not wait for the MFENCE before it: only the sending of an interrupt does
    /// not, on an x2APIC (H36).
    fn passes_fence(&mut self, cpu: usize, op: &Op) -> bool {
        if self.has_drained(cpu, self.board.readings.mfence) {
            self.cpus[cpu].fence = false;
            return true;
        }
        matches!(op, Op::Interrupt { .. }) && !self.board.ordered_ipis
    }

    /// Fetches an instruction.
    fn fetch(&mut self, cpu: usize, column: &Column, place: Place) -> Tried<()> {
        let Located::Virtual(address, _) = self.locate(cpu, place, Width::Byte)? else {
            return Err(Held::Stop(Stop::Discarded));
        };
        let access = self.access(cpu, column, address, Use::Fetch, false);
        self.translated(cpu, access).map(|_| ())
    }

    /// Executes what steers the machine.
    fn control(&mut self, cpu: usize, op: &Op) -> Tried<()> {
        if is_serializing(op) {
            wait_for(self.has_settled(cpu, self.board.readings.serializing))?;
            self.cpus[cpu].former.clear();
        }
        match *op {
            Op::Mfence => self.cpus[cpu].fence = true,
            Op::Sfence => {
                let stores = self.cpus[cpu].stores;
                self.cpus[cpu].barriers.push(stores);
            }
            // LFENCE waits for the MFENCE before it, and loads are in order anyway.
            Op::Lfence | Op::Cpuid => {}
            Op::Invlpg(place) => {
                let address = self.address(cpu, place)?;
                self.invlpg(cpu, address);
            }
            Op::Invpcid {
                kind,
                pcid,
                address,
            } => self.execute_invpcid(cpu, kind, pcid, address)?,
            Op::LoadCr3 { root, pcid, keep } => self.load_cr3(cpu, root, pcid, keep)?,
            Op::ChangeCr4(change) => self.change_cr4(cpu, change)?,
            Op::Invlpgb(what) => self.invlpgb(cpu, what),
            Op::Tlbsync => wait_for(self.is_synchronized(cpu))?,
            Op::Cli => self.cpus[cpu].interrupts = false,
            Op::Sti => self.cpus[cpu].interrupts = true,
            Op::Hlt => {
                let state = &mut self.cpus[cpu];
                (state.interrupts, state.halted) = (true, true);
                // The interrupt that ends it goes on behind it.
                return Err(Held::Wait);
            }
            Op::Interrupt {
                cpu: target,
                handler,
            } => self.interrupt(cpu, target, handler)?,
            _ => return Err(Held::Stop(Stop::Discarded)),
        }
        Ok(())
    }

    fn execute_invpcid(
        &mut self,
        cpu: usize,
        kind: InvpcidType,
        pcid: u16,
        address: Option<Place>,
    ) -> Tried<()> {
        let address = address.map(|place| self.address(cpu, place));
        let address = address.transpose()?.unwrap_or(0);
        Ok(self.invpcid(cpu, kind, pcid, address)?)
    }

    /// Sends an interrupt: at once, or behind the stores before it (H36).
    fn interrupt(&mut self, cpu: usize, target: usize, handler: Handler) -> Tried<()> {
        let drained = self.has_settled(cpu, self.board.readings.uncached);
        wait_for(drained || !self.board.ordered_ipis)?;
        self.send(target, handler);
        Ok(())
    }

    /// Returns the address that an operand gives.
    fn address(&mut self, cpu: usize, place: Place) -> Tried<u64> {
        match self.locate(cpu, place, Width::Byte)? {
            Located::Virtual(address, _) => Ok(address),
            Located::Physical(..) => Err(Held::Stop(Stop::Discarded)),
        }
    }
}

/// Waits until something is so.
fn wait_for(it: bool) -> Tried<()> {
    if it { Ok(()) } else { Err(Held::Wait) }
}

/// Says whether an instruction serializes: it waits for the buffers, and what is fetched after it is walked for
/// after it (H18, H25, H40).
fn is_serializing(op: &Op) -> bool {
    matches!(
        op,
        Op::Cpuid | Op::Invlpg(_) | Op::Invpcid { .. } | Op::LoadCr3 { .. } | Op::ChangeCr4(_)
    )
}
