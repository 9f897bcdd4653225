//! What may be cached: the closure over all that speculation could fill.
//!
//! Rules: fills H3, H4, H5, H9, H10; large pages H6, H7, H20; global pages H8; walks that start at a
//! paging-structure-cache entry, or are in flight, H11, H12a, by each way to a table, H12; tags H2, H38.

use lazytlb::{Entry, VirtAddr};

use crate::call::Cr4;
use crate::cpu_model::{SizeConflict, UpperLevels};
use crate::entry::{EntryKind, MemoryType, bits, has, kind, memory_type};
use crate::features::MOST_LEVELS;
use crate::machine::{Machine, Stop};
use crate::mutant::{Mutant, broken};
use crate::state::{Buffered, CacheSet, FrameUse, State, members};
use crate::translation::{MOST_PIECES_GONE, Translation, index_shift};
use crate::violation::{Property, Violation};

/// A table that a walk reads: where it is, what it translates, and how the walk got there.
#[derive(Clone, Copy)]
pub(crate) struct TableRead {
    pub(crate) frame: u8,
    pub(crate) level: u8,
    pub(crate) start: VirtAddr,
    writable: bool,
    user: bool,
    executable: bool,
    pcid: u8,
    root: u8,
    read: [u8; MOST_LEVELS],
    set: CacheSet,
    pub(crate) through: Option<Translation>,
}

impl TableRead {
    /// The root of a space, which every walk of the whole way reads first.
    pub(crate) fn root(frame: u8, levels: u8, pcid: u8) -> TableRead {
        TableRead {
            frame,
            level: levels,
            start: VirtAddr(0),
            writable: true,
            user: true,
            executable: true,
            pcid,
            root: frame,
            read: [0; MOST_LEVELS],
            set: CacheSet::Cached,
            through: None,
        }
    }

    /// The table that a cached entry leads to.
    pub(crate) fn below(entry: Translation, set: CacheSet) -> TableRead {
        TableRead {
            frame: entry.frame,
            level: entry.level,
            start: entry.start,
            writable: entry.writable,
            user: entry.user,
            executable: entry.executable,
            pcid: entry.pcid,
            root: entry.root,
            read: entry.read,
            set,
            through: Some(entry),
        }
    }
}

impl Machine {
    /// Adds to a CPU's sets whatever a walk could produce now, from CR3 and from every entry that is
    /// cached already. Called after each change of what the walks read or start from.
    pub(crate) fn close(&self, state: &mut State, cpu: usize) -> Result<(), Stop> {
        let (root, pcid) = (self.layout.cr3(state, cpu), self.pcid(state, cpu));
        let root = TableRead::root(root, self.features.levels, pcid);
        if self.cpu_model.upper_levels == UpperLevels::Atomic
            || broken(Mutant::NoWalkInFlight)
                && self.cpu_model.upper_levels == UpperLevels::OnlyInFlight
        {
            return self.close_atomically(state, cpu, root);
        }
        self.fill_from(state, cpu, root, &mut |_| {})?;
        if broken(Mutant::WalksStartAtTheRoot) {
            return self.close_atomically(state, cpu, root);
        }
        let mut walked = [0; 2];
        while let Some((set, number)) = self.not_walked(state, cpu, walked) {
            walked[set as usize] |= 1 << number;
            let entry = self.translations.get(number);
            // H2, H38: walks start at the current PCID's entries.
            let of_pcid = entry.pcid == pcid || broken(Mutant::UpperLevelsShared);
            if entry.level > 0 && of_pcid {
                let below = TableRead {
                    pcid,
                    ..TableRead::below(entry, set)
                };
                self.fill_from(state, cpu, below, &mut |_| {})?;
            }
        }
        Ok(())
    }

    /// Adds what walks of the whole way find that read all levels at one time: nothing of the upper
    /// levels stays.
    fn close_atomically(&self, state: &mut State, cpu: usize, root: TableRead) -> Result<(), Stop> {
        let mut tables = vec![root];
        while let Some(table) = tables.pop() {
            self.fill_from(state, cpu, table, &mut |below| tables.push(below))?;
        }
        Ok(())
    }

    /// Returns an entry that may be cached, and from which no walk was taken yet.
    fn not_walked(&self, state: &State, cpu: usize, walked: [u64; 2]) -> Option<(CacheSet, usize)> {
        [CacheSet::Cached, CacheSet::Tainted]
            .into_iter()
            .find_map(|set| {
                let left = self.layout.set(state, cpu, set) & !walked[set as usize];
                members(left).next().map(|number| (set, number))
            })
    }

    /// Closes the sets of every CPU whose walks can read a table.
    pub(crate) fn close_readers_of(&self, state: &mut State, table: u8) -> Result<(), Stop> {
        let all_levels_at_once = self.cpu_model.upper_levels == UpperLevels::Atomic;
        for cpu in 0..self.layout.cpus() {
            let leads_here = |number| {
                let entry = self.translations.get(number);
                entry.level > 0 && entry.frame == table
            };
            let all = self.may_be_cached(state, cpu);
            if self.layout.cr3(state, cpu) == table
                || all_levels_at_once
                || members(all).any(leads_here)
            {
                self.close(state, cpu)?;
            }
        }
        Ok(())
    }

