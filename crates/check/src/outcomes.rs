//! Everything that a program can end in: the final values of its cells, over all executions.
//!
//! A search for violations stops at the first; this one goes on, and collects. It is what answers a litmus
//! test: is an end in which the condition holds among them?

use std::collections::{BTreeMap, BTreeSet};

use lazytlb_model::{Machine, Property, State};

use crate::error::CheckError;
use crate::expand::AfterViolation;
use crate::explore::{Ended, Found, Visitor};
use crate::program::Program;
use crate::search::Checker;
use crate::store::StateId;
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
            checker.collect(program)
        })
    }

    fn collect(&self, program: &Program) -> Result<Outcomes, CheckError> {
        let mut collection = Collection {
            program,
            outcomes: Outcomes::default(),
        };
        let (exploration, ended) = self.explore(program, &mut collection)?;
        let incomplete = match ended {
            Ended::AtLimit(why) => Some(why),
            Ended::Exhausted | Ended::AtViolation | Ended::NeedsFetches => None,
        };
        Ok(Outcomes {
            incomplete,
            effort: exploration.effort,
            ..collection.outcomes
        })
    }
}

/// Collects ends and violations.
struct Collection<'p> {
    program: &'p Program,
    outcomes: Outcomes,
}

impl Visitor for Collection<'_> {
    const AFTER_VIOLATION: AfterViolation = AfterViolation::GoOn;

    fn begin(&mut self) {
        self.outcomes = Outcomes::default();
    }

    fn violated(&mut self, found: Found) {
        let sentence = self.outcomes.violations.entry(found.violation.property);
        sentence.or_insert(found.violation.what);
    }

    fn ended(&mut self, machine: &Machine, state: &State) {
        for entries in machine.entry_values(state, &self.program.watched_entries) {
            self.outcomes.ends.insert(End {
                atomics: machine.atomic_values(state),
                own_cells: machine.own_values(state),
                entries,
            });
        }
    }

    fn progressed(&mut self, _effort: Effort, _waiting: StateId) {}
}
