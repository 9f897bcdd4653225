//! What may be cached: the closure over all that speculation could fill.
//!
//! Rules: fills H3, H4, H5, H9, H10; large pages H6, H7, H20; global pages H8; walks that start at a
//! paging-structure-cache entry, or are in flight, H11, H12a, by each way to a table, H12; tags H2, H38; what
//! a walk sees of its CPU's own stores, H25.
//!
//! A walk sees the own stores up to some point in program order, and at each level up to a point that never
//! goes back. So an upper entry remembers the youngest waiting store that was seen on the way to it. An
//! example: a CPU writes `T[0]`, then hooks the table in by `R[0]`, and both stores wait:
//!
//! ```text
//!  in the buffer, oldest first: T[0] = b, R[0] = T          in memory: T[0] = a, R[0] absent
//!  a walk reads R[0] in memory: absent, nothing is cached
//!  a walk reads R[0] in the buffer: the table T, and it has seen both stores
//!  it goes on in T: it reads T[0] = b, and never a
//! ```

use std::ops::Deref;

use crate::cpu_model::{SizeConflict, UpperLevels};
use crate::entry::bits;
use crate::index::{EntryId, Frame, TableIndex, TranslationId};
use crate::limit::Limit;
use crate::machine::Machine;
use crate::progress::Stop;
use crate::slot::Slot;
use crate::state::{CacheSet, FrameUse, State};
use crate::translation::{Staleness, Translation};
use crate::translation_set::TranslationSet;
use crate::version::Version;
use crate::view::{CpuIn, CpuMut, StoredEntry};
use crate::violation::{Property, Violation};
use crate::walk::TableRead;

