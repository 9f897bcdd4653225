//! Who writes which atomic: learnt while exploring, and assumed for what is not known yet.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::call::AtomicCell;

/// What a write may do to an atomic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Write {
    /// Clears bits and sets none.
    ClearsBits,
    /// Anything.
    Any,
}

/// What is known, and what was assumed, about one atomic: a bit for each CPU.
#[derive(Debug, Default)]
struct Cell {
    writes: AtomicU8,
    writes_other_than_clearing: AtomicU8,
    /// These CPUs took it that no other CPU writes.
    assumes_no_other: AtomicU8,
    /// These CPUs took it that others only clear bits.
    assumes_others_clear: AtomicU8,
}

/// The knowledge about every atomic. It only grows, so a search restarts a bounded number of times.
#[derive(Debug)]
pub(crate) struct Writers {
    cells: Box<[Cell]>,
    broken: AtomicBool,
}

/// With several threads: whoever assumes notes the assumption, then looks for writers; whoever writes
/// notes the write, then looks for assumptions. In one order of all, one of them sees the other.
const ORDER: Ordering = Ordering::SeqCst;

impl Writers {
    pub(crate) fn new(atomics: usize) -> Self {
        let cells = (0..atomics).map(|_| Cell::default()).collect();
        Writers {
            cells,
            broken: AtomicBool::new(false),
        }
    }

    /// Notes that a CPU writes an atomic.
    #[inline]
    pub(crate) fn wrote(&self, cell: AtomicCell, cpu: usize, write: Write) {
        let (cell, bit) = (&self.cells[usize::from(cell.0)], 1 << cpu);
        let news = cell.writes.load(ORDER) & bit == 0
            || write == Write::Any && cell.writes_other_than_clearing.load(ORDER) & bit == 0;
        if !news {
            return;
        }
        cell.writes.fetch_or(bit, ORDER);
        let mut broken = cell.assumes_no_other.load(ORDER) & !bit != 0;
        if write == Write::Any {
            cell.writes_other_than_clearing.fetch_or(bit, ORDER);
            broken |= cell.assumes_others_clear.load(ORDER) & !bit != 0;
        }
        if broken {
            self.broken.store(true, ORDER);
        }
    }

    /// Says whether no other CPU is known to write an atomic, and holds it against later knowledge.
    #[inline]
    pub(crate) fn assume_no_other(&self, cell: AtomicCell, cpu: usize) -> bool {
        let (cell, bit) = (&self.cells[usize::from(cell.0)], 1 << cpu);
        assume(&cell.assumes_no_other, &cell.writes, bit)
    }

    /// Says whether other CPUs are known only to clear bits of an atomic, and holds it likewise.
    #[inline]
    pub(crate) fn assume_others_clear(&self, cell: AtomicCell, cpu: usize) -> bool {
        let (cell, bit) = (&self.cells[usize::from(cell.0)], 1 << cpu);
        assume(
            &cell.assumes_others_clear,
            &cell.writes_other_than_clearing,
            bit,
        )
    }

    pub(crate) fn assumption_is_broken(&self) -> bool {
        self.broken.load(ORDER)
    }

    pub(crate) fn forget_assumptions(&self) {
        self.broken.store(false, ORDER);
        for cell in &self.cells {
            cell.assumes_no_other.store(0, ORDER);
            cell.assumes_others_clear.store(0, ORDER);
        }
    }

    pub(crate) fn learn_from(&self, other: &Writers) {
        for (cell, known) in self.cells.iter().zip(&other.cells) {
            cell.writes.fetch_or(known.writes.load(ORDER), ORDER);
            let clearing = known.writes_other_than_clearing.load(ORDER);
            cell.writes_other_than_clearing.fetch_or(clearing, ORDER);
        }
    }
}

/// Assumes that no CPU but the one of `bit` is or will be in `writes`, unless one is known to be.
#[inline]
fn assume(assumptions: &AtomicU8, writes: &AtomicU8, bit: u8) -> bool {
    if writes.load(ORDER) & !bit != 0 {
        return false;
    }
    if assumptions.load(ORDER) & bit == 0 {
        assumptions.fetch_or(bit, ORDER);
        return writes.load(ORDER) & !bit == 0;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: AtomicCell = AtomicCell(0);

    #[test]
    fn a_writer_that_turns_up_late_breaks_the_assumption() {
        let writers = Writers::new(1);
        assert!(writers.assume_no_other(CELL, 0));
        writers.wrote(CELL, 0, Write::Any);
        assert!(
            !writers.assumption_is_broken(),
            "its own writes do not count"
        );
        writers.wrote(CELL, 1, Write::ClearsBits);
        assert!(writers.assumption_is_broken());
        writers.forget_assumptions();
        assert!(!writers.assume_no_other(CELL, 0), "now it is known");
        assert!(!writers.assumption_is_broken());
    }

    #[test]
    fn clearing_bits_does_not_disturb_who_waits_for_zero() {
        let writers = Writers::new(1);
        assert!(writers.assume_others_clear(CELL, 0));
        writers.wrote(CELL, 1, Write::ClearsBits);
        assert!(!writers.assumption_is_broken());
        writers.wrote(CELL, 1, Write::Any);
        assert!(writers.assumption_is_broken());
    }

    #[test]
    fn knowledge_can_be_handed_on() {
        let (from, to) = (Writers::new(1), Writers::new(1));
        from.wrote(CELL, 1, Write::Any);
        to.learn_from(&from);
        assert!(!to.assume_no_other(CELL, 0) && !to.assume_others_clear(CELL, 0));
        assert!(to.assume_no_other(CELL, 1));
    }
}
