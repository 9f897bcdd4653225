//! Updates of A and D that an access owes: others may see them after the CPU's later loads and stores.
//!
//! Rules: H41, H42. "Memory Ordering" says that its principles need not hold for updates of accessed and dirty
//! bits. So an access notes what it has used, and the bits come later: at the latest when the CPU executes a
//! locked or serializing instruction, when an interrupt is delivered to it, and before the entry changes in
//! anything but A and D, for an update that finds another entry is one that came too early.
//!
//! An example. The entry `e` maps a page, with A = 0:
//!
//! ```text
//!  CPU 0                     owes     memory: e.A
//!  loads through e           e: A     0
//!  reads e, answer A = 0     e: A     0               H41: as if the second load had come first
//!  CPUID                              1
//! ```
//!
//! ASSUMED, for the rule says nothing: an entry that software replaces is another one from then on, also if it comes to
//! look alike once more. An update that is owed to the first one is not made in the second.
//!
//! An update is a step of its own, since software may clear A or D before it or after it. That A is *maybe* set by
//! speculation besides (`accessed.rs`) changes nothing: it is owed all the same. Where the update of D does not look
//! for W once more (H42), it may still be owed after the entry has lost W, and nothing else.

use std::ops::Deref;

use crate::accessed::{Source, Use};
use crate::cpu_model::DirtyUpdate;
use crate::entry::bits;
use crate::index::{EntryId, Frame, Location, Number, Offset, Way};
use crate::machine::Machine;
use crate::progress::Stop;
use crate::state::State;
use crate::through::Through;
use crate::translation::Translation;
use crate::view::{CpuIn, CpuMut};

/// What a CPU owes an entry, as it stands in a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owed(u8);

impl Owed {
    const NOTHING: Owed = Owed(0);
    const ACCESSED: Owed = Owed(1);
    const DIRTY: Owed = Owed(2);

    fn has(self, update: Owed) -> bool {
        self.0 & update.0 != 0
    }

    fn with(self, update: Owed) -> Owed {
        Owed(self.0 | update.0)
    }
}

/// When an access's own walk reads entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OwnWalk {
    /// When the access is executed, after its CPU's earlier stores.
    InOrder,
    /// Earlier, as a fetch's may (H40), or later, as a store's (H41).
    AtAnyTime,
}

impl<S: Deref<Target = State>> CpuIn<'_, S> {
    /// Returns where a state has what the CPU owes an entry; `None` in programs without A and D bits.
    #[inline]
    fn owed_at(&self, entry: EntryId) -> Option<Offset> {
        let layout = self.layout();
        let start = layout.cpu_start(self.cpu).plus(layout.owed?);
        Some(start.plus(entry.index()))
    }

    /// Returns what the CPU owes an entry.
    fn owed(&self, entry: EntryId) -> Owed {
        let at = self.owed_at(entry);
        at.map_or(Owed::NOTHING, |at| Owed(self.state[at.bytes()]))
    }

    /// Says whether the CPU owes nothing.
    #[inline]
    pub(crate) fn owes_nothing(&self) -> bool {
        self.layout().owed.is_none() || self.owed_entries().next().is_none()
    }

    /// Lists the entries that the CPU owes an update.
    pub(crate) fn owed_entries(&self) -> impl Iterator<Item = EntryId> {
        let entries = self.machine.entries.iter().map(|(entry, _)| entry);
        entries.filter(|&entry| self.owed(entry) != Owed::NOTHING)
    }

    /// Says whether the CPU owes an entry D.
    pub(crate) fn owes_dirty(&self, entry: EntryId) -> bool {
        self.owed(entry).has(Owed::DIRTY)
    }

    /// Says whether an update that the CPU owes is one that comes before an entry changes to this value.
    fn must_update_before(&self, entry: EntryId, new: u64) -> bool {
        let owed = self.owed(entry);
        let old = self.value_in_memory(Location::Entry(entry));
        owed != Owed::NOTHING && !self.machine.may_update_late(owed, old, new)
    }
}

