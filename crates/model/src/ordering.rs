//! What waits for the buffers: locked and serializing instructions, and fences.
//!
//! Rules: H18, H24, H25, H26, H36, H40.

use std::ops::Deref;

use lazytlb::PhysAddr;

use crate::byte_mask::ByteMask;
use crate::call::{AtomicCell, Rmw};
use crate::cpu_model::{IpiOrder, Mfence};
use crate::index::{Location, Way};
use crate::progress::{Progress, Stop};
use crate::slot::Slot;
use crate::spec::MemoryModel;
use crate::state::State;
use crate::view::{CpuIn, CpuMut};
use crate::writers::Write;

impl CpuMut<'_> {
    /// Does what a LOCK prefix stands before, once the buffers have drained (H25, H26).
    #[inline]
    pub(crate) fn locked<A>(
        &mut self,
        effect: impl FnOnce(&mut Self) -> Result<Progress<A>, Stop>,
    ) -> Result<Progress<A>, Stop> {
        if !self.empties(|readings| readings.locked) {
            return Ok(Progress::Blocked);
        }
        self.update_all()?;
        effect(self)
    }

    /// Does what a serializing instruction does, once the buffers have drained (H18, H26).
    #[inline]
    pub(crate) fn serializing<A: Into<Progress<()>>>(
        &mut self,
        effect: impl FnOnce(&mut Self) -> Result<A, Stop>,
    ) -> Result<Progress<()>, Stop> {
        if !self.empties(|readings| readings.serializing) {
            return Ok(Progress::Blocked);
        }
        self.update_all()?;
        let done = effect(self)?.into();
        if matches!(done, Progress::Done { .. }) {
            self.forget_former();
        }
        Ok(done)
    }

    /// On AMD, MFENCE is a serializing instruction (H40, H41).
    pub(crate) fn fence_serializes(&mut self) -> Result<(), Stop> {
        if self.machine.cpu_model.mfence == Mfence::Serializes {
            self.forget_former();
            self.update_all()?;
        }
        Ok(())
    }

    /// A locked read-modify-write of a cell; answers with what it held.
    pub(crate) fn locked_rmw(
        &mut self,
        cell: AtomicCell,
        rmw: Rmw,
        operand: u64,
    ) -> Result<Progress, Stop> {
        let clears = rmw == Rmw::And || rmw == Rmw::Swap && operand == 0;
        let write = match clears {
            true => Write::ClearsBits,
            false => Write::Any,
        };
        self.locked(|cpu| {
            cpu.notes_write(cell, write);
            let old = cpu.load(cell);
            let new = cpu.machine.values.encode(rmw.apply(old, operand))?;
            cpu.put_in_memory(Location::Cell(cell), new);
            Ok(Progress::answer(old))
        })
    }

    /// A locked read-modify-write of some bytes of a cell; answers with what they held, at the low end.
    pub(crate) fn locked_rmw_bytes(
        &mut self,
        cell: AtomicCell,
        bytes: ByteMask,
        rmw: Rmw,
        operand: u64,
    ) -> Result<Progress, Stop> {
        self.locked(|cpu| {
            cpu.notes_write(cell, Write::Any);
            let (old, new) = rmw.apply_to_bytes(cpu.load(cell), bytes, operand);
            let new = cpu.machine.values.encode(new)?;
            cpu.put_in_memory(Location::Cell(cell), new);
            Ok(Progress::answer(old))
        })
    }

    /// A locked read-modify-write of a page-table entry, whose A bit may be *maybe*; answers with what it was.
    pub(crate) fn locked_rmw_entry(
        &mut self,
        table: PhysAddr,
        index: u16,
        rmw: Rmw,
        operand: u64,
        way: Way,
    ) -> Result<Progress, Stop> {
        self.locked(|cpu| {
            let entry = cpu.machine.entry(table, index)?;
            cpu.update_before_rmw(entry, way, |old| rmw.apply(old, operand))?;
            let read = cpu.read_settled(entry, way)?;
            if let Progress::Done { answer: old, .. } = read {
                cpu.settle_for_fetches(entry, old)?;
                let new = cpu.machine.values.encode(rmw.apply(old, operand))?;
                cpu.write_entry(entry, new)?;
            }
            Ok(read)
        })
    }

    /// As [`CpuMut::locked_rmw_entry`], of some bytes; answers with what they held, at the low end.
    pub(crate) fn locked_rmw_entry_bytes(
        &mut self,
        table: PhysAddr,
        index: u16,
        bytes: ByteMask,
        rmw: Rmw,
        operand: u64,
        way: Way,
    ) -> Result<Progress, Stop> {
        self.locked(|cpu| {
            let apply = |word| rmw.apply_to_bytes(word, bytes, operand);
            let entry = cpu.machine.entry(table, index)?;
            cpu.update_before_rmw(entry, way, |old| apply(old).1)?;
            let read = cpu.read_settled(entry, way)?;
            if let Progress::Done { answer: whole, .. } = read {
                cpu.settle_for_fetches(entry, whole)?;
                let new = cpu.machine.values.encode(apply(whole).1)?;
                cpu.write_entry(entry, new)?;
            }
            Ok(read.map(|whole| apply(whole).0))
        })
    }

    /// MFENCE. Loads and stores wait for it; an IPI through an x2APIC does not, without an LFENCE in between
    /// (H36): then the fence waits in the store buffer.
    pub(crate) fn full_fence(&mut self) -> Result<Progress<()>, Stop> {
        if self.empties(|readings| readings.mfence) {
            self.fence_serializes()?;
            return Ok(Progress::DONE);
        }
        let machine = self.machine;
        let is_passed = machine.has_weak_fences && machine.cpu_model.ipi == IpiOrder::Unordered;
        Ok(match is_passed {
            true => self.buffer(Slot::FullFence),
            false => Progress::Blocked,
        })
    }

    /// SFENCE: later stores of this CPU wait for its earlier ones, of both kinds; loads do not (H26).
    pub(crate) fn store_fence(&mut self) -> Progress<()> {
        // Without write-combining, the store buffer keeps its order by itself.
        let keeps_order = self.machine.features.write_combining == 0;
        if self.combining_len() == 0 && (keeps_order || self.buffered_len() == 0) {
            return Progress::DONE;
        }
        match self.machine.memory {
            MemoryModel::Sc => Progress::once(self.empties_combining(|readings| readings.sfence)),
            MemoryModel::Tso { .. } => self.buffer(Slot::StoreFence),
        }
    }
}

impl<S: Deref<Target = State>> CpuIn<'_, S> {
    /// Notes who writes a cell: a CPU that loads the word must know that it changes.
    #[inline]
    pub(crate) fn notes_write(&self, cell: AtomicCell, write: Write) {
        self.machine.writers.wrote(cell, self.context(), write);
    }

    /// Says whether an MFENCE waits in the CPU's store buffer.
    #[inline]
    pub(crate) fn fence_waits(&self) -> bool {
        self.machine.has_weak_fences && self.buffered().any(|slot| slot == Slot::FullFence)
    }
}
