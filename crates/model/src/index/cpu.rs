//! CPUs, sets of them, where they are in their code, and the ways that a step of theirs has.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use super::numbered::byte;
use crate::limit::MOST_CPUS;

/// A CPU of the machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Cpu(u8);

impl Cpu {
    /// Returns the CPU's position among all.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the number that reports have.
    pub(crate) const fn number(self) -> u8 {
        self.0
    }

    /// Lists the CPUs of a machine that has so many.
    #[inline]
    pub(crate) fn first(count: usize) -> impl DoubleEndedIterator<Item = Cpu> {
        (0..byte(count)).map(Cpu)
    }
}

/// # Panics
/// If no machine has as many CPUs.
impl From<usize> for Cpu {
    #[inline]
    fn from(index: usize) -> Cpu {
        assert!(index < MOST_CPUS, "no machine has a CPU {index}");
        Cpu(index as u8)
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// CPUs, a bit each, as an interrupt's targets are told: there may be one that the machine does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Targets(u64);

impl From<u64> for Targets {
    fn from(bits: u64) -> Targets {
        Targets(bits)
    }
}

impl Targets {
    /// Returns the lowest that is none of so many CPUs.
    pub(crate) fn beyond(self, cpus: usize) -> Option<u32> {
        let beyond = self.0 >> cpus;
        (beyond != 0).then(|| cpus as u32 + beyond.trailing_zeros())
    }

    /// Says whether a CPU is one of them.
    pub(crate) fn contains(self, cpu: Cpu) -> bool {
        self.0 >> cpu.index() & 1 != 0
    }
}

/// A CPU's place in its code: a number that the machine does not interpret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place(NonZeroU32);

impl Place {
    /// The place with the greatest number.
    pub const LAST: Place = Place(NonZeroU32::MAX);

    /// Returns the place with a number, which 0 is not.
    #[inline]
    pub fn from_number(number: u32) -> Option<Place> {
        NonZeroU32::new(number).map(Place)
    }

    /// Returns the number, which is not 0.
    #[inline]
    pub fn number(self) -> u32 {
        self.0.get()
    }
}

impl From<NonZeroU16> for Place {
    #[inline]
    fn from(number: NonZeroU16) -> Place {
        Place(number.into())
    }
}

/// Which of the ways in which a machine may do a step: they are counted from 0, while there are more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Way(usize);

impl Way {
    /// The first way, which every possible step has.
    pub const FIRST: Way = Way(0);

    /// Returns how many ways come before it.
    #[inline]
    pub const fn index(self) -> usize {
        self.0
    }
}

impl From<usize> for Way {
    #[inline]
    fn from(index: usize) -> Way {
        Way(index)
    }
}
