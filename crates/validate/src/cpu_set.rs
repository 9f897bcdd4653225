//! A set of CPUs.

/// CPUs, by their numbers in the recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuSet(Vec<u64>);

impl CpuSet {
    /// Adds a CPU.
    pub(crate) fn insert(&mut self, cpu: u16) {
        let (word, bit) = place(cpu);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= bit;
    }

    /// Takes a CPU out.
    pub(crate) fn remove(&mut self, cpu: u16) {
        let (word, bit) = place(cpu);
        if let Some(word) = self.0.get_mut(word) {
            *word &= !bit;
        }
    }

    /// Returns whether a CPU is in.
    pub(crate) fn contains(&self, cpu: u16) -> bool {
        let (word, bit) = place(cpu);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Returns whether no CPU is in.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Returns how many CPUs are in.
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Returns the CPUs in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().zip(0_u16..).flat_map(|(&word, index)| {
            (0..64_u16)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| index * 64 + bit)
        })
    }

    /// Adds all CPUs of another set.
    pub(crate) fn extend(&mut self, other: &CpuSet) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
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
