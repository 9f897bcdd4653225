//! Accesses by virtual address that read and write data: through any entry that may be cached, or a walk.
//!
//! The closed set has whatever a walk could find, so an access branches over its matching entries, and over
//! a fault where some walk could find none that allows it. Rules: H5, H7, H17, H18, H21; memory types H26.

use std::ops::Deref;

use lazytlb::VirtAddr;

use crate::accessed::Use;
use crate::byte_mask::ByteMask;
use crate::call::{Cr4, Privilege, Rmw};
use crate::combining::CacheHint;
use crate::entry::{MemoryType, bits};
use crate::index::{EntryAt, Frame, Level, Location, TableIndex, Way};
use crate::limit::Limit;
use crate::machine::Machine;
use crate::progress::{Progress, Stop};
use crate::slot::{CellStore, Combining, Data, Stage};
use crate::spec::MemoryModel;
use crate::state::{CacheSet, FrameUse, State};
use crate::translation::Translation;
use crate::values::ValueCode;
use crate::view::{CpuIn, CpuMut, StoredEntry};
use crate::violation::{Property, Violation};
use crate::walk::TableRead;
use crate::writers::Write;

/// An access by virtual address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct VirtualAccess {
    pub(crate) addr: VirtAddr,
    pub(crate) privilege: Privilege,
    pub(crate) operation: Operation,
}

/// What an access by virtual address does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Load,
    Fetch,
    Store {
        bytes: ByteMask,
        value: u64,
        hint: CacheHint,
    },
    /// A locked read-modify-write.
    Rmw {
        bytes: ByteMask,
        rmw: Rmw,
        operand: u64,
    },
}

/// A page fault: the access has had no effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PageFault;

/// How an access by virtual address ends: with a word, 0 where it reads none, or with a fault.
pub(crate) type Accessed = Result<u64, PageFault>;

impl Operation {
    pub(crate) fn store(bytes: ByteMask, value: u64, hint: CacheHint) -> Operation {
        Operation::Store { bytes, value, hint }
    }

    pub(crate) fn rmw(bytes: ByteMask, rmw: Rmw, operand: u64) -> Operation {
        Operation::Rmw {
            bytes,
            rmw,
            operand,
        }
    }

    /// Says what it does to the page.
    fn page_use(self) -> Use {
        match self {
            Operation::Store { .. } | Operation::Rmw { .. } => Use::Writes,
            Operation::Load | Operation::Fetch => Use::Reads,
        }
    }

    fn reads_data(self) -> bool {
        match self {
            Operation::Load | Operation::Rmw { .. } => true,
            Operation::Store { .. } | Operation::Fetch => false,
        }
    }
}

impl VirtualAccess {
    /// Says whether an entry allows the access.
    fn is_allowed_by(&self, entry: &Translation, cr4: Cr4) -> bool {
        let is_fetch = self.operation == Operation::Fetch;
        let by_mode = match self.privilege {
            Privilege::User => entry.user,
            Privilege::Supervisor => !(is_fetch && entry.user && cr4.has(Cr4::SMEP)),
        };
        let by_access = match self.operation {
            Operation::Load => true,
            Operation::Fetch => entry.executable,
            Operation::Store { .. } | Operation::Rmw { .. } => entry.writable,
        };
        by_mode && by_access
    }
}

/// How an access comes to fault.
#[derive(Clone, Copy)]
enum FaultBy<'m> {
    /// By a walk that reads all levels.
    FromTheRoot,
    /// Through an entry that is cached: a page's that refuses, or an upper one that a walk starts at.
    Through(&'m Translation),
}

