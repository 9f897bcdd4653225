//! A set of CPUs.

/// CPUs, by their numbers in the recording. Few machines have more than 64, and sets are made by the flush: those of so few allocate
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuSet {
    first: u64,
    /// The words of CPUs from 64 on.
    more: Vec<u64>,
}

impl CpuSet {
    /// Adds a CPU.
    pub(crate) fn insert(&mut self, cpu: u16) {
        let (word, bit) = place(cpu);
        if word > self.more.len() {
            self.more.resize(word, 0);
        }
        if let Some(word) = self.word_mut(word) {
            *word |= bit;
        }
    }

    /// Takes a CPU out.
    pub(crate) fn remove(&mut self, cpu: u16) {
        let (word, bit) = place(cpu);
        if let Some(word) = self.word_mut(word) {
            *word &= !bit;
        }
    }

    /// Returns whether a CPU is in.
    pub(crate) fn contains(&self, cpu: u16) -> bool {
        let (word, bit) = place(cpu);
        self.words().nth(word).is_some_and(|word| word & bit != 0)
    }

    /// Returns whether no CPU is in.
    pub(crate) fn is_empty(&self) -> bool {
        self.words().all(|word| word == 0)
    }

    /// Returns how many CPUs are in.
    pub(crate) fn len(&self) -> u64 {
        self.words().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Returns the CPUs in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.words().zip(0_u16..).flat_map(|(word, index)| {
            let without_lowest = |bits: &u64| Some(bits & bits.wrapping_sub(1));
            let left = std::iter::successors(Some(word), without_lowest);
            let left = left.take_while(|bits| *bits != 0);
            left.map(move |bits| index * 64 + bits.trailing_zeros() as u16)
        })
    }

    /// Adds all CPUs of another set.
    pub(crate) fn extend(&mut self, other: &CpuSet) {
        if self.more.len() < other.more.len() {
            self.more.resize(other.more.len(), 0);
        }
        self.first |= other.first;
        for (word, more) in self.more.iter_mut().zip(&other.more) {
            *word |= more;
        }
    }

    fn words(&self) -> impl Iterator<Item = u64> + '_ {
        std::iter::once(self.first).chain(self.more.iter().copied())
    }

    fn word_mut(&mut self, word: usize) -> Option<&mut u64> {
        match word.checked_sub(1) {
            None => Some(&mut self.first),
            Some(word) => self.more.get_mut(word),
        }
    }
}

fn place(cpu: u16) -> (usize, u64) {
    (usize::from(cpu / 64), 1 << (cpu % 64))
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
}