impl CpuMut<'_> {
    fn put_owed(&mut self, entry: EntryId, owed: Owed) {
        if let Some(at) = self.owed_at(entry) {
            self.state[at.bytes()] = owed.0;
        }
    }

    /// Notes that an access through a cached entry sets A in what that was read from, if it is still there, and
    /// D in the last entry for a store. What no walk of the access itself can have read, an earlier one has, which
    /// set A before it cached anything (H3): there it is set now.
    pub(crate) fn owe(
        &mut self,
        used: &Translation,
        by: Use,
        own_walk: OwnWalk,
    ) -> Result<(), Stop> {
        if !self.machine.features.accessed_dirty {
            return Ok(());
        }
        let walked_from = match own_walk {
            OwnWalk::AtAnyTime => Some(self.machine.root_level),
            OwnWalk::InOrder => self.walked_from(used),
        };
        for Source { entry, level } in self.sources(used) {
            self.owe_accessed(entry);
            if walked_from.is_none_or(|first| level > first) {
                self.update(entry)?;
            }
            let value = self.value_in_memory(Location::Entry(entry));
            if by == Use::Writes && level == used.read_in && value & bits::DIRTY == 0 {
                let owed = self.owed(entry).with(Owed::DIRTY);
                self.put_owed(entry, owed);
            }
        }
        Ok(())
    }

    /// Notes that an access goes through a cached entry, and sets A and D for it in what another translation of the
    /// address was read from (H42): what the first one was read from has A.
    pub(crate) fn owe_through(
        &mut self,
        through: Through<'_>,
        by: Use,
        own_walk: OwnWalk,
    ) -> Result<(), Stop> {
        if through.used != through.marks && self.machine.features.accessed_dirty {
            for Source { entry, .. } in self.sources(through.used) {
                self.owe_accessed(entry);
                self.update(entry)?;
            }
        }
        self.owe(through.marks, by, own_walk)
    }

    /// Notes that an access sets A in an entry.
    pub(crate) fn owe_accessed(&mut self, entry: EntryId) {
        let value = self.value_in_memory(Location::Entry(entry));
        if value & bits::ACCESSED == 0 {
            let owed = self.owed(entry).with(Owed::ACCESSED);
            self.put_owed(entry, owed);
        }
    }

    /// Makes the updates that the CPU owes an entry. D comes with A.
    pub(crate) fn update(&mut self, entry: EntryId) -> Result<(), Stop> {
        let machine = self.machine;
        let owed = self.owed(entry);
        if owed == Owed::NOTHING {
            return Ok(());
        }
        let value = self.value_in_memory(Location::Entry(entry));
        let mut marked = value & !bits::MAYBE_ACCESSED | bits::ACCESSED;
        if owed.has(Owed::DIRTY) {
            marked |= bits::DIRTY;
        }
        let code = machine.values.encode(marked)?;
        self.put_in_memory(Location::Entry(entry), code);
        self.put_owed(entry, Owed::NOTHING);
        // What has D may be cached with it from now on.
        match marked & !value & bits::DIRTY != 0 {
            true => self.close_readers_of(machine.entries.get(entry).table),
            false => Ok(()),
        }
    }

    /// Makes every update that the CPU owes: what bounds H41 waits for them.
    pub(crate) fn update_all(&mut self) -> Result<(), Stop> {
        if self.owes_nothing() {
            return Ok(());
        }
        let owed: Vec<EntryId> = self.owed_entries().collect();
        owed.into_iter().try_for_each(|entry| self.update(entry))
    }

    /// Makes the updates of an entry, by whichever CPU, that come before it changes to a new value.
    pub(crate) fn update_before_change(&mut self, entry: EntryId, new: u64) -> Result<(), Stop> {
        if self.layout().owed.is_none() {
            return Ok(());
        }
        for cpu in self.layout().every_cpu() {
            let mut other = self.other_mut(cpu);
            if other.must_update_before(entry, new) {
                other.update(entry)?;
            }
        }
        Ok(())
    }

    /// Makes every update, by whichever CPU, of the entries in a table that is about to be freed.
    pub(crate) fn update_before_free(&mut self, table: Frame) -> Result<(), Stop> {
        let entries = self.machine.entries_of(table);
        let entries: Vec<EntryId> = entries.map(|(entry, _)| entry).collect();
        entries
            .into_iter()
            .try_for_each(|entry| self.update_before_change(entry, 0))
    }

    /// As [`CpuMut::update_before_change`], for an instruction that computes the new value from the old one, which
    /// it reads in this way ([`CpuMut::read_settled`]).
    pub(crate) fn update_before_rmw(
        &mut self,
        entry: EntryId,
        way: Way,
        new_of: impl Fn(u64) -> u64,
    ) -> Result<(), Stop> {
        let old = self.value_in_memory(Location::Entry(entry));
        let clear = old & !bits::MAYBE_ACCESSED;
        let read = match way == Way::FIRST {
            true => clear,
            false => clear | bits::ACCESSED,
        };
        self.update_before_change(entry, new_of(read))
    }
}

