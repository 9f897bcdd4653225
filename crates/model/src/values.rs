//! 64-bit values in a byte: small ones stand for themselves, others are numbered as they turn up.

use crate::index::Number;
use crate::limit::Limit;
use crate::numbering::Numbering;

/// A byte that stands for a 64-bit value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ValueCode(u8);

impl ValueCode {
    /// Stands for 0.
    pub(crate) const ZERO: ValueCode = ValueCode(0);

    /// Makes it from a byte of a state.
    #[inline]
    pub(crate) fn from_byte(byte: u8) -> ValueCode {
        ValueCode(byte)
    }

    /// Returns the byte that a state has for it.
    #[inline]
    pub(crate) fn to_byte(self) -> u8 {
        self.0
    }
}

/// The values that codes stand for.
#[derive(Debug)]
pub(crate) struct Values {
    large: Numbering<LargeValueId, u64>,
}

/// The number of a large value.
#[derive(Clone, Copy, Debug)]
struct LargeValueId(u8);

impl Number for LargeValueId {
    fn from_index(index: usize) -> Self {
        LargeValueId(u8::try_from(index).expect("there are fewer than MOST_LARGE"))
    }
    #[inline]
    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Codes from here on are numbers of large values.
const FIRST_LARGE: u8 = 160;
/// Large values that fit.
const MOST_LARGE: u8 = u8::MAX - FIRST_LARGE + 1;

impl Values {
    /// Values that stand for themselves.
    pub(crate) const SMALL: usize = FIRST_LARGE as usize;
    /// Others that fit.
    pub(crate) const MOST_LARGE: usize = MOST_LARGE as usize;

    pub(crate) fn new() -> Self {
        Values {
            large: Numbering::new("distinct large values", Self::MOST_LARGE),
        }
    }

    #[inline]
    pub(crate) fn encode(&self, value: u64) -> Result<ValueCode, Limit> {
        if value < u64::from(FIRST_LARGE) {
            return Ok(ValueCode(value as u8));
        }
        Ok(ValueCode(FIRST_LARGE + self.large.number(&value)?.0))
    }

    #[inline]
    pub(crate) fn decode(&self, code: ValueCode) -> u64 {
        match code.0.checked_sub(FIRST_LARGE) {
            None => u64::from(code.0),
            Some(number) => *self.large.get(LargeValueId(number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_their_code() {
        let values = Values::new();
        for value in [0, 1, 159, 160, 161, u64::MAX, 0x3003, 160] {
            let code = values.encode(value).unwrap();
            assert_eq!(values.decode(code), value);
        }
    }

    #[test]
    fn too_many_large_values_are_a_limit_and_not_a_panic() {
        let values = Values::new();
        let first_refused = (1000..2000).position(|value| values.encode(value).is_err());
        assert_eq!(first_refused, Some(96));
    }
}
