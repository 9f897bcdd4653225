//! Page-table entries: what their bits say.
//!
//! Source: SDM 3A, "Paging", the formats of the entries; the memory types as Linux programs the PAT.

use lazytlb::Entry;

use crate::index::Level;

/// Bits of an entry, by their names in the manuals.
pub mod bits {
    /// P: the entry translates.
    pub const PRESENT: u64 = 1;
    /// R/W: writes are allowed.
    pub const WRITABLE: u64 = 1 << 1;
    /// U/S: user mode may use it.
    pub const USER: u64 = 1 << 2;
    /// PWT: the PAT's low index bit; here write-combining.
    pub const WRITE_THROUGH: u64 = 1 << 3;
    /// PCD: the PAT's middle index bit; here uncached.
    pub const CACHE_DISABLE: u64 = 1 << 4;
    /// A: a walk has used the entry.
    pub const ACCESSED: u64 = 1 << 5;
    /// D: the page was written.
    pub const DIRTY: u64 = 1 << 6;
    /// PS: the entry maps a large page.
    pub const LARGE: u64 = 1 << 7;
    /// G: the translation is usable under every PCID.
    pub const GLOBAL: u64 = 1 << 8;
    /// XD: instructions must not be fetched.
    pub const NO_EXECUTE: u64 = 1 << 63;
    /// What the model keeps in a bit that software may use (52): a speculative walk may have set A, or
    /// may not. Software never sees it.
    pub(crate) const MAYBE_ACCESSED: u64 = 1 << 52;
}

/// How a page's memory is cached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum MemoryType {
    /// Write-back: ordinary, coherent, read speculatively.
    WriteBack,
    /// Write-combining: stores wait in buffers that nobody snoops.
    WriteCombining,
    /// Uncached: each access goes to memory, in order.
    Uncached,
}

impl MemoryType {
    /// Returns the name that people type.
    pub const fn name(self) -> &'static str {
        match self {
            MemoryType::WriteBack => "wb",
            MemoryType::WriteCombining => "wc",
            MemoryType::Uncached => "uc",
        }
    }

    /// Returns an entry's bits for the type.
    pub const fn bits(self) -> u64 {
        match self {
            MemoryType::WriteBack => 0,
            MemoryType::WriteCombining => bits::WRITE_THROUGH,
            MemoryType::Uncached => bits::CACHE_DISABLE | bits::WRITE_THROUGH,
        }
    }
}

/// What an entry that was read in a table of some level is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EntryKind {
    /// P = 0, or a reserved bit is set: nothing is cached (H3).
    Invalid,
    /// Leads to a table of this level, the one below.
    Table(Level),
    /// Maps a page.
    Leaf,
}

/// The highest level at which an entry may map a page: 1 GiB.
const LARGEST_PAGE_LEVEL: u8 = 3;

/// Says what an entry is that was read in a table of this level.
#[inline]
pub(crate) fn kind(entry: Entry, level: Level) -> EntryKind {
    if entry.0 & bits::PRESENT == 0 {
        return EntryKind::Invalid;
    }
    match (level.below(), entry.0 & bits::LARGE != 0) {
        (None, _) => EntryKind::Leaf,
        (Some(below), false) => EntryKind::Table(below),
        (Some(_), true) if level.number() <= LARGEST_PAGE_LEVEL => EntryKind::Leaf,
        // H3: the bit is reserved further up.
        (Some(_), true) => EntryKind::Invalid,
    }
}

/// Says whether a bit is set.
pub(crate) fn has(entry: Entry, bit: u64) -> bool {
    entry.0 & bit != 0
}

/// Returns the memory type that a leaf gives its page.
pub(crate) fn memory_type(entry: Entry) -> MemoryType {
    match (
        has(entry, bits::CACHE_DISABLE),
        has(entry, bits::WRITE_THROUGH),
    ) {
        (false, false) => MemoryType::WriteBack,
        (false, true) => MemoryType::WriteCombining,
        (true, _) => MemoryType::Uncached,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_page_is_a_leaf_only_where_the_cpu_knows_one() {
        let large = Entry(bits::PRESENT | bits::LARGE);
        let kinds: Vec<EntryKind> = (1..=5)
            .map(|level| kind(large, Level::from(level)))
            .collect();
        let (leaf, invalid) = (EntryKind::Leaf, EntryKind::Invalid);
        assert_eq!(kinds, [leaf, leaf, leaf, invalid, invalid]);
        assert_eq!(
            kind(Entry(bits::PRESENT), Level::from(4)),
            EntryKind::Table(Level::from(3))
        );
        assert_eq!(kind(Entry(bits::LARGE), Level::from(2)), EntryKind::Invalid);
    }

    #[test]
    fn each_memory_type_survives_its_bits() {
        for wanted in [
            MemoryType::WriteBack,
            MemoryType::WriteCombining,
            MemoryType::Uncached,
        ] {
            assert_eq!(memory_type(Entry(bits::PRESENT | wanted.bits())), wanted);
        }
    }
}