    /// Adds an entry for each present entry of one table; hands on the tables below.
    fn fill_from(
        &self,
        state: &mut State,
        cpu: usize,
        table: TableRead,
        below: &mut impl FnMut(TableRead),
    ) -> Result<(), Stop> {
        if self.layout.frame_use(state, table.frame) != FrameUse::Table {
            return self.walk_garbage(state, cpu, table);
        }
        for (number, (frame, index)) in self.entries.iter() {
            if frame != table.frame {
                continue;
            }
            let location = self.layout.entry_location(number);
            let in_memory = self.in_memory(state, location);
            if let Some(entry) = self.fill_one(state, cpu, table, index, in_memory)? {
                if self.features.accessed_dirty && !broken(Mutant::CachedWithoutAccessed) {
                    self.mark_maybe_accessed(state, location)?;
                }
                if entry.level > 0 {
                    below(TableRead::below(entry, table.set));
                }
            }
            if broken(Mutant::WalksSkipTheStoreBuffer) {
                continue;
            }
            // H25: a walk may read memory, or see this CPU's own buffered stores.
            for slot in 0..self.layout.buffered_len(state, cpu) {
                let store = self.layout.buffered(state, cpu).nth(slot);
                let Some(store) = store.filter(|store| store.location == location) else {
                    continue;
                };
                // H3: setting A is a locked access to memory, which a buffered store has not reached.
                let accessed = self.values.decode(store.value) & bits::ACCESSED != 0;
                if self.features.accessed_dirty && !accessed {
                    continue;
                }
                if let Some(entry) = self.fill_one(state, cpu, table, index, store)?
                    && entry.level > 0
                {
                    below(TableRead::below(entry, table.set));
                }
            }
        }
        Ok(())
    }

    /// Adds what one entry of a table translates; returns it.
    fn fill_one(
        &self,
        state: &mut State,
        cpu: usize,
        table: TableRead,
        index: u16,
        stored: Buffered,
    ) -> Result<Option<Translation>, Stop> {
        let pge = Cr4(self.layout.cr4(state, cpu)).has(Cr4::PGE);
        let Some(filled) = self.translate(table, index, stored, pge)? else {
            return Ok(None);
        };
        let upper_levels_stay = self.cpu_model.upper_levels != UpperLevels::Atomic
            && !(broken(Mutant::NoWalkInFlight)
                && self.cpu_model.upper_levels == UpperLevels::OnlyInFlight);
        let is_cached = match filled.level {
            0 => true,
            _ if broken(Mutant::EmptyTableNotCached) => !self.is_empty_table(state, filled.frame),
            _ if broken(Mutant::OneWayToATable) => filled.frame != table.frame,
            _ => upper_levels_stay,
        };
        if !is_cached {
            return Ok(Some(filled));
        }
        let number = self.translations.number(filled)?;
        // A page that was freed while it is mapped must not be used, however it got cached.
        let is_freed_page =
            filled.level == 0 && self.layout.frame_use(state, filled.frame) == FrameUse::Free;
        let set = if is_freed_page || self.is_revoked(state, cpu, number) {
            CacheSet::Tainted
        } else {
            table.set
        };
        let former = self.layout.set(state, cpu, set);
        if former >> number & 1 != 0 {
            return Ok(Some(filled));
        }
        if filled.level == 0 {
            self.refuse_size_conflict(state, cpu, filled)?;
            if self.features.write_combining > 0 && set == CacheSet::Cached {
                self.refuse_mixed_types(state, cpu, filled)?;
            }
            if broken(Mutant::NewSizeReplacesOld) {
                self.drop_other_sizes(state, cpu, filled);
            }
        }
        let members = self.layout.set(state, cpu, set) | 1 << number;
        self.layout.put_set(state, cpu, set, members);
        Ok(Some(filled))
    }

    /// Returns what a walk caches that reads this entry in this table; `None` if it is not valid.
    pub(crate) fn translate(
        &self,
        table: TableRead,
        index: u16,
        stored: Buffered,
        pge: bool,
    ) -> Result<Option<Translation>, Stop> {
        let mut entry = Entry(self.values.decode(stored.value));
        if broken(Mutant::ReservedBitIgnored) && table.level > 3 {
            entry.0 &= !bits::LARGE;
        }
        let level = match kind(entry, table.level) {
            EntryKind::Invalid => return Ok(None),
            EntryKind::Table => table.level - 1,
            EntryKind::Leaf => 0,
        };
        let mut read = table.read;
        if self.features.provenance {
            read[usize::from(self.features.levels - table.level)] = stored.version;
        }
        let is_leaf = level == 0;
        let above = broken(Mutant::UpperPermissionsForgotten);
        Ok(Some(Translation {
            level,
            read_in: table.level,
            start: VirtAddr(table.start.0 | u64::from(index) << index_shift(table.level)),
            without: [None; MOST_PIECES_GONE],
            frame: self.frame(entry.frame())?,
            writable: (table.writable || above) && entry.is_writable(),
            user: (table.user || above) && has(entry, bits::USER),
            executable: (table.executable || above) && !has(entry, bits::NO_EXECUTE),
            dirty: !is_leaf || !self.features.accessed_dirty || has(entry, bits::DIRTY),
            memory_type: match is_leaf {
                true => memory_type(entry),
                false => MemoryType::WriteBack,
            },
            global: is_leaf
                && has(entry, bits::GLOBAL)
                && (pge || broken(Mutant::GlobalsWithoutPge))
                && !broken(Mutant::NoGlobals),
            pcid: table.pcid,
            garbage: false,
            root: table.root,
            read,
        }))
    }

