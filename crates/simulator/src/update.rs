//! Updates of A and D that a walk has asked for and memory does not show yet (H41).

use crate::memory::Word;
use crate::tlb::TlbEntry;

/// An update that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update {
    /// The page-table entry.
    pub(crate) entry: Word,
    /// What the walk read there.
    pub(crate) read: u64,
    /// The bits to set.
    pub(crate) bits: u64,
    /// What may be cached once they are set (H3).
    pub(crate) fill: Option<TlbEntry>,
}
