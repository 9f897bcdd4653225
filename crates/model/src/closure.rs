//! What may be cached: the closure over all that speculation could fill, and what removes from it.
//!
//! Rules: fills H3, H4, H9, H10; walks that start at a paging-structure-cache entry, or are in flight,
//! H11, H12a; INVLPG H13, H37; MOV to CR3 H15. Software's side: taints H22, H23.

use lazytlb::{Entry, FlushRange, VirtAddr};

use crate::cpu_model::InvlpgReach;
use crate::machine::{Machine, Stop};
use crate::state::{Buffered, CacheSet, FrameUse, State, USER_MEMORY, members};
use crate::translation::{LEVELS, Translation, frame_number, index_of, index_shift};
use crate::versions::{is_pending, is_pending_of};
use crate::violation::{Property, Violation};

/// A table that a walk reads: where it is, what it translates, and how the walk got there.
#[derive(Clone, Copy)]
struct TableRead {
    frame: u8,
    level: u8,
    start: VirtAddr,
    writable: bool,
    read: [u8; LEVELS],
    set: CacheSet,
    through: Option<Translation>,
}

impl TableRead {
    /// The root of a space, which every walk of the whole way reads first.
    fn root(frame: u8) -> TableRead {
        TableRead {
            frame,
            level: LEVELS as u8,
            start: VirtAddr(0),
            writable: true,
            read: [0; LEVELS],
            set: CacheSet::Cached,
            through: None,
        }
    }

    /// The table that a cached entry leads to.
    fn below(entry: Translation, set: CacheSet) -> TableRead {
        let Translation {
            level,
            start,
            frame,
            writable,
            read,
            ..
        } = entry;
        TableRead {
            frame,
            level,
            start,
            writable,
            read,
            set,
            through: Some(entry),
        }
    }
}

