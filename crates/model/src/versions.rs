//! Which store a page-table entry comes from: versions of stores that wait, and how they get their count.
//!
//! Two mappings of an address may look alike and yet be different ones: a flush covers what was removed
//! before it began, not what was mapped and removed again since. So each page-table entry in memory counts
//! its stores, and a cached entry remembers the counts at which it was read. A store that still waits in a
//! buffer has a version of its CPU's own, until it drains and gets its count.
//!
//! An example. Memory holds version 3 of the entry `e`, and CPU 0, whose own versions begin at 128, maps a
//! page, removes it and maps it again; its walks may read its own stores from the buffer at any time:
//!
//! ```text
//!  CPU 0            its buffer, oldest first   e in memory   CPU 0 may cache e as of version
//!  e = page         128                        3             3, 128
//!  e = absent       128, 129                   3             3, 128
//!  (drains one)     128                        4             3, 4
//!  e = page         128, 129                   4             3, 4, 129
//! ```
//!
//! When the oldest store drains, what was cached of version 128 is renamed to version 4, and the younger
//! stores move up by one: 129 becomes 128. So versions of waiting stores never run out, and two states that
//! differ only in how many stores have drained before are equal bytes.

use std::ops::Deref;

use crate::index::TranslationId;
use crate::limit::Limit;
use crate::slot::{EntryStore, Slot};
use crate::state::{CacheSet, State};
use crate::translation_set::TranslationSet;
use crate::version::Version;
use crate::view::{CpuIn, CpuMut};

/// Another version for what was read of one.
#[derive(Clone, Copy)]
struct Renaming {
    from: Version,
    to: Version,
    seen: Seen,
}

/// What becomes of a version as the youngest store that a walk has seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Follows,
    Stays,
}

impl<S: Deref<Target = State>> CpuIn<'_, S> {
    /// Returns a version that no other store in the CPU's buffer has, for one to a page-table entry.
    pub(crate) fn next_pending_version(&self) -> Result<Version, Limit> {
        let newest = self.buffered_entries().map(|store| store.version).max();
        newest.map_or(Ok(Version::first_pending(self.cpu)), Version::younger)
    }

    /// Returns the number of an entry after a version has got another name.
    fn renamed(&self, number: TranslationId, renaming: Renaming) -> Result<TranslationId, Limit> {
        let Renaming { from, to, seen } = renaming;
        let mut entry = *self.machine.translations.get(number);
        let was_seen = seen == Seen::Follows && entry.seen == from;
        if !was_seen && !entry.read.contains(&from) {
            return Ok(number);
        }
        if was_seen {
            // What has drained, everyone sees.
            entry.seen = if to.is_pending() { to } else { Version::NONE };
        }
        let rename = |read: Version| if read == from { to } else { read };
        entry.read = entry.read.map(rename);
        self.machine.translations.number(&entry)
    }

    /// As [`CpuIn::renamed`], for each member of a set.
    fn all_renamed(
        &self,
        members: TranslationSet,
        renaming: Renaming,
    ) -> Result<TranslationSet, Limit> {
        members
            .iter()
            .map(|number| self.renamed(number, renaming))
            .collect()
    }
}

impl CpuMut<'_> {
    /// What the CPU has read from a store in its buffer is in that store no more: it was a store to some bytes, and
    /// the others are new. Walks that have seen the store have seen it still.
    pub(crate) fn forget_reads_of(&mut self, version: Version) -> Result<(), Limit> {
        self.rename(Renaming {
            from: version,
            to: Version::NONE,
            seen: Seen::Stays,
        })
    }

    /// Renumbers the versions in the CPU's buffer from the first on, after the oldest has drained: they never
    /// run out, and equal states stay equal bytes.
    pub(crate) fn move_up_pending(&mut self) -> Result<(), Limit> {
        self.map_buffered(|cpu, slot| {
            let Slot::Entry(store) = slot else {
                return Ok(slot);
            };
            let version = store.version.older();
            cpu.rename_version(store.version, version)?;
            Ok(Slot::Entry(EntryStore { version, ..store }))
        })
    }

    /// Gives the entries that the CPU has read from a store in its own buffer another version of that store:
    /// the one that it has got in memory, or the one that it has moved up to.
    pub(crate) fn rename_version(&mut self, from: Version, to: Version) -> Result<(), Limit> {
        let seen = Seen::Follows;
        self.rename(Renaming { from, to, seen })
    }

    fn rename(&mut self, renaming: Renaming) -> Result<(), Limit> {
        for set in CacheSet::IN_CACHES {
            self.rename_in(set, renaming)?;
        }
        // Another CPU's promise may cover what this one has filled.
        for cpu in self.layout().every_cpu() {
            let mut promiser = self.other_mut(cpu);
            promiser.rename_in(CacheSet::Revoked, renaming)?;
            for slot in promiser.slots() {
                promiser.rename_in(CacheSet::Covered(slot), renaming)?;
            }
        }
        let in_flight = self.all_renamed(self.in_flight(), renaming)?;
        self.put_in_flight(in_flight);
        self.map_buffered(|cpu, slot| match slot {
            Slot::User(used) => Ok(Slot::User(cpu.renamed(used, renaming)?)),
            Slot::Cell(_) | Slot::Entry(_) | Slot::Late(_) | Slot::StoreFence | Slot::FullFence => {
                Ok(slot)
            }
        })?;
        for older in 0..self.buffered_len() {
            if let Some(used) = self.through(older) {
                let used = self.renamed(used, renaming)?;
                self.put_through(older, Some(used));
            }
        }
        if self.combining_len() > 0 {
            let mut stores = self.combining();
            for store in &mut stores {
                store.through = self.renamed(store.through, renaming)?;
            }
            self.put_combining(stores);
        }
        Ok(())
    }

    /// As [`CpuMut::rename_version`], in one set.
    fn rename_in(&mut self, set: CacheSet, renaming: Renaming) -> Result<(), Limit> {
        let members = self.set(set);
        let members_after = self.all_renamed(members, renaming)?;
        if members_after != members {
            self.put_set(set, members_after);
        }
        Ok(())
    }
}
