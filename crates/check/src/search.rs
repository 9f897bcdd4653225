//! The search: breadth first, level by level, to a shortest violation or to exhaustion.

use std::time::{Duration, Instant};

use lazytlb_model::machine::MachineSpec;
use lazytlb_model::{CpuModel, Machine, MemoryModel, Violation};

use crate::automaton::Automaton;
pub use crate::error::CheckError;
use crate::program::Program;
use crate::step::{Action, Reduction, Step, StepError, System, Tried, Unwatched};
use crate::store::{StateId, StateStore, Storage};
use crate::timeline::Timeline;
use crate::verdict::{Effort, Finding, Verdict};

/// Checks programs: the bounds and the means of a search.
///
/// The defaults are x86-TSO, the weakest CPU, full states, no limits, one thread.
#[derive(Clone, Debug)]
pub struct Checker {
    cpu_model: CpuModel,
    memory: MemoryModel,
    pub(crate) storage: Storage,
    reduction: Reduction,
    max_states: u64,
    max_time: Duration,
    max_memory_bytes: u64,
    threads: usize,
}

/// How far a search is, for a progress display.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The work so far.
    pub effort: Effort,
    /// States found and not yet explored.
    pub waiting: u64,
}

/// States explored between two looks at the clock.
const BLOCK: StateId = 1 << 14;
/// Room for numbers of states, with some to spare for what one state leads to.
const MOST_STATES: u64 = StateId::MAX as u64 - (1 << 20);

impl Default for Checker {
    fn default() -> Self {
        Checker::new()
    }
}

/// What the exploration of some states found.
enum Explored {
    /// Nothing yet: go on.
    Nothing,
    Violated {
        at: StateId,
        step: Option<Step>,
        violation: Violation,
    },
    Failed(StepError),
}

impl Checker {
    /// Makes a checker with the defaults.
    pub fn new() -> Self {
        Checker {
            cpu_model: CpuModel::WEAKEST,
            memory: MemoryModel::TSO,
            storage: Storage::FullStates,
            reduction: Reduction::CollapseLocal,
            max_states: MOST_STATES,
            max_time: Duration::MAX,
            max_memory_bytes: u64::MAX,
            threads: 1,
        }
    }

    /// Sets the CPU model.
    pub fn cpu_model(self, cpu_model: CpuModel) -> Self {
        Checker { cpu_model, ..self }
    }

    /// Sets the memory model.
    pub fn memory(self, memory: MemoryModel) -> Self {
        Checker { memory, ..self }
    }

    /// Sets how states are remembered.
    pub fn storage(self, storage: Storage) -> Self {
        Checker { storage, ..self }
    }

    /// Sets whether local steps are collapsed.
    pub fn reduction(self, reduction: Reduction) -> Self {
        Checker { reduction, ..self }
    }

    /// Sets after how many states a search ends as incomplete.
    pub fn max_states(self, max_states: u64) -> Self {
        Checker {
            max_states: max_states.min(MOST_STATES),
            ..self
        }
    }

    /// Sets after how much time a search ends as incomplete.
    pub fn max_time(self, max_time: Duration) -> Self {
        Checker { max_time, ..self }
    }

    /// Sets at how much memory for states, in bytes, a search ends as incomplete. Tables double when they are
    /// full: allow for twice as much.
    pub fn max_memory_bytes(self, max_memory_bytes: u64) -> Self {
        Checker {
            max_memory_bytes,
            ..self
        }
    }

    /// Sets how many threads explore. Verdict and counts do not depend on it.
    pub fn threads(self, threads: usize) -> Self {
        Checker {
            threads: threads.max(1),
            ..self
        }
    }

    /// Checks a program.
    ///
    /// # Panics
    /// Where [`Checker::try_check`] returns an error.
    pub fn check(&self, program: &Program) -> Verdict {
        match self.try_check(program, |_| {}) {
            Ok(verdict) => verdict,
            Err(error) => panic!("{error}"),
        }
    }

