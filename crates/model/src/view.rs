//! A view of one CPU in one state: what it holds, what it sees, and the way to another CPU.
//!
//! Everything that hardware does, some CPU does, in some state of a machine. So the steps are methods of
//! [`CpuMut`], and questions are methods of any view.

use std::ops::Deref;

use crate::byte_mask::ByteMask;
use crate::call::Cr4;
use crate::index::{BroadcastSet, Cpu, EntryId, Frame, Location, PcidTag, TranslationId};
use crate::machine::Machine;
use crate::slot::{Combining, EntryStore, Slot, Stage};
use crate::state::{CR3, CacheSet, Change, FrameUse, Layout, State};
use crate::translation::Translation;
use crate::translation_set::TranslationSet;
use crate::values::ValueCode;
use crate::version::Version;
use crate::writers::Context;

/// One CPU in one state of a machine.
#[derive(Clone, Copy)]
pub(crate) struct CpuIn<'m, S> {
    pub(crate) machine: &'m Machine,
    pub(crate) state: S,
    pub(crate) cpu: Cpu,
    /// Where the CPU's chunk of the state starts.
    start: usize,
}

/// One CPU in one state, to look at.
pub(crate) type CpuView<'a> = CpuIn<'a, &'a State>;
/// One CPU in one state, to change.
pub(crate) type CpuMut<'a> = CpuIn<'a, &'a mut State>;

/// What a walk finds at a page-table entry: its value, and which store it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StoredEntry {
    pub(crate) value: ValueCode,
    pub(crate) version: Version,
}

impl From<EntryStore> for StoredEntry {
    fn from(store: EntryStore) -> StoredEntry {
        StoredEntry {
            value: store.value,
            version: store.version,
        }
    }
}

impl Machine {
    /// Looks at a CPU in a state.
    #[inline]
    pub(crate) fn view<'a>(&'a self, state: &'a State, cpu: Cpu) -> CpuView<'a> {
        CpuIn {
            machine: self,
            state,
            cpu,
            start: self.layout.cpu_start(cpu).bytes(),
        }
    }

    /// Lets a CPU act in a state.
    #[inline]
    pub(crate) fn on<'a>(&'a self, state: &'a mut State, cpu: Cpu) -> CpuMut<'a> {
        CpuIn {
            machine: self,
            state,
            cpu,
            start: self.layout.cpu_start(cpu).bytes(),
        }
    }
}

