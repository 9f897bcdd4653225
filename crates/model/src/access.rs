//! Accesses by virtual address that read and write data: through any entry that may be cached, or a walk.
//!
//! The closed set has whatever a walk could find, so an access branches over its matching entries, and over
//! a fault where some walk could find none that allows it. A store may also wait untranslated. Rules: H5, H7,
//! H17, H18, H21, H41, H42; memory types H26, H43.

use std::ops::Deref;

use lazytlb::VirtAddr;

use crate::accessed::Use;
use crate::byte_mask::ByteMask;
use crate::combining::CacheHint;
use crate::cpu_model::{UncachedLoads, UncachedStores};
use crate::entry::{MemoryType, bits};
use crate::faults::FaultBy;
use crate::index::{EntryAt, Frame, Level, Location, TableIndex, Way};
use crate::late_store::LateStore;
use crate::limit::Limit;
use crate::machine::Machine;
use crate::progress::{Progress, Stop};
use crate::slot::{CellStore, Combining, Data, Slot, Stage};
use crate::spec::MemoryModel;
use crate::state::{CacheSet, FrameUse, State};
use crate::through::Through;
use crate::translation::Translation;
use crate::updates::OwnWalk;
use crate::values::ValueCode;
use crate::view::{CpuIn, CpuMut};
use crate::violation::{Property, Violation};
use crate::virtual_access::{Accessed, Operation, PageFault, VirtualAccess};
use crate::writers::Write;