    /// Checks a program, and tells its progress now and then.
    ///
    /// # Errors
    /// If the program's code is nondeterministic, or does not fit into the model.
    pub fn try_check(
        &self,
        program: &Program,
        mut progress: impl FnMut(Progress),
    ) -> Result<Verdict, CheckError> {
        let started = Instant::now();
        let system = self.system(program)?;
        let store = StateStore::new(system.machine.layout(), self.storage);
        let mut search = Search {
            store,
            system,
            effort: Effort::default(),
            started,
        };
        let finding = loop {
            match self.explore(program, &mut search, &mut progress)? {
                Some(finding) => break finding,
                None => {
                    search.system.machine.restart();
                    let layout = search.system.machine.layout();
                    search.store = StateStore::new(layout, self.storage);
                    search.effort = Effort::default();
                }
            }
        };
        search.update_effort();
        Ok(Verdict {
            program: program.name().to_owned(),
            cpu_model: self.cpu_model,
            memory: self.memory,
            storage: self.storage,
            reduction: self.reduction,
            uses_write_combining: program.features.write_combining > 0,
            finding,
            effort: search.effort,
            unreached: search.system.automaton.unreached(),
        })
    }

    pub(crate) fn system<'p>(&self, program: &'p Program) -> Result<System<'p>, CheckError> {
        let first_values = |words: &Vec<crate::program::DeclaredCell>| {
            words
                .iter()
                .map(|word| word.first_value)
                .collect::<Vec<_>>()
        };
        let spec = MachineSpec {
            atomics: first_values(&program.atomics),
            own_cells: program.own_cells.iter().map(first_values).collect(),
            frames: program.frames.clone(),
            page_words: program.page_words.clone(),
            entries: program.entries.clone(),
            root: program.root,
            cr4: program.cr4,
            features: program.features,
            garbage: program.garbage,
            ignored: program.ignored.clone(),
            cpu_model: self.cpu_model,
            memory: self.memory,
        };
        let machine = Machine::new(&spec).map_err(|limit| CheckError::Limit(limit.to_string()))?;
        let automaton = Automaton::new(program, self.cpu_model.quirks);
        Ok(System::new(machine, automaton, self.reduction))
    }

    /// Explores from the first state on; `None` if calls were taken for local that are not, by what was
    /// learnt on the way.
    fn explore(
        &self,
        program: &Program,
        search: &mut Search<'_>,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Option<Finding>, CheckError> {
        let initial = match search.system.initial(&mut Unwatched) {
            Ok(initial) => initial,
            Err(_) if search.system.machine.locality_was_wrong() => return Ok(None),
            Err(error) => {
                let violation = stop_or_violation(error)?;
                let system = self.system(program)?;
                system.machine.learn_from(&search.system.machine);
                let (violation, timeline) = Timeline::replay(&system, &[], &violation)?;
                return Ok(Some(Finding::Violation {
                    violation,
                    timeline,
                }));
            }
        };
        search.store.insert(&initial, 0, &initial);
        let mut level = 0..1;
        while !level.is_empty() {
            search.store.begin_level(level.start);
            for block_start in level.clone().step_by(BLOCK as usize) {
                let block = block_start..level.end.min(block_start.saturating_add(BLOCK));
                let block_end = block.end;
                let explored = if self.threads == 1 {
                    search.explore_block(block, self.max_states)
                } else {
                    search.explore_block_in_parallel(block, self.max_states, self.threads)
                };
                if search.system.machine.locality_was_wrong() {
                    return Ok(None);
                }
                match explored {
                    Explored::Nothing => {}
                    Explored::Violated {
                        at,
                        step,
                        violation,
                    } => {
                        let mut steps = search.steps_to(at, &initial);
                        steps.extend(step);
                        let system = self.system(program)?;
                        system.machine.learn_from(&search.system.machine);
                        let (violation, timeline) = Timeline::replay(&system, &steps, &violation)?;
                        return Ok(Some(Finding::Violation {
                            violation,
                            timeline,
                        }));
                    }
                    Explored::Failed(error) => {
                        stop_or_violation(error)?;
                    }
                }
                search.update_effort();
                let waiting = u64::from(search.store.len() - block_end);
                progress(Progress {
                    effort: search.effort,
                    waiting,
                });
                if let Some(why) = self.limit_reached(&search.store, search.started) {
                    return Ok(Some(Finding::Incomplete { why }));
                }
            }
            level = level.end..search.store.len();
            search.effort.depth += u64::from(!level.is_empty());
        }
        Ok(Some(Finding::Safe))
    }
}