impl<'m, S: Deref<Target = State>> CpuIn<'m, S> {
    #[inline]
    pub(crate) fn layout(&self) -> &'m Layout {
        &self.machine.layout
    }

    /// Looks at another CPU in the same state.
    #[inline]
    pub(crate) fn other(&self, cpu: Cpu) -> CpuView<'_> {
        self.machine.view(&self.state, cpu)
    }

    /// Looks at every CPU in the same state, this one included.
    #[inline]
    pub(crate) fn every_cpu(&self) -> impl Iterator<Item = CpuView<'_>> {
        let cpus = self.layout().every_cpu();
        cpus.map(|cpu| self.other(cpu))
    }

    /// Returns what the CPU runs now: an operation, or its handler.
    #[inline]
    pub(crate) fn context(&self) -> Context {
        match self.layout().handler_node(&self.state, self.cpu) {
            None => Context::Operation(self.cpu),
            Some(_) => Context::Handler(self.cpu),
        }
    }

    /// Returns the root table in CR3.
    #[inline]
    pub(crate) fn cr3(&self) -> Frame {
        Frame::from(self.state[self.start + CR3])
    }

    /// Returns CR3[11:0]; 0 in programs without tags.
    #[inline]
    pub(crate) fn cr3_low(&self) -> PcidTag {
        match self.layout().tags {
            None => PcidTag::ZERO,
            Some(tags) => PcidTag::from(self.state[self.start + tags]),
        }
    }

    /// Returns CR4; 0 in programs without tags.
    #[inline]
    pub(crate) fn cr4(&self) -> Cr4 {
        match self.layout().tags {
            None => Cr4::default(),
            Some(tags) => Cr4(self.state[self.start + tags + 1]),
        }
    }

    /// Returns the current PCID: CR3[11:0] with CR4.PCIDE, and 0 without (H1).
    #[inline]
    pub(crate) fn pcid(&self) -> PcidTag {
        match self.cr4().has(Cr4::PCIDE) {
            true => self.cr3_low(),
            false => PcidTag::ZERO,
        }
    }

    /// Returns one of the CPU's sets of translations.
    #[inline]
    pub(crate) fn set(&self, set: CacheSet) -> TranslationSet {
        let layout = self.layout();
        TranslationSet::read(&self.state, layout.set(self.cpu, set), layout.set_width)
    }

    /// Returns what walks in flight hold that began under another PCID than the current one, and go on under
    /// their own (H12a): upper entries that may be cached, too, and roots.
    #[inline]
    pub(crate) fn in_flight(&self) -> TranslationSet {
        let layout = self.layout();
        match layout.in_flight(self.cpu) {
            None => TranslationSet::EMPTY,
            Some(in_flight) => TranslationSet::read(&self.state, in_flight, layout.set_width),
        }
    }

    /// Returns everything that the CPU may cache, usable or not.
    #[inline]
    pub(crate) fn may_be_cached(&self) -> TranslationSet {
        self.set(CacheSet::Cached)
            .union(self.set(CacheSet::Tainted))
    }

    /// Says whether this CPU looks an entry up: it is of the PCID that is loaded, or global (H2).
    #[inline]
    pub(crate) fn looks_up(&self, entry: &Translation) -> bool {
        entry.pcid == self.pcid() || entry.global
    }

    /// Lists the translations of a set.
    #[inline]
    pub(crate) fn translations(
        &self,
        set: TranslationSet,
    ) -> impl Iterator<Item = &'m Translation> + use<'m, S> {
        let machine = self.machine;
        set.iter().map(|number| machine.translations.get(number))
    }

    /// Returns the number of stores in the CPU's buffer.
    #[inline]
    pub(crate) fn buffered_len(&self) -> usize {
        self.layout().buffered_len(&self.state, self.cpu)
    }

    /// Says whether the CPU's buffer has room for another store.
    #[inline]
    pub(crate) fn has_buffer_room(&self) -> bool {
        self.buffered_len() < usize::from(self.machine.memory.buffer_depth())
    }

    /// Lists what waits in the CPU's store buffer, oldest first.
    #[inline]
    pub(crate) fn buffered(&self) -> impl DoubleEndedIterator<Item = Slot> {
        let layout = self.layout();
        let start = self.start + layout.buffer;
        let (slots, _) = self.state[start..start + Slot::LEN * self.buffered_len()].as_chunks();
        slots
            .iter()
            .map(|&slot| Slot::decode(slot, layout.locations))
    }

    /// Returns which bytes of a page-table entry the slot behind so many older ones stores.
    pub(crate) fn part(&self, older: usize) -> ByteMask {
        match self.layout().parts {
            None => ByteMask::ALL,
            Some(parts) => ByteMask::from(self.state[self.start + parts + older]),
        }
    }

    /// Returns the cached entry that the store of data behind so many older slots went through, where programs
    /// have such.
    pub(crate) fn through(&self, older: usize) -> Option<TranslationId> {
        let through = self.layout().through?;
        TranslationId::from_byte_or_none(self.state[self.start + through + older])
    }

    /// Lists the CPU's stores to page-table entries that wait in its buffer, oldest first.
    #[inline]
    pub(crate) fn buffered_entries(&self) -> impl DoubleEndedIterator<Item = EntryStore> {
        self.buffered().filter_map(Slot::entry_store)
    }

    /// Returns the broadcast invalidations that the CPU has still to do.
    #[inline]
    pub(crate) fn broadcasts(&self) -> BroadcastSet {
        self.layout().broadcasts(&self.state, self.cpu)
    }

    /// Returns the number of stores in the CPU's write-combining buffers, those on their way included.
    #[inline]
    pub(crate) fn combining_len(&self) -> usize {
        self.layout().combining_len(&self.state, self.cpu)
    }

    /// Returns the stores in the CPU's write-combining buffers, those on their way included.
    pub(crate) fn combining(&self) -> Vec<Combining> {
        let (layout, len) = (self.layout(), self.combining_len());
        let Some(section) = layout.combining.filter(|_| len > 0) else {
            return Vec::new();
        };
        let start = self.start + section.start + 1;
        let (slots, _) = self.state[start..start + Combining::LEN * len].as_chunks();
        let slots = slots.iter();
        slots
            .map(|&slot| Combining::decode(slot, layout.locations))
            .collect()
    }

    #[inline]
    pub(crate) fn frame_use(&self, frame: Frame) -> FrameUse {
        self.layout().frame_use(&self.state, frame)
    }

    /// Returns the code of what memory holds at a location.
    #[inline]
    pub(crate) fn code_in_memory(&self, location: Location) -> ValueCode {
        ValueCode::from_byte(self.state[self.layout().location(location).bytes()])
    }

    /// Returns what memory holds at a location.
    #[inline]
    pub(crate) fn value_in_memory(&self, location: Location) -> u64 {
        self.machine.values.decode(self.code_in_memory(location))
    }

    /// Returns what memory holds at a page-table entry.
    #[inline]
    pub(crate) fn in_memory(&self, entry: EntryId) -> StoredEntry {
        StoredEntry {
            value: self.code_in_memory(Location::Entry(entry)),
            version: Version::from_byte(self.state[self.layout().version(entry).bytes()]),
        }
    }

    /// Returns the CPU's newest store to a page-table entry that waits in its buffer.
    #[inline]
    pub(crate) fn own_newest(&self, entry: EntryId) -> Option<StoredEntry> {
        let newest = self.buffered_entries().rfind(|store| store.entry == entry);
        newest.map(StoredEntry::from)
    }

    /// Returns what the CPU reads at a page-table entry: its newest buffered store, or memory.
    #[inline]
    pub(crate) fn as_seen(&self, entry: EntryId) -> StoredEntry {
        let own = self.own_newest(entry);
        own.unwrap_or_else(|| self.in_memory(entry))
    }
}

