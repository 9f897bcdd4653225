//! The small numbers that a state is made of, each with a type of its own.
//!
//! A bare `u8` could be a CPU, a frame or a cell; these cannot be taken for each other. Each has one
//! conversion from the integer that people write, which panics where the number cannot be one: callers
//! have checked what a program brings forth, and answer it with a [`Limit`](crate::Limit).

use std::fmt;
use std::num::{NonZeroU8, NonZeroU16};

use lazytlb::{PageSize, PhysAddr, VirtAddr};

use crate::call::AtomicCell;
use crate::limit::{MOST_BROADCASTS, MOST_CPUS, MOST_LEVELS, MOST_PROMISES};

/// A number that things are numbered by, in the order in which they turn up.
pub(crate) trait Number: Copy {
    /// Makes the number of the thing that turned up after `index` others.
    fn from_index(index: usize) -> Self;
    /// Returns how many things turned up before.
    fn index(self) -> usize;
}

fn byte(index: usize) -> u8 {
    u8::try_from(index).expect("the numberings are bounded, so that a number fits into a byte")
}

/// A CPU of the machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Cpu(u8);

impl Cpu {
    /// Returns the CPU's position among all.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the number that reports have.
    pub(crate) const fn number(self) -> u8 {
        self.0
    }

    /// Lists the CPUs of a machine that has so many.
    #[inline]
    pub(crate) fn first(count: usize) -> impl DoubleEndedIterator<Item = Cpu> {
        (0..byte(count)).map(Cpu)
    }
}

