//! Write-combining buffers: stores to write-combining memory, and non-temporal ones.
//!
//! Rules: H26, H27, H27a, H28. A store waits in its CPU's buffers, in no order with any other, until it
//! leaves by itself or an event empties them. To ordinary memory it has arrived then. On its way to a
//! device it has, by the weak reading, only started.

use std::ops::Deref;

use crate::byte_mask::ByteMask;
use crate::cpu_model::{ReadBack, Reading, WcReadings};
use crate::entry::MemoryType;
use crate::index::{Cpu, Frame, Location, TranslationId, Way};
use crate::limit::Limit;
use crate::machine::Machine;
use crate::progress::{Progress, Stop};
use crate::slot::{Combining, Data, Slot, Stage};
use crate::state::{CacheSet, FrameUse, State};
use crate::translation::Translation;
use crate::values::ValueCode;
use crate::view::{CpuIn, CpuMut};
use crate::violation::{Property, Violation};

/// Which reading an event has, among those of a CPU model.
pub(crate) type ReadingOf = fn(WcReadings) -> Reading;

/// How a store asks to be cached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CacheHint {
    /// As the memory type says.
    Temporal,
    /// Not at all, if the memory type lets it (MOVNTI, H26).
    NonTemporal,
}

impl From<bool> for CacheHint {
    fn from(non_temporal: bool) -> CacheHint {
        match non_temporal {
            true => CacheHint::NonTemporal,
            false => CacheHint::Temporal,
        }
    }
}

impl Machine {
    /// Says whether a store goes into the write-combining buffers (H26): by the type of its page, or because
    /// it asks for that. What is uncached never does.
    pub(crate) fn combines(&self, memory_type: MemoryType, hint: CacheHint) -> bool {
        let combines = match memory_type {
            MemoryType::WriteCombining => true,
            MemoryType::WriteBack => hint == CacheHint::NonTemporal,
            MemoryType::Uncached => false,
        };
        combines && self.features.write_combining > 0
    }
}

impl CpuMut<'_> {
    /// Puts a store into the write-combining buffers; blocked while they, or an SFENCE before it, are full.
    pub(crate) fn combine(&mut self, store: Combining) -> Result<Progress<()>, Limit> {
        // A store to a place waits for an older one of the other kind.
        let same_place = |slot: &Slot| store.location().is_some_and(|at| slot.is_to(at));
        let must_wait = |slot: Slot| slot == Slot::StoreFence || same_place(&slot);
        if self.buffered().any(must_wait) {
            return Ok(Progress::Blocked);
        }
        let mut stores = self.combining();
        if stores.contains(&store) {
            self.note_combined(&store)?;
            return Ok(Progress::DONE);
        }
        // A second store to one place combines with the first, or waits: here it waits.
        let is_first = |other: &&mut Combining| {
            other.location() == store.location()
                && other.frame == store.frame
                && other.stage == Stage::Filling
        };
        let first = stores.iter_mut().find(is_first);
        if let (Data::Word { value, bytes, .. }, Some(first)) = (store.data, first) {
            self.refuse_two_addresses(first, &store)?;
            self.combine_with(first, value, bytes)?;
        } else if stores.len() < self.combining_slots() {
            stores.push(store);
        } else {
            return Ok(Progress::Blocked);
        }
        self.put_combining(stores);
        self.note_combined(&store)?;
        Ok(Progress::DONE)
    }

    /// Notes that an older store which is translated later cannot go where a store combines (H41).
    fn note_combined(&mut self, store: &Combining) -> Result<(), Limit> {
        match store.location() {
            Some(location) => self.pass_late_stores(location),
            None => Ok(()),
        }
    }

    /// Lets one of the CPU's write-combining stores leave, in one way for each of those that may; says whether
    /// there are more ways, or `None` if there is not even this one.
    pub(crate) fn drain_combining(&mut self, way: Way) -> Result<Option<bool>, Stop> {
        let mut stores = self.combining();
        let leaving = slots_that_may_leave(&stores);
        let Some(&slot) = leaving.get(way.index()) else {
            return Ok(None);
        };
        let store = stores.remove(slot.0);
        self.put_combining(stores);
        match store.data {
            Data::Word {
                location,
                value,
                bytes,
            } => self.write(location, value, bytes)?,
            Data::User => {}
        }
        Ok(Some(way.index() + 1 < leaving.len()))
    }

    /// Lets an event empty the write-combining buffers, as far as its reading says; `false` while it has
    /// to wait for that, or for the store buffer.
    #[inline]
    pub(crate) fn empties(&mut self, reading: ReadingOf) -> bool {
        self.buffered_len() == 0 && self.empties_combining(reading)
    }

    /// As [`CpuMut::empties`], for the write-combining buffers alone.
    #[inline]
    pub(crate) fn empties_combining(&mut self, reading: ReadingOf) -> bool {
        self.combining_len() == 0 || self.starts_combining(reading)
    }

    /// Lets an event start what waits in the write-combining buffers, if by its reading that is enough.
    fn starts_combining(&mut self, reading: ReadingOf) -> bool {
        let mut stores = self.combining();
        if !self.lets_go(&stores, reading) {
            return false;
        }
        for store in &mut stores {
            store.stage = Stage::Started;
        }
        self.put_combining(stores);
        true
    }

    /// A driver reads back from its device: blocked until all that this CPU has for it has arrived and, as is ASSUMED, what any
    /// other CPU has started towards it (H27).
    pub(crate) fn read_back(&mut self, device: Frame) -> Progress<()> {
        if !self.empties(|readings| readings.uncached) {
            return Progress::Blocked;
        }
        let is_on_its_way =
            |store: &Combining| store.frame == device && store.stage == Stage::Started;
        let has_any = |cpu: CpuIn<'_, &State>| cpu.combining().iter().any(is_on_its_way);
        let is_held_up = match self.machine.cpu_model.read_back {
            ReadBack::PushesEveryCpus => self.every_cpu().any(has_any),
            ReadBack::PushesItsOwn => self.combining().iter().any(is_on_its_way),
        };
        Progress::once(!is_held_up)
    }
}

