//! A store that waits untranslated, and where it cannot go any more: `late.rs` has the rules (H41).

use lazytlb::VirtAddr;

use crate::byte_mask::ByteMask;
use crate::call::Privilege;
use crate::values::ValueCode;

/// A store that waits untranslated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LateStore {
    pub(crate) addr: VirtAddr,
    pub(crate) privilege: Privilege,
    pub(crate) bytes: ByteMask,
    pub(crate) value: ValueCode,
}

/// The words to which a late store cannot go any more: a bit each, in the order of the pages' words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct PassedWords(pub(crate) u64);

impl PassedWords {
    /// Late stores that differ, and sets of words that they cannot go to: each has a number in a byte.
    pub(crate) const MOST: usize = u8::MAX as usize + 1;
}
