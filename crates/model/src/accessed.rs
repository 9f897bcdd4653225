//! Accessed and dirty bits: walks and stores write them.
//!
//! Rules: H3, H21. A walk sets A before it caches, and speculation may walk at any time, or not: so A is
//! three-valued in memory, 0, maybe and 1. *Maybe* is settled when software reads the entry, or when an
//! access uses what was cached from it. D is set by a store that retires, never by speculation.

use lazytlb::Entry;

use crate::entry::{EntryKind, bits, has, kind};
use crate::machine::{Machine, Outcome, Stop};
use crate::mutant::{Mutant, broken};
use crate::state::State;
use crate::translation::{Limit, Translation, frame_number};

impl Machine {
    /// Notes that speculation may have set A in an entry in memory.
    pub(crate) fn mark_maybe_accessed(&self, state: &mut State, location: u8) -> Result<(), Limit> {
        let value = self.values.decode(state[self.layout.location(location)]);
        if value & (bits::ACCESSED | bits::MAYBE_ACCESSED) == 0 {
            let maybe = self.values.encode(value | bits::MAYBE_ACCESSED)?;
            state[self.layout.location(location)] = maybe;
        }
        Ok(())
    }

    /// Sets A in each entry that a cached one was read from, if it is still that entry, and D in the last
    /// one for a store.
    pub(crate) fn mark_used(
        &self,
        state: &mut State,
        used: Translation,
        by_store: bool,
    ) -> Result<(), Limit> {
        if !self.features.accessed_dirty {
            return Ok(());
        }
        let (mut frame, mut level) = (used.root, self.features.levels);
        while level >= used.read_in {
            let read = used.read[usize::from(self.features.levels - level)];
            let Some(location) = self.location_of(frame, used.start, level) else {
                return Ok(());
            };
            let stored = self.in_memory(state, location);
            let value = self.values.decode(stored.value);
            // What software has written since was not read by the walk.
            let is_source = stored.version == read || broken(Mutant::AccessedSetThroughStaleEntry);
            if is_source && value & bits::PRESENT != 0 {
                let dirty = by_store && level == used.read_in && !broken(Mutant::StoreSetsNoDirty);
                let marked = value & !bits::MAYBE_ACCESSED | bits::ACCESSED;
                let marked = marked | if dirty { bits::DIRTY } else { 0 };
                state[self.layout.location(location)] = self.values.encode(marked)?;
            }
            if kind(Entry(value), level) != EntryKind::Table {
                return Ok(());
            }
            frame = frame_number(Entry(value).frame()) as u8;
            level -= 1;
        }
        Ok(())
    }

    /// Says whether a store may go through a cached entry: it has D, or the page tables still hold the
    /// entry that it was read from, and the CPU sets D there (H21).
    pub(crate) fn may_store_through(&self, state: &State, entry: Translation) -> bool {
        if entry.dirty || broken(Mutant::DirtyNotRechecked) {
            return true;
        }
        let (mut frame, mut level) = (entry.root, self.features.levels);
        loop {
            let Some(location) = self.location_of(frame, entry.start, level) else {
                return false;
            };
            let stored = self.in_memory(state, location);
            let found = Entry(self.values.decode(stored.value));
            if level == entry.read_in {
                let read = entry.read[usize::from(self.features.levels - level)];
                return stored.version == read
                    && kind(found, level) == EntryKind::Leaf
                    && has(found, bits::WRITABLE);
            }
            if kind(found, level) != EntryKind::Table {
                return false;
            }
            frame = frame_number(found.frame()) as u8;
            level -= 1;
        }
    }

    /// Reads an entry's location for software: where A is *maybe*, one way for each value. The answer 1
    /// settles it; after the answer 0 speculation may set it again at once.
    pub(crate) fn read_settled(
        &self,
        state: &mut State,
        cpu: usize,
        location: u8,
        choice: usize,
    ) -> Result<Outcome, Stop> {
        let value = self.values.decode(self.read_location(state, cpu, location));
        if value & bits::MAYBE_ACCESSED == 0 {
            return Ok(Outcome::answer(value));
        }
        let plain = value & !bits::MAYBE_ACCESSED;
        if choice == 0 {
            return Ok(Outcome::Done {
                answer: plain,
                more: true,
            });
        }
        let set = plain | bits::ACCESSED;
        state[self.layout.location(location)] = self.values.encode(set)?;
        Ok(Outcome::answer(set))
    }
}
