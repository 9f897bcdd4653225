//! Instruction fetches: their walks may have read each page-table entry earlier.
//!
//! Rules: H40, with H18 for what serializes. The read of an entry for a fetch may appear to execute before an
//! earlier write to the entry, this CPU's own or one that it has seen, unless a serializing instruction stands
//! between. So each CPU of a program that fetches remembers what entries held in memory since its last one.
//!
//! An example. CPU 0 fetches from a page that `e` maps, and that was absent before:
//!
//! ```text
//!  CPU 0          e in memory   formerly   a fetch may
//!                 absent                   fault
//!  e = page       page          absent     fault, or not
//!  MFENCE         page          absent     fault, or not: it serializes on AMD alone
//!  CPUID          page                     not fault
//! ```
//!
//! What a walk for a fetch reads early, it does not cache. A frame's contents from before it became a table are
//! not remembered.

use std::ops::Deref;

use lazytlb::VirtAddr;

use crate::accessed::Use;
use crate::entry::bits;
use crate::index::{Cpu, EntryId, Frame, Location};
use crate::limit::{Limit, MOST_FORMER};
use crate::progress::Stop;
use crate::slot::{EntryStore, Slot};
use crate::state::{CacheSet, FrameUse, State};
use crate::through::Through;
use crate::translation::{Staleness, Translation};
use crate::updates::OwnWalk;
use crate::version::Version;
use crate::view::{CpuIn, CpuMut, StoredEntry};
use crate::violation::Property;
use crate::virtual_access::{Operation, VirtualAccess};
use crate::walk::TableRead;

/// A walk for a fetch that ends in a page which allows it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct EarlyWalk<'m> {
    pub(crate) used: &'m Translation,
    /// The upper entry that it started at.
    from: Option<Translation>,
    /// The entries that it read in memory as they are now, where it sets A (H3).
    sets_accessed: Vec<EntryId>,
}

/// What an early walk may read of an entry.
#[derive(Clone, Copy)]
struct EarlyRead {
    stored: StoredEntry,
    /// Memory holds it now.
    is_in_memory: bool,
}

impl<'m, S: Deref<Target = State>> CpuIn<'m, S> {
    /// Lists what page-table entries held in memory since the CPU's last serializing instruction.
    pub(crate) fn former(&self) -> impl Iterator<Item = EntryStore> {
        let layout = self.layout();
        let slots = match layout.former(self.cpu) {
            None => &[],
            Some(former) => {
                let start = former.bytes();
                let len = usize::from(self.state[start]);
                &self.state[start + 1..start + 1 + Slot::LEN * len]
            }
        };
        let (slots, _) = slots.as_chunks();
        let slots = slots.iter();
        slots.filter_map(|&slot| Slot::decode(slot, layout.locations).entry_store())
    }

    /// Lists what memory holds at an entry, and what it held as far as a fetch of some CPU may still read it.
    pub(crate) fn in_memory_or_formerly(&self, entry: EntryId) -> Vec<StoredEntry> {
        let mut all = vec![self.in_memory(entry)];
        for cpu in self.every_cpu() {
            for former in cpu.former().filter(|former| former.entry == entry) {
                let former = StoredEntry::from(former);
                if !all.contains(&former) {
                    all.push(former);
                }
            }
        }
        all
    }

    /// Says whether the walk of an access may have read entries earlier.
    pub(crate) fn reads_early(&self, access: &VirtualAccess) -> bool {
        access.operation == Operation::Fetch && self.layout().has_fetches()
    }

    /// Lists what a walk for a fetch may read of an entry.
    fn early_reads(&self, entry: EntryId) -> Vec<EarlyRead> {
        let in_memory = EarlyRead {
            stored: self.in_memory(entry),
            is_in_memory: true,
        };
        let stores = self.buffered_entries().chain(self.former());
        let stores = stores.filter(|store| store.entry == entry);
        let early = stores.map(|store| EarlyRead {
            stored: store.into(),
            is_in_memory: false,
        });
        std::iter::once(in_memory).chain(early).collect()
    }

