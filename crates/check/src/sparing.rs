//! Which word says that a CPU is lazy, and what code has promised of lazy CPUs and seen of them since.

use std::cell::Cell;

use lazytlb::CpuId;
use lazytlb_model::AtomicCell;
use lazytlb_model::machine::MOST_CPUS;

/// The word of each CPU that is 1 while it is lazy, where the program says which.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct LazyWords(pub(crate) [Option<AtomicCell>; MOST_CPUS]);

impl LazyWords {
    /// Returns the word of a CPU.
    pub(crate) fn of(self, cpu: CpuId) -> Option<AtomicCell> {
        self.0.get(usize::from(cpu.0)).copied().flatten()
    }

    /// Returns the CPU whose word this is.
    pub(crate) fn owner_of(self, word: AtomicCell) -> Option<CpuId> {
        let place = self.0.iter().position(|&its| its == Some(word))?;
        Some(CpuId(place as u16))
    }
}

/// What the code of a run has promised of lazy CPUs, and what it has seen of them since.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Sparing {
    pub(crate) promised: Promised,
    /// What the word of each CPU was read as: the last value, or that it was not lazy once.
    seen: [Option<u64>; MOST_CPUS],
}

/// What code has promised of lazy CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Promised {
    #[default]
    Nothing,
    SparesThem,
}

impl Sparing {
    pub(crate) fn begins(promised: Promised) -> Sparing {
        Sparing {
            promised,
            ..Sparing::default()
        }
    }

    /// Returns what the word of a CPU was read as: that it was not lazy, if it was read so at all.
    pub(crate) fn seen(self, cpu: CpuId) -> Option<u64> {
        self.seen.get(usize::from(cpu.0)).copied().flatten()
    }

    /// Notes what it was read as.
    pub(crate) fn see(&mut self, cpu: CpuId, value: u64) {
        let seen = &mut self.seen[usize::from(cpu.0)];
        if *seen != Some(0) {
            *seen = Some(value);
        }
    }

    /// Forgets what they were read as.
    pub(crate) fn forget(&mut self) {
        self.seen = [None; MOST_CPUS];
    }
}

/// A stretch of code that spares lazy CPUs, or need not: until it is dropped.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct SparingLazy<'a> {
    sparing: &'a Cell<Sparing>,
    former: Sparing,
}

impl<'a> SparingLazy<'a> {
    pub(crate) fn begin(sparing: &'a Cell<Sparing>, promised: Promised) -> Self {
        SparingLazy {
            sparing,
            former: sparing.replace(Sparing::begins(promised)),
        }
    }
}

impl Drop for SparingLazy<'_> {
    fn drop(&mut self) {
        self.sparing.set(self.former);
    }
}
