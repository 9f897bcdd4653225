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
    /// Returns the CPU's operations.
    fn operations(self) -> Contexts {
        let (Context::Operation(cpu) | Context::Handler(cpu)) = self;
        Contexts(1 << cpu.index())
    }

    /// Returns the CPU's handler.
    fn handler(self) -> Contexts {
        Contexts(self.operations().0 << MOST_CPUS)
    }

    /// Returns this context alone.
    fn alone(self) -> Contexts {
        match self {
            Context::Operation(_) => self.operations(),
            Context::Handler(_) => self.handler(),
        }
    }

    /// Returns the CPU's operations and its handler.
    fn of_cpu(self) -> Contexts {
        Contexts(self.operations().0 | self.handler().0)
    }
}

/// A set of contexts: a bit for each CPU's operations, and one for its handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Contexts(u16);

/// A set of contexts that only grows, but for what is forgotten on purpose. Threads share it.
#[derive(Debug, Default)]
struct SharedContexts(AtomicU16);

impl SharedContexts {
    /// Says whether one of these is in the set.
    #[inline]
    fn has(&self, contexts: Contexts) -> bool {
        self.0.load(ORDER) & contexts.0 != 0
    }

    /// Says whether one is in the set that is none of these.
    #[inline]
    fn has_others(&self, contexts: Contexts) -> bool {
        self.0.load(ORDER) & !contexts.0 != 0
    }

    fn add(&self, contexts: Contexts) {
        self.0.fetch_or(contexts.0, ORDER);
    }

    fn add_all(&self, other: &SharedContexts) {
        self.0.fetch_or(other.0.load(ORDER), ORDER);
    }

    fn forget(&self) {
        self.0.store(0, ORDER);
    }
}

/// What is known, and what was assumed, about one atomic.
#[derive(Debug, Default)]
struct Cell {
    writes: SharedContexts,
    writes_other_than_clearing: SharedContexts,
    /// These took it that no other CPU writes.
    assumes_no_other: SharedContexts,
    /// These took it that others only clear bits.
    assumes_others_clear: SharedContexts,
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
        let (cell, alone) = (&self.cells[usize::from(cell.0)], context.alone());
        let news = !cell.writes.has(alone)
            || write == Write::Any && !cell.writes_other_than_clearing.has(alone);
        if !news {
            return;
        }
        cell.writes.add(alone);
        let own = context.of_cpu();
        let mut broken = cell.assumes_no_other.has_others(own);
        if write == Write::Any {
            cell.writes_other_than_clearing.add(alone);
            // What a wait in an operation assumes, the CPU's own handler can break.
            let unharmed = match context {
                Context::Operation(_) => own,
                Context::Handler(_) => context.handler(),
            };
            broken |= cell.assumes_others_clear.has_others(unharmed);
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
        assume(&cell.assumes_no_other, &cell.writes, context, own)
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
        assume(&cell.assumes_others_clear, writes, context, waiting)
    }

    pub(crate) fn assumption_is_broken(&self) -> bool {
        self.broken.load(ORDER)
    }

    pub(crate) fn forget_assumptions(&self) {
        self.broken.store(false, ORDER);
        for cell in &self.cells {
            cell.assumes_no_other.forget();
            cell.assumes_others_clear.forget();
        }
    }

    pub(crate) fn learn_from(&self, other: &Writers) {
        for (cell, known) in self.cells.iter().zip(&other.cells) {
            cell.writes.add_all(&known.writes);
            let not_clearing = &known.writes_other_than_clearing;
            cell.writes_other_than_clearing.add_all(not_clearing);
        }
    }
}

/// Assumes, for a context, that none but `own` is or will be in `writes`, unless one is known to be.
#[inline]
fn assume(
    assumptions: &SharedContexts,
    writes: &SharedContexts,
    context: Context,
    own: Contexts,
) -> bool {
    if !assumptions.has(context.alone()) {
        if writes.has_others(own) {
            return false;
        }
        assumptions.add(context.alone());
    }
    // Also where another thread has noted it: that one may be about to find a writer.
    !writes.has_others(own)
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