impl<'m> CpuMut<'m> {
    /// Does an access in one of its ways: through one of the entries that match, by waiting untranslated (H41),
    /// or, last, by a walk that faults.
    pub(crate) fn access(
        &mut self,
        access: &VirtualAccess,
        way: Way,
    ) -> Result<Progress<Accessed>, Stop> {
        let (usable, refusing) = self.matching(access)?;
        let faults = self.faults(access, refusing)?;
        let early = self.early_walks(access, &usable)?;
        let late = self.late_way(access)?;
        let usable = self.ways_through(usable, access)?;
        // Only a store waits, and only a fetch has walked early.
        let (through, others) = (usable.len(), early.len() + usize::from(late.is_some()));
        let own_walk = match access.operation {
            Operation::Fetch => OwnWalk::AtAnyTime,
            // A store that is translated later is a way of its own.
            Operation::Load | Operation::Store { .. } | Operation::Rmw { .. } => OwnWalk::InOrder,
        };
        for (index, &(through, settled)) in usable.iter().enumerate().skip(way.index()) {
            self.refuse_foreign(through.used)?;
            let mut next = self.state.to_vec();
            let mut tried = self.machine.on(&mut next, self.cpu);
            tried.owe_through(through, access.operation.page_use(), own_walk)?;
            // What has to wait for a buffer does not keep the other ways from being taken.
            let done = tried.access_through(through.used, access, settled)?;
            let Progress::Done { answer, .. } = done else {
                continue;
            };
            self.state.copy_from_slice(&next);
            let more = index + 1 < usable.len() + others || !faults.is_empty();
            let answer = Ok(answer);
            return Ok(Progress::Done { answer, more });
        }
        let index = way.index().saturating_sub(through);
        let more = index + 1 < others || !faults.is_empty();
        if let Some(walk) = early.get(index) {
            self.refuse_foreign(walk.used)?;
            self.mark_walked(walk)?;
            return Ok(Progress::Done {
                answer: Ok(0),
                more,
            });
        }
        if let Some(slot) = late.filter(|_| index < others) {
            self.push_buffered(slot);
            return Ok(Progress::Done {
                answer: Ok(0),
                more,
            });
        }
        let index = index.saturating_sub(others);
        let Some(fault) = faults.get(index) else {
            return Ok(Progress::Blocked);
        };
        if let FaultBy::Through(cached) = fault {
            self.owe(cached, Use::Reads, own_walk)?;
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
        usable: Vec<Through<'m>>,
        access: &VirtualAccess,
    ) -> Result<Vec<(Through<'m>, Way)>, Limit> {
        let mut ways = Vec::new();
        for through in usable {
            ways.push((through, Way::FIRST));
            if access.operation.reads_data() && self.reads_maybe_accessed(through.used)? {
                ways.push((through, Way::from(1)));
            }
        }
        Ok(ways)
    }

    /// Returns how a store waits untranslated, if it may have to, and if there is room.
    fn late_way(&self, access: &VirtualAccess) -> Result<Option<Slot>, Limit> {
        let Operation::Store {
            bytes,
            value,
            hint: CacheHint::Temporal,
        } = access.operation
        else {
            return Ok(None);
        };
        if !self.machine.stores_may_be_late() || !self.has_buffer_room() {
            return Ok(None);
        }
        self.late_slot(LateStore {
            addr: access.addr,
            privilege: access.privilege,
            bytes,
            value: self.machine.values.encode(value)?,
        })
    }

    /// Reads or writes the data of the page that an entry translates to.
    fn access_through(
        &mut self,
        used: &Translation,
        access: &VirtualAccess,
        settled: Way,
    ) -> Result<Progress<u64>, Stop> {
        let operation = access.operation;
        if operation == Operation::Fetch {
            return Ok(Progress::answer(0));
        }
        let location = self.machine.data_location(used.frame)?;
        if let (Location::Cell(cell), Use::Writes) = (location, operation.page_use()) {
            // A CPU that loads the word without translation must know that it changes.
            self.notes_write(cell, Write::Any);
        }
        let own_waits = self.own_combining_waits(location);
        let is_ready = match operation {
            Operation::Fetch | Operation::Store { .. } => true,
            Operation::Load => !own_waits || self.forwards_combining(location),
            Operation::Rmw { .. } => !own_waits,
        };
        let is_uncached = used.memory_type == MemoryType::Uncached;
        if !is_ready || is_uncached && !self.uncached_may_go(operation) {
            return Ok(Progress::Blocked);
        }
        match operation {
            Operation::Fetch => Ok(Progress::answer(0)),
            Operation::Load => {
                self.pass_late_stores(location)?;
                self.load_data(location, settled)
            }
            Operation::Store { bytes, value, hint } => {
                let store = DataStore {
                    location,
                    value: self.machine.values.encode(value)?,
                    bytes,
                };
                let older = self.buffered_len();
                let done = self.store_data(used, access.addr, store, hint)?;
                if self.buffered_len() > older {
                    self.notes_data_through(older, used, access.addr)?;
                }
                Ok(done.map(|()| 0))
            }
            Operation::Rmw {
                bytes,
                rmw,
                operand,
            } => self.locked(|cpu| {
                let apply = |word| rmw.apply_to_bytes(word, bytes, operand);
                if let Location::Entry(entry) = location {
                    cpu.update_before_rmw(entry, settled, |old| apply(old).1)?;
                }
                let (old, new) = apply(cpu.word(location, settled)?);
                let new = cpu.machine.values.encode(new)?;
                cpu.write(location, new, ByteMask::ALL)?;
                Ok(Progress::answer(old))
            }),
        }
    }

    /// Lets an access to uncached memory empty the buffers, as far as it waits for them (H26, H43).
    fn uncached_may_go(&mut self, operation: Operation) -> bool {
        let model = &self.machine.cpu_model;
        let passes_stores = match operation {
            Operation::Load => model.uncached_loads == UncachedLoads::PassStores,
            Operation::Store { .. } => model.uncached_stores == UncachedStores::Buffered,
            Operation::Rmw { .. } | Operation::Fetch => false,
        };
        match passes_stores {
            true => self.empties_combining(|readings| readings.uncached),
            false => self.empties(|readings| readings.uncached),
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
        addr: VirtAddr,
        store: DataStore,
        hint: CacheHint,
    ) -> Result<Progress<()>, Stop> {
        let machine = self.machine;
        let DataStore {
            location,
            value,
            bytes,
        } = store;
        if machine.combines(used.memory_type, hint) {
            if location.entry().is_some() && !bytes.is_all() {
                return Err(combined_part_of_an_entry());
            }
            let through = machine.translations.number(&used.used_at(addr))?;
            return Ok(self.combine(Combining {
                data: Data::Word {
                    location,
                    value,
                    bytes,
                },
                through,
                stage: Stage::Filling,
                frame: used.frame,
                memory_type: used.memory_type,
            })?);
        }
        if self.own_combining_waits(location) {
            return Ok(Progress::Blocked);
        }
        let is_uncached = used.memory_type == MemoryType::Uncached;
        let is_buffered = machine.cpu_model.uncached_stores == UncachedStores::Buffered;
        let is_at_once = is_uncached && !is_buffered || machine.memory == MemoryModel::Sc;
        match location {
            _ if is_at_once => {
                self.write(location, value, bytes)?;
                Ok(Progress::DONE)
            }
            Location::Cell(cell) => self.store_cell(CellStore { cell, value, bytes }),
            Location::Entry(entry) => {
                self.store_entry_bytes(entry, bytes, machine.values.decode(value))
            }
        }
    }
}

impl CpuMut<'_> {
    /// Notes that the store of data behind so many older slots went through an entry at an address: a promise that
    /// covers the entry asks for that.
    pub(crate) fn notes_data_through(
        &mut self,
        older: usize,
        used: &Translation,
        addr: VirtAddr,
    ) -> Result<(), Limit> {
        let machine = self.machine;
        machine.turned_up.notes_data_store(&machine.features);
        if machine.features.data_stores {
            let used = machine.translations.number(&used.used_at(addr))?;
            self.put_through(older, Some(used));
        }
        Ok(())
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

    /// Returns the ways of an access through the entries that it may use, and the entries that refuse it, in an
    /// order that does not depend on their numbers.
    fn matching(
        &self,
        access: &VirtualAccess,
    ) -> Result<(Vec<Through<'m>>, Vec<&'m Translation>), Stop> {
        let entries = self.entries_for(access.addr);
        if let Some(stale) = self.stale_among(&entries, access.addr) {
            return Err(self.stale_use(stale));
        }
        let cr4 = self.cr4();
        let (usable, refusing): (Vec<&'m Translation>, Vec<&'m Translation>) = entries
            .into_iter()
            .partition(|entry| access.is_allowed_by(entry, cr4));
        let usable = match access.operation.page_use() {
            Use::Reads => usable.into_iter().map(Through::same).collect(),
            Use::Writes => self.ways_to_store(&usable, &refusing),
        };
        Ok((usable, refusing))
    }

    /// Lists the entries that translate an address, in an order that does not depend on their numbers.
    fn entries_for(&self, addr: VirtAddr) -> Vec<&'m Translation> {
        let entries = self.translations(self.may_be_cached());
        let mut entries: Vec<&'m Translation> =
            entries.filter(|entry| self.matches(entry, addr)).collect();
        entries.sort_unstable();
        entries
    }

    /// Returns an entry that an access could use and that must not be used.
    pub(crate) fn stale_match(&self, access: &VirtualAccess) -> Option<&'m Translation> {
        self.stale_among(&self.entries_for(access.addr), access.addr)
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

    /// Returns one of these entries that must not be used at an address, if its use is looked at: it is tainted, or it
    /// is a large page's and stale there, or the frame there was freed.
    pub(crate) fn stale_among(
        &self,
        entries: &[&'m Translation],
        addr: VirtAddr,
    ) -> Option<&'m Translation> {
        let machine = self.machine;
        let tainted = self.set(CacheSet::Tainted);
        let is_tainted = |entry: &Translation| {
            let number = machine.translations.find(entry);
            number.is_some_and(|number| tainted.contains(number))
        };
        let is_freed = |frame: Frame| {
            frame.number() < machine.frames && self.frame_use(frame) == FrameUse::Free
        };
        let is_stale = |entry: &&&Translation| {
            let is_large = entry.read_in > Level::LOWEST;
            machine.checks(property_of_using(entry))
                && (is_tainted(entry)
                    || entry.stale.contains(addr)
                    || is_large && entry.frame_at(addr).is_some_and(is_freed))
        };
        entries.iter().find(is_stale).copied()
    }

    /// Returns the ways of an access that stores, through entries that allow it: they have D, or get it.
    pub(crate) fn ways_to_store(
        &self,
        allowing: &[&'m Translation],
        refusing: &[&'m Translation],
    ) -> Vec<Through<'m>> {
        let mut ways = Vec::new();
        for &used in allowing {
            if self.may_store_through(used) {
                ways.push(Through::same(used));
            }
            let without_w = refusing.iter();
            let without_w = without_w.filter(|found| self.sets_dirty_without_w(used, found));
            ways.extend(without_w.map(|&marks| Through { used, marks }));
        }
        ways
    }

    /// Returns the ways of a store now.
    pub(crate) fn stores_through(&self, access: &VirtualAccess) -> Result<Vec<Through<'m>>, Stop> {
        Ok(self.matching(access)?.0)
    }

    /// The violation of using an entry that must not be used.
    pub(crate) fn stale_use(&self, entry: &Translation) -> Stop {
        let what = match entry.garbage {
            true => format!("uses its {entry}, which a walk of a freed table left behind"),
            false => {
                format!("uses its {entry}, which a flush that has returned should have removed")
            }
        };
        let property = property_of_using(entry);
        Stop::Violation(Violation::through(property, self.cpu, *entry, what))
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

/// Returns the property that is violated by using an entry that must not be used.
fn property_of_using(entry: &Translation) -> Property {
    match entry.garbage {
        true => Property::TableUseAfterFree,
        false => Property::StaleUse,
    }
}

impl Machine {
    /// Returns the location of the word at the start of a frame: a page's own, or a table's first entry.
    pub(crate) fn data_location(&self, frame: Frame) -> Result<Location, Limit> {
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

fn combined_part_of_an_entry() -> Stop {
    Stop::Limit(Limit {
        what: "write-combining stores to some bytes of a page-table entry",
        most: 0,
    })
}