    /// Lists what a walk for a fetch may read of an entry.
    pub(crate) fn readable_early(&self, entry: EntryId) -> impl Iterator<Item = StoredEntry> {
        let reads = self.early_reads(entry).into_iter();
        reads.map(|read| read.stored)
    }

    /// Lists the walks for an access, if it is a fetch, that end in pages which allow it, and that no entry of
    /// `usable` stands for.
    pub(crate) fn early_walks(
        &self,
        access: &VirtualAccess,
        usable: &[Through<'_>],
    ) -> Result<Vec<EarlyWalk<'m>>, Stop> {
        let mut walks = Vec::new();
        if self.reads_early(access) {
            for start in self.walk_starts(access.addr) {
                let way = (start.through, &mut Vec::new());
                self.walk_early(&start, access, way, &mut walks)?;
            }
            let stands_for = |walk: &EarlyWalk<'_>| {
                let mut used = usable.iter().map(|through| through.used);
                used.any(|used| used == walk.used)
            };
            walks.retain(|walk| !stands_for(walk));
        }
        Ok(walks)
    }

    fn walk_early(
        &self,
        table: &TableRead,
        access: &VirtualAccess,
        (start, sets_accessed): (Option<Translation>, &mut Vec<EntryId>),
        walks: &mut Vec<EarlyWalk<'m>>,
    ) -> Result<(), Stop> {
        let (machine, cr4) = (self.machine, self.cr4());
        let index = table.level.index_of(access.addr);
        let is_table = !table.is_dead && self.frame_use(table.frame) == FrameUse::Table;
        let entry = machine.entry_for(table.frame, access.addr, table.level);
        let Some(entry) = entry.filter(|_| is_table) else {
            return Ok(());
        };
        for read in self.early_reads(entry) {
            let Some(found) = machine.translate(table, index, read.stored, cr4)? else {
                continue;
            };
            let value = machine.values.decode(read.stored.value);
            let was_accessed = value & (bits::ACCESSED | bits::MAYBE_ACCESSED) != 0;
            if machine.features.accessed_dirty && !read.is_in_memory && !was_accessed {
                // H3: A is set by a locked access to memory, which holds something else.
                continue;
            }
            if read.is_in_memory {
                sets_accessed.push(entry);
            }
            match TableRead::below(&found, CacheSet::Cached) {
                Some(below) => self.walk_early(&below, access, (start, sets_accessed), walks)?,
                None if !access.is_allowed_by(&found, cr4) => {}
                None => {
                    let walk = EarlyWalk {
                        used: self.used_early(table, &found, access.addr)?,
                        from: start,
                        sets_accessed: sets_accessed.clone(),
                    };
                    if !walks.contains(&walk) {
                        walks.push(walk);
                    }
                }
            }
            if read.is_in_memory {
                sets_accessed.pop();
            }
        }
        Ok(())
    }

    /// Returns the page that an early walk has found in a table, which may be one that must not be used any more
    /// at an address.
    fn used_early(
        &self,
        table: &TableRead,
        found: &Translation,
        addr: VirtAddr,
    ) -> Result<&'m Translation, Stop> {
        let translations = &self.machine.translations;
        let (used, is_stale) = match self.staleness_of(table, found)? {
            Staleness::Untouched => (translations.number(found)?, false),
            Staleness::Whole => (translations.number(found)?, true),
            Staleness::Part(found) => (translations.number(&found)?, false),
        };
        let used = translations.get(used);
        let is_looked_at = self.machine.checks(Property::StaleUse);
        if is_stale && is_looked_at || self.stale_among(&[used], addr).is_some() {
            return Err(self.stale_use(used));
        }
        Ok(used)
    }
}

