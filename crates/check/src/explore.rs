//! One exploration, for whoever asks: every state that a program can be in, each visited once.
//!
//! What is asked stands in a [`Visitor`]: the search for a violation stops at the first, the collection of
//! ends goes on. What states are remembered by ([`Store`]), in which order they come ([`Order`]), which
//! steps are merged ([`Merge`]) and which states count as one ([`CanonicalForm`]) are traits, chosen when
//! the exploration is made; none of them costs a call in the inner loop.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use lazytlb_model::{Machine, State, Violation};

use crate::automaton::spin::MANY_PLACES;
use crate::error::CheckError;
use crate::expand::{AfterViolation, Expanded, expand, expand_all};
use crate::order::Order;
use crate::reduction::{CanonicalForm, Merge, Reduction};
use crate::rests_on::Stretched;
use crate::step::{Step, StepError, Unwatched};
use crate::store::{StateId, Store};
use crate::system::System;
use crate::unrenamed::unrenamed;
use crate::verdict::Effort;

/// What an exploration is for.
pub(crate) trait Visitor {
    /// Whether the exploration ends at the first violation.
    const AFTER_VIOLATION: AfterViolation;

    /// Whether states in which code polls are looked at once more when all are known ([`crate::livelock`]).
    const LOOKS_AGAIN: bool;

    /// Learns that an exploration begins. If there was one before, it was worthless: forget it.
    fn begin(&mut self);

    /// Learns of a violation. The order is that of the states, then that of their steps.
    fn violated(&mut self, found: Found);

    /// Learns of a state in which all CPUs have ended, and nothing is left to come but timer interrupts.
    fn ended(&mut self, machine: &Machine, id: StateId, state: &State);

    /// Learns now and then how far the exploration is.
    fn progressed(&mut self, effort: Effort, waiting: StateId);
}

/// A violation, and where it was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) violation: Violation,
    /// The state whose step it is; `None` before the first state.
    pub(crate) from: Option<StateId>,
    /// The step; `None` if there is none, which is a deadlock.
    pub(crate) step: Option<Step>,
}

/// When an exploration ends before it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_states: u64,
    pub(crate) max_time: Duration,
    pub(crate) max_memory_bytes: u64,
}

impl Limits {
    /// Says which limit is reached.
    fn reached(&self, store: &impl Store, started: Instant) -> Option<String> {
        if u64::from(store.len()) >= self.max_states {
            let most = self.max_states;
            return Some(format!("the limit of {most} states was reached"));
        }
        if store.memory_bytes() as u64 >= self.max_memory_bytes {
            let mebibytes = self.max_memory_bytes >> 20;
            return Some(format!(
                "the limit of {mebibytes} MiB for states was reached"
            ));
        }
        if self.max_time != Duration::MAX && started.elapsed() >= self.max_time {
            return Some(format!("the limit of {:?} was reached", self.max_time));
        }
        None
    }
}

/// So many places in code that it may be a loop which spins.
struct Suspicious {
    places: usize,
}

/// How an exploration ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// Every state was visited.
    Exhausted,
    /// At a violation.
    AtViolation,
    /// At a limit: this one.
    AtLimit(String),
    /// Before it was complete: the machine lacks something that the program turned out to use.
    NeedsMoreFeatures,
    /// The code compares generations that are said to count apart: what was found holds of no other program.
    ComparesRanges,
}

/// Why an exploration under way does not go on.
enum Halt {
    AtViolation,
    /// Calls were taken for local that are not, by what was learnt on the way.
    Worthless,
    Failed(StepError),
}

/// An exploration: the system, the states found, and the order in which they are visited.
pub(crate) struct Exploration<'p, C, S, O, M = Reduction> {
    pub(crate) system: System<'p, M>,
    pub(crate) form: C,
    pub(crate) store: S,
    pub(crate) order: O,
    pub(crate) limits: Limits,
    pub(crate) threads: usize,
    pub(crate) started: Instant,
    pub(crate) effort: Effort,
    /// What was tested of the code once all of it was known.
    pub(crate) stretched: Option<Stretched>,
}

