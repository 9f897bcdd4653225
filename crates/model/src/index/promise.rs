//! Promises about flushes, the slots that they lie in, and what they are about.

use super::cpu::Cpu;
use super::numbered::{Number, byte};
use crate::limit::MOST_PROMISES;

/// A promise that is open: who began it, and in which of his slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PromiseId {
    pub(crate) beginner: Cpu,
    pub(crate) slot: PromiseSlot,
}

impl PromiseId {
    /// Makes it from the word that software knows it by; `None` if no promise has it. 0 is no promise.
    pub(crate) fn from_word(word: u64, cpus: usize) -> Option<PromiseId> {
        let number = usize::try_from(word).ok()?.checked_sub(1)?;
        let (beginner, slot) = (number / MOST_PROMISES, number % MOST_PROMISES);
        (beginner < cpus).then(|| PromiseId {
            beginner: Cpu::from(beginner),
            slot: PromiseSlot::from_index(slot),
        })
    }

    /// Returns the word that software knows it by.
    pub(crate) fn to_word(self) -> u64 {
        (self.beginner.index() * MOST_PROMISES + self.slot.index()) as u64 + 1
    }
}

/// One of the slots for a CPU's promises about flushes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct PromiseSlot(u8);

impl Number for PromiseSlot {
    #[inline]
    fn from_index(index: usize) -> PromiseSlot {
        PromiseSlot(byte(index))
    }
    #[inline]
    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a promise is about, among all that the program's promises are about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct SubjectId(u8);

impl SubjectId {
    /// Makes it from the byte that stands for it in a state; 0 stands for none.
    pub(crate) fn from_byte(byte: u8) -> Option<SubjectId> {
        byte.checked_sub(1).map(SubjectId)
    }

    /// Returns the byte that stands for it in a state.
    pub(crate) fn to_byte(subject: Option<SubjectId>) -> u8 {
        subject.map_or(0, |SubjectId(number)| number + 1)
    }
}

impl Number for SubjectId {
    #[inline]
    fn from_index(index: usize) -> SubjectId {
        SubjectId(byte(index))
    }
    #[inline]
    fn index(self) -> usize {
        usize::from(self.0)
    }
}