impl<'m> CpuMut<'m> {
    /// Does an access in one of its ways: through one of the entries that match, or, last, by a walk that
    /// faults.
    pub(crate) fn access(
        &mut self,
        access: &VirtualAccess,
        way: Way,
    ) -> Result<Progress<Accessed>, Stop> {
        let (usable, refusing) = self.matching(access)?;
        let faults = self.faults(access, refusing)?;
        let usable = self.ways_through(usable, access)?;
        for (index, &(used, settled)) in usable.iter().enumerate().skip(way.index()) {
            self.refuse_foreign(used)?;
            let mut next = self.state.to_vec();
            let mut tried = self.machine.on(&mut next, self.cpu);
            tried.mark_used(used, access.operation.page_use())?;
            // What has to wait for a buffer does not keep the other ways from being taken.
            let done = tried.access_through(used, access.operation, settled)?;
            let Progress::Done { answer, .. } = done else {
                continue;
            };
            self.state.copy_from_slice(&next);
            let more = index + 1 < usable.len() || !faults.is_empty();
            let answer = Ok(answer);
            return Ok(Progress::Done { answer, more });
        }
        let index = way.index().saturating_sub(usable.len());
        let Some(fault) = faults.get(index) else {
            return Ok(Progress::Blocked);
        };
        if let FaultBy::Through(cached) = fault {
            self.mark_used(cached, Use::Reads)?;
        }
        self.page_fault(access.addr)?;
        Ok(Progress::Done {
            answer: Err(PageFault),
            more: index + 1 < faults.len(),
        })
    }

    /// Lists the ways of an access through the entries that it may use: two where it reads a word whose A bit
    /// is *maybe* set.
    fn ways_through(
        &self,
        usable: Vec<&'m Translation>,
        access: &VirtualAccess,
    ) -> Result<Vec<(&'m Translation, Way)>, Limit> {
        let mut ways = Vec::new();
        for used in usable {
            ways.push((used, Way::FIRST));
            if access.operation.reads_data() && self.reads_maybe_accessed(used)? {
                ways.push((used, Way::from(1)));
            }
        }
        Ok(ways)
    }

    /// Reads or writes the data of the page that an entry translates to.
    fn access_through(
        &mut self,
        used: &Translation,
        operation: Operation,
        settled: Way,
    ) -> Result<Progress<u64>, Stop> {
        if operation == Operation::Fetch {
            return Ok(Progress::answer(0));
        }
        let location = self.machine.data_location(used.frame)?;
        if let (Location::Cell(cell), Use::Writes) = (location, operation.page_use()) {
            // A CPU that loads the word without translation must know that it changes.
            self.notes_write(cell, Write::Any);
        }
        let is_uncached = used.memory_type == MemoryType::Uncached;
        let own_waits = self.own_combining_waits(location);
        let is_ready = match operation {
            Operation::Fetch | Operation::Store { .. } => true,
            Operation::Load => !own_waits || self.forwards_combining(location),
            Operation::Rmw { .. } => !own_waits,
        };
        if !is_ready || is_uncached && !self.empties(|readings| readings.uncached) {
            return Ok(Progress::Blocked);
        }
        match operation {
            Operation::Fetch => Ok(Progress::answer(0)),
            Operation::Load => self.load_data(location, settled),
            Operation::Store { bytes, value, hint } => {
                let store = DataStore {
                    location,
                    value: self.machine.values.encode(value)?,
                    bytes,
                };
                let done = self.store_data(used, store, hint)?;
                Ok(done.map(|()| 0))
            }
            Operation::Rmw {
                bytes,
                rmw,
                operand,
            } => self.locked(|cpu| {
                let (old, new) = rmw.apply_to_bytes(cpu.word(location, settled)?, bytes, operand);
                let new = cpu.machine.values.encode(new)?;
                cpu.write(location, new, ByteMask::ALL)?;
                Ok(Progress::answer(old))
            }),
        }
    }

    /// Loads a word of data.
    fn load_data(&mut self, location: Location, settled: Way) -> Result<Progress<u64>, Stop> {
        let word = self.word(location, settled)?;
        if let (Location::Entry(entry), true) = (location, self.machine.features.accessed_dirty) {
            // H4: what the answer ruled out may be cached again at once.
            self.close_readers_of(self.machine.entries.get(entry).table)?;
        }
        Ok(Progress::answer(word))
    }

    /// Reads a word as the CPU sees it; in a page-table entry, A as `settled` says. A locked instruction writes
    /// in the same step, and nothing is cached in between.
    fn word(&mut self, location: Location, settled: Way) -> Result<u64, Stop> {
        let entry = location.entry();
        let Some(entry) = entry.filter(|_| self.machine.features.accessed_dirty) else {
            return Ok(self.read(location));
        };
        match self.read_settled(entry, settled)? {
            Progress::Done { answer, .. } => Ok(answer),
            Progress::Blocked => unreachable!("a read waits for nothing"),
        }
    }

