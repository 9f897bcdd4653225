//! A state of the machine as plain bytes, and where everything lies in them.
//!
//! A state has one chunk for what all CPUs share (atomics, page-table entries, frames) and one for each
//! CPU. The chunks change one or two at a time, which a store of states exploits.
//!
//! ```text
//! shared │ atomics │ page-table entries │ their versions │ frames │
//! CPU    │ node u16 │ handler's node u16 │ flags │ CR3 │ PCID, CR4 │ NMI's node u16 │ ticks │ broadcasts │
//!        │ store buffer │ bytes of entries in it │ what its data went through │ write-combining buffers │
//!        │ A and D owed │ cached │ tainted │ revoked │ promises │ in flight │ former entries │ own cells │
//!        │ far nodes │
//! ```
//!
//! What a program has no use for ([`Features`]) has no bytes. What the machine knows of a CPU it reads and
//! writes through a view (`view.rs`); the functions here are those that a search needs, too.

use std::ops::Range;

use crate::call::LocalCell;
use crate::features::{Features, Ticks};
use crate::index::{
    BroadcastSet, Cpu, EntryId, Frame, Location, Locations, Number, Offset, PromiseSlot,
};
use crate::limit::MOST_FORMER;
use crate::slot::{Combining, Slot};
use crate::translation_set::SetWidth;

/// A state: [`Layout::len`] bytes.
pub type State = [u8];

/// What a CPU may cache, and what must not be used of it: sets of numbered translations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CacheSet {
    /// May be cached, and may be used.
    Cached,
    /// May be cached although a flush that covers it has returned: must not be used.
    Tainted,
    /// Was covered by a flush of this CPU that has returned, while a store that removes it may still wait in
    /// this CPU's buffer: a CPU that fills it now must not use it.
    Revoked,
    /// Is covered by the flush that this CPU has begun, and that is its promise in this slot.
    Covered(PromiseSlot),
}

impl CacheSet {
    /// Those of what may be cached.
    pub(crate) const IN_CACHES: [CacheSet; 2] = [CacheSet::Cached, CacheSet::Tainted];
}

/// What a frame is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameUse {
    /// For nothing: it holds garbage.
    Free = 0,
    /// As a page table.
    Table = 1,
    /// As ordinary memory.
    Page = 2,
    /// It is a device's: no CPU caches it, and what is written acts.
    Device = 3,
}

/// Where everything lies in a state: shared sections from its start, a CPU's from the start of its chunk.
#[derive(Clone, Debug)]
pub struct Layout {
    cpus: usize,
    pub(crate) locations: Locations,
    entries: usize,
    shared_len: usize,
    /// CR3's low bits, then CR4.
    pub(crate) tags: Option<usize>,
    pub(crate) nmi: Option<usize>,
    /// How many timer interrupts were taken, where their number has a bound.
    ticks: Option<usize>,
    pub(crate) broadcasts: Option<usize>,
    pub(crate) buffer: usize,
    /// A byte for each slot of the store buffer: which bytes of a page-table entry it stores, 0 for all.
    pub(crate) parts: Option<usize>,
    /// The cached entry that each store of data in the store buffer went through.
    pub(crate) through: Option<usize>,
    pub(crate) combining: Option<CombiningSection>,
    /// A byte for each page-table entry: the updates of A and D that the CPU owes it.
    pub(crate) owed: Option<usize>,
    sets: usize,
    pub(crate) set_width: SetWidth,
    pub(crate) promises: PromisesSection,
    /// A set of translations.
    in_flight: Option<usize>,
    /// A byte for the number of entries' former values, then a slot for each.
    former: Option<usize>,
    own_cells: usize,
    /// Places that two bytes cannot tell.
    pub(crate) far_places: Option<usize>,
    cpu_len: usize,
}

/// Where a CPU's write-combining buffers lie: a byte for the number of stores, then a slot for each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CombiningSection {
    pub(crate) start: usize,
    pub(crate) slots: usize,
}

/// Where a CPU's promises lie: a byte for what each is about, then the set that it covers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PromisesSection {
    start: usize,
    slots: u8,
    /// Bytes of a slot.
    slot_len: usize,
}

impl PromisesSection {
    /// Lists the slots, lowest first.
    #[inline]
    pub(crate) fn slots(self) -> impl Iterator<Item = PromiseSlot> {
        (0..usize::from(self.slots)).map(PromiseSlot::from_index)
    }
}

/// Sets of translations that every CPU has: cached, tainted and revoked ones.
const SETS: usize = 3;

/// What every CPU's chunk has, at its start.
pub(crate) const NODE: usize = 0;
pub(crate) const HANDLER_NODE: usize = 2;
const FLAGS: usize = 4;
pub(crate) const CR3: usize = 5;
/// Bytes of a place that the two of a node cannot tell.
pub(crate) const FAR_PLACE: usize = size_of::<u32>();
const OPTIONAL: usize = 6;

const FLAG_PENDING: u8 = 1;
const FLAG_PENDING_NMI: u8 = 1 << 7;
/// The bits of the flags between the two: how many stores are in the buffer.
const BUFFERED_SHIFT: u32 = 1;
const BUFFERED_MASK: u8 = 0x3f;

