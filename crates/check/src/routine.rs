//! Routines: the pieces of code that a CPU runs, its operations and its handlers.

use std::sync::Arc;

use lazytlb::Interrupts;

use crate::menu::Offer;
use crate::model_hw::ModelHw;

/// An operation: real code over the seam. It may be run any number of times.
pub(crate) type OperationFn = Arc<dyn Fn(&ModelHw) + Send + Sync>;

/// One operation of a CPU, with a name for people.
#[derive(Clone)]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) run: OperationFn,
    /// When it may start, if it is one of a menu; the others run once, in their order.
    pub(crate) offer: Option<Offer>,
}

/// An operation's place among a CPU's operations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct OperationIndex(usize);

impl OperationIndex {
    pub(crate) const FIRST: OperationIndex = OperationIndex(0);

    /// Returns the place behind so many others.
    pub(crate) fn at(index: usize) -> OperationIndex {
        OperationIndex(index)
    }

    pub(crate) fn next(self) -> OperationIndex {
        OperationIndex(self.0 + 1)
    }

    pub(crate) fn get(self) -> usize {
        self.0
    }
}

/// Which code a CPU runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Routine {
    /// A CPU's operation, by its place among them.
    Operation(OperationIndex),
    /// The flush interrupt's handler.
    Handler,
    /// The NMI's handler.
    Nmi,
    /// The timer interrupt's handler.
    Timer,
}

impl Routine {
    /// Returns whether interrupts are on where the routine begins.
    pub(crate) fn interrupts(self) -> Interrupts {
        match self {
            Routine::Operation(_) => Interrupts::Enabled,
            Routine::Handler | Routine::Nmi | Routine::Timer => Interrupts::Disabled,
        }
    }
}