/// Blocks with fewer states for each thread are explored by one: starting threads would take longer.
const WORTH_A_THREAD: usize = 64;

impl<C, S, O, M> Exploration<'_, C, S, O, M>
where
    C: CanonicalForm,
    S: Store,
    O: Order + Default,
    M: Merge,
{
    /// Explores from the first state on; again, if calls were taken for local that are not.
    ///
    /// # Errors
    /// If the program's code is nondeterministic, or does not fit into the model.
    pub(crate) fn run<V: Visitor>(&mut self, visitor: &mut V) -> Result<Ended, CheckError> {
        let ended = loop {
            visitor.begin();
            match self.run_once(visitor) {
                ControlFlow::Continue(None) => break Ended::Exhausted,
                ControlFlow::Continue(Some(limit)) => break Ended::AtLimit(limit),
                ControlFlow::Break(Halt::AtViolation) => break Ended::AtViolation,
                ControlFlow::Break(Halt::Worthless)
                    if self.system.hardware.machine().needs_more_features() =>
                {
                    return Ok(Ended::NeedsMoreFeatures);
                }
                ControlFlow::Break(Halt::Worthless) => self.restart(),
                ControlFlow::Break(Halt::Failed(StepError::ReadsDead(word))) => {
                    let dead = self.system.dead_words.as_ref();
                    dead.expect("it has told so").keep(word);
                    self.restart();
                }
                ControlFlow::Break(Halt::Failed(StepError::StoresUnstored)) => self.restart(),
                ControlFlow::Break(Halt::Failed(error)) => {
                    error.into_violation()?;
                    unreachable!("violations are for the visitor")
                }
            }
        };
        self.update_effort();
        let rehearsed = self.system.automaton.rehearse_all();
        or_error(rehearsed.map_err(StepError::from))?;
        // A violation is replayed without new names: whatever the code does with generations, it is one.
        match ended {
            Ended::AtViolation => Ok(ended),
            ended => self.test_code(ended),
        }
    }

    /// Tests what the form relies on, and so how the exploration has ended.
    ///
    /// # Errors
    /// If the code is not what it is said to be.
    fn test_code(&mut self, ended: Ended) -> Result<Ended, CheckError> {
        match self.form.test_code(&self.system.automaton) {
            Err(StepError::ComparesRanges) => Ok(Ended::ComparesRanges),
            tested => {
                self.stretched = or_error(tested)?;
                Ok(ended)
            }
        }
    }

    fn restart(&mut self) {
        self.system.hardware.machine().restart();
        self.store.clear();
        self.order = O::default();
        self.effort = Effort::default();
    }

    /// Explores until all is done, or a limit is reached: then it is returned.
    fn run_once<V: Visitor>(&mut self, visitor: &mut V) -> ControlFlow<Halt, Option<String>> {
        let mut suspicious = Suspicious {
            places: MANY_PLACES,
        };
        let initial = self.initial();
        self.check_locality()?;
        match initial {
            Ok(initial) => {
                self.store.insert(&initial, 0, &initial);
            }
            Err(StepError::Violation(violation)) => {
                visitor.violated(Found {
                    violation,
                    from: None,
                    step: None,
                });
                return go_on_after::<V>().map_continue(|()| None);
            }
            Err(error) => return ControlFlow::Break(Halt::Failed(error)),
        }
        while let Some(block) = self.order.next_block(self.store.len()) {
            if !(V::LOOKS_AGAIN && self.system.automaton.read().has_heads()) {
                self.store.forget_before(block.first_needed);
            }
            self.effort.depth = self.order.depth();
            let states = block.states;
            let explored = if states.len() < self.threads * WORTH_A_THREAD || self.threads == 1 {
                self.explore_alone(states, visitor)
            } else {
                self.explore_in_parallel(states, visitor)
            };
            self.check_spin(&mut suspicious)?;
            self.check_locality()?;
            explored?;
            self.update_effort();
            let waiting = self.order.waiting(self.store.len());
            visitor.progressed(self.effort, waiting);
            // Where nothing waits, all is done, however late. But a full store leaves states of a block out.
            if (waiting > 0 || self.is_full())
                && let Some(limit) = self.limits.reached(&self.store, self.started)
            {
                return ControlFlow::Continue(Some(limit));
            }
        }
        ControlFlow::Continue(None)
    }

    fn initial(&self) -> Result<Vec<u8>, StepError> {
        let state = self.system.initial(&mut Unwatched)?;
        self.system.formed(&self.form, &state)
    }

    fn check_locality(&self) -> ControlFlow<Halt> {
        match self.system.hardware.machine().locality_was_wrong() {
            true => ControlFlow::Break(Halt::Worthless),
            false => ControlFlow::Continue(()),
        }
    }

    /// Looks for a loop that spins, whenever so many places have become twice as many.
    fn check_spin(&self, suspicious: &mut Suspicious) -> ControlFlow<Halt> {
        let places = self.system.automaton.read().count();
        if places < suspicious.places {
            return ControlFlow::Continue(());
        }
        suspicious.places = 2 * places;
        match self.system.spin_loop() {
            Some(spin) => ControlFlow::Break(Halt::Failed(spin)),
            None => ControlFlow::Continue(()),
        }
    }

    fn update_effort(&mut self) {
        self.effort.states = u64::from(self.store.len());
        self.effort.seconds = self.started.elapsed().as_secs_f64();
        self.effort.memory_bytes = self.store.memory_bytes() as u64;
        self.effort.executions = self.system.automaton.executions();
    }

    fn is_full(&self) -> bool {
        u64::from(self.store.len()) >= self.limits.max_states
    }

    /// Explores states one after the other, until there are too many.
    fn explore_alone<V: Visitor>(
        &mut self,
        states: std::ops::Range<StateId>,
        visitor: &mut V,
    ) -> ControlFlow<Halt> {
        let mut base = vec![0; self.system.hardware.state_len()];
        let mut scratch = base.clone();
        for id in states {
            if self.is_full() {
                break;
            }
            self.store.load(id, &mut base);
            let mut expanded = Expanded::new(id);
            let store = &mut self.store;
            let result = expand(
                &self.system,
                &self.form,
                &base,
                &mut scratch,
                |_, state| {
                    expanded.successors += 1;
                    store.insert(state, id, &base);
                },
                |step, violation| {
                    expanded.violations.push((step, violation));
                    V::AFTER_VIOLATION
                },
            );
            match result {
                Ok(is_end) => expanded.is_end = is_end,
                Err(error) => return ControlFlow::Break(Halt::Failed(error)),
            }
            self.effort.transitions += expanded.successors;
            self.report(expanded, &base, visitor)?;
        }
        ControlFlow::Continue(())
    }

    /// Lets threads compute the successors of parts of a block, then stores them in the block's order:
    /// numbers, and so all that is found, come out as with one thread.
    fn explore_in_parallel<V: Visitor>(
        &mut self,
        states: std::ops::Range<StateId>,
        visitor: &mut V,
    ) -> ControlFlow<Halt> {
        let (system, form, store) = (&self.system, &self.form, &self.store);
        let part = (states.len().div_ceil(self.threads)).max(1);
        let ids: Vec<StateId> = states.collect();
        let found = std::thread::scope(|scope| {
            let workers: Vec<_> = ids
                .chunks(part)
                .map(|ids| {
                    scope.spawn(move || expand_all(system, form, store, ids, V::AFTER_VIOLATION))
                })
                .collect();
            let joined = workers.into_iter().map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            joined.collect::<Vec<_>>()
        });
        let len = self.system.hardware.state_len();
        let mut base = vec![0; len];
        for part in found {
            let mut states = part.states.chunks_exact(len);
            for expanded in part.expanded {
                if self.is_full() {
                    return ControlFlow::Continue(());
                }
                let id = expanded.id;
                self.store.load(id, &mut base);
                for state in states.by_ref().take(expanded.successors as usize) {
                    self.store.insert(state, id, &base);
                }
                self.effort.transitions += expanded.successors;
                self.report(expanded, &base, visitor)?;
            }
            if let Some(error) = part.error {
                return ControlFlow::Break(Halt::Failed(error));
            }
        }
        ControlFlow::Continue(())
    }

    /// Hands what was found at a state to the visitor.
    #[inline(always)]
    fn report<V: Visitor>(
        &self,
        expanded: Expanded,
        state: &State,
        visitor: &mut V,
    ) -> ControlFlow<Halt> {
        if expanded.is_end {
            visitor.ended(self.system.hardware.machine(), expanded.id, state);
        }
        for (step, violation) in expanded.violations {
            let from = Some(expanded.id);
            visitor.violated(Found {
                violation,
                from,
                step,
            });
            go_on_after::<V>()?;
        }
        ControlFlow::Continue(())
    }

    /// Finds the steps that lead from the first state to a violation, none of them renamed; `None` if there are none
    /// where generations are said to count apart: then that may be false.
    ///
    /// # Errors
    /// If there are none, because the code is not what the form relies on.
    pub(crate) fn steps_to_violation(
        &mut self,
        found: &Found,
    ) -> Result<Option<Vec<Step>>, CheckError> {
        let Some(from) = found.from else {
            return Ok(Some(Vec::new()));
        };
        let mut steps = self.steps_to(from);
        steps.extend(found.step);
        self.plain_steps(steps, &found.violation)
    }

    /// Finds the steps that lead along the same states as these do from the first one, none of them renamed.
    ///
    /// # Errors
    /// As [`Exploration::steps_to_violation`].
    pub(crate) fn plain_steps(
        &mut self,
        steps: Vec<Step>,
        violation: &Violation,
    ) -> Result<Option<Vec<Step>>, CheckError> {
        if !self.form.renames() {
            return Ok(Some(steps));
        }
        let initial = self.system.initial(&mut Unwatched);
        let initial = initial.expect("it was made before");
        if let Some(plain) = unrenamed(&self.system, &self.form, initial, &steps) {
            return Ok(Some(plain));
        }
        self.test_code(Ended::AtViolation)?;
        if self.system.automaton.program.claims_ranges() {
            return Ok(None);
        }
        Err(CheckError::Nondeterminism(format!(
            "a violation was met with new names for generations, and is none without: {}",
            violation.what
        )))
    }

    /// Finds the steps that lead from the first state to `id`.
    pub(crate) fn steps_to(&mut self, id: StateId) -> Vec<Step> {
        let mut state = self.initial().expect("it was made before");
        let mut scratch = state.clone();
        let mut steps = Vec::new();
        for &next in &self.store.path_to(id)[1..] {
            let mut leads_on = None;
            let store = &mut self.store;
            let reached_all = expand(
                &self.system,
                &self.form,
                &state,
                &mut scratch,
                |step, reached| {
                    if leads_on.is_none() && store.is(next, reached) {
                        leads_on = Some((step, reached.to_vec()));
                    }
                },
                |_, _| AfterViolation::Stop,
            );
            debug_assert!(reached_all.is_ok(), "each state was expanded before");
            let (step, reached) = leads_on.expect("each state was reached from the one before it");
            steps.push(step);
            state = reached;
        }
        steps
    }
}

/// Turns the error of code that is not what it must be into the check's.
fn or_error<T>(tested: Result<T, StepError>) -> Result<T, CheckError> {
    tested.or_else(|error| {
        error.into_violation()?;
        unreachable!("code that is not what it must be is an error, not a violation")
    })
}

fn go_on_after<V: Visitor>() -> ControlFlow<Halt> {
    match V::AFTER_VIOLATION {
        AfterViolation::Stop => ControlFlow::Break(Halt::AtViolation),
        AfterViolation::GoOn => ControlFlow::Continue(()),
    }
}