impl Layout {
    pub(crate) fn new(
        cpus: usize,
        atomics: usize,
        frames: usize,
        buffer_depth: usize,
        own_cells: usize,
        features: &Features,
    ) -> Layout {
        let mut next = OPTIONAL;
        let mut section = |len: usize| {
            let start = next;
            next += len;
            start
        };
        let tags = features.tags.then(|| section(2));
        let nmi = features.nmis.then(|| section(2));
        let ticks = matches!(features.ticks, Ticks::AtMost(_)).then(|| section(1));
        let broadcasts = features.broadcasts.then(|| section(1));
        let buffer = section(Slot::LEN * buffer_depth);
        let parts = features.partial_entry_stores.then(|| section(buffer_depth));
        let through = features.data_stores.then(|| section(buffer_depth));
        let slots = usize::from(features.write_combining);
        let combining = (slots > 0).then(|| CombiningSection {
            start: section(1 + Combining::LEN * slots),
            slots,
        });
        let entries = usize::from(features.page_table_entries);
        let owed = features.accessed_dirty.then(|| section(entries));
        let set_width = match features.endless {
            false => SetWidth::Narrow,
            true => SetWidth::Wide,
        };
        let sets = section(SETS * set_width.len());
        let slots = features.promises;
        let promises = PromisesSection {
            start: section(usize::from(slots) * (1 + set_width.len())),
            slots,
            slot_len: 1 + set_width.len(),
        };
        // Walks of another PCID than the current one: without PCIDs there is none.
        let in_flight = features.tags.then(|| section(set_width.len()));
        let former = 1 + Slot::LEN * MOST_FORMER;
        let former = features.fetches.then(|| section(former));
        let own_cells = section(own_cells);
        let far_places = features.many_places.then(|| section(3 * FAR_PLACE));
        let cpu_len = section(0);
        Layout {
            cpus,
            locations: Locations::with_cells(atomics),
            entries,
            shared_len: atomics + 2 * entries + frames,
            tags,
            nmi,
            ticks,
            broadcasts,
            buffer,
            parts,
            through,
            combining,
            owed,
            sets,
            set_width,
            promises,
            in_flight,
            former,
            own_cells,
            far_places,
            cpu_len,
        }
    }

    /// Returns the length of a state in bytes.
    pub fn len(&self) -> usize {
        self.shared_len + self.cpus * self.cpu_len
    }

    /// Says whether a state has no byte, which none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the length of the chunk that all CPUs share.
    pub fn shared_len(&self) -> usize {
        self.shared_len
    }

    /// Returns the length of one CPU's chunk.
    pub fn cpu_len(&self) -> usize {
        self.cpu_len
    }

    /// Returns the number of CPUs.
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// Lists the CPUs.
    #[inline]
    pub(crate) fn every_cpu(&self) -> impl DoubleEndedIterator<Item = Cpu> + use<> {
        Cpu::first(self.cpus)
    }

    /// Returns where a CPU's chunk starts.
    #[inline]
    pub(crate) fn cpu_start(&self, cpu: Cpu) -> Offset {
        Offset::at(self.shared_len + cpu.index() * self.cpu_len)
    }

    /// Says whether programs fetch instructions.
    #[inline]
    pub(crate) fn has_fetches(&self) -> bool {
        self.former.is_some()
    }

    /// Says whether a flush interrupt is pending.
    #[inline]
    pub fn is_pending(&self, state: &State, cpu: impl Into<Cpu>) -> bool {
        state[self.flags(cpu.into()).bytes()] & FLAG_PENDING != 0
    }

    /// Says whether an NMI is pending.
    #[inline]
    pub fn is_nmi_pending(&self, state: &State, cpu: impl Into<Cpu>) -> bool {
        state[self.flags(cpu.into()).bytes()] & FLAG_PENDING_NMI != 0
    }

    /// Returns where it is counted how many timer interrupts a CPU has taken, if it is.
    pub(crate) fn ticks(&self, cpu: Cpu) -> Option<Offset> {
        Some(self.cpu_start(cpu).plus(self.ticks?))
    }

    /// Returns the broadcast invalidations that a CPU has still to do.
    #[inline]
    pub fn broadcasts(&self, state: &State, cpu: impl Into<Cpu>) -> BroadcastSet {
        match self.broadcasts {
            None => BroadcastSet::EMPTY,
            Some(broadcasts) => {
                let at = self.cpu_start(cpu.into()).plus(broadcasts);
                BroadcastSet::from_byte(state[at.bytes()])
            }
        }
    }

    /// Returns the number of stores in a CPU's write-combining buffers, those on their way included.
    #[inline]
    pub fn combining_len(&self, state: &State, cpu: impl Into<Cpu>) -> usize {
        match self.combining {
            None => 0,
            Some(section) => {
                let at = self.cpu_start(cpu.into()).plus(section.start);
                usize::from(state[at.bytes()])
            }
        }
    }

