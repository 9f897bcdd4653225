//! Sets of numbered translations: how many there can be is decided here.

use std::sync::{Mutex, PoisonError};

use crate::index::{Number, Offset, TranslationId};

/// A set of translations, by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct TranslationSet(u128);

impl TranslationSet {
    pub(crate) const EMPTY: TranslationSet = TranslationSet(0);

    #[inline]
    fn bit(number: TranslationId) -> u128 {
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
    pub(crate) fn read(state: &[u8], at: Offset, width: SetWidth) -> TranslationSet {
        let bytes = &state[at.bytes()..];
        TranslationSet(match width {
            SetWidth::Narrow => u64::from_le_bytes(first(bytes)).into(),
            SetWidth::Wide => u128::from_le_bytes(first(bytes)),
        })
    }

    /// Writes a set to where it lies in a state.
    #[inline]
    pub(crate) fn write(self, state: &mut [u8], at: Offset, width: SetWidth) {
        let len = width.len();
        state[at.bytes()..][..len].copy_from_slice(&self.0.to_le_bytes()[..len]);
    }
}

/// How many translations a program can bring forth: each has a bit in every set of a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SetWidth {
    /// What programs with an end need.
    Narrow,
    /// What those need whose operations may be started for ever.
    Wide,
}

impl SetWidth {
    /// Returns the bytes that a set takes in a state.
    #[inline]
    pub(crate) const fn len(self) -> usize {
        match self {
            SetWidth::Narrow => size_of::<u64>(),
            SetWidth::Wide => size_of::<u128>(),
        }
    }

    /// Returns the most translations.
    pub(crate) const fn most(self) -> usize {
        8 * self.len()
    }
}

/// Returns the first bytes of a slice, which has as many.
#[inline]
fn first<const LEN: usize>(bytes: &[u8]) -> [u8; LEN] {
    let bytes = bytes.first_chunk();
    *bytes.expect("a set lies in a state as a whole")
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
