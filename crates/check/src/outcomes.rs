//! Everything that a program can end in: the final values of its cells, over all executions.
//!
//! A search for violations stops at the first; this one goes on, and collects. It is what answers a litmus
//! test: is an end in which the condition holds among them?

use std::collections::{BTreeMap, BTreeSet};

use lazytlb_model::{Machine, Property, State};

use crate::checker::{Checker, Explored};
use crate::error::CheckError;
use crate::expand::AfterViolation;
use crate::explore::{Ended, Found, Visitor};
use crate::program::Program;
use crate::store::StateId;
use crate::timeline::Timeline;
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

/// What an execution came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome<'o> {
    /// To an end.
    End(&'o End),
    /// To a violation of this property.
    Violation(Property),
}

/// Executions, each one of the shortest in steps to what it comes to, replayed through the real code.
#[derive(Clone, Debug, Default)]
pub struct Executions {
    /// One whose outcome is wanted, and that outcome, if there is one.
    pub wanted: Option<(ReachedOutcome, Timeline)>,
    /// One for each property that some execution violates.
    pub violations: BTreeMap<Property, Timeline>,
}

/// What a replayed execution came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReachedOutcome {
    /// To an end.
    End(End),
    /// To a violation of this property.
    Violation(Property),
}

impl Checker {
    /// Explores all executions of a program, and collects their ends. Limits and threads are those of a
    /// check. With several threads, which of several entries a violation's sentence names may differ;
    /// nothing else does. The code does not run a second time, as it does before a verdict
    /// ([`Checker::try_check_built`]): it is to be an interpreter, or one that was checked.
    ///
    /// # Errors
    /// If the program's code is nondeterministic, or does not fit into the model.
    pub fn outcomes(&self, program: &Program) -> Result<Outcomes, CheckError> {
        let ignore = |_| {};
        self.watched(program, ignore, |checker, program, _| {
            let program = program.in_one_range();
            let mut collection = Collection::new(&program, |_| false);
            Ok(checker.collect(&program, &mut collection)?.0)
        })
    }

    /// As [`Checker::outcomes`], and hands out executions: one whose outcome is wanted, and one for each
    /// property that is violated.
    ///
    /// # Errors
    /// As [`Checker::outcomes`]; also if an execution does not replay, which is nondeterminism.
    pub fn outcomes_with_executions(
        &self,
        program: &Program,
        is_wanted: impl Fn(Outcome<'_>) -> bool,
    ) -> Result<(Outcomes, Executions), CheckError> {
        let program = &*program.in_one_range();
        let mut collection = Collection::new(program, is_wanted);
        let (outcomes, mut exploration) = self.collect(program, &mut collection)?;
        let mut executions = Executions::default();
        for (property, found) in &collection.violations {
            let steps = exploration.steps_to_violation(found)?;
            let steps = steps.expect("no generations are said to count apart");
            let system = self.fresh_system(program, &exploration)?;
            let (_, timeline) = Timeline::replay(&system, &steps, &found.violation)?;
            executions.violations.insert(*property, timeline);
        }
        executions.wanted = match collection.wanted {
            None => None,
            Some(Wanted::Violation(property)) => {
                let timeline = executions.violations.get(&property).cloned();
                timeline.map(|timeline| (ReachedOutcome::Violation(property), timeline))
            }
            Some(Wanted::End(id, end)) => {
                let steps = exploration.steps_to(id);
                let system = self.fresh_system(program, &exploration)?;
                let is_it = |machine: &Machine, state: &State| {
                    ends_of(program, machine, state).any(|reached| reached == end)
                };
                let timeline = Timeline::replay_to_end(&system, &steps, is_it)?;
                Some((ReachedOutcome::End(end), timeline))
            }
        };
        Ok((outcomes, executions))
    }

    fn collect<'p>(
        &self,
        program: &'p Program,
        collection: &mut Collection<'_, impl Fn(Outcome<'_>) -> bool>,
    ) -> Result<(Outcomes, Explored<'p>), CheckError> {
        let (exploration, ended) = self.explore(program, collection)?;
        let incomplete = match ended {
            Ended::AtLimit(why) => Some(why),
            _ if exploration.system.left_ways_out() => {
                Some("an access has more ways than are tried after a violation".to_owned())
            }
            Ended::Exhausted
            | Ended::AtViolation
            | Ended::NeedsMoreFeatures
            | Ended::ComparesRanges => None,
        };
        let outcomes = Outcomes {
            incomplete,
            effort: exploration.effort,
            ..std::mem::take(&mut collection.outcomes)
        };
        Ok((outcomes, exploration))
    }
}

