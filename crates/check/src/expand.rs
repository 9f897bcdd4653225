//! What one state leads to: every step of every CPU, tried.

use lazytlb_model::{State, Violation};

use crate::automaton::Nodes;
use crate::cursor::Cursor;
use crate::hardware::Tried;
use crate::reduction::{CanonicalForm, Merge};
use crate::step::{Action, Step, StepError, Unwatched};
use crate::store::{StateId, Store};
use crate::system::System;

/// Whether an exploration ends at a violation, or looks for more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AfterViolation {
    Stop,
    GoOn,
}

/// Hands every successor of a state to `found`, and every violation to `violated`, with the step that
/// leads to it, or none for a deadlock; that says whether it is to be the last. Says whether the state is an
/// end: all CPUs have ended, and nothing is left to come but timer interrupts.
#[inline]
pub(crate) fn expand<M: Merge>(
    system: &System<'_, M>,
    form: &impl CanonicalForm,
    base: &State,
    scratch: &mut State,
    mut found: impl FnMut(Step, &State),
    mut violated: impl FnMut(Option<Step>, Violation) -> AfterViolation,
) -> Result<bool, StepError> {
    let (mut stuck, mut has_violated) = (true, false);
    let all_tried = successors(
        system,
        form,
        base,
        scratch,
        |_| true,
        |nodes, step, state| {
            stuck = stuck && system.may_lead_nowhere(nodes, base, step);
            found(step, state);
        },
        |step, violation| {
            has_violated = true;
            violated(Some(step), violation)
        },
    )?;
    if all_tried == AfterViolation::Stop {
        return Ok(false);
    }
    stuck = stuck && !has_violated;
    let mut is_end = stuck && system.is_end(base);
    if stuck && let Some(violation) = system.extending(|nodes| system.stuck(nodes, base))? {
        is_end = false;
        violated(None, violation);
    }
    Ok(is_end)
}

/// Hands every successor of a state by some actions to `found`, and every violation to `violated`, with the step that
/// leads to it; that says whether it is to be the last, and so does this.
#[inline(always)]
pub(crate) fn successors<M: Merge>(
    system: &System<'_, M>,
    form: &impl CanonicalForm,
    base: &State,
    scratch: &mut State,
    is_wanted: impl Fn(Action) -> bool,
    mut found: impl FnMut(&Nodes, Step, &State),
    mut violated: impl FnMut(Step, Violation) -> AfterViolation,
) -> Result<AfterViolation, StepError> {
    let mut nodes = system.automaton.read();
    let mut cursor = Cursor::new(system);
    while let Some(step) = cursor.step(system, base) {
        if !is_wanted(step.action) {
            cursor.tried(system, &nodes, base, step, &Ok(Tried::Impossible));
            continue;
        }
        scratch.copy_from_slice(base);
        let result = system.step(&nodes, scratch, step, &mut Unwatched);
        let result = match result {
            Ok(done @ Tried::Done(_)) => {
                form.apply(&system.hardware, &nodes, scratch).map(|()| done)
            }
            other => other,
        };
        cursor.tried(system, &nodes, base, step, &result);
        match result {
            Ok(Tried::Impossible) => {}
            Ok(Tried::Done(_)) => {
                found(&nodes, step, scratch);
            }
            Err(StepError::Unknown(missing)) => {
                drop(nodes);
                system.automaton.extend(missing)?;
                nodes = system.automaton.read();
            }
            Err(StepError::Violation(violation)) => {
                if violated(step, violation) == AfterViolation::Stop {
                    return Ok(AfterViolation::Stop);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(AfterViolation::GoOn)
}

/// What a state leads to, but for the states themselves.
pub(crate) struct Expanded {
    pub(crate) id: StateId,
    pub(crate) successors: u64,
    /// Whether the program has ended.
    pub(crate) is_end: bool,
    pub(crate) violations: Vec<(Option<Step>, Violation)>,
}

impl Expanded {
    #[inline]
    pub(crate) fn new(id: StateId) -> Self {
        Expanded {
            id,
            successors: 0,
            is_end: false,
            violations: Vec::new(),
        }
    }
}

/// What some states lead to.
pub(crate) struct Part {
    /// The successors' bytes, one after the other.
    pub(crate) states: Vec<u8>,
    pub(crate) expanded: Vec<Expanded>,
    /// Why the states after those expanded are missing.
    pub(crate) error: Option<StepError>,
}

/// Finds what states lead to, up to the first that fails, or that violates something if that is to be all.
pub(crate) fn expand_all<M: Merge>(
    system: &System<'_, M>,
    form: &impl CanonicalForm,
    store: &impl Store,
    ids: &[StateId],
    after_violation: AfterViolation,
) -> Part {
    let mut base = vec![0; system.hardware.state_len()];
    let mut scratch = base.clone();
    let (mut states, mut all) = (Vec::new(), Vec::with_capacity(ids.len()));
    for &id in ids {
        store.load(id, &mut base);
        let mut expanded = Expanded::new(id);
        let result = expand(
            system,
            form,
            &base,
            &mut scratch,
            |_, state| {
                expanded.successors += 1;
                states.extend_from_slice(state);
            },
            |step, violation| {
                expanded.violations.push((step, violation));
                after_violation
            },
        );
        let is_last = after_violation == AfterViolation::Stop && !expanded.violations.is_empty();
        let error = match result {
            Ok(is_end) => {
                expanded.is_end = is_end;
                None
            }
            Err(error) => Some(error),
        };
        all.push(expanded);
        if is_last || error.is_some() {
            let expanded = all;
            return Part {
                states,
                expanded,
                error,
            };
        }
    }
    Part {
        states,
        expanded: all,
        error: None,
    }
}