impl Machine {
    /// Adds to a CPU's sets whatever a walk could produce now, from CR3 and from every entry that is
    /// cached already. Called after each change of what the walks read or start from.
    pub(crate) fn close(&self, state: &mut State, cpu: usize) -> Result<(), Stop> {
        self.fill_from(state, cpu, TableRead::root(self.layout.cr3(state, cpu)))?;
        let mut walked = [0; 2];
        while let Some((set, number)) = self.not_walked(state, cpu, walked) {
            walked[set as usize] |= 1 << number;
            let entry = self.translations.get(number);
            if entry.level > 0 {
                self.fill_from(state, cpu, TableRead::below(entry, set))?;
            }
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
        for cpu in 0..self.layout.cpus() {
            let leads_here = |number| {
                let entry = self.translations.get(number);
                entry.level > 0 && entry.frame == table
            };
            let all = self.may_be_cached(state, cpu);
            if self.layout.cr3(state, cpu) == table || members(all).any(leads_here) {
                self.close(state, cpu)?;
            }
        }
        Ok(())
    }

    /// Adds an entry for each present entry of one table.
    fn fill_from(&self, state: &mut State, cpu: usize, table: TableRead) -> Result<(), Stop> {
        if self.layout.frame_use(state, table.frame) != FrameUse::Table {
            return Err(self.garbage_walk(cpu, table.frame, table.through));
        }
        let root = self.layout.cr3(state, cpu);
        for (number, (frame, index)) in self.entries.iter() {
            if frame != table.frame {
                continue;
            }
            let location = self.layout.entry_location(number);
            let in_memory = self.in_memory(state, location);
            self.fill_one(state, cpu, root, table, index, in_memory)?;
            // H25: a walk may read memory, or see this CPU's own buffered stores.
            for slot in 0..self.layout.buffered_len(state, cpu) {
                let store = self.layout.buffered(state, cpu).nth(slot);
                if let Some(store) = store.filter(|store| store.location == location) {
                    self.fill_one(state, cpu, root, table, index, store)?;
                }
            }
        }
        Ok(())
    }

    fn fill_one(
        &self,
        state: &mut State,
        cpu: usize,
        root: u8,
        table: TableRead,
        index: u16,
        entry: Buffered,
    ) -> Result<(), Stop> {
        let Some(filled) = self.translate(root, table, index, entry)? else {
            return Ok(());
        };
        let number = self.translations.number(filled)?;
        // A page that was freed while it is mapped must not be used, however it got cached.
        let is_freed_page =
            filled.level == 0 && self.layout.frame_use(state, filled.frame) == FrameUse::Free;
        let set = if is_freed_page || self.is_revoked(state, cpu, number) {
            CacheSet::Tainted
        } else {
            table.set
        };
        let members = self.layout.set(state, cpu, set) | 1 << number;
        self.layout.put_set(state, cpu, set, members);
        Ok(())
    }

    /// Returns what a walk caches that reads this entry in this table; `None` if it is absent.
    fn translate(
        &self,
        root: u8,
        table: TableRead,
        index: u16,
        stored: Buffered,
    ) -> Result<Option<Translation>, Stop> {
        let entry = Entry(self.values.decode(stored.value));
        if !entry.is_present() {
            return Ok(None);
        }
        let mut read = table.read;
        read[LEVELS - usize::from(table.level)] = stored.version;
        Ok(Some(Translation {
            level: table.level - 1,
            start: VirtAddr(table.start.0 | u64::from(index) << index_shift(table.level)),
            frame: self.frame(entry.frame())?,
            writable: table.writable && entry.is_writable(),
            root,
            read,
        }))
    }

    /// Returns what memory holds at a page-table entry's location, as if it were a store.
    fn in_memory(&self, state: &State, location: u8) -> Buffered {
        let value = state[self.layout.location(location)];
        let version = state[self.layout.version_of_location(location)];
        Buffered {
            location,
            value,
            version,
        }
    }

    /// Returns what a CPU reads at a page-table entry's location: its newest buffered store, or memory.
    fn as_seen_by(&self, state: &State, cpu: usize, location: u8) -> Buffered {
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

    fn keep_only(&self, state: &mut State, cpu: usize, keep: impl Fn(Translation) -> bool) {
        for set in [CacheSet::Cached, CacheSet::Tainted] {
            let kept = members(self.layout.set(state, cpu, set))
                .filter(|&number| keep(self.translations.get(number)))
                .fold(0, |kept, number| kept | 1 << number);
            self.layout.put_set(state, cpu, set, kept);
        }
    }

    /// INVLPG: the page's TLB entries, and paging-structure-cache entries as far as the model's
    /// instruction reaches (H13, H37). Then whatever refills at once.
    pub(crate) fn invalidate_page(
        &self,
        state: &mut State,
        cpu: usize,
        addr: VirtAddr,
    ) -> Result<(), Stop> {
        self.keep_only(state, cpu, |entry| {
            match (entry.level, self.cpu_model.invlpg) {
                (1.., InvlpgReach::AllUpperLevels) => false,
                _ => !entry.covers(addr),
            }
        });
        self.close(state, cpu)
    }

    /// MOV to CR3 without PCIDs: everything goes; then whatever refills at once (H15).
    pub(crate) fn load_root(&self, state: &mut State, cpu: usize, root: u8) -> Result<(), Stop> {
        self.layout.set_cr3(state, cpu, root);
        self.keep_only(state, cpu, |_| false);
        self.close(state, cpu)
    }

    /// Notes which entries a flush covers that begins now on a CPU: those in its space and range that were
    /// read from a page-table entry which was overwritten since, as this CPU sees memory, and that the page
    /// tables no longer grant. They may be cached, a store in a buffer may have gone through them, or memory
    /// may still hold them, while this CPU's own store waits to drain.
    pub(crate) fn begin_flush(
        &self,
        state: &mut State,
        cpu: usize,
        root: u8,
        range: FlushRange,
    ) -> Result<(), Stop> {
        let users = 0..self.layout.cpus();
        let in_use = users.fold(self.in_memory_of_space(state, root)?, |in_use, user| {
            in_use | self.may_be_cached(state, user) | self.buffered_through(state, user)
        });
        let covered = members(in_use)
            .filter(|&number| {
                let entry = self.translations.get(number);
                entry.root == root
                    && self.is_in_range(entry, range)
                    && self.is_overwritten(state, cpu, entry)
                    && !self.is_granted(state, cpu, cpu, entry)
            })
            .fold(0, |covered, number| covered | 1 << number);
        self.layout.put_set(state, cpu, CacheSet::Covered, covered);
        Ok(())
    }

    /// Taints what the flush covered, wherever it may still be cached: from now on its use is
    /// `stale-use`. A store that went through it and still waits in a buffer is that at once. What has been
    /// granted again meanwhile is free.
    pub(crate) fn finish_flush(&self, state: &mut State, cpu: usize) -> Result<(), Stop> {
        let covered = self.layout.set(state, cpu, CacheSet::Covered);
        let revoked = self.layout.set(state, cpu, CacheSet::Revoked) | covered;
        self.layout.put_set(state, cpu, CacheSet::Covered, 0);
        self.layout.put_set(state, cpu, CacheSet::Revoked, revoked);
        for other in 0..self.layout.cpus() {
            let stale = members(covered)
                .filter(|&number| {
                    !self.is_granted(state, cpu, other, self.translations.get(number))
                })
                .fold(0, |stale, number| stale | 1 << number);
            self.taint(state, other, stale);
            self.refuse_buffered_through(state, other, stale, "the flush returned")?;
            self.close(state, other)?;
        }
        self.forget_revoked(state, cpu);
        Ok(())
    }

    /// Lets go of what a CPU's returned flushes revoked once no page-table store waits in its buffer: then
    /// memory does not hold it any more, and nobody can fill it.
    pub(crate) fn forget_revoked(&self, state: &mut State, cpu: usize) {
        let waits = |store: Buffered| {
            store.location != USER_MEMORY && self.layout.entry_of_location(store.location).is_some()
        };
        if !self.layout.buffered(state, cpu).any(waits) {
            self.layout.put_set(state, cpu, CacheSet::Revoked, 0);
        }
    }

    /// Says whether an entry that a CPU fills now was revoked by a flush of some CPU, and has not been
    /// granted again.
    fn is_revoked(&self, state: &State, cpu: usize, number: usize) -> bool {
        (0..self.layout.cpus()).any(|issuer| {
            self.layout.set(state, issuer, CacheSet::Revoked) >> number & 1 != 0
                && !self.is_granted(state, issuer, cpu, self.translations.get(number))
        })
    }

    /// Returns what a walk of memory alone can find in a space.
    fn in_memory_of_space(&self, state: &State, root: u8) -> Result<u64, Stop> {
        let mut found = 0;
        let mut tables = vec![TableRead::root(root)];
        while let Some(table) = tables.pop() {
            for (number, (_, index)) in self
                .entries
                .iter()
                .filter(|(_, (frame, _))| *frame == table.frame)
            {
                let stored = self.in_memory(state, self.layout.entry_location(number));
                let Some(entry) = self.translate(root, table, index, stored)? else {
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

    /// Returns the entries that user stores in a CPU's buffer went through.
    fn buffered_through(&self, state: &State, cpu: usize) -> u64 {
        let stores = self.layout.buffered(state, cpu);
        stores
            .filter(|store| store.location == USER_MEMORY)
            .fold(0, |through, store| through | 1 << store.value)
    }

    /// Taints every cached translation to a page whose frame was freed.
    pub(crate) fn taint_page(&self, state: &mut State, frame: u8) -> Result<(), Stop> {
        let to_frame = self
            .translations
            .iter()
            .filter(|(_, entry)| entry.level == 0 && entry.frame == frame)
            .fold(0, |set, (number, _)| set | 1 << number);
        for cpu in 0..self.layout.cpus() {
            self.taint(state, cpu, to_frame);
            self.refuse_buffered_through(state, cpu, to_frame, "its frame was freed")?;
            self.close(state, cpu)?;
        }
        Ok(())
    }

    /// Fails if a CPU may still walk a table that was freed.
    pub(crate) fn refuse_walks_of(&self, state: &State, table: u8) -> Result<(), Stop> {
        for cpu in 0..self.layout.cpus() {
            if self.layout.cr3(state, cpu) == table {
                return Err(self.garbage_walk(cpu, table, None));
            }
            for number in members(self.may_be_cached(state, cpu)) {
                let entry = self.translations.get(number);
                if entry.level > 0 && entry.frame == table {
                    return Err(self.garbage_walk(cpu, table, Some(entry)));
                }
            }
        }
        Ok(())
    }

    fn taint(&self, state: &mut State, cpu: usize, numbers: u64) {
        let cached = self.layout.set(state, cpu, CacheSet::Cached);
        let tainted = self.layout.set(state, cpu, CacheSet::Tainted);
        self.layout
            .put_set(state, cpu, CacheSet::Cached, cached & !numbers);
        self.layout
            .put_set(state, cpu, CacheSet::Tainted, tainted | cached & numbers);
    }

    fn refuse_buffered_through(
        &self,
        state: &State,
        cpu: usize,
        numbers: u64,
        meanwhile: &str,
    ) -> Result<(), Stop> {
        let through = self
            .layout
            .buffered(state, cpu)
            .filter(|store| store.location == USER_MEMORY && numbers >> store.value & 1 != 0)
            .map(|store| self.translations.get(usize::from(store.value)))
            .next();
        let Some(entry) = through else { return Ok(()) };
        let what = format!(
            "a store of CPU {cpu} through its {entry} still waits in the store buffer, and drains \
             after {meanwhile}"
        );
        Err(Stop::Violation(Violation {
            property: Property::StaleUse,
            cpu: Some(cpu as u8),
            frame: Some(entry.frame),
            through: Some(entry),
            what,
        }))
    }

    fn is_in_range(&self, entry: Translation, range: FlushRange) -> bool {
        match range {
            FlushRange::All => true,
            FlushRange::Pages(pages) => pages.pages().any(|page| entry.covers(page)),
        }
    }

    /// Says whether the page tables grant what an entry grants, with the buffered stores done of two CPUs,
    /// a flush's issuer and then the user of the entry.
    fn is_granted(&self, state: &State, issuer: usize, user: usize, wanted: Translation) -> bool {
        let (mut frame, mut level, mut writable) = (wanted.root, self.levels, true);
        while level > wanted.level {
            let Some(location) = self.location_of(frame, wanted.start, level) else {
                return false;
            };
            let stored = match self
                .layout
                .buffered(state, user)
                .rfind(|s| s.location == location)
            {
                Some(own) => own,
                None => self.as_seen_by(state, issuer, location),
            };
            let entry = Entry(self.values.decode(stored.value));
            if !entry.is_present() {
                return false;
            }
            frame = frame_number(entry.frame()) as u8;
            writable &= entry.is_writable();
            level -= 1;
        }
        frame == wanted.frame && (writable || !wanted.writable)
    }

    /// Says whether a page-table entry that a cached entry was read from was overwritten since, as a CPU
    /// sees memory.
    fn is_overwritten(&self, state: &State, cpu: usize, cached: Translation) -> bool {
        let (mut frame, mut level) = (cached.root, self.levels);
        while level > cached.level {
            let read = cached.read[LEVELS - usize::from(level)];
            let Some(location) = self.location_of(frame, cached.start, level) else {
                return false;
            };
            let stored = self.as_seen_by(state, cpu, location);
            // What another CPU's buffer holds is not overwritten: it is not there yet.
            let is_foreign = is_pending(read) && !is_pending_of(read, cpu);
            if stored.version > read && !is_foreign {
                return true;
            }
            let entry = Entry(self.values.decode(stored.value));
            if stored.version != read || !entry.is_present() {
                return false;
            }
            frame = frame_number(entry.frame()) as u8;
            level -= 1;
        }
        false
    }

    /// Returns the location of the entry for an address in a table, if it was ever written.
    fn location_of(&self, table: u8, addr: VirtAddr, level: u8) -> Option<u8> {
        let index = index_of(addr, level);
        let known = self.entries.iter().find(|&(_, at)| at == (table, index));
        known.map(|(number, _)| self.layout.entry_location(number))
    }

    fn garbage_walk(&self, cpu: usize, frame: u8, through: Option<Translation>) -> Stop {
        let start = match through {
            Some(entry) => format!("its {entry}"),
            None => format!("CR3, whose root is frame {frame}"),
        };
        Stop::Violation(Violation {
            property: Property::TableUseAfterFree,
            cpu: Some(cpu as u8),
            frame: Some(frame),
            through,
            what: format!(
                "CPU {cpu} may walk, speculatively and at any time, from {start}: a page table that \
                 was freed"
            ),
        })
    }
}