impl Checker {
    /// Says which limit a search has reached.
    pub(crate) fn limit_reached(&self, store: &StateStore, started: Instant) -> Option<String> {
        if u64::from(store.len()) >= self.max_states {
            return Some(format!(
                "the limit of {} states was reached",
                self.max_states
            ));
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

/// Returns the violation, or the error that keeps the checker from a verdict.
pub(crate) fn stop_or_violation(error: StepError) -> Result<Violation, CheckError> {
    match error {
        StepError::Violation(violation) => Ok(violation),
        StepError::Limit(limit) => Err(CheckError::Limit(limit.to_string())),
        StepError::Nondeterminism(how) => Err(CheckError::Nondeterminism(how)),
        StepError::Unknown(_) => unreachable!("whoever takes steps extends the automaton"),
    }
}

/// A search under way.
struct Search<'p> {
    system: System<'p>,
    store: StateStore,
    effort: Effort,
    started: Instant,
}

impl Search<'_> {
    fn update_effort(&mut self) {
        self.effort.states = u64::from(self.store.len());
        self.effort.seconds = self.started.elapsed().as_secs_f64();
        self.effort.memory_bytes = self.store.memory_bytes() as u64;
        self.effort.executions = self.system.automaton.executions();
    }

    /// Explores the states of a block, until there are too many.
    fn explore_block(&mut self, block: std::ops::Range<StateId>, max_states: u64) -> Explored {
        let mut base = vec![0; self.system.machine.layout().len()];
        let mut scratch = base.clone();
        for id in block {
            if u64::from(self.store.len()) >= max_states {
                break;
            }
            self.store.load(id, &mut base);
            let store = &mut self.store;
            let result = expand(
                &self.system,
                &base,
                &mut scratch,
                |_, state| {
                    self.effort.transitions += 1;
                    store.insert(state, id, &base);
                },
                at_once,
            );
            match result {
                Ok(()) => {}
                Err((step, StepError::Violation(violation))) => {
                    return Explored::Violated {
                        at: id,
                        step,
                        violation,
                    };
                }
                Err((_, error)) => return Explored::Failed(error),
            }
        }
        Explored::Nothing
    }

    /// Lets threads compute the successors of parts of a block, then stores them in the block's order:
    /// numbers, and so the verdict, come out as with one thread.
    fn explore_block_in_parallel(
        &mut self,
        block: std::ops::Range<StateId>,
        max_states: u64,
        threads: usize,
    ) -> Explored {
        let (system, store) = (&self.system, &self.store);
        let part = (block.len().div_ceil(threads)).max(1);
        let ids: Vec<StateId> = block.collect();
        let found = std::thread::scope(|scope| {
            let workers: Vec<_> = ids
                .chunks(part)
                .map(|ids| scope.spawn(move || successors_of(system, store, ids)))
                .collect();
            let joined = workers.into_iter().map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            joined.collect::<Vec<_>>()
        });
        let len = self.system.machine.layout().len();
        let mut base = vec![0; len];
        for part in found {
            let mut states = part.states.chunks_exact(len);
            for (id, count) in part.counts {
                if u64::from(self.store.len()) >= max_states {
                    return Explored::Nothing;
                }
                self.store.load(id, &mut base);
                for state in states.by_ref().take(count) {
                    self.effort.transitions += 1;
                    self.store.insert(state, id, &base);
                }
            }
            match part.end {
                Explored::Nothing => {}
                end => return end,
            }
        }
        Explored::Nothing
    }

    /// Finds the steps that lead from the first state to `id`.
    fn steps_to(&mut self, id: StateId, initial: &[u8]) -> Vec<Step> {
        let mut state = initial.to_vec();
        let mut scratch = state.clone();
        let mut steps = Vec::new();
        for &next in &self.store.path_to(id)[1..] {
            let mut leads_on = None;
            let store = &mut self.store;
            let reached_all = expand(
                &self.system,
                &state,
                &mut scratch,
                |step, reached| {
                    if leads_on.is_none() && store.is(next, reached) {
                        leads_on = Some((step, reached.to_vec()));
                    }
                },
                at_once,
            );
            debug_assert!(
                reached_all.is_ok(),
                "only the last state of a path has a violation"
            );
            let (step, reached) = leads_on.expect("each state was reached from the one before it");
            steps.push(step);
            state = reached;
        }
        steps
    }
}

/// The successors of some states.
struct Successors {
    /// Their bytes, one after the other.
    states: Vec<u8>,
    /// For each state explored, how many successors it has.
    counts: Vec<(StateId, usize)>,
    end: Explored,
}

fn successors_of(system: &System<'_>, store: &StateStore, ids: &[StateId]) -> Successors {
    let mut base = vec![0; system.machine.layout().len()];
    let mut scratch = base.clone();
    let (mut states, mut counts) = (Vec::new(), Vec::with_capacity(ids.len()));
    for &id in ids {
        store.load(id, &mut base);
        let mut count = 0;
        let result = expand(
            system,
            &base,
            &mut scratch,
            |_, state| {
                count += 1;
                states.extend_from_slice(state);
            },
            at_once,
        );
        counts.push((id, count));
        let end = match result {
            Ok(()) => continue,
            Err((step, StepError::Violation(violation))) => Explored::Violated {
                at: id,
                step,
                violation,
            },
            Err((_, error)) => Explored::Failed(error),
        };
        return Successors {
            states,
            counts,
            end,
        };
    }
    Successors {
        states,
        counts,
        end: Explored::Nothing,
    }
}

/// Ways of one access that are tried after one of them was a violation: as many as a set has entries.
const MOST_WAYS: usize = 64;

/// A step that failed: none for a deadlock, in which there is none.
pub(crate) type StepFailed = (Option<Step>, StepError);

/// Lets an exploration end at the first violation.
fn at_once(step: Option<Step>, error: StepError) -> Result<(), StepFailed> {
    Err((step, error))
}

/// Hands every successor of a state to `found`, and every violation to `violated`, with the step that
/// leads to it, or none for a deadlock. Fails if that does.
pub(crate) fn expand(
    system: &System<'_>,
    base: &[u8],
    scratch: &mut [u8],
    mut found: impl FnMut(Step, &[u8]),
    mut violated: impl FnMut(Option<Step>, StepError) -> Result<(), StepFailed>,
) -> Result<(), StepFailed> {
    let mut stuck = true;
    let mut nodes = system.automaton.read();
    for cpu in 0..system.machine.layout().cpus() {
        for first in system.first_actions() {
            let mut action = *first;
            if !system.may_be_possible(base, Step { cpu, action }) {
                continue;
            }
            loop {
                let step = Step { cpu, action };
                scratch.copy_from_slice(base);
                match system.step(&nodes, scratch, step, &mut Unwatched) {
                    Ok(Tried::Impossible) => break,
                    Ok(Tried::Done { more }) => {
                        stuck = false;
                        found(step, scratch);
                        match (more, action) {
                            (true, Action::Call(choice)) => action = Action::Call(choice + 1),
                            (true, Action::Combined(slot)) => action = Action::Combined(slot + 1),
                            (true, Action::Broadcast(number)) => {
                                action = Action::Broadcast(number + 1);
                            }
                            _ => break,
                        }
                    }
                    Err(StepError::Unknown(missing)) => {
                        drop(nodes);
                        let extended = system.automaton.extend(missing);
                        extended.map_err(|error| (Some(step), error.into()))?;
                        nodes = system.automaton.read();
                    }
                    Err(error) => {
                        stuck = false;
                        violated(Some(step), error)?;
                        // The next way may be a good one.
                        match action {
                            Action::Call(way) if way < MOST_WAYS && system.has_ways(base, cpu) => {
                                action = Action::Call(way + 1);
                            }
                            _ => break,
                        }
                    }
                }
            }
        }
    }
    drop(nodes);
    if stuck && !system.all_ended(base) {
        violated(None, StepError::Violation(system.deadlock(base)))?;
    }
    Ok(())
}
