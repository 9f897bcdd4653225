//! A set of CPUs.

use lazytlb_trace::MAX_CPUS;

/// Words of the CPUs from 64 on.
const MORE: usize = MAX_CPUS as usize / 64 - 1;

/// CPUs, by their numbers in the recording. Few machines have more than 64, and sets are made by the flush: those of so few
/// are a word, and one that says that there are no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuSet {
    first: u64,
    /// The words of CPUs from 64 on.
    more: Option<Box<[u64; MORE]>>,
}

impl CpuSet {
    /// No CPU.
    pub(crate) const EMPTY: CpuSet = CpuSet {
        first: 0,
        more: None,
    };

    /// Returns the CPUs below 64 whose bits are set.
    pub(crate) fn of_first_word(first: u64) -> Self {
        CpuSet { first, more: None }
    }

    /// Adds a CPU.
    #[inline]
    pub(crate) fn insert(&mut self, cpu: u16) {
        match place(cpu) {
            (None, bit) => self.first |= bit,
            (Some(word), bit) => self.insert_more(word, bit),
        }
    }

    #[cold]
    fn insert_more(&mut self, word: usize, bit: u64) {
        let more = self.more.get_or_insert_with(|| Box::new([0; MORE]));
        if let Some(word) = more.get_mut(word) {
            *word |= bit;
        }
    }

    /// Takes a CPU out.
    #[inline]
    pub(crate) fn remove(&mut self, cpu: u16) {
        match place(cpu) {
            (None, bit) => self.first &= !bit,
            (Some(word), bit) => {
                let more = self.more.as_mut();
                if let Some(word) = more.and_then(|more| more.get_mut(word)) {
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
            (Some(word), bit) => self.more().get(word).is_some_and(|word| word & bit != 0),
        }
    }

    /// Returns whether no CPU is in.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first == 0 && self.more().iter().all(|word| *word == 0)
    }

    /// Returns whether no CPU but this one is in.
    #[inline]
    pub(crate) fn is_empty_without(&self, cpu: u16) -> bool {
        match (&self.more, place(cpu)) {
            (None, (None, bit)) => self.first & !bit == 0,
            _ => self.iter().all(|other| other == cpu),
        }
    }

    /// Returns how many CPUs are in.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        let more = self.more().iter().map(|word| u64::from(word.count_ones()));
        u64::from(self.first.count_ones()) + more.sum::<u64>()
    }

    /// Returns the CPUs in ascending order.
    #[inline]
    pub(crate) fn iter(&self) -> Iter<'_> {
        Iter {
            word: self.first,
            number_of_its_first: 0,
            more: self.more().iter(),
        }
    }

    /// Adds all CPUs of another set.
    #[inline]
    pub(crate) fn extend(&mut self, other: &CpuSet) {
        self.first |= other.first;
        if let Some(more) = &other.more {
            self.extend_more(more);
        }
    }

    #[cold]
    fn extend_more(&mut self, other: &[u64; MORE]) {
        let more = self.more.get_or_insert_with(|| Box::new([0; MORE]));
        for (word, other) in more.iter_mut().zip(other) {
            *word |= other;
        }
    }

    #[inline]
    fn more(&self) -> &[u64] {
        self.more.as_ref().map_or(&[], |more| &more[..])
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
        let mut set = CpuSet::default();
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
            let mut set = CpuSet::default();
            assert!(set.is_empty_without(cpu));
            set.insert(cpu);
            assert!(set.is_empty_without(cpu) && !set.is_empty_without(2));
            set.insert(70);
            assert!(!set.is_empty_without(cpu), "{cpu}");
            set.remove(70);
            assert!(set.is_empty_without(cpu), "{cpu}");
        }
        let both = CpuSet::of_first_word(0b1010);
        assert!(both.iter().eq([1, 3]) && !both.is_empty_without(3));
    }
}
