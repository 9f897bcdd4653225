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
    /// Software has written the entry since the walk read it.
    pub(crate) is_overtaken: bool,
    /// Software has replaced the entry since: from then on it is another one, also if it comes to look alike.
    pub(crate) is_replaced: bool,
    /// The entry had lost W and was written once more: it has not *just* lost W (H42).
    pub(crate) is_too_late: bool,
    /// What may be cached once they are set (H3).
    pub(crate) fill: Option<TlbEntry>,
}