impl CpuMut<'_> {
    /// Lets another CPU act in the same state.
    #[inline]
    pub(crate) fn other_mut(&mut self, cpu: Cpu) -> CpuMut<'_> {
        self.machine.on(self.state, cpu)
    }

    pub(crate) fn set_cr3(&mut self, root: Frame) {
        self.state[self.start + CR3] = root.number();
    }

    /// Sets CR3[11:0], which programs without tags do not have.
    pub(crate) fn set_cr3_low(&mut self, bits: PcidTag) {
        if let Some(tags) = self.layout().tags {
            self.state[self.start + tags] = bits.to_byte();
        }
    }

    /// Sets CR4, which programs without tags do not have.
    pub(crate) fn set_cr4(&mut self, cr4: Cr4) {
        if let Some(tags) = self.layout().tags {
            self.state[self.start + tags + 1] = cr4.0;
        }
    }

    #[inline]
    pub(crate) fn put_set(&mut self, set: CacheSet, members: TranslationSet) {
        let layout = self.layout();
        members.write(self.state, layout.set(self.cpu, set), layout.set_width);
    }

    /// Sets what walks in flight of other PCIDs hold, which programs without tags do not have.
    #[inline]
    pub(crate) fn put_in_flight(&mut self, members: TranslationSet) {
        let layout = self.layout();
        if let Some(in_flight) = layout.in_flight(self.cpu) {
            members.write(self.state, in_flight, layout.set_width);
        }
    }

    /// Removes from what the CPU may cache, or hold in flight, whatever does not pass a test.
    pub(crate) fn retain(&mut self, keeps: impl Fn(&Self, &Translation) -> bool) {
        for set in CacheSet::IN_CACHES {
            let members = self.set(set);
            let kept = members.filter(|number| keeps(self, self.machine.translations.get(number)));
            self.put_set(set, kept);
        }
        let in_flight = self.in_flight();
        let kept = in_flight.filter(|number| keeps(self, self.machine.translations.get(number)));
        self.put_in_flight(kept);
    }

    /// Sets the broadcast invalidations that the CPU has still to do, in a program that has some.
    pub(crate) fn set_broadcasts(&mut self, left: BroadcastSet) {
        if let Some(broadcasts) = self.layout().broadcasts {
            self.state[self.start + broadcasts] = left.to_byte();
        }
    }

    /// Puts a store into the CPU's buffer, which must have room.
    pub(crate) fn push_buffered(&mut self, slot: Slot) {
        let len = self.buffered_len();
        self.put_buffered(len, slot);
        let (layout, cpu) = (self.layout(), self.cpu);
        layout.count_buffered(self.state, cpu, Change::OneMore);
    }

    /// Replaces what is in the CPU's buffer behind so many older slots.
    pub(crate) fn put_buffered(&mut self, older: usize, slot: Slot) {
        let layout = self.layout();
        let at = self.start + layout.buffer + Slot::LEN * older;
        self.state[at..at + Slot::LEN].copy_from_slice(&slot.encode(layout.locations));
    }

    /// Sets which bytes of a page-table entry the slot behind so many older ones stores, in a program with stores
    /// to some bytes.
    pub(crate) fn put_part(&mut self, older: usize, bytes: ByteMask) {
        if let Some(parts) = self.layout().parts {
            self.state[self.start + parts + older] = bytes.to_byte();
        }
    }

    /// Sets which cached entry the store of data behind so many older slots went through, where programs have
    /// such.
    pub(crate) fn put_through(&mut self, older: usize, used: Option<TranslationId>) {
        if let Some(through) = self.layout().through {
            self.state[self.start + through + older] = TranslationId::to_byte_or_none(used);
        }
    }

    /// Replaces each slot of the CPU's buffer by what a function makes of it.
    pub(crate) fn map_buffered<E>(
        &mut self,
        mut change: impl FnMut(&mut Self, Slot) -> Result<Slot, E>,
    ) -> Result<(), E> {
        for older in 0..self.buffered_len() {
            let slot = self.buffered().nth(older);
            let slot = slot.expect("the buffer holds as many");
            let changed = change(self, slot)?;
            if changed != slot {
                self.put_buffered(older, changed);
            }
        }
        Ok(())
    }

    /// Takes the oldest slot out of the CPU's buffer, which must hold one. Equal states stay equal bytes.
    pub(crate) fn pop_buffered(&mut self) {
        let (layout, cpu) = (self.layout(), self.cpu);
        let start = self.start + layout.buffer;
        let end = start + Slot::LEN * self.buffered_len();
        self.state.copy_within(start + Slot::LEN..end, start);
        self.state[end - Slot::LEN..end].fill(0);
        if layout.parts.is_some() || layout.through.is_some() {
            self.pop_beside_buffered();
        }
        layout.count_buffered(self.state, cpu, Change::OneLess);
    }

    /// Takes out what lies beside the oldest slot of the CPU's buffer.
    #[cold]
    fn pop_beside_buffered(&mut self) {
        let layout = self.layout();
        for beside in [layout.parts, layout.through].into_iter().flatten() {
            let (start, len) = (self.start + beside, self.buffered_len());
            self.state.copy_within(start + 1..start + len, start);
            self.state[start + len - 1] = 0;
        }
    }

    /// Replaces the CPU's write-combining stores, at most as many as there are slots. They have no order
    /// among themselves (H26): equal sets are equal bytes. Two stores to one place keep theirs.
    pub(crate) fn put_combining(&mut self, mut stores: Vec<Combining>) {
        let layout = self.layout();
        let Some(section) = layout.combining else {
            return;
        };
        let place = |store: &Combining| store.encode(layout.locations)[0];
        stores.sort_by_key(|store| (place(store), store.stage == Stage::Filling));
        let start = self.start + section.start;
        let slots = start + 1..start + 1 + Combining::LEN * section.slots;
        self.state[slots.clone()].fill(0);
        self.state[start] = stores.len() as u8;
        let (slots, _) = self.state[slots].as_chunks_mut();
        for (slot, store) in slots.iter_mut().zip(&stores) {
            *slot = store.encode(layout.locations);
        }
    }

    pub(crate) fn set_frame_use(&mut self, frame: Frame, frame_use: FrameUse) {
        self.machine
            .layout
            .set_frame_use(self.state, frame, frame_use);
    }

    /// Sets what memory holds at a location.
    #[inline]
    pub(crate) fn put_in_memory(&mut self, location: Location, value: ValueCode) {
        let at = self.layout().location(location);
        self.state[at.bytes()] = value.to_byte();
    }

    /// Sets which store it is that memory holds at a page-table entry.
    pub(crate) fn put_version(&mut self, entry: EntryId, version: Version) {
        let at = self.layout().version(entry);
        self.state[at.bytes()] = version.to_byte();
    }
}
