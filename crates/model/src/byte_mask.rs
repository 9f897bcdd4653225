//! Which bytes of a word are meant.

/// Some of a word's eight bytes, a bit each, and never none.
///
/// People write all of them as `0xff`, or as 0: an access of no byte would be none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ByteMask(u8);

impl ByteMask {
    /// The whole word.
    pub(crate) const ALL: ByteMask = ByteMask(u8::MAX);

    /// Says whether the whole word is meant.
    #[inline]
    pub(crate) fn is_all(self) -> bool {
        self == ByteMask::ALL
    }

    /// Returns the byte that stands for it in a state.
    #[inline]
    pub(crate) fn to_byte(self) -> u8 {
        self.0
    }

    /// Returns the bytes of both.
    pub(crate) fn union(self, other: ByteMask) -> ByteMask {
        ByteMask(self.0 | other.0)
    }

    /// Returns the bits of a word that the bytes have.
    #[inline]
    pub(crate) fn bits(self) -> u64 {
        if self.is_all() {
            return u64::MAX;
        }
        (0..8)
            .filter(|byte| self.0 >> byte & 1 != 0)
            .fold(0, |bits, byte| bits | 0xff << (8 * byte))
    }

    /// Returns how far the lowest byte lies from the word's low end, in bits.
    pub(crate) fn shift(self) -> u32 {
        8 * self.0.trailing_zeros()
    }

    /// Puts these bytes of `new` into `word`.
    #[inline]
    pub(crate) fn merge(self, word: u64, new: u64) -> u64 {
        let bits = self.bits();
        word & !bits | new & bits
    }
}

impl From<u8> for ByteMask {
    #[inline]
    fn from(bytes: u8) -> ByteMask {
        match bytes {
            0 => ByteMask::ALL,
            _ => ByteMask(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_are_one_mask_however_they_are_written() {
        assert_eq!(ByteMask::from(0), ByteMask::from(0xff));
        assert_eq!(ByteMask::from(0).shift(), 0);
        assert_eq!(ByteMask::ALL.merge(0x1111, 0x2222), 0x2222);
    }

    #[test]
    fn a_merge_changes_the_named_bytes_alone() {
        assert_eq!(ByteMask::from(0b10).merge(0x1111, 0x2222), 0x2211);
        assert_eq!(ByteMask::from(0b10).shift(), 8);
    }
}