    fn is_empty_table(&self, state: &State, table: u8) -> bool {
        !self.entries.iter().any(|(number, (frame, _))| {
            let location = self.layout.entry_location(number);
            let value = self.values.decode(self.in_memory(state, location).value);
            frame == table && value & bits::PRESENT != 0
        })
    }

    /// Fails if a page is cached in two sizes on a CPU with erratum 383 (H31). That an entry *may* be
    /// cached is enough: the verdict over-approximates the erratum, which needs both at one time.
    fn refuse_size_conflict(
        &self,
        state: &State,
        cpu: usize,
        filled: Translation,
    ) -> Result<(), Stop> {
        if self.cpu_model.size_conflict != SizeConflict::MachineCheck
            || !self.checks(Property::MultipleMatch)
            || broken(Mutant::SizeConflictIgnored)
        {
            return Ok(());
        }
        let other = self
            .leaves(state, cpu)
            .find(|entry| is_other_size(entry, &filled));
        let Some(other) = other else { return Ok(()) };
        let what = format!("may hold its {filled} beside its {other}, of another page size");
        Err(Stop::Violation(Violation::through(
            Property::MultipleMatch,
            cpu,
            filled,
            what,
        )))
    }

    fn drop_other_sizes(&self, state: &mut State, cpu: usize, filled: Translation) {
        for set in [CacheSet::Cached, CacheSet::Tainted] {
            let kept = members(self.layout.set(state, cpu, set))
                .filter(|&number| !is_other_size(&self.translations.get(number), &filled))
                .fold(0, |kept, number| kept | 1 << number);
            self.layout.put_set(state, cpu, set, kept);
        }
    }

    /// Returns what memory holds at a page-table entry's location, as if it were a store.
    pub(crate) fn in_memory(&self, state: &State, location: u8) -> Buffered {
        let value = state[self.layout.location(location)];
        let version = state[self.layout.version_of_location(location)];
        Buffered {
            location,
            value,
            version,
        }
    }

    /// Returns what a CPU reads at a page-table entry's location: its newest buffered store, or memory.
    pub(crate) fn as_seen_by(&self, state: &State, cpu: usize, location: u8) -> Buffered {
        let own = self
            .layout
            .buffered(state, cpu)
            .rfind(|store| store.location == location);
        own.unwrap_or_else(|| self.in_memory(state, location))
    }

    /// Returns everything that a CPU may cache, usable or not.
    pub(crate) fn may_be_cached(&self, state: &State, cpu: usize) -> u64 {
        self.layout.set(state, cpu, CacheSet::Cached)
            | self.layout.set(state, cpu, CacheSet::Tainted)
    }

    /// Returns every page's translation that a CPU may cache, usable or not.
    pub(crate) fn leaves(&self, state: &State, cpu: usize) -> impl Iterator<Item = Translation> {
        members(self.may_be_cached(state, cpu))
            .map(|number| self.translations.get(number))
            .filter(|entry| entry.level == 0)
    }

    /// Returns what a walk of memory alone can find in a space.
    pub(crate) fn in_memory_of_space(&self, state: &State, root: u8) -> Result<u64, Stop> {
        let mut found = 0;
        let mut tables = vec![TableRead::root(root, self.features.levels, 0)];
        while let Some(table) = tables.pop() {
            for (number, (_, index)) in self
                .entries
                .iter()
                .filter(|(_, (frame, _))| *frame == table.frame)
            {
                let stored = self.in_memory(state, self.layout.entry_location(number));
                let Some(entry) = self.translate(table, index, stored, false)? else {
                    continue;
                };
                found |= 1 << self.translations.number(entry)?;
                if entry.level > 0 {
                    tables.push(TableRead::below(entry, CacheSet::Cached));
                }
            }
        }
        Ok(found)
    }
}

/// Says whether two entries of one PCID translate an address in different page sizes (H7).
fn is_other_size(one: &Translation, other: &Translation) -> bool {
    let same_space = one.pcid == other.pcid || one.global || other.global;
    one.level == 0
        && other.level == 0
        && one.read_in != other.read_in
        && same_space
        && one.overlaps(other)
}
