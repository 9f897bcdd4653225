//! Everything that a program can end in: the final values of its cells, over all executions.
//!
//! A search for violations stops at the first; this one goes on, and collects. It is what answers a litmus
//! test: is an end in which the condition holds among them?

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use lazytlb_model::{Property, Violation};

use crate::error::CheckError;
use crate::program::Program;
use crate::search::{Checker, expand, stop_or_violation};
use crate::step::{StepError, System, Unwatched};
use crate::store::{StateId, StateStore};
use crate::verdict::Effort;

/// An end of a program: all CPUs have ended, and no store waits anywhere.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct End {
    /// The shared cells' values, in the order in which the program made them.
    pub atomics: Vec<u64>,
    /// Each CPU's own cells' values.
    pub own_cells: Vec<Vec<u64>>,
    /// The page-table entries that the program watches, in its order. Where a speculative walk may have
    /// set A or not, there is one end with A and one without.
    pub entries: Vec<u64>,
}

/// Everything that a program can end in.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    /// The ends.
    pub ends: BTreeSet<End>,
    /// The properties that some execution violates, each with a sentence; it ends there.
    pub violations: BTreeMap<Property, String>,
    /// Why the search ended before all was explored; `None` if all was.
    pub incomplete: Option<String>,
    /// The work that it took.
    pub effort: Effort,
}

impl Checker {
    /// Explores all executions of a program, and collects their ends. Limits on states and time hold as in
    /// a check.
    ///
    /// # Errors
    /// If the program's code is nondeterministic, or does not fit into the model.
    pub fn outcomes(&self, program: &Program) -> Result<Outcomes, CheckError> {
        let started = Instant::now();
        let system = self.system(program)?;
        loop {
            let outcomes = self.collect(&system, program, started)?;
            if !system.machine.locality_was_wrong() {
                return Ok(outcomes);
            }
            system.machine.restart();
        }
    }

    fn collect(
        &self,
        system: &System<'_>,
        program: &Program,
        started: Instant,
    ) -> Result<Outcomes, CheckError> {
        let mut outcomes = Outcomes::default();
        let initial = match system.initial(&mut Unwatched) {
            Ok(initial) => initial,
            Err(error) => {
                let violation = stop_or_violation(error)?;
                outcomes
                    .violations
                    .insert(violation.property, violation.what);
                return Ok(outcomes);
            }
        };
        let mut store = StateStore::new(system.machine.layout(), self.storage);
        store.insert(&initial, 0, &initial);
        let (mut base, mut scratch) = (initial.clone(), initial.clone());
        let mut next: StateId = 0;
        let mut level_end = store.len();
        store.begin_level(0);
        while next < store.len() {
            if next == level_end {
                store.begin_level(next);
                level_end = store.len();
                outcomes.effort.depth += 1;
                if system.machine.locality_was_wrong() {
                    return Ok(outcomes);
                }
            }
            if let Some(why) = self.limit_reached(&store, started) {
                outcomes.incomplete = Some(why);
                break;
            }
            store.load(next, &mut base);
            let found = explore_ends(system, program, next, &base, &mut scratch, &mut store)?;
            outcomes.effort.transitions += found.transitions;
            outcomes.ends.extend(found.ends);
            for violation in found.violations {
                let sentence = outcomes.violations.entry(violation.property);
                sentence.or_insert(violation.what);
            }
            next += 1;
        }
        outcomes.effort.states = u64::from(store.len());
        outcomes.effort.seconds = started.elapsed().as_secs_f64();
        outcomes.effort.memory_bytes = store.memory_bytes() as u64;
        outcomes.effort.executions = system.automaton.executions();
        Ok(outcomes)
    }
}

/// What the exploration of one state found.
struct Found {
    transitions: u64,
    ends: Vec<End>,
    violations: Vec<Violation>,
}

fn explore_ends(
    system: &System<'_>,
    program: &Program,
    id: StateId,
    base: &[u8],
    scratch: &mut [u8],
    store: &mut StateStore,
) -> Result<Found, CheckError> {
    let (mut transitions, mut violations) = (0, Vec::new());
    let explored = expand(
        system,
        base,
        scratch,
        |_, state| {
            transitions += 1;
            store.insert(state, id, base);
        },
        |step, error| match error {
            StepError::Violation(violation) => {
                violations.push(violation);
                Ok(())
            }
            error => Err((step, error)),
        },
    );
    if let Err((_, error)) = explored {
        violations.push(stop_or_violation(error)?);
    }
    let mut ends = Vec::new();
    if transitions == 0 && violations.is_empty() {
        let machine = &system.machine;
        for entries in machine.entry_values(base, &program.watched_entries) {
            ends.push(End {
                atomics: machine.atomic_values(base),
                own_cells: machine.own_values(base),
                entries,
            });
        }
    }
    Ok(Found {
        transitions,
        ends,
        violations,
    })
}