/// Collects ends and violations, and how to come to the first that is wanted.
struct Collection<'p, F> {
    program: &'p Program,
    is_wanted: F,
    outcomes: Outcomes,
    wanted: Option<Wanted>,
    /// The first violation of each property.
    violations: BTreeMap<Property, Found>,
}

/// The first outcome that is wanted.
enum Wanted {
    End(StateId, End),
    Violation(Property),
}

impl<'p, F: Fn(Outcome<'_>) -> bool> Collection<'p, F> {
    fn new(program: &'p Program, is_wanted: F) -> Self {
        Collection {
            program,
            is_wanted,
            outcomes: Outcomes::default(),
            wanted: None,
            violations: BTreeMap::new(),
        }
    }
}

impl<F: Fn(Outcome<'_>) -> bool> Visitor for Collection<'_, F> {
    const AFTER_VIOLATION: AfterViolation = AfterViolation::GoOn;
    const LOOKS_AGAIN: bool = false;

    fn begin(&mut self) {
        self.outcomes = Outcomes::default();
        self.wanted = None;
        self.violations.clear();
    }

    fn violated(&mut self, found: Found) {
        let property = found.violation.property;
        if self.outcomes.violations.contains_key(&property) {
            return;
        }
        let sentence = found.violation.what.clone();
        self.outcomes.violations.insert(property, sentence);
        if self.wanted.is_none() && (self.is_wanted)(Outcome::Violation(property)) {
            self.wanted = Some(Wanted::Violation(property));
        }
        self.violations.insert(property, found);
    }

    fn ended(&mut self, machine: &Machine, id: StateId, state: &State) {
        for end in ends_of(self.program, machine, state) {
            if self.wanted.is_none() && (self.is_wanted)(Outcome::End(&end)) {
                self.wanted = Some(Wanted::End(id, end.clone()));
            }
            self.outcomes.ends.insert(end);
        }
    }

    fn progressed(&mut self, _effort: Effort, _waiting: StateId) {}
}

/// Lists the ends that a state stands for: one for each value of an A bit that speculation may have set.
fn ends_of<'s>(
    program: &Program,
    machine: &'s Machine,
    state: &'s State,
) -> impl Iterator<Item = End> + use<'s> {
    let entries = machine.entry_values(state, &program.watched_entries);
    entries.into_iter().map(|entries| End {
        atomics: machine.atomic_values(state),
        own_cells: machine.own_values(state),
        entries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Cursor;
    use crate::step::{StepError, Unwatched};
    use lazytlb::VirtAddr;
    use lazytlb_model::{Privilege, Violation};

    fn violation(number: usize) -> StepError {
        StepError::Violation(Violation {
            property: Property::StaleUse,
            cpu: Some(0),
            frame: None,
            through: None,
            what: format!("way {number}"),
        })
    }

    /// Returns how many ways were tried of an access of which each was a violation, and whether the system
    /// knows that there may have been more.
    fn tried(violation_of: impl Fn(usize) -> StepError) -> (usize, bool) {
        let mut program = Program::new("ways", 1);
        program.features().page_table_entries = 1;
        program.operation(0, "load", |hw| {
            hw.load_virtual(VirtAddr(0), Privilege::Supervisor);
        });
        let system = Checker::new().exploration(&program).unwrap().system;
        let state = system.initial(&mut Unwatched).unwrap();
        let mut cursor = Cursor::new(&system);
        for number in 0.. {
            let Some(step) = cursor.step(&system, &state) else {
                return (number, system.left_ways_out());
            };
            let result = Err(violation_of(number));
            cursor.tried(&system, &system.automaton.read(), &state, step, &result);
        }
        unreachable!("a cursor ends")
    }

    #[test]
    fn ways_that_are_left_out_are_known() {
        let most = 257;
        assert_eq!(tried(violation), (most, true));
        assert_eq!(
            tried(|_| violation(0)),
            (most, false),
            "what every way comes to"
        );
    }
}