impl CpuMut<'_> {
    /// Notes that an early walk sets A in the entries that it read in memory, and in those that it started from.
    pub(crate) fn mark_walked(&mut self, walk: &EarlyWalk<'_>) -> Result<(), Stop> {
        let machine = self.machine;
        if machine.features.accessed_dirty {
            if let Some(from) = &walk.from {
                self.owe(from, Use::Reads, OwnWalk::AtAnyTime)?;
            }
            for &entry in &walk.sets_accessed {
                self.owe_accessed(entry);
            }
        }
        Ok(())
    }

    /// Remembers what an entry was as the CPU saw it with its own store done, and is not any more.
    pub(crate) fn remember_own_former(&mut self, store: EntryStore) -> Result<(), Limit> {
        let version = Version::NONE;
        self.remember_on(self.cpu, EntryStore { version, ..store })
    }

    fn remember_on(&mut self, cpu: Cpu, former: EntryStore) -> Result<(), Limit> {
        if self.layout().former(cpu).is_none() {
            return Ok(());
        }
        let mut reader = self.other_mut(cpu);
        let mut all: Vec<EntryStore> = reader.former().collect();
        if !all.contains(&former) {
            all.push(former);
            reader.put_former(all)?;
        }
        Ok(())
    }

    /// Remembers, on each CPU, what an entry holds in memory that is about to be overwritten.
    pub(crate) fn remember_former(&mut self, entry: EntryId) -> Result<(), Limit> {
        if !self.layout().has_fetches() {
            return Ok(());
        }
        let StoredEntry { value, version } = self.in_memory(entry);
        let version = match self.machine.features.provenance {
            true => version,
            false => Version::NONE,
        };
        let former = EntryStore {
            entry,
            value,
            version,
        };
        let mut cpus = self.layout().every_cpu();
        cpus.try_for_each(|cpu| self.remember_on(cpu, former))
    }

    /// Software has read an entry, and overwrites it: A was as it has read, and not *maybe*.
    pub(crate) fn settle_for_fetches(&mut self, entry: EntryId, read: u64) -> Result<(), Limit> {
        if self.layout().has_fetches() && self.machine.features.accessed_dirty {
            let settled = self.machine.values.encode(read)?;
            self.put_in_memory(Location::Entry(entry), settled);
        }
        Ok(())
    }

    /// A serializing instruction: fetches read what entries hold from now on (H18, H40).
    pub(crate) fn forget_former(&mut self) {
        if self.former().next().is_none() {
            return;
        }
        self.put_former(Vec::new()).expect("none is not too many");
        for cpu in self.layout().every_cpu() {
            self.other_mut(cpu).forget_revoked();
        }
    }

    /// A table is freed: no walk reads any more what its entries held.
    pub(crate) fn forget_former_in(&mut self, table: Frame) -> Result<(), Limit> {
        if !self.layout().has_fetches() {
            return Ok(());
        }
        let entries = &self.machine.entries;
        for cpu in self.layout().every_cpu() {
            let mut reader = self.other_mut(cpu);
            let all = reader.former();
            let elsewhere = all.filter(|former| entries.get(former.entry).table != table);
            let elsewhere = elsewhere.collect();
            reader.put_former(elsewhere)?;
        }
        Ok(())
    }

    fn put_former(&mut self, all: Vec<EntryStore>) -> Result<(), Limit> {
        let layout = self.layout();
        let Some(former) = layout.former(self.cpu) else {
            return Ok(());
        };
        let what = "former values of page-table entries that a fetch may still read";
        let len = Limit::check(what, MOST_FORMER, all.len())?;
        let encode = |store: EntryStore| Slot::Entry(store).encode(layout.locations);
        let mut slots: Vec<[u8; Slot::LEN]> = all.into_iter().map(encode).collect();
        // They have no order: equal sets are equal bytes.
        slots.sort_unstable();
        slots.resize(MOST_FORMER, [0; Slot::LEN]);
        let start = former.bytes();
        self.state[start] = len as u8;
        let section = &mut self.state[start + 1..start + 1 + Slot::LEN * MOST_FORMER];
        section.copy_from_slice(slots.as_flattened());
        Ok(())
    }
}