    /// Returns the number of stores in a CPU's buffer.
    #[inline]
    pub fn buffered_len(&self, state: &State, cpu: impl Into<Cpu>) -> usize {
        let flags = state[self.flags(cpu.into()).bytes()];
        usize::from((flags >> BUFFERED_SHIFT) & BUFFERED_MASK)
    }

    /// Returns where a CPU's flags lie.
    #[inline]
    fn flags(&self, cpu: Cpu) -> Offset {
        self.cpu_start(cpu).plus(FLAGS)
    }

    /// Returns where a CPU's registers, buffers and caches lie: all of its chunk but its places and its own words.
    pub(crate) fn hardware_of(&self, cpu: Cpu) -> Range<Offset> {
        let start = self.cpu_start(cpu);
        start.plus(FLAGS)..start.plus(self.own_cells)
    }

    /// Returns where one of a CPU's sets of translations lies.
    #[inline]
    pub(crate) fn set(&self, cpu: Cpu, set: CacheSet) -> Offset {
        let earlier = match set {
            CacheSet::Cached => 0,
            CacheSet::Tainted => 1,
            CacheSet::Revoked => 2,
            CacheSet::Covered(slot) => return self.promise(cpu, slot).plus(1),
        };
        let start = self.cpu_start(cpu);
        start.plus(self.sets + self.set_width.len() * earlier)
    }

    /// Returns where it lies what a CPU's promise is about; what it covers follows.
    #[inline]
    pub(crate) fn promise(&self, cpu: Cpu, slot: PromiseSlot) -> Offset {
        let slot = slot.index() * self.promises.slot_len;
        self.cpu_start(cpu).plus(self.promises.start + slot)
    }

    /// Returns where the set lies of what a CPU's walks in flight hold of other PCIDs.
    #[inline]
    pub(crate) fn in_flight(&self, cpu: Cpu) -> Option<Offset> {
        Some(self.cpu_start(cpu).plus(self.in_flight?))
    }

    /// Returns where former values of page-table entries lie that a CPU's fetches may read.
    #[inline]
    pub(crate) fn former(&self, cpu: Cpu) -> Option<Offset> {
        Some(self.cpu_start(cpu).plus(self.former?))
    }

    /// Returns where a CPU's own cell lies.
    #[inline]
    pub(crate) fn own_cell(&self, cell: LocalCell) -> Offset {
        let owner = Cpu::from(usize::from(cell.owner));
        let start = self.cpu_start(owner);
        start.plus(self.own_cells + usize::from(cell.index))
    }

    /// Returns the bytes of a CPU's own cells.
    pub(crate) fn own_cells<'a>(&self, state: &'a State, cpu: Cpu) -> &'a [u8] {
        let start = self.cpu_start(cpu).bytes();
        let end = self.far_places.unwrap_or(self.cpu_len);
        &state[start + self.own_cells..start + end]
    }

    /// Returns where a shared location lies: atomics come first, then page-table entries.
    #[inline]
    pub(crate) fn location(&self, location: Location) -> Offset {
        Offset::at(usize::from(self.locations.to_byte(location)))
    }

    /// Returns where the version of a page-table entry lies.
    #[inline]
    pub(crate) fn version(&self, entry: EntryId) -> Offset {
        Offset::at(self.locations.cells() + self.entries + entry.index())
    }

    /// Returns where a frame's use lies.
    #[inline]
    fn frame(&self, frame: Frame) -> Offset {
        Offset::at(self.locations.cells() + 2 * self.entries + frame.index())
    }

    #[inline]
    pub(crate) fn frame_use(&self, state: &State, frame: Frame) -> FrameUse {
        match state[self.frame(frame).bytes()] {
            0 => FrameUse::Free,
            1 => FrameUse::Table,
            2 => FrameUse::Page,
            _ => FrameUse::Device,
        }
    }

    pub(crate) fn set_frame_use(&self, state: &mut State, frame: Frame, frame_use: FrameUse) {
        state[self.frame(frame).bytes()] = frame_use as u8;
    }

    /// Makes one store more, or one less, stand in a CPU's buffer.
    #[inline]
    pub(crate) fn count_buffered(&self, state: &mut State, cpu: Cpu, change: Change) {
        let flags = &mut state[self.flags(cpu).bytes()];
        match change {
            Change::OneMore => *flags += 1 << BUFFERED_SHIFT,
            Change::OneLess => *flags -= 1 << BUFFERED_SHIFT,
        }
    }

    /// Makes an interrupt pending on a CPU, or ends that.
    #[inline]
    pub(crate) fn set_pending(&self, state: &mut State, cpu: Cpu, kind: Interrupt, now: Pending) {
        let flag = match kind {
            Interrupt::Flush => FLAG_PENDING,
            Interrupt::NonMaskable => FLAG_PENDING_NMI,
        };
        let flags = &mut state[self.flags(cpu).bytes()];
        match now {
            Pending::Yes => *flags |= flag,
            Pending::No => *flags &= !flag,
        }
    }
}

/// The two kinds of interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interrupt {
    Flush,
    NonMaskable,
}

/// Whether an interrupt waits to be delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pending {
    Yes,
    No,
}

/// How the number of stores in a buffer changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    OneMore,
    OneLess,
}
