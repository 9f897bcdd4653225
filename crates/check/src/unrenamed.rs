//! A way among remembered states, as one of states that are not renamed: a counterexample is replayed so.
//!
//! A remembered state stands for all that have the same form. So the steps that lead along remembered states are also
//! possible from the first state on without renaming, but perhaps in another way: where an access has several, they
//! are counted in the order of what is cached, and renaming may make one of two. Each step is taken in the way whose
//! state has the form of the one that is remembered.

use lazytlb_model::State;

use crate::hardware::{Tried, Way, Ways};
use crate::reduction::{CanonicalForm, Merge};
use crate::step::{Step, StepError, Unwatched};
use crate::system::System;

/// Returns the steps that lead along the same remembered states from `initial`, which is not renamed; `None` if there
/// are none, which would be an error of the form.
pub(crate) fn unrenamed<M: Merge>(
    system: &System<'_, M>,
    form: &impl CanonicalForm,
    initial: Vec<u8>,
    steps: &[Step],
) -> Option<Vec<Step>> {
    let mut plain = initial;
    let mut remembered = system.formed(form, &plain).ok()?;
    let mut found = Vec::with_capacity(steps.len());
    for &step in steps {
        let goal = taken(system, &remembered, step).and_then(|next| system.formed(form, &next));
        let (way, next) = ways(system, &plain, step).into_iter().find(|(_, next)| {
            let next = next.clone().and_then(|next| system.formed(form, &next));
            match (&goal, &next) {
                (Err(StepError::Violation(goal)), Err(StepError::Violation(next))) => {
                    goal.property == next.property
                }
                (goal, next) => goal.is_ok() && goal == next,
            }
        })?;
        found.push(Step { way, ..step });
        let (Ok(next), Ok(goal)) = (next, goal) else {
            return Some(found);
        };
        (plain, remembered) = (next, goal);
    }
    Some(found)
}

/// Returns what a step comes to in each of its ways.
fn ways<M: Merge>(
    system: &System<'_, M>,
    state: &State,
    step: Step,
) -> Vec<(Way, Result<Vec<u8>, StepError>)> {
    let mut all = Vec::new();
    let mut way = Way::FIRST;
    loop {
        let mut next = state.to_vec();
        let tried = system.extending(|nodes| {
            next.copy_from_slice(state);
            system.step(nodes, &mut next, Step { way, ..step }, &mut Unwatched)
        });
        let goes_on = match &tried {
            Ok(Tried::Impossible) => return all,
            Ok(Tried::Done(ways)) => *ways == Ways::More,
            Err(_) => way < Way::LAST_AFTER_VIOLATIONS,
        };
        all.push((way, tried.map(|_| next)));
        if !goes_on {
            return all;
        }
        way = way.next();
    }
}

fn taken<M: Merge>(
    system: &System<'_, M>,
    state: &State,
    step: Step,
) -> Result<Vec<u8>, StepError> {
    let mut next = state.to_vec();
    system.extending(|nodes| {
        next.copy_from_slice(state);
        system.step(nodes, &mut next, step, &mut Unwatched)
    })?;
    Ok(next)
}
