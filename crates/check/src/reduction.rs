//! What makes a state space smaller: which steps are merged with the one before, and which states count as
//! the same.

use lazytlb::{CpuId, Interrupts};
use lazytlb_model::{Call, State};

use crate::automaton::{Automaton, Node, Nodes};
use crate::hardware::Hardware;
use crate::rests_on::Stretched;
use crate::step::StepError;

/// Whether steps that no other CPU can observe are merged with the step before them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reduction {
    /// They are merged, and so is disabling interrupts with the step after it: fewer states, the same
    /// verdicts.
    CollapseLocal,
    /// Every seam call is a step of its own.
    None,
}

/// Which calls of a CPU belong to the step before them.
pub(crate) trait Merge: Sync {
    /// Says whether a CPU's next call, at `node`, is made at once. It must not block.
    fn is_made_at_once(
        &self,
        hardware: &Hardware,
        state: &State,
        cpu: CpuId,
        node: &Node,
        call: &Call,
    ) -> bool;

    /// Says whether the step that starts an operation takes its first visible call along.
    fn takes_first_along(&self) -> bool;

    /// Says whether the step of a call takes the visible call after it along, if that is possible then.
    fn takes_next_along(&self, call: &Call) -> bool;
}

impl Merge for Reduction {
    #[inline(always)]
    fn is_made_at_once(
        &self,
        hardware: &Hardware,
        state: &State,
        cpu: CpuId,
        node: &Node,
        call: &Call,
    ) -> bool {
        match self {
            Reduction::CollapseLocal => hardware.is_local(state, cpu, call, node.interrupts),
            Reduction::None => false,
        }
    }

    fn takes_first_along(&self) -> bool {
        *self == Reduction::CollapseLocal
    }

    /// Disabling interrupts is a right-mover: whatever other CPUs do between it and this CPU's next call they
    /// might as well do before it, because they cannot tell, and this CPU takes no interrupt in between.
    #[inline]
    fn takes_next_along(&self, call: &Call) -> bool {
        *self == Reduction::CollapseLocal && matches!(call, Call::DisableInterrupts)
    }
}

/// Brings a state that a step has led to into the form by which it is remembered.
///
/// Two states may have one form only if all that can follow is the same for both, but for what the form
/// leaves out: names, such as numbers that code only compares. A form may move a CPU to another place of the
/// same code, one that other answers lead to ([`Nodes::log_of`]); where that place is not known yet, it says
/// so ([`StepError::Unknown`]), and is asked again when it is.
///
/// A counterexample is found among forms, and replayed without them.
pub(crate) trait CanonicalForm: Sync {
    /// Gives the state its form.
    ///
    /// # Errors
    /// If a place is not known yet, or a number has no room.
    fn apply(&self, hardware: &Hardware, nodes: &Nodes, state: &mut State)
    -> Result<(), StepError>;

    /// Tests what the form takes for granted of the code, once all of it is known; says what was tested, if anything.
    ///
    /// # Errors
    /// If the code is not so.
    fn test_code(&self, _automaton: &Automaton<'_>) -> Result<Option<Stretched>, StepError> {
        Ok(None)
    }

    /// Says whether there is a state that it changes.
    fn renames(&self) -> bool;
}

/// Says whether a call that is taken along can be made after another, with interrupts as at `next`.
///
/// The local calls in between may have restored interrupts: then one may come before the next call. What
/// may go on in several ways, one step cannot tell; and at the head of a poll a CPU must be seen to come back.
#[inline]
pub(crate) fn can_be_taken_along(next: &Node, call: &Call) -> bool {
    next.interrupts == Interrupts::Disabled && !call.has_ways() && !next.is_head
}