    /// Stores data: into the write-combining buffers, the store buffer, or memory.
    fn store_data(
        &mut self,
        used: &Translation,
        store: DataStore,
        hint: CacheHint,
    ) -> Result<Progress<()>, Stop> {
        let machine = self.machine;
        let DataStore {
            location,
            value,
            bytes,
        } = store;
        if location.entry().is_some() && !bytes.is_all() {
            return Err(part_of_an_entry());
        }
        if machine.combines(used.memory_type, hint) {
            return Ok(self.combine(Combining {
                data: Data::Word {
                    location,
                    value,
                    bytes,
                },
                stage: Stage::Filling,
                frame: used.frame,
                memory_type: used.memory_type,
            })?);
        }
        if self.own_combining_waits(location) {
            return Ok(Progress::Blocked);
        }
        let is_at_once =
            used.memory_type == MemoryType::Uncached || machine.memory == MemoryModel::Sc;
        match location {
            _ if is_at_once => {
                self.write(location, value, bytes)?;
                Ok(Progress::DONE)
            }
            Location::Cell(cell) => self.store_cell(CellStore { cell, value, bytes }),
            Location::Entry(entry) => self.store_entry(entry, value),
        }
    }
}

/// A store of data to a word of memory.
struct DataStore {
    location: Location,
    value: ValueCode,
    bytes: ByteMask,
}

impl<'m, S: Deref<Target = State>> CpuIn<'m, S> {
    /// Says whether an entry translates an address for this CPU now (H2, H8).
    #[inline]
    pub(crate) fn matches(&self, entry: &Translation, addr: VirtAddr) -> bool {
        let of_pcid = entry.pcid == self.pcid() || entry.global;
        entry.is_page() && of_pcid && entry.covers(addr)
    }

    /// Returns the entries that an access may use, and those that refuse it, in an order that does not depend
    /// on their numbers.
    fn matching(
        &self,
        access: &VirtualAccess,
    ) -> Result<(Vec<&'m Translation>, Vec<&'m Translation>), Stop> {
        let entries = self.translations(self.may_be_cached());
        let entries = entries.filter(|entry| self.matches(entry, access.addr));
        let mut entries: Vec<&'m Translation> = entries.collect();
        entries.sort_unstable();
        self.refuse_stale(&entries, access.addr)?;
        let cr4 = self.cr4();
        let (mut usable, refusing): (Vec<&'m Translation>, Vec<&'m Translation>) = entries
            .into_iter()
            .partition(|entry| access.is_allowed_by(entry, cr4));
        if access.operation.page_use() == Use::Writes {
            usable.retain(|entry| self.may_store_through(entry));
        }
        Ok((usable, refusing))
    }

    /// Says whether this CPU may have an entry for an address that must not be used: if not, it is not worth
    /// looking for one.
    #[inline]
    pub(crate) fn may_use_stale(&self, addr: VirtAddr) -> bool {
        let may_be_stale =
            |entry: &Translation| entry.read_in > Level::LOWEST && entry.covers(addr);
        !self.set(CacheSet::Tainted).is_empty()
            || self
                .translations(self.set(CacheSet::Cached))
                .any(may_be_stale)
    }

    /// Fails if one of these entries must not be used at an address: it is tainted, or it is a large page's and
    /// stale there, or the frame there was freed.
    pub(crate) fn refuse_stale(
        &self,
        entries: &[&Translation],
        addr: VirtAddr,
    ) -> Result<(), Stop> {
        let machine = self.machine;
        let tainted = self.set(CacheSet::Tainted);
        let is_tainted = |entry: &Translation| {
            let number = machine.translations.find(entry);
            number.is_some_and(|number| tainted.contains(number))
        };
        let is_stale = |entry: &Translation| {
            let is_freed = |frame: Frame| {
                frame.number() < machine.frames && self.frame_use(frame) == FrameUse::Free
            };
            let is_large = entry.read_in > Level::LOWEST;
            is_tainted(entry)
                || entry.stale.contains(addr)
                || is_large && entry.frame_at(addr).is_some_and(is_freed)
        };
        for &entry in entries {
            let (property, what) = match entry.garbage {
                true => (
                    Property::TableUseAfterFree,
                    format!("uses its {entry}, which a walk of a freed table left behind"),
                ),
                false => (
                    Property::StaleUse,
                    format!(
                        "uses its {entry}, which a flush that has returned should have removed"
                    ),
                ),
            };
            if machine.checks(property) && is_stale(entry) {
                return Err(Stop::Violation(Violation::through(
                    property, self.cpu, *entry, what,
                )));
            }
        }
        Ok(())
    }

