//! Who writes which atomic: learnt while exploring, and assumed for what is not known yet.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use crate::call::AtomicCell;
use crate::index::Cpu;
use crate::limit::MOST_CPUS;

/// What a write may do to an atomic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Write {
    /// Clears bits and sets none.
    ClearsBits,
    /// Anything.
    Any,
}

/// What runs on a CPU and accesses an atomic: an operation, or the interrupt handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Context {
    Operation(Cpu),
    Handler(Cpu),
}

impl Context {
    /// Returns the bit of the CPU's operations.
    fn operations(self) -> u16 {
        let (Context::Operation(cpu) | Context::Handler(cpu)) = self;
        1 << cpu.index()
    }

    /// Returns the bit of the CPU's handler.
    fn handler(self) -> u16 {
        self.operations() << MOST_CPUS
    }

    fn bit(self) -> u16 {
        match self {
            Context::Operation(_) => self.operations(),
            Context::Handler(_) => self.handler(),
        }
    }

    /// Returns the bits of the CPU's operations and of its handler.
    fn of_cpu(self) -> u16 {
        self.operations() | self.handler()
    }
}

/// What is known, and what was assumed, about one atomic: a bit for each CPU's operations, and one for its
/// handler.
#[derive(Debug, Default)]
struct Cell {
    writes: AtomicU16,
    writes_other_than_clearing: AtomicU16,
    /// These CPUs took it that no other CPU writes.
    assumes_no_other: AtomicU16,
    /// These CPUs took it that others only clear bits.
    assumes_others_clear: AtomicU16,
}

/// The knowledge about every atomic. It only grows, so a search restarts a bounded number of times.
#[derive(Debug)]
pub(crate) struct Writers {
    cells: Box<[Cell]>,
    broken: AtomicBool,
}

/// With several threads: the one that assumes notes its assumption, then looks for writers; the one that
/// writes notes its write, then looks for assumptions. In one order of all, one of them sees the other.
const ORDER: Ordering = Ordering::SeqCst;

impl Writers {
    pub(crate) fn new(atomics: usize) -> Self {
        let cells = (0..atomics).map(|_| Cell::default()).collect();
        Writers {
            cells,
            broken: AtomicBool::new(false),
        }
    }

    /// Returns the number of atomics.
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Notes a write to an atomic.
    #[inline]
    pub(crate) fn wrote(&self, cell: AtomicCell, context: Context, write: Write) {
        let (cell, bit) = (&self.cells[usize::from(cell.0)], context.bit());
        let news = cell.writes.load(ORDER) & bit == 0
            || write == Write::Any && cell.writes_other_than_clearing.load(ORDER) & bit == 0;
        if !news {
            return;
        }
        cell.writes.fetch_or(bit, ORDER);
        let own = context.of_cpu();
        let mut broken = cell.assumes_no_other.load(ORDER) & !own != 0;
        if write == Write::Any {
            cell.writes_other_than_clearing.fetch_or(bit, ORDER);
            // What a wait in an operation assumes, the CPU's own handler can break.
            let unharmed = match context {
                Context::Operation(_) => own,
                Context::Handler(_) => context.handler(),
            };
            broken |= cell.assumes_others_clear.load(ORDER) & !unharmed != 0;
        }
        if broken {
            self.broken.store(true, ORDER);
        }
    }

    /// Says whether no other CPU is known to write an atomic, and holds it against later knowledge.
    #[inline]
    pub(crate) fn assume_no_other(&self, cell: AtomicCell, context: Context) -> bool {
        let cell = &self.cells[usize::from(cell.0)];
        let own = context.of_cpu();
        assume(&cell.assumes_no_other, &cell.writes, context.bit(), own)
    }

    /// Says whether everyone who can run while this one waits is known only to clear bits of an atomic, and
    /// holds it likewise: other CPUs, and an operation's own handler.
    #[inline]
    pub(crate) fn assume_others_clear(&self, cell: AtomicCell, context: Context) -> bool {
        let cell = &self.cells[usize::from(cell.0)];
        let waiting = match context {
            Context::Operation(_) => context.operations(),
            Context::Handler(_) => context.of_cpu(),
        };
        let writes = &cell.writes_other_than_clearing;
        assume(&cell.assumes_others_clear, writes, context.bit(), waiting)
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

/// Assumes, for the context of `bit`, that none but `own` is or will be in `writes`, unless one is known to be.
#[inline]
fn assume(assumptions: &AtomicU16, writes: &AtomicU16, bit: u16, own: u16) -> bool {
    if assumptions.load(ORDER) & bit == 0 {
        if writes.load(ORDER) & !own != 0 {
            return false;
        }
        assumptions.fetch_or(bit, ORDER);
    }
    // Also where another thread has noted it: that one may be about to find a writer.
    writes.load(ORDER) & !own == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: AtomicCell = AtomicCell(0);
    fn first() -> Context {
        Context::Operation(Cpu::from(0))
    }

    fn firsts_handler() -> Context {
        Context::Handler(Cpu::from(0))
    }

    fn second() -> Context {
        Context::Operation(Cpu::from(1))
    }

    #[test]
    fn a_writer_that_turns_up_late_breaks_the_assumption() {
        let writers = Writers::new(1);
        assert!(writers.assume_no_other(CELL, first()));
        writers.wrote(CELL, first(), Write::Any);
        writers.wrote(CELL, firsts_handler(), Write::Any);
        assert!(
            !writers.assumption_is_broken(),
            "its own writes do not count"
        );
        writers.wrote(CELL, second(), Write::ClearsBits);
        assert!(writers.assumption_is_broken());
        writers.forget_assumptions();
        assert!(!writers.assume_no_other(CELL, first()), "now it is known");
        assert!(!writers.assumption_is_broken());
    }

    #[test]
    fn clearing_bits_does_not_disturb_who_waits_for_zero() {
        let writers = Writers::new(1);
        assert!(writers.assume_others_clear(CELL, first()));
        writers.wrote(CELL, second(), Write::ClearsBits);
        writers.wrote(CELL, first(), Write::Any);
        assert!(
            !writers.assumption_is_broken(),
            "the one that waits does not write"
        );
        writers.wrote(CELL, second(), Write::Any);
        assert!(writers.assumption_is_broken());
    }

    #[test]
    fn a_waiting_cpus_own_handler_can_disturb_it() {
        let writers = Writers::new(1);
        assert!(writers.assume_others_clear(CELL, first()));
        writers.wrote(CELL, firsts_handler(), Write::Any);
        assert!(writers.assumption_is_broken());
        writers.forget_assumptions();
        assert!(!writers.assume_others_clear(CELL, first()));
        assert!(
            writers.assume_others_clear(CELL, firsts_handler()),
            "it cannot disturb itself"
        );
    }

    #[test]
    fn knowledge_can_be_handed_on() {
        let (from, to) = (Writers::new(1), Writers::new(1));
        from.wrote(CELL, second(), Write::Any);
        to.learn_from(&from);
        assert!(!to.assume_no_other(CELL, first()) && !to.assume_others_clear(CELL, first()));
        assert!(to.assume_no_other(CELL, second()));
    }
}
