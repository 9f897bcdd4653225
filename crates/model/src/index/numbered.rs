//! What is numbered in the order in which it turns up.

/// A number that things are numbered by, in the order in which they turn up.
pub(crate) trait Number: Copy {
    /// Makes the number of the thing that turned up after `index` others.
    fn from_index(index: usize) -> Self;
    /// Returns how many things turned up before.
    fn index(self) -> usize;
}

/// Makes the byte of a number.
pub(super) fn byte(index: usize) -> u8 {
    u8::try_from(index).expect("the numberings are bounded, so that a number fits into a byte")
}

/// The number of a [`Translation`](crate::Translation).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct TranslationId(u8);

impl TranslationId {
    /// Makes it from the byte that stands for it in a state.
    #[inline]
    pub(crate) fn from_byte(byte: u8) -> TranslationId {
        TranslationId(byte)
    }

    /// Returns the byte that stands for it in a state.
    #[inline]
    pub(crate) fn to_byte(self) -> u8 {
        self.0
    }

    /// Makes it from the byte that stands for it in a state where there may be none: 0 stands for that.
    pub(crate) fn from_byte_or_none(byte: u8) -> Option<TranslationId> {
        byte.checked_sub(1).map(TranslationId)
    }

    /// Returns the byte that stands for it in a state where there may be none.
    pub(crate) fn to_byte_or_none(number: Option<TranslationId>) -> u8 {
        number.map_or(0, |TranslationId(number)| number + 1)
    }
}

impl Number for TranslationId {
    #[inline]
    fn from_index(index: usize) -> Self {
        TranslationId(byte(index))
    }
    #[inline]
    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The number of a store that may wait untranslated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LateStoreId(u8);

impl LateStoreId {
    /// Makes it from the byte that stands for it in a state.
    pub(crate) fn from_byte(byte: u8) -> LateStoreId {
        LateStoreId(byte)
    }

    /// Returns the byte that stands for it in a state.
    pub(crate) fn to_byte(self) -> u8 {
        self.0
    }
}

impl Number for LateStoreId {
    fn from_index(index: usize) -> Self {
        LateStoreId(byte(index))
    }
    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The number of a set of words to which a store that waits untranslated cannot go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PassedId(u8);

impl PassedId {
    /// Makes it from the byte that stands for it in a state.
    pub(crate) fn from_byte(byte: u8) -> PassedId {
        PassedId(byte)
    }

    /// Returns the byte that stands for it in a state.
    pub(crate) fn to_byte(self) -> u8 {
        self.0
    }
}

impl Number for PassedId {
    fn from_index(index: usize) -> Self {
        PassedId(byte(index))
    }
    fn index(self) -> usize {
        usize::from(self.0)
    }
}
