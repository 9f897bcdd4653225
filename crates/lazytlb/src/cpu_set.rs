//! CPUs, and sets of them with a capacity fixed at compile time.

/// A CPU's number: dense, from 0, and the same for the CPU's whole life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CpuId(pub u16);

impl CpuId {
    /// Returns the CPU's word in a set, and its bit in that word.
    pub const fn word_and_bit(self) -> (usize, u64) {
        (self.0 as usize / 64, 1 << (self.0 % 64))
    }
}

/// A set of up to `64 * WORDS` CPUs: 8 words hold 512. It lives on the stack and allocates nothing.
///
/// ```
/// use lazytlb::{CpuId, CpuSet};
/// let mut set = CpuSet::<8>::EMPTY;
/// set.insert(CpuId(3));
/// set.insert(CpuId(511));
/// assert!(set.iter().eq([CpuId(3), CpuId(511)]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuSet<const WORDS: usize> {
    words: [u64; WORDS],
}

impl<const WORDS: usize> CpuSet<WORDS> {
    /// The set without a member.
    pub const EMPTY: Self = CpuSet { words: [0; WORDS] };

    /// Makes a set from its words: see [`CpuSet::words`].
    pub const fn from_words(words: [u64; WORDS]) -> Self {
        CpuSet { words }
    }

    /// Adds a CPU.
    ///
    /// # Panics
    /// If the CPU's number is past the capacity.
    pub fn insert(&mut self, cpu: CpuId) {
        let (word, bit) = cpu.word_and_bit();
        assert!(
            word < WORDS,
            "CPU number past the capacity of the set: raise WORDS"
        );
        self.words[word] |= bit;
    }

    /// Adds every member of another set.
    pub fn insert_all(&mut self, other: &CpuSet<WORDS>) {
        for (word, &members) in self.words.iter_mut().zip(&other.words) {
            *word |= members;
        }
    }

    /// Says whether the CPU is a member.
    pub fn contains(&self, cpu: CpuId) -> bool {
        let (word, bit) = cpu.word_and_bit();
        self.words
            .get(word)
            .is_some_and(|members| members & bit != 0)
    }

    /// Says whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// Counts the members.
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Returns the members, lowest number first.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> {
        let words = self.words.iter().enumerate();
        words.flat_map(|(index, &word)| members_of_word(index, word))
    }

    /// Returns the words: bit `n` of word `w` stands for CPU `64 * w + n`.
    pub fn words(&self) -> &[u64; WORDS] {
        &self.words
    }
}

/// Returns the CPUs whose bits are set in word `index` of a set.
pub fn members_of_word(index: usize, mut word: u64) -> impl Iterator<Item = CpuId> {
    core::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(CpuId((index * 64) as u16 + bit as u16))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_remembers_members_in_every_word() {
        let mut set = CpuSet::<8>::EMPTY;
        for cpu in [0, 63, 64, 200, 511] {
            assert!(!set.contains(CpuId(cpu)));
            set.insert(CpuId(cpu));
            assert!(set.contains(CpuId(cpu)));
        }
        assert_eq!(set.len(), 5);
        assert!(set.iter().eq([0, 63, 64, 200, 511].map(CpuId)));
        assert!(
            !set.contains(CpuId(600)),
            "past the capacity nobody is a member"
        );
    }

    #[test]
    #[should_panic(expected = "raise WORDS")]
    fn inserting_past_the_capacity_panics() {
        CpuSet::<1>::EMPTY.clone_with(CpuId(64));
    }

    impl<const WORDS: usize> CpuSet<WORDS> {
        fn clone_with(mut self, cpu: CpuId) -> Self {
            self.insert(cpu);
            self
        }
    }
}
