//! Accessed and dirty bits: walks and stores write them.
//!
//! Rules: H3, H21. A walk sets A before it caches, and speculation may walk at any time, or not: so A is
//! three-valued in memory, 0, maybe and 1. *Maybe* is settled when software reads the entry, or when an
//! access uses what was cached from it. D is set by a store that retires, never by speculation.

use lazytlb::Entry;

use crate::entry::{bits, has};
use crate::machine::{Machine, Stop};
use crate::mutant::{Mutant, broken};
use crate::state::{State, members};
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
        cpu: usize,
        used: Translation,
        by_store: bool,
    ) -> Result<(), Stop> {
        if !self.features.accessed_dirty {
            return Ok(());
        }
        let mut written = None;
        for (location, level) in self.sources(state, cpu, used) {
            let value = self.values.decode(self.in_memory(state, location).value);
            let dirty = by_store && level == used.read_in && !broken(Mutant::StoreSetsNoDirty);
            let marked = value & !bits::MAYBE_ACCESSED | bits::ACCESSED;
            let marked = marked | if dirty { bits::DIRTY } else { 0 };
            state[self.layout.location(location)] = self.values.encode(marked)?;
            if marked & !value & bits::DIRTY != 0 {
                written = self.layout.entry_of_location(location);
            }
        }
        // What has D may be cached with it from now on.
        match written {
            Some(entry) => self.close_readers_of(state, self.entries.get(entry).0),
            None => Ok(()),
        }
    }

    /// Lists the locations that a cached entry was read from and that still hold what was read: where the
    /// tables are is known from memory, or from what may be cached of the upper levels.
    fn sources(&self, state: &State, cpu: usize, used: Translation) -> Vec<(u8, u8)> {
        let mut sources = Vec::new();
        let (mut frame, levels) = (used.root, self.features.levels);
        for level in (used.read_in..=levels).rev() {
            let depth = usize::from(levels - level);
            let mut below = None;
            if let Some(location) = self.location_of(frame, used.start, level) {
                let stored = self.in_memory(state, location);
                let value = Entry(self.values.decode(stored.value));
                // What software has written since was not read by the walk.
                let is_source = stored.version == used.read[depth]
                    || broken(Mutant::AccessedSetThroughStaleEntry);
                if is_source && has(value, bits::PRESENT) {
                    sources.push((location, level));
                    below = Some(frame_number(value.frame()) as u8);
                }
                let mut own = self.layout.buffered(state, cpu);
                if below.is_none()
                    && let Some(own) = own.find(|store| {
                        store.location == location && store.version == used.read[depth]
                    })
                {
                    let value = Entry(self.values.decode(own.value));
                    below = Some(frame_number(value.frame()) as u8);
                }
            }
            if below.is_none() {
                let upper = members(self.may_be_cached(state, cpu));
                below = upper
                    .map(|number| self.translations.get(number))
                    .find(|entry| {
                        entry.level > 0
                            && entry.read_in == level
                            && entry.covers(used.start)
                            && entry.root == used.root
                            && entry.pcid == self.pcid(state, cpu)
                            && entry.read[..=depth] == used.read[..=depth]
                    })
                    .map(|entry| entry.frame);
            }
            let Some(below) = below else { break };
            frame = below;
        }
        sources
    }

    /// Says whether a store may go through a cached entry: it has D, or the page tables still hold the
    /// entry that it was read from, and the CPU sets D there (H21).
    pub(crate) fn may_store_through(&self, state: &State, cpu: usize, entry: Translation) -> bool {
        if entry.dirty || broken(Mutant::DirtyNotRechecked) {
            return true;
        }
        if !self.walks_reach(state, cpu, entry) {
            return false;
        }
        let sources = self.sources(state, cpu, entry);
        sources
            .last()
            .is_some_and(|&(_, level)| level == entry.read_in)
    }

    /// Says whether a walk of this CPU can still come by the way that a cached entry was read on: from CR3,
    /// or from an upper level that is cached for another space's root. A global entry can outlive both.
    fn walks_reach(&self, state: &State, cpu: usize, used: Translation) -> bool {
        if used.root == self.layout.cr3(state, cpu) {
            return true;
        }
        let pcid = self.pcid(state, cpu);
        members(self.may_be_cached(state, cpu)).any(|number| {
            let upper = self.translations.get(number);
            let depth = usize::from(self.features.levels - upper.read_in);
            upper.level >= used.read_in
                && upper.pcid == pcid
                && upper.root == used.root
                && upper.covers(used.start)
                && upper.read[..=depth] == used.read[..=depth]
        })
    }

    /// Reads an entry's location for software, in the way that `choice` numbers; says whether there are more:
    /// where A is *maybe*, there is one for each value. The answer 1 settles it; after the answer 0
    /// speculation may set it again at once.
    pub(crate) fn read_settled(
        &self,
        state: &mut State,
        cpu: usize,
        location: u8,
        choice: usize,
    ) -> Result<(u64, bool), Stop> {
        let value = self.values.decode(self.read_location(state, cpu, location));
        if value & bits::MAYBE_ACCESSED == 0 {
            return Ok((value, false));
        }
        let plain = value & !bits::MAYBE_ACCESSED;
        if choice == 0 {
            self.drop_reads_of_version(state, location)?;
            return Ok((plain, true));
        }
        let set = plain | bits::ACCESSED;
        state[self.layout.location(location)] = self.values.encode(set)?;
        Ok((set, false))
    }

    /// H3: where A is not set, nothing is cached of the entry that memory holds.
    fn drop_reads_of_version(&self, state: &mut State, location: u8) -> Result<(), Stop> {
        for cpu in 0..self.layout.cpus() {
            for set in [
                crate::state::CacheSet::Cached,
                crate::state::CacheSet::Tainted,
            ] {
                let kept = members(self.layout.set(state, cpu, set))
                    .filter(|&number| {
                        let entry = self.translations.get(number);
                        let sources = self.sources(state, cpu, entry);
                        !sources.iter().any(|&(at, _)| at == location)
                    })
                    .fold(0, |kept, number| kept | 1 << number);
                self.layout.put_set(state, cpu, set, kept);
            }
        }
        Ok(())
    }
}
