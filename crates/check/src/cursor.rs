//! The steps that may be possible in a state, one after the other: whose, which, and in which way.

use lazytlb::CpuId;
use lazytlb_model::State;

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
            Err(_) => {
                step.way < Way::LAST_AFTER_VIOLATIONS
                    && system.has_ways(nodes, state, step.cpu, step.action)
            }
        };
        if goes_on {
            self.way = step.way.next();
        } else {
            self.way = Way::FIRST;
            self.done += 1;
        }
    }
}
