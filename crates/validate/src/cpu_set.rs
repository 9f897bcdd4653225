//! A set of CPUs.

use std::fmt::Debug;

use lazytlb_trace::MAX_CPUS;

/// Words of the CPUs from 64 on.
const MORE: usize = MAX_CPUS as usize / 64 - 1;

/// CPUs, by their numbers in the recording. Few machines have more than 64, and sets are made by the flush: those of so few
/// are a word, and either nothing else, by type, or one that says that there are no more.
#[derive(Clone, Debug, Default)]
pub(crate) struct CpuSet<N> {
    first: u64,
    /// The words of CPUs from 64 on.
    more: N,
}

/// How many CPUs a recording may have.
pub(crate) trait HowMany: Clone + Debug + Default {
    /// Their numbers are below.
    const END: usize;

    /// Returns the words of CPUs from 64 on, as far as there are any.
    fn words(&self) -> &[u64];

    /// The same, to change what they have.
    fn words_mut(&mut self) -> &mut [u64];

    /// The same, all of them.
    fn all_words_mut(&mut self) -> &mut [u64];
}

/// All are below 64. A set is copied as a number is, and nothing of it is ever freed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Few;

impl HowMany for Few {
    const END: usize = 64;

    #[inline]
    fn words(&self) -> &[u64] {
        &[]
    }

    #[inline]
    fn words_mut(&mut self) -> &mut [u64] {
        &mut []
    }

    #[inline]
    fn all_words_mut(&mut self) -> &mut [u64] {
        &mut []
    }
}

/// They are below [`MAX_CPUS`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Many(Option<Box<[u64; MORE]>>);

impl HowMany for Many {
    const END: usize = MAX_CPUS as usize;

    #[inline]
    fn words(&self) -> &[u64] {
        self.0.as_ref().map_or(&[], |words| &words[..])
    }

    #[inline]
    fn words_mut(&mut self) -> &mut [u64] {
        self.0.as_mut().map_or(&mut [], |words| &mut words[..])
    }

    #[cold]
    fn all_words_mut(&mut self) -> &mut [u64] {
        &mut self.0.get_or_insert_with(|| Box::new([0; MORE]))[..]
    }
}

impl<N: HowMany> CpuSet<N> {
    /// Returns the CPUs below 64 whose bits are set.
    pub(crate) fn of_first_word(first: u64) -> Self {
        CpuSet {
            first,
            more: N::default(),
        }
    }

    /// Adds a CPU.
    #[inline]
    pub(crate) fn insert(&mut self, cpu: u16) {
        match place(cpu) {
            (None, bit) => self.first |= bit,
            (Some(word), bit) => {
                if let Some(word) = self.more.all_words_mut().get_mut(word) {
                    *word |= bit;
                }
            }
        }
    }

    /// Takes a CPU out.
    #[inline]
    pub(crate) fn remove(&mut self, cpu: u16) {
        match place(cpu) {
            (None, bit) => self.first &= !bit,
            (Some(word), bit) => {
                if let Some(word) = self.more.words_mut().get_mut(word) {
                    *word &= !bit;
                }
            }
        }
    }

    /// Returns whether a CPU is in.
    #[inline]
    pub(crate) fn contains(&self, cpu: u16) -> bool {
        match place(cpu) {
            (None, bit) => self.first & bit != 0,
            (Some(word), bit) => {
                let word = self.more.words().get(word);
                word.is_some_and(|word| word & bit != 0)
            }
        }
    }

    /// Returns whether no CPU is in.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first == 0 && self.more.words().iter().all(|word| *word == 0)
    }

    /// Returns whether no CPU but this one is in.
    #[inline]
    pub(crate) fn is_empty_without(&self, cpu: u16) -> bool {
        match (self.more.words(), place(cpu)) {
            ([], (None, bit)) => self.first & !bit == 0,
            _ => self.iter().all(|other| other == cpu),
        }
    }

    /// Returns how many CPUs are in.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        match self.is_empty() {
            true => 0,
            false => self.count(),
        }
    }

    /// Counts bits. Not inlined: most sets have none, and inlined the bits of those are counted, too.
    #[inline(never)]
    fn count(&self) -> u64 {
        let more = self.more.words().iter();
        let more = more.map(|word| u64::from(word.count_ones()));
        u64::from(self.first.count_ones()) + more.sum::<u64>()
    }

    /// Returns the CPUs in ascending order.
    #[inline]
    pub(crate) fn iter(&self) -> Iter<'_> {
        Iter {
            word: self.first,
            number_of_its_first: 0,
            more: self.more.words().iter(),
        }
    }

    /// Adds all CPUs of another set.
    #[inline]
    pub(crate) fn extend(&mut self, other: &CpuSet<N>) {
        self.first |= other.first;
        let others = other.more.words();
        if !others.is_empty() {
            let words = self.more.all_words_mut().iter_mut();
            words.zip(others).for_each(|(word, other)| *word |= other);
        }
    }
}
/// The CPUs of a set. By hand: adapters over words cost more than most sets, which have no CPU or one.
pub(crate) struct Iter<'a> {
    /// Those of a word that are left.
    word: u64,
    number_of_its_first: u16,
    more: std::slice::Iter<'a, u64>,
}

impl Iterator for Iter<'_> {
    type Item = u16;

    #[inline]
    fn next(&mut self) -> Option<u16> {
        while self.word == 0 {
            self.word = *self.more.next()?;
            self.number_of_its_first += 64;
        }
        let bit = self.word.trailing_zeros() as u16;
        self.word &= self.word - 1;
        Some(self.number_of_its_first + bit)
    }
}

/// Which word of those beyond the first has a CPU, if it is there, and its bit.
#[inline]
fn place(cpu: u16) -> (Option<usize>, u64) {
    (usize::from(cpu / 64).checked_sub(1), 1 << (cpu % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_come_and_go() {
        let mut set = CpuSet::<Many>::default();
        for cpu in [3, 64, 200] {
            set.insert(cpu);
        }
        set.remove(64);
        set.remove(4000);
        let mut more = CpuSet::default();
        more.insert(300);
        set.extend(&more);
        assert_eq!(set.iter().collect::<Vec<_>>(), [3, 200, 300]);
        assert_eq!(
            (set.len(), set.contains(64), set.is_empty()),
            (3, false, false)
        );
    }

    #[test]
    fn a_set_is_empty_without_its_only_cpu() {
        for cpu in [3, 63, 64, 4095] {
            let mut set = CpuSet::<Many>::default();
            assert!(set.is_empty_without(cpu));
            set.insert(cpu);
            assert!(set.is_empty_without(cpu) && !set.is_empty_without(2));
            set.insert(70);
            assert!(!set.is_empty_without(cpu), "{cpu}");
            set.remove(70);
            assert!(set.is_empty_without(cpu), "{cpu}");
        }
        let both = CpuSet::<Few>::of_first_word(0b1010);
        assert!(both.iter().eq([1, 3]) && !both.is_empty_without(3));
    }
}
