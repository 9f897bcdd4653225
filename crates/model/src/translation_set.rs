//! Sets of numbered translations: how many there can be is decided here.

use std::sync::{Mutex, PoisonError};

use crate::index::{Number, Offset, TranslationId};

/// A set of translations, by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct TranslationSet {
    /// A bit for each of the lowest numbers: most programs have no others.
    low: u128,
    high: u128,
}

impl TranslationSet {
    pub(crate) const EMPTY: TranslationSet = TranslationSet { low: 0, high: 0 };

    #[inline]
    fn of(number: TranslationId) -> TranslationSet {
        let (bit, is_low) = (1 << (number.index() % LOW), number.index() < LOW);
        TranslationSet {
            low: if is_low { bit } else { 0 },
            high: if is_low { 0 } else { bit },
        }
    }

    #[inline]
    pub(crate) fn contains(self, number: TranslationId) -> bool {
        !self.intersection(Self::of(number)).is_empty()
    }

    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.low | self.high == 0
    }

    #[inline]
    #[must_use]
    pub(crate) fn with(self, number: TranslationId) -> TranslationSet {
        self.union(Self::of(number))
    }

    #[inline]
    #[must_use]
    pub(crate) fn union(self, other: TranslationSet) -> TranslationSet {
        TranslationSet {
            low: self.low | other.low,
            high: self.high | other.high,
        }
    }

    #[inline]
    #[must_use]
    pub(crate) fn intersection(self, other: TranslationSet) -> TranslationSet {
        TranslationSet {
            low: self.low & other.low,
            high: self.high & other.high,
        }
    }

    #[inline]
    #[must_use]
    pub(crate) fn without(self, other: TranslationSet) -> TranslationSet {
        TranslationSet {
            low: self.low & !other.low,
            high: self.high & !other.high,
        }
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
        let lowest = match self.low {
            0 if self.high == 0 => return None,
            0 => LOW + self.high.trailing_zeros() as usize,
            low => low.trailing_zeros() as usize,
        };
        Some(TranslationId::from_index(lowest))
    }

    /// Lists the members, lowest first.
    #[inline]
    pub(crate) fn iter(self) -> impl Iterator<Item = TranslationId> {
        let mut left = self;
        std::iter::from_fn(move || {
            let lowest = left.lowest()?;
            match left.low {
                0 => left.high &= left.high - 1,
                _ => left.low &= left.low - 1,
            }
            Some(lowest)
        })
    }

    /// Reads a set from where it lies in a state.
    #[inline]
    pub(crate) fn read(state: &[u8], at: Offset, width: SetWidth) -> TranslationSet {
        let bytes = &state[at.bytes()..];
        match width {
            SetWidth::Narrow => TranslationSet {
                low: u64::from_le_bytes(first(bytes)).into(),
                high: 0,
            },
            SetWidth::Wide => TranslationSet {
                low: u128::from_le_bytes(first(bytes)),
                high: u128::from_le_bytes(first(&bytes[LOW / 8..])),
            },
        }
    }

    /// Writes a set to where it lies in a state.
    #[inline]
    pub(crate) fn write(self, state: &mut [u8], at: Offset, width: SetWidth) {
        let bytes = &mut state[at.bytes()..][..width.len()];
        match width {
            SetWidth::Narrow => bytes.copy_from_slice(&self.low.to_le_bytes()[..width.len()]),
            SetWidth::Wide => {
                let (low, high) = bytes.split_at_mut(LOW / 8);
                low.copy_from_slice(&self.low.to_le_bytes());
                high.copy_from_slice(&self.high.to_le_bytes());
            }
        }
    }
}

/// Members with a bit in the lower half.
const LOW: usize = u128::BITS as usize;

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
            SetWidth::Wide => 2 * size_of::<u128>(),
        }
    }

    /// Returns the most translations. Where a byte of a state tells one or none, it tells no more than 255.
    pub(crate) const fn most(self) -> usize {
        match self {
            SetWidth::Narrow => 8 * self.len(),
            SetWidth::Wide => u8::MAX as usize,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbering::Numbering;

    #[test]
    fn each_number_that_is_given_is_told_from_none_and_the_next_is_a_limit() {
        let most = SetWidth::Wide.most();
        let numbers: Numbering<TranslationId, usize> = Numbering::new("translations", most);
        for thing in 0..most {
            let number = numbers.number(&thing).expect("it fits");
            let byte = TranslationId::to_byte_or_none(Some(number));
            assert_eq!(TranslationId::from_byte_or_none(byte), Some(number));
            let mut state = [0; SetWidth::Wide.len()];
            let set = TranslationSet::of(number);
            set.write(&mut state, Offset::at(0), SetWidth::Wide);
            let read = TranslationSet::read(&state, Offset::at(0), SetWidth::Wide);
            assert!(read == set && read.contains(number));
        }
        assert_eq!(numbers.number(&most).expect_err("it does not").most, most);
    }
}
