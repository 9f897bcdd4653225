//! Sets of numbered translations: how many there can be is decided here.

use std::sync::{Mutex, PoisonError};

use crate::index::{Number, Offset, TranslationId};

/// A set of translations, by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct TranslationSet(u64);

impl TranslationSet {
    pub(crate) const EMPTY: TranslationSet = TranslationSet(0);
    /// Translations that a program can bring forth: a bit each.
    pub(crate) const MOST: usize = u64::BITS as usize;
    /// Bytes that a set takes in a state.
    pub(crate) const LEN: usize = size_of::<u64>();

    #[inline]
    fn bit(number: TranslationId) -> u64 {
        1 << number.index()
    }

    #[inline]
    pub(crate) fn contains(self, number: TranslationId) -> bool {
        self.0 & Self::bit(number) != 0
    }

    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline]
    #[must_use]
    pub(crate) fn with(self, number: TranslationId) -> TranslationSet {
        TranslationSet(self.0 | Self::bit(number))
    }

    #[inline]
    #[must_use]
    pub(crate) fn union(self, other: TranslationSet) -> TranslationSet {
        TranslationSet(self.0 | other.0)
    }

    #[inline]
    #[must_use]
    pub(crate) fn intersection(self, other: TranslationSet) -> TranslationSet {
        TranslationSet(self.0 & other.0)
    }

    #[inline]
    #[must_use]
    pub(crate) fn without(self, other: TranslationSet) -> TranslationSet {
        TranslationSet(self.0 & !other.0)
    }

    /// Returns the members that pass a test.
    #[inline]
    #[must_use]
    pub(crate) fn filter(self, keeps: impl Fn(TranslationId) -> bool) -> TranslationSet {
        self.iter().filter(|&number| keeps(number)).collect()
    }

    /// Returns the lowest member.
    #[inline]
    pub(crate) fn lowest(self) -> Option<TranslationId> {
        (self.0 != 0).then(|| TranslationId::from_index(self.0.trailing_zeros() as usize))
    }

    /// Lists the members, lowest first.
    #[inline]
    pub(crate) fn iter(self) -> impl Iterator<Item = TranslationId> {
        let mut left = self;
        std::iter::from_fn(move || {
            let lowest = left.lowest()?;
            left.0 &= left.0 - 1;
            Some(lowest)
        })
    }

    /// Reads a set from where it lies in a state.
    #[inline]
    pub(crate) fn read(state: &[u8], at: Offset) -> TranslationSet {
        let at = at.bytes();
        let bytes = state[at..at + Self::LEN].try_into();
        TranslationSet(u64::from_le_bytes(
            bytes.expect("the slice has that length"),
        ))
    }

    /// Writes a set to where it lies in a state.
    #[inline]
    pub(crate) fn write(self, state: &mut [u8], at: Offset) {
        let at = at.bytes();
        state[at..at + Self::LEN].copy_from_slice(&self.0.to_le_bytes());
    }
}

/// A set of translations that threads share, and that only grows.
#[derive(Debug, Default)]
pub(crate) struct SharedTranslations(Mutex<TranslationSet>);

impl SharedTranslations {
    pub(crate) fn get(&self) -> TranslationSet {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, more: TranslationSet) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *all = all.union(more);
    }
}

impl FromIterator<TranslationId> for TranslationSet {
    #[inline]
    fn from_iter<I: IntoIterator<Item = TranslationId>>(numbers: I) -> TranslationSet {
        numbers
            .into_iter()
            .fold(TranslationSet::EMPTY, TranslationSet::with)
    }
}
