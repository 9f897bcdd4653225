//! Page-table entries: the bits that the manual gives them.

use lazytlb_litmus_syntax::{Caching, EntryLiteral, Field};

use crate::memory::Frame;

/// P: the entry is in use.
pub(crate) const PRESENT: u64 = 1;
/// R/W.
pub(crate) const WRITABLE: u64 = 1 << 1;
/// U/S.
pub(crate) const USER: u64 = 1 << 2;
/// PWT, here for write-combining memory: what PAT makes of it is the software's choice.
const PWT: u64 = 1 << 3;
/// PCD, here for uncached memory.
const PCD: u64 = 1 << 4;
/// A.
pub(crate) const ACCESSED: u64 = 1 << 5;
/// D.
pub(crate) const DIRTY: u64 = 1 << 6;
/// PS.
pub(crate) const LARGE: u64 = 1 << 7;
/// G.
pub(crate) const GLOBAL: u64 = 1 << 8;
/// NX.
pub(crate) const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The level of the PTEs; each level above counts one more.
pub(crate) const PTE: u8 = 1;
/// The level of the PDPTEs: the highest that can map a page.
const PDPTE: u8 = 3;

/// What an entry of a level says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// P=0, or a reserved bit: a walk ends in a page fault, and nothing is cached (H3).
    Unusable,
    /// The next table.
    Table(Frame),
    /// A page.
    Page(Frame),
}

/// Returns the frame that an entry names.
pub(crate) fn frame(entry: u64) -> Frame {
    Frame(entry & ADDRESS)
}

/// Reads an entry of a level. PS is reserved above the PDPTEs (H3), and PAT in a PTE.
pub(crate) fn kind(entry: u64, level: u8) -> Kind {
    let is_large = entry & LARGE != 0;
    match level {
        _ if entry & PRESENT == 0 => Kind::Unusable,
        PTE => Kind::Page(frame(entry)),
        2..=PDPTE if is_large => Kind::Page(frame(entry)),
        _ if is_large => Kind::Unusable,
        _ => Kind::Table(frame(entry)),
    }
}

/// Returns how a page's memory is cached.
pub(crate) fn caching(entry: u64) -> Caching {
    match (entry & PCD != 0, entry & PWT != 0) {
        (true, _) => Caching::Uncacheable,
        (false, true) => Caching::WriteCombining,
        (false, false) => Caching::WriteBack,
    }
}

/// Counts the bits of an address below what an entry of a level covers.
pub(crate) fn span_bits(level: u8) -> u32 {
    12 + 9 * (u32::from(level) - 1)
}

/// Returns which entry of a table of a level translates an address.
pub(crate) fn index(address: u64, level: u8) -> u64 {
    address >> span_bits(level) & 511
}

/// The fields of one bit, in the order in which final states show them.
const FLAGS: [(Field, u64); 8] = [
    (Field::Valid, PRESENT),
    (Field::Writable, WRITABLE),
    (Field::User, USER),
    (Field::Accessed, ACCESSED),
    (Field::Dirty, DIRTY),
    (Field::PageSize, LARGE),
    (Field::Global, GLOBAL),
    (Field::NoExecute, NO_EXECUTE),
];

fn is_set(literal: &EntryLiteral, field: Field) -> bool {
    match field {
        Field::Valid => literal.valid,
        Field::Writable => literal.writable,
        Field::User => literal.user,
        Field::Accessed => literal.accessed,
        Field::Dirty => literal.dirty,
        Field::PageSize => literal.page_size,
        Field::Global => literal.global,
        Field::NoExecute => literal.no_execute,
        Field::Oa | Field::Type => false,
    }
}

/// Writes an entry that refers to a frame.
pub(crate) fn written(literal: &EntryLiteral, frame: Frame) -> u64 {
    let flags = FLAGS.iter().filter(|(field, _)| is_set(literal, *field));
    let whole = frame.0 | bits_of(literal.memory_type);
    flags.fold(whole, |entry, (_, bit)| entry | bit)
}

/// Returns the bits of a field.
pub(crate) fn mask(field: Field) -> u64 {
    match field {
        Field::Oa => ADDRESS,
        Field::Type => PWT | PCD,
        _ => FLAGS
            .iter()
            .find(|(known, _)| *known == field)
            .map_or(0, |(_, bit)| *bit),
    }
}

/// Returns the bits by which an entry selects a memory type.
pub(crate) fn bits_of(caching: Caching) -> u64 {
    match caching {
        Caching::WriteBack => 0,
        Caching::WriteCombining => PWT,
        Caching::Uncacheable => PCD,
    }
}

/// Lists the flags that are set.
pub(crate) fn set_flags(entry: u64) -> impl Iterator<Item = Field> {
    let set = FLAGS.iter().filter(move |(_, bit)| entry & bit != 0);
    set.map(|(field, _)| *field)
}

/// Lists the flags that are not as in an entry of which nothing but the frame is said.
pub(crate) fn unusual_flags(entry: u64) -> impl Iterator<Item = (Field, bool)> {
    let usual = EntryLiteral::default();
    let flags = FLAGS
        .iter()
        .map(move |(field, bit)| (*field, entry & bit != 0));
    flags.filter(move |(field, set)| *set != is_set(&usual, *field))
}
