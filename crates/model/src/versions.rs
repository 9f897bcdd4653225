//! Versions of page-table entries: which store an entry in memory, or in a cache, comes from.
//!
//! Two mappings of an address may look alike and yet be different ones: a flush covers what was removed
//! before it, not what was mapped and removed again since. So each page-table entry in memory counts its
//! stores, and a cached entry remembers which counts it was read at. A store that still waits in a buffer
//! has a version of its CPU's own, until it drains and gets its count.

use crate::machine::{MOST_CPUS, Machine};
use crate::state::{Buffered, CacheSet, State, USER_MEMORY, members};
use crate::translation::Limit;

/// Versions of stores that are in memory count up from 1. From here on they are of stores in a buffer: a
/// range for each CPU, so that they are told apart.
pub(crate) const FIRST_PENDING: u8 = 128;

fn first_pending(cpu: usize) -> u8 {
    FIRST_PENDING + (cpu as u8) * (128 / MOST_CPUS as u8)
}

/// Says whether a version is of a store that still waits in a buffer.
pub(crate) fn is_pending(version: u8) -> bool {
    version >= FIRST_PENDING
}

/// Says whether a version is of a store that still waits in this CPU's buffer.
pub(crate) fn is_pending_of(version: u8, cpu: usize) -> bool {
    let first = first_pending(cpu);
    (first..=first + (128 / MOST_CPUS as u8 - 1)).contains(&version)
}

impl Machine {
    /// Returns a version that no other store in the CPU's buffer has, for one to a page-table entry.
    pub(crate) fn pending_version(&self, state: &State, cpu: usize) -> u8 {
        let pending = self
            .layout
            .buffered(state, cpu)
            .filter(|store| self.is_pending_entry(*store));
        let newest = pending.map(|store| store.version).max();
        newest.map_or(first_pending(cpu), |newest| newest + 1)
    }

    /// Says whether a slot of a store buffer is a store to a page-table entry, with a version: in a slot
    /// for a cell, the number is a mask of bytes.
    fn is_pending_entry(&self, store: Buffered) -> bool {
        is_pending(store.version) && self.layout.entry_of_location(store.location).is_some()
    }

    /// Renumbers the versions in a CPU's buffer from the first on, after the oldest has drained: they never
    /// run out, and equal states stay equal bytes.
    pub(crate) fn move_up_pending(&self, state: &mut State, cpu: usize) -> Result<(), Limit> {
        for slot in 0..self.layout.buffered_len(state, cpu) {
            let store = self.layout.buffered(state, cpu).nth(slot);
            let Some(store) = store.filter(|store| self.is_pending_entry(*store)) else {
                continue;
            };
            let version = store.version - 1;
            self.rename_version(state, cpu, store.version, version)?;
            self.layout
                .put_buffered(state, cpu, slot, Buffered { version, ..store });
        }
        Ok(())
    }

    /// Gives the entries that a CPU has read from a store in its own buffer the version that the store has
    /// got in memory.
    pub(crate) fn rename_version(
        &self,
        state: &mut State,
        cpu: usize,
        pending: u8,
        version: u8,
    ) -> Result<(), Limit> {
        let renamed = |number: usize| {
            let mut entry = self.translations.get(number);
            if !entry.read.contains(&pending) {
                return Ok(number);
            }
            entry.read = entry
                .read
                .map(|read| if read == pending { version } else { read });
            self.translations.number(entry)
        };
        for set in CacheSet::ALL {
            let mut members_after = 0;
            for number in members(self.layout.set(state, cpu, set)) {
                members_after |= 1 << renamed(number)?;
            }
            self.layout.put_set(state, cpu, set, members_after);
        }
        for slot in 0..self.layout.buffered_len(state, cpu) {
            let store = self.layout.buffered(state, cpu).nth(slot);
            let Some(store) = store.filter(|store| store.location == USER_MEMORY) else {
                continue;
            };
            let value = renamed(usize::from(store.value))? as u8;
            self.layout
                .put_buffered(state, cpu, slot, Buffered { value, ..store });
        }
        Ok(())
    }
}
