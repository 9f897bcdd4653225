//! Frames, and what page tables are made of: levels, indices, entries, and the tags of what is cached.

use std::fmt;
use std::num::NonZeroU8;

use lazytlb::{PageSize, PhysAddr, VirtAddr};

use crate::limit::MOST_LEVELS;

/// A frame of memory, by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Frame(u8);

impl Frame {
    /// Stands for none, where that needs no telling apart.
    pub(crate) const ZERO: Frame = Frame(0);

    /// Returns the frame at an address; `None` past all that the model has numbers for.
    #[inline]
    pub(crate) fn at(addr: PhysAddr) -> Option<Frame> {
        let number = addr.0 >> PageSize::Size4K.shift();
        u8::try_from(number).ok().map(Frame)
    }

    /// Returns the frame's address.
    pub fn addr(self) -> PhysAddr {
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
    pub fn number(self) -> u16 {
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

/// The tag of a cached entry: the PCID that it was cached under (H2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PcidTag(u8);

impl PcidTag {
    /// PCIDs that have a tag.
    pub(crate) const COUNT: usize = u8::MAX as usize + 1;
    /// The PCID of everything while CR4.PCIDE is clear (H1).
    pub const ZERO: PcidTag = PcidTag(0);

    /// Returns the byte that stands for it in a state: its number.
    #[inline]
    pub fn to_byte(self) -> u8 {
        self.0
    }
}

impl From<u8> for PcidTag {
    #[inline]
    fn from(pcid: u8) -> PcidTag {
        PcidTag(pcid)
    }
}
