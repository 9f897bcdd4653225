//! What one CPU holds back: a batch of page tables for each of some spaces. The tables themselves are the kernel's to keep.

use core::sync::atomic::AtomicU64;

use crate::hw::{Cells, Hw};
use crate::mm::{MmHandle, NO_SPACE, handle_in, word_of};
use crate::words::ProtocolWord;

/// A batch of tables that a CPU holds back, by its number on that CPU: below `SLOTS`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HeldBatch(usize);

impl HeldBatch {
    /// Returns its number on its CPU.
    pub const fn number(self) -> usize {
        self.0
    }
}

/// Why page tables are not held back, so that a flush interrupts lazy CPUs after all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum NotHeld {
    /// The sink has no [room](crate::FrameSink::room) for them.
    NoRoom,
    /// Each batch of this CPU holds tables of another space.
    NoBatch,
    /// With them, more of the space would be held than may be
    /// ([`Kernel::held_tables_of_a_space`](crate::Kernel::held_tables_of_a_space)): so many are.
    OfSpace(u64),
    /// With them, more would be held than may be in all ([`Kernel::held_tables_in_all`](crate::Kernel::held_tables_in_all)): so many are.
    InAll(u64),
    /// The flush is one that must reach lazy CPUs: a device's memory is among what was unmapped, or pages change their size.
    Change,
}

/// The batches of one CPU. Accessed by this CPU with interrupts off only.
#[derive(Debug)]
pub(crate) struct Batches<H: Hw, const WORDS: usize, const SLOTS: usize> {
    /// The space that each is of, or none. I13: it lives while tables of it are counted.
    spaces: [H::Local; SLOTS],
    /// The CPUs that may still walk something in it.
    awaits: [[H::Local; WORDS]; SLOTS],
    /// Gathers that are about to put something into it.
    pins: [H::Local; SLOTS],
}

impl<H: Hw<Local = AtomicU64>, const WORDS: usize, const SLOTS: usize> Batches<H, WORDS, SLOTS> {
    /// As [`Batches::new`], in a constant expression.
    pub(crate) const fn in_static() -> Self {
        Batches {
            spaces: [const { AtomicU64::new(NO_SPACE) }; SLOTS],
            awaits: [const { [const { AtomicU64::new(0) }; WORDS] }; SLOTS],
            pins: [const { AtomicU64::new(0) }; SLOTS],
        }
    }
}

impl<H: Hw, const WORDS: usize, const SLOTS: usize> Batches<H, WORDS, SLOTS> {
    /// Makes batches that hold nothing.
    pub(crate) fn new(cells: &mut impl Cells<H>) -> Self {
        let no_space = word_of(None);
        Batches {
            spaces: core::array::from_fn(|_| cells.protocol_local(ProtocolWord::BatchMm, no_space)),
            awaits: core::array::from_fn(|_| {
                core::array::from_fn(|_| cells.protocol_local(ProtocolWord::BatchAwaits, 0))
            }),
            pins: core::array::from_fn(|_| cells.protocol_local(ProtocolWord::BatchPins, 0)),
        }
    }

    /// Finds the batch of a space, or a free one, and keeps it from being given up.
    pub(crate) fn pin(&self, hw: &H, mm: MmHandle) -> Option<HeldBatch> {
        let number = self.find(hw, Some(mm)).or_else(|| self.find(hw, None))?;
        let pins = &self.pins[number];
        hw.store_local(&self.spaces[number], mm.0);
        hw.store_local(pins, hw.load_local(pins) + 1);
        Some(HeldBatch(number))
    }

    fn find(&self, hw: &H, mm: Option<MmHandle>) -> Option<usize> {
        let mut spaces = self.spaces.iter();
        spaces.position(|space| hw.load_local(space) == word_of(mm))
    }

    /// Ends a [`Batches::pin`].
    pub(crate) fn unpin(&self, hw: &H, HeldBatch(number): HeldBatch) {
        let pins = &self.pins[number];
        hw.store_local(pins, hw.load_local(pins) - 1);
    }

    /// Says whether a gather is about to put something into a batch.
    pub(crate) fn is_pinned(&self, hw: &H, HeldBatch(number): HeldBatch) -> bool {
        hw.load_local(&self.pins[number]) != 0
    }

    /// Lists the batches that hold something, or may, each with its space.
    pub(crate) fn iter(&self, hw: &H) -> impl Iterator<Item = (HeldBatch, MmHandle)> {
        let spaces = self.spaces.iter().enumerate();
        spaces.filter_map(|(number, space)| {
            handle_in(hw.load_local(space)).map(|mm| (HeldBatch(number), mm))
        })
    }

    /// Makes a batch nobody's.
    pub(crate) fn set_free(&self, hw: &H, HeldBatch(number): HeldBatch) {
        hw.store_local(&self.spaces[number], word_of(None));
    }

    /// Reads one word of the set of CPUs that a batch awaits.
    pub(crate) fn awaits(&self, hw: &H, HeldBatch(number): HeldBatch, word: usize) -> u64 {
        hw.load_local(&self.awaits[number][word])
    }

    /// Writes it.
    pub(crate) fn set_awaits(&self, hw: &H, HeldBatch(number): HeldBatch, word: usize, cpus: u64) {
        hw.store_local(&self.awaits[number][word], cpus);
    }
}
