//! A step of the whole system, why it can fail, and who watches its calls.

use lazytlb::CpuId;
use lazytlb_model::machine::Stop;
use lazytlb_model::{AtomicCell, Call, Limit, State, Violation};

use crate::automaton::{ExtractionError, Missing, Routine};
use crate::error::CheckError;
use crate::hardware::Way;

/// What a CPU does in a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// The oldest store in the CPU's buffer becomes visible.
    Drain,
    /// One of the CPU's write-combining stores leaves: which, the way says.
    Combined,
    /// The CPU settles something: a store that waits is translated, an owed update of A or D is made. Which, the
    /// way says.
    Settle,
    /// The CPU does one of the invalidations that were broadcast to it: which, the way says.
    Broadcast,
    /// The pending flush interrupt is delivered.
    Deliver,
    /// The pending NMI is delivered.
    DeliverNmi,
    /// A timer interrupt comes.
    Tick,
    /// The CPU's next seam call, in one of the ways in which the machine can do it.
    Call,
    /// The CPU starts an operation of its menu: which, the way says. Its first call belongs to the step.
    Start,
}

/// A step: who, what, and how. With collapsing, the local calls that follow belong to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub(crate) cpu: CpuId,
    pub(crate) action: Action,
    pub(crate) way: Way,
}

/// Why a step failed, other than by being impossible.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum StepError {
    Violation(Violation),
    Limit(Limit),
    Nondeterminism(String),
    FalseClaim(String),
    Misuse(String),
    /// The code spins, by this sentence, until there are no numbers left.
    SpinLoop(String),
    /// The step reads a word that was taken for dead: let it be kept, and search anew.
    ReadsDead(AtomicCell),
    /// The code stores a word that no code was known to store: search anew, now that it is.
    StoresUnstored,
    /// The code compares generations that are said to count apart: let them count together, and search anew.
    ComparesRanges,
    /// The step needs a node that the automaton does not have yet: let it be extended, then try again.
    Unknown(Missing),
}

impl StepError {
    /// Returns the violation, or the error that keeps the checker from a verdict.
    pub(crate) fn into_violation(self) -> Result<Violation, CheckError> {
        match self {
            StepError::Violation(violation) => Ok(violation),
            StepError::Limit(limit) => Err(CheckError::Limit(limit.to_string())),
            StepError::Nondeterminism(how) => Err(CheckError::Nondeterminism(how)),
            StepError::FalseClaim(how) => Err(CheckError::FalseClaim(how)),
            StepError::Misuse(how) => Err(CheckError::Limit(how)),
            StepError::SpinLoop(how) => Err(CheckError::Limit(how)),
            StepError::ReadsDead(_) | StepError::StoresUnstored | StepError::ComparesRanges => {
                unreachable!("whoever searches searches anew")
            }
            StepError::Unknown(_) => unreachable!("whoever takes steps extends the automaton"),
        }
    }
}

impl From<Missing> for StepError {
    fn from(missing: Missing) -> Self {
        StepError::Unknown(missing)
    }
}

impl From<Limit> for StepError {
    fn from(limit: Limit) -> Self {
        StepError::Limit(limit)
    }
}

impl From<Stop> for StepError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Violation(violation) => StepError::Violation(violation),
            Stop::Limit(limit) => StepError::Limit(limit),
        }
    }
}

impl From<ExtractionError> for StepError {
    fn from(error: ExtractionError) -> Self {
        match error {
            ExtractionError::Limit(limit) => StepError::Limit(limit),
            ExtractionError::FalseClaim(claim) => StepError::FalseClaim(claim.to_string()),
            ExtractionError::Misuse(how) => StepError::Misuse(how),
            error @ ExtractionError::Nondeterminism { .. } => {
                StepError::Nondeterminism(error.to_string())
            }
        }
    }
}

/// Watches the calls that steps make: a replay does, a search does not.
pub(crate) trait CallWatcher {
    /// A CPU starts an operation of its menu; its calls follow.
    fn operation_starts(&mut self, _cpu: CpuId) {}
    /// A CPU begins a call in a state.
    fn call_begins(&mut self, cpu: CpuId, routine: Routine, call: &Call, state: &State);
    /// The call that was begun last returns. Without it, the call ended in an error.
    fn call_returns(&mut self, answer: u64);
    /// The call that was begun last is not possible yet: nothing has happened.
    fn call_is_blocked(&mut self);
}

/// Watches nothing.
pub(crate) struct Unwatched;

impl CallWatcher for Unwatched {
    #[inline]
    fn call_begins(&mut self, _cpu: CpuId, _routine: Routine, _call: &Call, _state: &State) {}
    #[inline]
    fn call_returns(&mut self, _answer: u64) {}
    #[inline]
    fn call_is_blocked(&mut self) {}
}
