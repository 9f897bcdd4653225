//! The steps that may be possible in a state, one after the other: whose, which, and in which way.

use lazytlb::CpuId;
use lazytlb_model::{State, Violation};

use crate::automaton::Nodes;
use crate::hardware::{Tried, Way, Ways};
use crate::reduction::Merge;
use crate::step::{Step, StepError};
use crate::system::System;

/// Walks over the steps of a state: CPU by CPU, action by action, way by way.
///
/// Which comes next hangs on what trying the one before came to: so it is asked for the step, and told the
/// result, in turn.
///
/// ```text
///            ┌── impossible, or the last way ──► the next action, then the next CPU
///   step() ──┼── more ways, or a violation in one of several ──► the same action, the next way
///            └── a node is not known yet ──► the same step again
/// ```
pub(crate) struct Cursor {
    cpus: u16,
    cpu: CpuId,
    /// How many of the CPU's actions are done with.
    done: usize,
    way: Way,
    /// What trying the first way came to, if that was a violation.
    first_violation: Option<Box<Violation>>,
}

impl Cursor {
    /// Makes a cursor at the first step.
    #[inline]
    pub(crate) fn new<M: Merge>(system: &System<'_, M>) -> Self {
        Cursor {
            cpus: system.hardware.cpus().len() as u16,
            cpu: CpuId(0),
            done: 0,
            way: Way::FIRST,
            first_violation: None,
        }
    }

    /// Returns the step to try now in `state`; `None` if all were tried.
    #[inline(always)]
    pub(crate) fn step<M: Merge>(&mut self, system: &System<'_, M>, state: &State) -> Option<Step> {
        while self.cpu.0 < self.cpus {
            let (cpu, way) = (self.cpu, self.way);
            while let Some(&action) = system.actions().get(self.done) {
                if way != Way::FIRST || system.may_be_possible(state, cpu, action) {
                    return Some(Step { cpu, action, way });
                }
                self.done += 1;
            }
            self.done = 0;
            self.cpu = CpuId(cpu.0 + 1);
        }
        None
    }

    /// Moves on from a step by what trying it in `state` came to.
    #[inline]
    pub(crate) fn tried<M: Merge>(
        &mut self,
        system: &System<'_, M>,
        nodes: &Nodes,
        state: &State,
        step: Step,
        result: &Result<Tried, StepError>,
    ) {
        let goes_on = match result {
            Ok(Tried::Impossible) => false,
            Ok(Tried::Done(ways)) => *ways == Ways::More,
            Err(StepError::Unknown(_)) => return,
            // The next way may be a good one.
            Err(error) => {
                system.has_ways(nodes, state, step.cpu, step.action)
                    && self.goes_on_after(system, step.way, error)
            }
        };
        if goes_on {
            self.way = step.way.next();
        } else {
            self.way = Way::FIRST;
            self.done += 1;
        }
    }

    /// Says whether there is a way to try after one that was a violation; where there may be more than are
    /// tried, the system learns of it. What every way comes to, whichever it is, is no way of its own.
    #[cold]
    fn goes_on_after<M: Merge>(
        &mut self,
        system: &System<'_, M>,
        way: Way,
        error: &StepError,
    ) -> bool {
        let violation = match error {
            StepError::Violation(violation) => Some(violation),
            _ => None,
        };
        if way == Way::FIRST {
            self.first_violation = violation.cloned().map(Box::new);
        }
        if way < Way::LAST_AFTER_VIOLATIONS {
            return true;
        }
        if self.first_violation.as_deref() != violation {
            system.leave_ways_out();
        }
        false
    }
}