impl<S: Deref<Target = State>> CpuIn<'_, S> {
    /// Returns the store that leaves the buffers in one of its ways.
    pub(crate) fn leaving(&self, way: Way) -> Option<Combining> {
        let stores = self.combining();
        let leaving = slots_that_may_leave(&stores);
        leaving.get(way.index()).map(|slot| stores[slot.0])
    }

    /// Puts a store to the same place into one that waits.
    fn combine_with(
        &self,
        first: &mut Combining,
        newer: ValueCode,
        newer_bytes: ByteMask,
    ) -> Result<(), Limit> {
        if let Data::Word { value, bytes, .. } = &mut first.data {
            let values = &self.machine.values;
            let merged = newer_bytes.merge(values.decode(*value), values.decode(newer));
            *value = values.encode(merged)?;
            *bytes = bytes.union(newer_bytes);
        }
        Ok(())
    }

    /// Fails for two stores that combine although they went to their word by two addresses, where promises are made:
    /// of both together, the model remembers one entry that they went through. At one address that is the older
    /// one's, for what a promise covers of the younger's, it covers of the older's.
    fn refuse_two_addresses(&self, first: &Combining, store: &Combining) -> Result<(), Limit> {
        let translations = &self.machine.translations;
        let start = |of: &Combining| translations.get(of.through).start;
        let is_one = start(first) == start(store) || self.machine.features.promises == 0;
        is_one.then_some(()).ok_or(Limit {
            what: "write-combining stores to one word by two addresses that combine, beside promises",
            most: 0,
        })
    }

    fn combining_slots(&self) -> usize {
        self.layout().combining.map_or(0, |section| section.slots)
    }

    /// Says whether a write-combining store of this CPU to a location has not arrived.
    #[inline]
    pub(crate) fn own_combining_waits(&self, location: Location) -> bool {
        self.combining_len() > 0
            && self
                .combining()
                .iter()
                .any(|store| store.location() == Some(location))
    }

    /// Says whether a load of this CPU may read what it has stored to a location and what has not arrived:
    /// non-temporal stores to ordinary memory are forwarded as others are, from the store buffer that they
    /// go through first. Stores to write-combining memory are not.
    pub(crate) fn forwards_combining(&self, location: Location) -> bool {
        let own = self.combining().into_iter();
        own.filter(|store| store.location() == Some(location))
            .all(|store| store.memory_type == MemoryType::WriteBack)
    }

    /// Says whether an event need not wait for these stores: they are on their way to a device, and by the
    /// event's reading that is enough.
    pub(crate) fn lets_go(&self, stores: &[Combining], reading: ReadingOf) -> bool {
        let starts = reading(self.machine.cpu_model.write_combining) == Reading::Started;
        stores
            .iter()
            .all(|store| starts && self.frame_use(store.frame) == FrameUse::Device)
    }

    /// Fails if a frame is about to be cached on this CPU under a memory type while an access of another one
    /// may still come (H28). Under another PCID nothing looks it up, until a CR3 load comes to that (H2): what accesses it is what was under way
    /// when that PCID was left (H12a).
    pub(crate) fn refuse_mixed_types(&self, filled: TranslationId) -> Result<(), Stop> {
        let number = filled;
        let filled = self.machine.translations.get(number);
        let is_accessed = self.looks_up(filled) || self.in_flight().contains(number);
        if !self.machine.checks(Property::StaleSpeculation) || !is_accessed {
            return Ok(());
        }
        let as_another = |cpu: CpuIn<'_, &State>| cpu.accesses_as_another_type(filled);
        let Some(how) = self.every_cpu().find_map(as_another) else {
            return Ok(());
        };
        let what = format!(
            "may hold its {filled} as {} while {how}",
            filled.memory_type.name()
        );
        Err(Stop::Violation(Violation::through(
            Property::StaleSpeculation,
            self.cpu,
            *filled,
            what,
        )))
    }

    /// Fails if through what a CR3 load has kept of its PCID such an access may come, as [`CpuIn::refuse_mixed_types`].
    pub(crate) fn refuse_kept_mixed_types(&self) -> Result<(), Stop> {
        if self.machine.features.write_combining == 0 {
            return Ok(());
        }
        let usable = self.set(CacheSet::Cached);
        let kept = self.may_be_cached().filter(|number| {
            let entry = self.machine.translations.get(number);
            let may_access = usable.contains(number) || entry.memory_type == MemoryType::WriteBack;
            entry.is_page() && may_access
        });
        kept.iter()
            .try_for_each(|number| self.refuse_mixed_types(number))
    }

    /// Says whether a speculative access through a page that may be cached can be under way when a CR3 load leaves its PCID, and so come later, as a walk
    /// in flight does (H12a): by the rule it ends with the walk. ASSUMED, because no manual says it of either. It matters where memory changes its
    /// type (H28), and of write-back memory alone, from which such an access may leave something in a cache.
    pub(crate) fn may_go_on_accessing(&self, page: &Translation) -> bool {
        self.machine.features.write_combining > 0 && page.memory_type == MemoryType::WriteBack
    }

    /// Says how this CPU may still access a page's frame as another memory type: by speculation through a
    /// write-back entry, by a store that waits, or by an access through an entry that is still in use.
    fn accesses_as_another_type(&self, page: &Translation) -> Option<String> {
        let cpu: Cpu = self.cpu;
        let (usable, in_flight) = (self.set(CacheSet::Cached), self.in_flight());
        let conflicts = |number: &TranslationId| {
            let entry = self.machine.translations.get(*number);
            let may_use = usable.contains(*number) || entry.memory_type == MemoryType::WriteBack;
            let is_accessed = self.looks_up(entry) && may_use || in_flight.contains(*number);
            entry.is_page()
                && entry.shares_frames_with(page)
                && entry.memory_type != page.memory_type
                && is_accessed
        };
        let found = self.may_be_cached().union(in_flight).iter().find(conflicts);
        if let Some(number) = found {
            let entry = self.machine.translations.get(number);
            let name = entry.memory_type.name();
            return Some(format!("CPU {cpu} may still use its {entry} as {name}"));
        }
        let waits =
            |store: &Combining| store.frame == page.frame && store.memory_type != page.memory_type;
        let waits = self.combining().iter().any(waits);
        waits.then(|| format!("a store of CPU {cpu} still waits to be combined"))
    }
}

/// A store's position among those of a CPU's write-combining buffers.
#[derive(Clone, Copy, Debug)]
struct CombiningSlot(usize);

/// Lists the stores that may leave next: of those to one place, the oldest, which stands first. A place
/// without data has none to keep in order.
fn slots_that_may_leave(stores: &[Combining]) -> Vec<CombiningSlot> {
    let is_oldest = |slot: &usize| {
        let location = stores[*slot].location();
        let mut older = stores[..*slot].iter();
        location.is_none() || older.all(|store| store.location() != location)
    };
    let slots = (0..stores.len()).filter(is_oldest);
    slots.map(CombiningSlot).collect()
}
