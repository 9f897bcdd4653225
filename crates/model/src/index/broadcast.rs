//! Invalidations that were broadcast, and sets of them.

use super::numbered::{Number, byte};
use crate::limit::MOST_BROADCASTS;

/// The number of a broadcast invalidation that some CPU has issued.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BroadcastId(u8);

impl BroadcastId {
    /// Returns the number.
    pub const fn to_byte(self) -> u8 {
        self.0
    }

    #[inline]
    fn bit(self) -> u8 {
        1 << self.0
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