impl CpuMut<'_> {
    /// Adds to the CPU's sets whatever a walk could produce now, from CR3 and from every entry that is
    /// cached already. Called after each change of what the walks read or start from.
    pub(crate) fn close(&mut self) -> Result<(), Stop> {
        let machine = self.machine;
        let root = self.root();
        if machine.walks_are_atomic() {
            return self.close_atomically(root);
        }
        self.fill_from(&root, &mut |_| {})?;
        let mut walked = Walked::default();
        self.go_on_from_held_roots()?;
        while let Some((set, number)) = self.next_to_walk(&mut walked) {
            let entry = machine.translations.get(number);
            if let Some(below) = TableRead::below(entry, set) {
                self.fill_from(&below, &mut |_| {})?;
            }
        }
        Ok(())
    }

    /// Goes on with the walks in flight that have read nothing but the root's address (H12a).
    fn go_on_from_held_roots(&mut self) -> Result<(), Stop> {
        for number in self.in_flight().iter() {
            let entry = self.machine.translations.get(number);
            if entry.is_held_root()
                && let Some(held) = TableRead::below(entry, CacheSet::Cached)
            {
                self.fill_from(&held, &mut |_| {})?;
            }
        }
        Ok(())
    }

    /// Adds what walks of the whole way find that read all levels at one time: nothing of the upper
    /// levels stays.
    fn close_atomically(&mut self, root: TableRead) -> Result<(), Stop> {
        let mut tables = vec![root];
        while let Some(table) = tables.pop() {
            self.fill_from(&table, &mut |below| tables.push(below))?;
        }
        Ok(())
    }

    /// Returns an entry that may be cached, and from which no walk was taken yet: of the current PCID (H2,
    /// H38), or in flight under its own (H12a).
    #[inline]
    fn next_to_walk(&self, walked: &mut Walked) -> Option<(CacheSet, TranslationId)> {
        let machine = self.machine;
        for (set, walked) in CacheSet::IN_CACHES.into_iter().zip(&mut walked.0) {
            let mut left = self.set(set).without(*walked);
            if machine.features.tags {
                let (pcid, in_flight) = (self.pcid(), self.in_flight());
                left = left.filter(|number| {
                    machine.translations.get(number).pcid == pcid || in_flight.contains(number)
                });
            }
            if let Some(number) = left.lowest() {
                *walked = walked.with(number);
                return Some((set, number));
            }
        }
        None
    }

    /// Closes the sets of every CPU whose walks can read a table.
    pub(crate) fn close_readers_of(&mut self, table: Frame) -> Result<(), Stop> {
        let machine = self.machine;
        for cpu in machine.layout.every_cpu() {
            let mut reader = self.other_mut(cpu);
            if reader.cr3() == table
                || machine.walks_are_atomic()
                || reader
                    .translations(reader.may_be_cached().union(reader.in_flight()))
                    .any(|entry| entry.leads_to_table_in(table))
            {
                reader.close()?;
            }
        }
        Ok(())
    }

    /// Adds an entry for each present entry of one table; hands on the tables below.
    fn fill_from(
        &mut self,
        table: &TableRead,
        below: &mut impl FnMut(TableRead),
    ) -> Result<(), Stop> {
        if table.is_dead || self.frame_use(table.frame) != FrameUse::Table {
            return self.walk_garbage(table);
        }
        let machine = self.machine;
        let sets_accessed = machine.features.accessed_dirty;
        for (entry, index) in machine.entries_of(table.frame) {
            // H25: a walk may read memory, or see this CPU's own buffered stores; what it has seen before, or
            // something younger, it sees here.
            let must_see = self.own_seen(entry, table.seen);
            if must_see.is_none()
                && let Some(filled) = self.fill_one(table, index, self.in_memory(entry))?
            {
                if sets_accessed {
                    self.mark_maybe_accessed(entry)?;
                }
                TableRead::below(&filled, table.set).map(&mut *below);
            }
            for older in 0..self.buffered_len() {
                let Some(own) = self.buffered_store_to(entry, older) else {
                    continue;
                };
                if must_see > Some(own.version) {
                    continue;
                }
                // H3: setting A is a locked access to memory, which a buffered store has not reached.
                let accessed = machine.values.decode(own.value) & bits::ACCESSED != 0;
                if sets_accessed && !accessed {
                    continue;
                }
                if let Some(filled) = self.fill_one(table, index, own)? {
                    TableRead::below(&filled, table.set).map(&mut *below);
                }
            }
        }
        Ok(())
    }

    /// Returns the youngest own store to an entry that a walk has seen already that has seen a store: it does
    /// not see anything older.
    #[inline]
    fn own_seen(&self, entry: EntryId, seen: Version) -> Option<Version> {
        if seen == Version::NONE {
            return None;
        }
        let own = self.buffered_entries();
        let mut own = own.filter(|store| store.entry == entry && store.version <= seen);
        own.next_back().map(|store| store.version)
    }

    /// Returns what is in the CPU's buffer behind so many older slots, if it is a store to an entry.
    #[inline]
    fn buffered_store_to(&self, entry: EntryId, older: usize) -> Option<StoredEntry> {
        let store = self.buffered().nth(older).and_then(Slot::entry_store);
        store.filter(|store| store.entry == entry).map(Into::into)
    }

    /// Adds what one entry of a table translates; returns it.
    fn fill_one(
        &mut self,
        table: &TableRead,
        index: TableIndex,
        stored: StoredEntry,
    ) -> Result<Option<Translation>, Stop> {
        let machine = self.machine;
        let Some(filled) = machine.translate(table, index, stored, self.cr4())? else {
            return Ok(None);
        };
        if !filled.is_page() && machine.walks_are_atomic() {
            return Ok(Some(filled));
        }
        let (set, filled) = match self.staleness_of(table, &filled)? {
            Staleness::Untouched => (table.set, filled),
            Staleness::Whole => (CacheSet::Tainted, filled),
            Staleness::Part(in_part) => (table.set, in_part),
        };
        let number = machine.translations.number(&filled)?;
        let in_flight = self.in_flight();
        let goes_on = machine.features.tags
            && filled.pcid != self.pcid()
            && (!filled.is_page() || self.may_go_on_accessing(&filled));
        if goes_on {
            // A walk in flight has got there, under its own PCID.
            self.put_in_flight(in_flight.with(number));
        }
        let former = self.set(set);
        if former.contains(number) && (!goes_on || in_flight.contains(number)) {
            return Ok(Some(filled));
        }
        if let Some(through) = &table.through {
            self.cover_below(through, number)?;
        }
        if filled.is_page() {
            self.refuse_size_conflict(&filled)?;
            if machine.features.write_combining > 0 && set == CacheSet::Cached {
                self.refuse_mixed_types(number)?;
            }
        }
        self.put_set(set, former.with(number));
        Ok(Some(filled))
    }

    /// Fails if a page is cached in two sizes on a CPU with erratum 383 (H31), or in two that can be fetched from on one whose ITLB takes no
    /// two hits (H31a). That an entry *may* be cached is enough: the verdict over-approximates the errata, which need both at one time, and
    /// the latter a fetch, which speculation can make at any time.
    fn refuse_size_conflict(&self, filled: &Translation) -> Result<(), Stop> {
        let conflict = self.machine.cpu_model.size_conflict;
        if conflict == SizeConflict::EitherIsUsed || !self.machine.checks(Property::MultipleMatch) {
            return Ok(());
        }
        // Under another PCID nothing looks it up, until a CR3 load comes to that.
        if !self.looks_up(filled) {
            return Ok(());
        }
        let mut others = self.translations(self.may_be_cached());
        let conflicts = |entry: &&Translation| {
            is_other_size(entry, filled)
                && self.looks_up(entry)
                && conflict.is_fatal(entry.executable && filled.executable)
        };
        let Some(other) = others.find(conflicts) else {
            return Ok(());
        };
        let what = format!("may hold its {filled} beside its {other}, of another page size");
        Err(Stop::Violation(Violation::through(
            Property::MultipleMatch,
            self.cpu,
            *filled,
            what,
        )))
    }

    /// Fails if what a CR3 load has kept of its PCID has a page in two sizes, as [`CpuMut::refuse_size_conflict`].
    pub(crate) fn refuse_kept_size_conflict(&self) -> Result<(), Stop> {
        if self.machine.cpu_model.size_conflict == SizeConflict::EitherIsUsed {
            return Ok(());
        }
        let mut pages = self.translations(self.may_be_cached());
        pages.try_for_each(|entry| match entry.is_page() {
            true => self.refuse_size_conflict(entry),
            false => Ok(()),
        })
    }
}

