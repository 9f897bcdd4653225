//! Physical memory: words of eight bytes.

/// A frame of physical memory, by the address at which it starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Frame(pub(crate) u64);

/// A word of physical memory, by its address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Word(u64);

impl Word {
    /// Returns the word that holds the byte at an offset into a frame.
    pub(crate) fn at(frame: Frame, offset: u64) -> Word {
        Word(frame.0 + (offset & 0xff8))
    }

    /// Returns an entry of a table.
    pub(crate) fn entry(table: Frame, index: u64) -> Word {
        Word::at(table, 8 * index)
    }

    /// Returns its address.
    pub(crate) fn address(self) -> u64 {
        self.0
    }

    /// Returns the frame that it lies in.
    pub(crate) fn frame(self) -> Frame {
        Frame(self.0 & !0xfff)
    }
}

/// Some bytes of a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bytes {
    /// How far into the word they begin, in bytes.
    pub(crate) offset: u32,
    /// How many they are.
    pub(crate) count: u32,
}

impl Bytes {
    /// Returns the bits of a register that hold so many bytes.
    pub(crate) fn register_mask(self) -> u64 {
        match self.count {
            8.. => u64::MAX,
            count => (1 << (8 * count)) - 1,
        }
    }

    /// Takes the bytes out of a word.
    pub(crate) fn of(self, word: u64) -> u64 {
        word >> (8 * self.offset) & self.register_mask()
    }

    /// Returns a word with the bytes replaced.
    pub(crate) fn replaced(self, word: u64, value: u64) -> u64 {
        let mask = self.register_mask() << (8 * self.offset);
        word & !mask | value << (8 * self.offset) & mask
    }
}

/// What every CPU sees in the end. A word that nobody wrote is 0.
#[derive(Clone, Default, Debug)]
pub(crate) struct Memory {
    words: Vec<(Word, u64)>,
}

impl Memory {
    /// Reads a word.
    pub(crate) fn read(&self, word: Word) -> u64 {
        let found = self.words.binary_search_by_key(&word, |(at, _)| *at);
        found.map_or(0, |index| self.words[index].1)
    }

    /// Writes a word.
    pub(crate) fn write(&mut self, word: Word, value: u64) {
        match self.words.binary_search_by_key(&word, |(at, _)| *at) {
            Ok(index) => self.words[index].1 = value,
            Err(index) => self.words.insert(index, (word, value)),
        }
    }
}
