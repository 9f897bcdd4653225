//! The version of a page-table entry: which of its stores it is, as a number.
//!
//! Versions of stores that are in memory count up from 1. A store that still waits in a CPU's buffer has a
//! version of that CPU's own, above all of those in memory, until it drains and gets its count.

use crate::index::Cpu;
use crate::limit::{Limit, MOST_CPUS};

/// Which store a page-table entry, or what was cached of it, comes from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version(u8);

/// The first version of stores that wait in a buffer.
const FIRST_PENDING: u8 = 128;
/// Versions of one CPU's stores that wait in its buffer.
const PENDING_OF_A_CPU: u8 = FIRST_PENDING / MOST_CPUS as u8;

impl Version {
    /// Versions that stores to one entry have in memory.
    pub(crate) const MOST_IN_MEMORY: usize = FIRST_PENDING as usize - 1;
    /// The version before any store; also where no entry was read.
    pub const NONE: Version = Version(0);
    /// The version of the entries that a machine starts with.
    pub(crate) const AT_THE_START: Version = Version(1);

    /// The version in memory of every entry whose versions were renumbered.
    pub(crate) const NOW: Version = Version(FIRST_PENDING / 2);

    /// Returns the name that an old version gets before which so many older ones are.
    ///
    /// # Errors
    /// If there are more than names.
    pub(crate) fn old(older: usize) -> Result<Version, Limit> {
        let what = "old versions of one page-table entry that are cached at one time";
        let name = Limit::check(what, usize::from(Version::NOW.0) - 1, older + 1)?;
        Ok(Version(name as u8))
    }

    /// Makes it from the byte that stands for it in a state.
    #[inline]
    pub(crate) fn from_byte(byte: u8) -> Version {
        Version(byte)
    }

    /// Returns the byte that stands for it in a state.
    #[inline]
    pub(crate) fn to_byte(self) -> u8 {
        self.0
    }

    /// Returns the version that the next store to the entry has in memory.
    ///
    /// # Errors
    /// If versions run out.
    pub(crate) fn next_in_memory(self) -> Result<Version, Limit> {
        let what = "stores to one page-table entry";
        let next = Limit::check(what, Self::MOST_IN_MEMORY, usize::from(self.0) + 1)?;
        Ok(Version(next as u8))
    }

    /// Returns the version of the oldest store to a page-table entry in a CPU's buffer.
    pub(crate) fn first_pending(cpu: Cpu) -> Version {
        Version(FIRST_PENDING + cpu.number() * PENDING_OF_A_CPU)
    }

    /// Returns the version of the next younger store in the same buffer.
    ///
    /// # Errors
    /// If the buffer holds as many as a CPU has versions for.
    pub(crate) fn younger(self) -> Result<Version, Limit> {
        let what = "stores to page-table entries in one store buffer";
        let number = usize::from(self.0 % PENDING_OF_A_CPU) + 1;
        Limit::check(what, usize::from(PENDING_OF_A_CPU), number + 1)?;
        Ok(Version(self.0 + 1))
    }

    /// Returns the version of the next older store in the same buffer.
    pub(crate) fn older(self) -> Version {
        Version(self.0 - 1)
    }

    /// Says whether the store still waits in a buffer.
    #[inline]
    pub(crate) fn is_pending(self) -> bool {
        self.0 >= FIRST_PENDING
    }

    /// Says whether the store still waits in a buffer of a CPU other than this one.
    pub(crate) fn is_pending_elsewhere(self, cpu: Cpu) -> bool {
        let first = Version::first_pending(cpu).0;
        let own = first..=first + (PENDING_OF_A_CPU - 1);
        self.is_pending() && !own.contains(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_memory_run_out_before_those_of_buffers_begin() {
        let last = Version(FIRST_PENDING - 1);
        assert!(Version(FIRST_PENDING - 2).next_in_memory() == Ok(last));
        assert!(last.next_in_memory().is_err());
    }

    #[test]
    fn each_cpu_has_versions_of_its_own() {
        let [one, other] = [0, 1].map(Cpu::from);
        let version = Version::first_pending(one).younger().unwrap();
        assert!(!version.is_pending_elsewhere(one) && version.is_pending_elsewhere(other));
        assert!(!Version::AT_THE_START.is_pending_elsewhere(other));
    }

    #[test]
    fn more_waiting_stores_than_a_cpu_has_versions_for_are_a_limit() {
        for cpu in (0..MOST_CPUS).map(Cpu::from) {
            let mut version = Version::first_pending(cpu);
            for _ in 1..PENDING_OF_A_CPU {
                version = version.younger().unwrap();
                assert!(!version.is_pending_elsewhere(cpu));
            }
            assert!(version.younger().is_err());
        }
    }
}
