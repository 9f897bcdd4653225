//! What may be cached: the closure over all that speculation could fill, and what removes from it.
//!
//! Rules: fills H3, H4, H9, H10; walks that start at a paging-structure-cache entry, or are in flight,
//! H11, H12a; INVLPG H13, H37; MOV to CR3 H15. Software's side: taints H22, H23.

use lazytlb::{Entry, FlushRange, VirtAddr};

use crate::cpu_model::InvlpgReach;
use crate::machine::{Machine, Stop};
use crate::state::{CacheSet, FrameUse, State, USER_MEMORY, members};
use crate::translation::{Translation, frame_number, index_of, index_shift};
use crate::violation::{Property, Violation};

/// A table that a walk reads: where it is, and what it translates.
#[derive(Clone, Copy)]
struct TableRead {
    frame: u8,
    level: u8,
    start: VirtAddr,
    writable: bool,
    set: CacheSet,
    through: Option<Translation>,
}

impl Machine {
    /// Adds to a CPU's sets whatever a walk could produce now, from CR3 and from every entry that is
    /// cached already. Called after each change of what the walks read or start from.
    pub(crate) fn close(&self, state: &mut State, cpu: usize) -> Result<(), Stop> {
        let root = TableRead {
            frame: self.layout.cr3(state, cpu),
            level: self.levels,
            start: VirtAddr(0),
            writable: true,
            set: CacheSet::Cached,
            through: None,
        };
        self.fill_from(state, cpu, root)?;
        for set in [CacheSet::Tainted, CacheSet::Cached] {
            let mut walked = 0;
            while let Some(number) = members(self.layout.set(state, cpu, set) & !walked).next() {
                walked |= 1 << number;
                let entry = self.translations.get(number);
                if entry.level == 0 {
                    continue;
                }
                let table = TableRead {
                    frame: entry.frame,
                    level: entry.level,
                    start: entry.start,
                    writable: entry.writable,
                    set,
                    through: Some(entry),
                };
                self.fill_from(state, cpu, table)?;
            }
        }
        Ok(())
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
        for (number, (frame, index)) in self.entries.iter() {
            if frame != table.frame {
                continue;
            }
            let location = self.layout.entry_location(number);
            // H25: a walk may read memory, or see this CPU's own buffered stores.
            let in_memory = state[self.layout.location(location)];
            self.fill_one(state, cpu, table, index, in_memory)?;
            for slot in 0..self.layout.buffered_len(state, cpu) {
                let store = self.layout.buffered(state, cpu).nth(slot);
                if let Some(store) = store.filter(|store| store.location == location) {
                    self.fill_one(state, cpu, table, index, store.value)?;
                }
            }
        }
        Ok(())
    }

    fn fill_one(
        &self,
        state: &mut State,
        cpu: usize,
        table: TableRead,
        index: u16,
        code: u8,
    ) -> Result<(), Stop> {
        let entry = Entry(self.values.decode(code));
        if !entry.is_present() {
            return Ok(());
        }
        let start = table.start.0 | u64::from(index) << index_shift(table.level);
        let frame = self.frame(entry.frame())?;
        let number = self.translations.number(Translation {
            level: table.level - 1,
            start: VirtAddr(start),
            frame,
            writable: table.writable && entry.is_writable(),
        })?;
        // A page that was freed while it is mapped must not be used, however it got cached.
        let freed_page = table.level == 1 && self.layout.frame_use(state, frame) == FrameUse::Free;
        let set = if freed_page {
            CacheSet::Tainted
        } else {
            table.set
        };
        let filled = self.layout.set(state, cpu, set) | 1 << number;
        self.layout.put_set(state, cpu, set, filled);
        Ok(())
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

    /// Notes which entries a flush covers that begins now on a CPU: those in its range that are cached, or
    /// that a store in a buffer went through, and that the page tables, with this CPU's own stores done,
    /// no longer grant. What is not cached now cannot be filled later, because the sets are closed.
    pub(crate) fn begin_flush(&self, state: &mut State, cpu: usize, root: u8, range: FlushRange) {
        let users = (0..self.layout.cpus()).filter(|&user| self.layout.cr3(state, user) == root);
        let in_use = users.fold(0, |in_use, user| {
            let buffered = self.layout.buffered(state, user);
            let stores = buffered.filter(|store| store.location == USER_MEMORY);
            let through = stores.fold(0, |set, store| set | 1 << store.value);
            in_use | through | self.may_be_cached(state, user)
        });
        let covered = members(in_use)
            .map(|number| (number, self.translations.get(number)))
            .filter(|(_, entry)| self.is_in_range(*entry, range))
            .filter(|(_, entry)| !self.is_granted(state, cpu, root, *entry))
            .fold(0, |covered, (number, _)| covered | 1 << number);
        self.layout.put_set(state, cpu, CacheSet::Covered, covered);
    }

    /// Taints what the flush covered, wherever it may still be cached: from now on its use is
    /// `stale-use`. A store that went through it and still waits in a buffer is that at once.
    pub(crate) fn finish_flush(&self, state: &mut State, cpu: usize, root: u8) -> Result<(), Stop> {
        let covered = members(self.layout.set(state, cpu, CacheSet::Covered))
            .filter(|&number| !self.is_granted(state, cpu, root, self.translations.get(number)))
            .fold(0, |covered, number| covered | 1 << number);
        self.layout.put_set(state, cpu, CacheSet::Covered, 0);
        for other in 0..self.layout.cpus() {
            if self.layout.cr3(state, other) == root {
                self.taint(state, other, covered);
            }
            self.refuse_buffered_through(state, other, covered, "the flush returned")?;
            self.close(state, other)?;
        }
        Ok(())
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

    /// Says whether the page tables of a space grant what an entry grants, as CPU `cpu` sees memory.
    fn is_granted(&self, state: &State, cpu: usize, root: u8, wanted: Translation) -> bool {
        let (mut frame, mut level, mut writable) = (root, self.levels, true);
        while level > wanted.level {
            let index = index_of(wanted.start, level);
            let number = self.entries.iter().find(|&(_, at)| at == (frame, index));
            let code = match number {
                Some((number, _)) => {
                    self.read_location(state, cpu, self.layout.entry_location(number))
                }
                None => return false,
            };
            let entry = Entry(self.values.decode(code));
            if !entry.is_present() {
                return false;
            }
            frame = frame_number(entry.frame()) as u8;
            writable &= entry.is_writable();
            level -= 1;
        }
        frame == wanted.frame && (writable || !wanted.writable)
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