    /// Fails if an access goes through an entry of another space (H2, H19).
    pub(crate) fn refuse_foreign(&self, used: &Translation) -> Result<(), Stop> {
        let root = self.cr3();
        let is_own = used.root == root || used.global;
        if is_own || !self.machine.checks(Property::ForeignTranslation) {
            return Ok(());
        }
        let what = format!(
            "uses its {used} of the space with root {}, in the space with root {root}",
            used.root
        );
        Err(Stop::Violation(Violation::through(
            Property::ForeignTranslation,
            self.cpu,
            *used,
            what,
        )))
    }

    /// Lists the ways in which an access may fault: through a cached entry that refuses it, though memory may
    /// allow it by now, or by a walk.
    ///
    /// What was cached had A set in all that it was read from (H3), and a walk that faults need not set any.
    /// So a fault by a walk from the root stands for all others, and without A bits any one does.
    fn faults(
        &self,
        access: &VirtualAccess,
        refusing: Vec<&'m Translation>,
    ) -> Result<Vec<FaultBy<'m>>, Stop> {
        let machine = self.machine;
        let pcid = self.pcid();
        let root = TableRead::root(self.cr3(), machine.root_level, pcid);
        if self.walk_may_fault(&root, access)? {
            return Ok(vec![FaultBy::FromTheRoot]);
        }
        let mut faults: Vec<_> = refusing.into_iter().map(FaultBy::Through).collect();
        for upper in self.translations(self.may_be_cached()) {
            let Some(below) = TableRead::below(upper, CacheSet::Cached) else {
                continue;
            };
            let is_on_the_way = upper.pcid == pcid && upper.covers(access.addr);
            if is_on_the_way && self.walk_may_fault(&below, access)? {
                faults.push(FaultBy::Through(upper));
            }
        }
        if !machine.features.accessed_dirty {
            faults.truncate(1);
        }
        Ok(faults)
    }

    /// Says whether a walk on from a table can find an entry that is not valid, or a page that does not allow
    /// the access.
    fn walk_may_fault(&self, table: &TableRead, access: &VirtualAccess) -> Result<bool, Stop> {
        if self.frame_use(table.frame) != FrameUse::Table {
            return Ok(false);
        }
        let machine = self.machine;
        let (index, cr4) = (table.level.index_of(access.addr), self.cr4());
        let Some(entry) = machine.entry_for(table.frame, access.addr, table.level) else {
            return Ok(true);
        };
        // H25: memory, or this CPU's own store that waits.
        let own = self.buffered_entries().filter(|store| store.entry == entry);
        let stored = own.map(StoredEntry::from).chain([self.in_memory(entry)]);
        for stored in stored {
            let Some(found) = machine.translate(table, index, stored, cr4)? else {
                return Ok(true);
            };
            let faults = match TableRead::below(&found, CacheSet::Cached) {
                None => !access.is_allowed_by(&found, cr4),
                Some(below) => self.walk_may_fault(&below, access)?,
            };
            if faults {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Says whether the word that an entry leads to is a page-table entry whose A bit is *maybe* set.
    fn reads_maybe_accessed(&self, used: &Translation) -> Result<bool, Limit> {
        if !self.machine.features.accessed_dirty {
            return Ok(false);
        }
        let location = self.machine.data_location(used.frame)?;
        let is_maybe = self.value_in_memory(location) & bits::MAYBE_ACCESSED != 0;
        Ok(location.entry().is_some() && is_maybe)
    }
}

impl Machine {
    /// Returns the location of the word at the start of a frame: a page's own, or a table's first entry.
    fn data_location(&self, frame: Frame) -> Result<Location, Limit> {
        match self.page_words.get(frame.index()).copied().flatten() {
            Some(cell) => Ok(Location::Cell(cell)),
            None => {
                let first = EntryAt {
                    table: frame,
                    index: TableIndex::FIRST,
                };
                Ok(Location::Entry(self.entries.number(&first)?))
            }
        }
    }
}

fn part_of_an_entry() -> Stop {
    Stop::Limit(Limit {
        what: "stores to a part of a page-table entry",
        most: 0,
    })
}