/// # Panics
/// If no machine has as many CPUs.
impl From<usize> for Cpu {
    #[inline]
    fn from(index: usize) -> Cpu {
        assert!(index < MOST_CPUS, "no machine has a CPU {index}");
        Cpu(index as u8)
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which of the ways in which a machine may do a step: they are counted from 0, while there are more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Way(usize);

impl Way {
    /// The first way, which every possible step has.
    pub const FIRST: Way = Way(0);

    /// Returns how many ways come before it.
    #[inline]
    pub const fn index(self) -> usize {
        self.0
    }
}

impl From<usize> for Way {
    #[inline]
    fn from(index: usize) -> Way {
        Way(index)
    }
}

/// A frame of memory, by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Frame(u8);

impl Frame {
    /// Returns the frame at an address; `None` past all that the model has numbers for.
    #[inline]
    pub(crate) fn at(addr: PhysAddr) -> Option<Frame> {
        let number = addr.0 >> PageSize::Size4K.shift();
        u8::try_from(number).ok().map(Frame)
    }

    /// Returns the frame's address.
    pub(crate) fn addr(self) -> PhysAddr {
        PhysAddr(u64::from(self.0) << PageSize::Size4K.shift())
    }

    /// Returns the frame's position among all.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the number that reports have.
    pub(crate) const fn number(self) -> u8 {
        self.0
    }
}

impl From<u8> for Frame {
    fn from(number: u8) -> Frame {
        Frame(number)
    }
}

impl PartialEq<u8> for Frame {
    fn eq(&self, number: &u8) -> bool {
        self.0 == *number
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A level of page tables: 1 holds the entries of 4 KiB pages, and the root has the highest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Level(NonZeroU8);

impl Level {
    /// The level of the tables whose entries map 4 KiB pages.
    pub const LOWEST: Level = Level(NonZeroU8::MIN);

    /// Returns the level of the tables that an entry of this level leads to; `None` below the lowest.
    #[inline]
    pub fn below(self) -> Option<Level> {
        NonZeroU8::new(self.0.get() - 1).map(Level)
    }

    /// Returns the number that manuals count levels by.
    #[inline]
    pub const fn number(self) -> u8 {
        self.0.get()
    }

    /// Returns how many levels lie between this one and a root of another.
    #[inline]
    pub(crate) fn depth_below(self, root: Level) -> usize {
        usize::from(root.0.get() - self.0.get())
    }

    /// Returns the level that lies so many below this one, if there is one.
    pub(crate) fn lower(self, levels: usize) -> Option<Level> {
        let number = usize::from(self.0.get()).checked_sub(levels)?;
        NonZeroU8::new(number as u8).map(Level)
    }

    /// Returns the lowest address bit that selects an entry in a table of this level.
    #[inline]
    pub(crate) fn index_shift(self) -> u32 {
        PageSize::Size4K.shift() + 9 * (u32::from(self.0.get()) - 1)
    }

    /// Returns the index that an address selects in a table of this level.
    #[inline]
    pub(crate) fn index_of(self, addr: VirtAddr) -> TableIndex {
        TableIndex((addr.0 >> self.index_shift()) as u16 % TableIndex::COUNT)
    }
}

/// # Panics
/// If no page tables have such a level.
impl From<u8> for Level {
    #[inline]
    fn from(number: u8) -> Level {
        let level = NonZeroU8::new(number).filter(|level| usize::from(level.get()) <= MOST_LEVELS);
        Level(level.expect("page tables have levels 1 to 5"))
    }
}

impl PartialEq<u8> for Level {
    fn eq(&self, number: &u8) -> bool {
        self.0.get() == *number
    }
}

/// The index of an entry in its table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TableIndex(u16);

impl TableIndex {
    /// Entries of a table.
    pub const COUNT: u16 = 512;
    /// The first entry of a table.
    pub(crate) const FIRST: TableIndex = TableIndex(0);

    /// Returns the number that reports have.
    pub(crate) fn number(self) -> u16 {
        self.0
    }

    /// Returns the first address below an entry of this index, in a table that translates from `start`.
    #[inline]
    pub(crate) fn addr_in(self, start: VirtAddr, level: Level) -> VirtAddr {
        VirtAddr(start.0 | u64::from(self.0) << level.index_shift())
    }
}

impl From<u16> for TableIndex {
    fn from(index: u16) -> TableIndex {
        TableIndex(index)
    }
}

/// Where a page-table entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EntryAt {
    /// The table's frame.
    pub(crate) table: Frame,
    pub(crate) index: TableIndex,
}

/// The number of a page-table entry, among those that were ever written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct EntryId(u8);

impl Number for EntryId {
    #[inline]
    fn from_index(index: usize) -> Self {
        EntryId(byte(index))
    }
    #[inline]
    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A CPU's place in its code: a number that the machine does not interpret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place(NonZeroU16);

impl Place {
    /// The place with the greatest number.
    pub const LAST: Place = Place(NonZeroU16::MAX);

    /// Returns the place with a number, which 0 is not; `None` past the last one, too.
    #[inline]
    pub fn from_number(number: u32) -> Option<Place> {
        let number = u16::try_from(number).ok()?;
        NonZeroU16::new(number).map(Place)
    }

    /// Returns the number, which is not 0.
    #[inline]
    pub fn number(self) -> u32 {
        u32::from(self.0.get())
    }

    /// Reads a place, or none, from where it lies in a state.
    #[inline]
    pub(crate) fn read(state: &[u8], at: Offset) -> Option<Place> {
        let at = at.bytes();
        NonZeroU16::new(u16::from_le_bytes([state[at], state[at + 1]])).map(Place)
    }

    /// Writes a place, or none, to where it lies in a state.
    #[inline]
    pub(crate) fn write(place: Option<Place>, state: &mut [u8], at: Offset) {
        let number = place.map_or(0, |place| place.0.get());
        state[at.bytes()..at.bytes() + 2].copy_from_slice(&number.to_le_bytes());
    }
}

/// Where something lies in a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Offset(usize);

impl Offset {
    #[inline]
    pub(crate) const fn at(bytes: usize) -> Offset {
        Offset(bytes)
    }

    /// Returns how many bytes stand before it.
    #[inline]
    pub(crate) const fn bytes(self) -> usize {
        self.0
    }

    /// Returns the place so many bytes behind it.
    #[inline]
    #[must_use]
    pub(crate) const fn plus(self, bytes: usize) -> Offset {
        Offset(self.0 + bytes)
    }
}

/// A word of shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Location {
    Cell(AtomicCell),
    Entry(EntryId),
}

impl Location {
    /// Returns the page-table entry, if it is one.
    pub(crate) fn entry(self) -> Option<EntryId> {
        match self {
            Location::Cell(_) => None,
            Location::Entry(entry) => Some(entry),
        }
    }
}

/// How a state numbers the words of shared memory: cells first, then page-table entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Locations(u8);

impl Locations {
    pub(crate) fn with_cells(cells: usize) -> Locations {
        Locations(byte(cells))
    }

    /// Returns the number of cells.
    pub(crate) fn cells(self) -> usize {
        usize::from(self.0)
    }

    /// Returns the byte that stands for a location; the value of the location lies at that index.
    #[inline]
    pub(crate) fn to_byte(self, location: Location) -> u8 {
        match location {
            Location::Cell(cell) => cell.0,
            Location::Entry(entry) => self.0 + entry.0,
        }
    }

    /// Returns the location that a byte stands for.
    #[inline]
    pub(crate) fn at_byte(self, byte: u8) -> Location {
        match byte.checked_sub(self.0) {
            None => Location::Cell(AtomicCell(byte)),
            Some(entry) => Location::Entry(EntryId(entry)),
        }
    }
}

/// The number of a [`Translation`](crate::Translation).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct TranslationId(u8);

impl TranslationId {
    /// Makes it from the byte that stands for it in a state.
    #[inline]
    pub(crate) fn from_byte(byte: u8) -> TranslationId {
        TranslationId(byte)
    }

    /// Returns the byte that stands for it in a state.
    #[inline]
    pub(crate) fn to_byte(self) -> u8 {
        self.0
    }

    /// Makes it from the byte that stands for it in a state where there may be none: 0 stands for that.
    pub(crate) fn from_byte_or_none(byte: u8) -> Option<TranslationId> {
        byte.checked_sub(1).map(TranslationId)
    }

    /// Returns the byte that stands for it in a state where there may be none.
    pub(crate) fn to_byte_or_none(number: Option<TranslationId>) -> u8 {
        number.map_or(0, |TranslationId(number)| number + 1)
    }
}

impl Number for TranslationId {
    #[inline]
    fn from_index(index: usize) -> Self {
        TranslationId(byte(index))
    }
    #[inline]
    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The number of a store that may wait untranslated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LateStoreId(u8);

impl LateStoreId {
    /// Makes it from the byte that stands for it in a state.
    pub(crate) fn from_byte(byte: u8) -> LateStoreId {
        LateStoreId(byte)
    }

    /// Returns the byte that stands for it in a state.
    pub(crate) fn to_byte(self) -> u8 {
        self.0
    }
}

impl Number for LateStoreId {
    fn from_index(index: usize) -> Self {
        LateStoreId(byte(index))
    }
    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The number of a set of words to which a store that waits untranslated cannot go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PassedId(u8);

impl PassedId {
    /// Makes it from the byte that stands for it in a state.
    pub(crate) fn from_byte(byte: u8) -> PassedId {
        PassedId(byte)
    }

    /// Returns the byte that stands for it in a state.
    pub(crate) fn to_byte(self) -> u8 {
        self.0
    }
}

impl Number for PassedId {
    fn from_index(index: usize) -> Self {
        PassedId(byte(index))
    }
    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The tag of a cached entry: the PCID that it was cached under (H2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PcidTag(u8);

impl PcidTag {
    /// PCIDs that have a tag.
    pub(crate) const COUNT: usize = u8::MAX as usize + 1;
    /// The PCID of everything while CR4.PCIDE is clear (H1).
    pub const ZERO: PcidTag = PcidTag(0);

    /// Returns the byte that stands for it in a state.
    #[inline]
    pub(crate) fn to_byte(self) -> u8 {
        self.0
    }
}

impl From<u8> for PcidTag {
    #[inline]
    fn from(pcid: u8) -> PcidTag {
        PcidTag(pcid)
    }
}

/// One of the slots for a CPU's promises about flushes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct PromiseSlot(u8);

impl Number for PromiseSlot {
    #[inline]
    fn from_index(index: usize) -> PromiseSlot {
        PromiseSlot(byte(index))
    }
    #[inline]
    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a promise is about, among all that the program's promises are about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct SubjectId(u8);

impl SubjectId {
    /// Makes it from the byte that stands for it in a state; 0 stands for none.
    pub(crate) fn from_byte(byte: u8) -> Option<SubjectId> {
        byte.checked_sub(1).map(SubjectId)
    }

    /// Returns the byte that stands for it in a state.
    pub(crate) fn to_byte(subject: Option<SubjectId>) -> u8 {
        subject.map_or(0, |SubjectId(number)| number + 1)
    }
}

impl Number for SubjectId {
    #[inline]
    fn from_index(index: usize) -> SubjectId {
        SubjectId(byte(index))
    }
    #[inline]
    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A promise that is open: who began it, and in which of his slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PromiseId {
    pub(crate) beginner: Cpu,
    pub(crate) slot: PromiseSlot,
}

impl PromiseId {
    /// Makes it from the word that software knows it by; `None` if no promise has it. 0 is no promise.
    pub(crate) fn from_word(word: u64, cpus: usize) -> Option<PromiseId> {
        let number = usize::try_from(word).ok()?.checked_sub(1)?;
        let (beginner, slot) = (number / MOST_PROMISES, number % MOST_PROMISES);
        (beginner < cpus).then(|| PromiseId {
            beginner: Cpu::from(beginner),
            slot: PromiseSlot::from_index(slot),
        })
    }

    /// Returns the word that software knows it by.
    pub(crate) fn to_word(self) -> u64 {
        (self.beginner.index() * MOST_PROMISES + self.slot.index()) as u64 + 1
    }
}

/// The number of a broadcast invalidation that some CPU has issued.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BroadcastId(u8);

impl BroadcastId {
    #[inline]
    fn bit(self) -> u8 {
        1 << self.0
    }
}

/// The broadcasts that a CPU has still to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BroadcastSet(u8);

impl BroadcastSet {
    pub(crate) const EMPTY: BroadcastSet = BroadcastSet(0);

    #[inline]
    pub(crate) fn from_byte(byte: u8) -> BroadcastSet {
        BroadcastSet(byte)
    }

    #[inline]
    pub(crate) fn to_byte(self) -> u8 {
        self.0
    }

    /// Says whether there is none.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn contains(self, number: BroadcastId) -> bool {
        self.0 & number.bit() != 0
    }

    #[must_use]
    pub(crate) fn with(self, number: BroadcastId) -> BroadcastSet {
        BroadcastSet(self.0 | number.bit())
    }

    #[must_use]
    pub(crate) fn without(self, number: BroadcastId) -> BroadcastSet {
        BroadcastSet(self.0 & !number.bit())
    }

    /// Lists the broadcasts, lowest first.
    pub fn iter(self) -> impl Iterator<Item = BroadcastId> {
        let all = (0..byte(MOST_BROADCASTS)).map(BroadcastId);
        all.filter(move |&number| self.contains(number))
    }
}

/// CPUs, a bit each, as an interrupt's targets are told: there may be one that the machine does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Targets(u64);

impl From<u64> for Targets {
    fn from(bits: u64) -> Targets {
        Targets(bits)
    }
}

impl Targets {
    /// Returns the lowest that is none of so many CPUs.
    pub(crate) fn beyond(self, cpus: usize) -> Option<u32> {
        let beyond = self.0 >> cpus;
        (beyond != 0).then(|| cpus as u32 + beyond.trailing_zeros())
    }

    /// Says whether a CPU is one of them.
    pub(crate) fn contains(self, cpu: Cpu) -> bool {
        self.0 >> cpu.index() & 1 != 0
    }
}

/// # Panics
/// If no program may issue as many.
impl From<usize> for BroadcastId {
    fn from(index: usize) -> BroadcastId {
        assert!(
            index < MOST_BROADCASTS,
            "no broadcast has the number {index}"
        );
        BroadcastId(index as u8)
    }
}

impl Number for BroadcastId {
    fn from_index(index: usize) -> Self {
        BroadcastId::from(index)
    }
    fn index(self) -> usize {
        usize::from(self.0)
    }
}