impl<S: Deref<Target = State>> CpuIn<'_, S> {
    /// Says what of an entry must not be used that is filled now: what the walk's start must not, what a returned
    /// flush covers, and a page that was freed while it is mapped, however it got cached.
    pub(crate) fn staleness_of(
        &self,
        table: &TableRead,
        filled: &Translation,
    ) -> Result<Staleness, Limit> {
        if filled.is_page() && self.frame_use(filled.frame) == FrameUse::Free {
            return Ok(Staleness::Whole);
        }
        let mut stale = self.revoked_of(filled)?;
        for part in table.stale.iter() {
            stale = stale.with(filled, part)?;
        }
        Ok(stale)
    }
}

/// The entries from which walks were taken, in each set of what may be cached.
#[derive(Default)]
struct Walked([TranslationSet; CacheSet::IN_CACHES.len()]);

impl Machine {
    /// Says whether walks read all their levels at one time, so that nothing of the upper ones stays.
    #[inline]
    fn walks_are_atomic(&self) -> bool {
        self.cpu_model.upper_levels == UpperLevels::Atomic
    }
}

/// Says whether two entries of one PCID translate an address in different page sizes (H7).
fn is_other_size(one: &Translation, other: &Translation) -> bool {
    let same_space = one.pcid == other.pcid || one.global || other.global;
    one.is_page()
        && other.is_page()
        && one.read_in != other.read_in
        && same_space
        && one.overlaps(other)
}