impl Machine {
    /// Says whether an update that is owed to an entry may come after this change of it: it still finds what it
    /// was owed to, because software has changed A and D alone; or, an update of D, an entry that has lost W and
    /// nothing else, and the CPU does not look (H42).
    fn may_update_late(&self, owed: Owed, old: u64, new: u64) -> bool {
        let by_hardware = bits::ACCESSED | bits::DIRTY | bits::MAYBE_ACCESSED;
        let loses_w = self.cpu_model.dirty == DirtyUpdate::MaySetWithoutW
            && owed.has(Owed::DIRTY)
            && old & bits::WRITABLE != 0;
        match (old ^ new) & !by_hardware {
            0 => true,
            bits::WRITABLE => loses_w && new & bits::PRESENT != 0,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use lazytlb::{Entry, PhysAddr, VirtAddr};

    use crate::call::{AtomicCell, Broadcast, Call, Privilege};
    use crate::entry::bits;
    use crate::features::Features;
    use crate::index::Cpu;
    use crate::machine::Machine;
    use crate::spec::{MachineSpec, MemoryModel};
    use crate::state::FrameUse;

    #[test]
    fn nothing_is_owed_to_a_table_that_was_freed() {
        let features = Features {
            accessed_dirty: true,
            broadcasts: true,
            ..Features::small()
        };
        let mut spec = MachineSpec::smallest(features, MemoryModel::Sc);
        let (root, table) = (PhysAddr(0), PhysAddr(0x1000));
        spec.own_cells = vec![Vec::new(), Vec::new()];
        spec.frames = vec![FrameUse::Table, FrameUse::Table, FrameUse::Page];
        spec.page_words = vec![None, None, Some(AtomicCell(0))];
        let all = bits::PRESENT | bits::WRITABLE | bits::USER;
        spec.entries = vec![
            (root, 0, Entry(0x1000 | all | bits::ACCESSED)),
            (table, 0, Entry(0x2000 | all)),
        ];
        let machine = Machine::new(&spec).unwrap();
        let mut state = machine.initial();
        let reader = Cpu::from(1);
        let load = Call::LoadVirtual(VirtAddr(0), Privilege::User);
        machine.call(&mut state, 1, &load, 0).unwrap();
        assert!(!machine.view(&state, reader).owes_nothing());
        let all_of_it = Broadcast {
            addr: None,
            pcid: None,
            globals: true,
            final_only: false,
        };
        for call in [
            Call::WriteEntry(root, 0, Entry::ABSENT),
            Call::Invlpgb(all_of_it),
        ] {
            machine.call(&mut state, 0, &call, 0).unwrap();
        }
        for cpu in [0, 1] {
            assert!(machine.receive_broadcast(&mut state, cpu, 0).unwrap());
        }
        assert!(
            !machine.view(&state, reader).owes_nothing(),
            "a broadcast bounds no update"
        );
        machine
            .call(&mut state, 0, &Call::FreeFrame(table), 0)
            .unwrap();
        assert!(machine.view(&state, reader).owes_nothing());
    }
}
