//! The search: breadth first, level by level, to a shortest violation or to exhaustion.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lazytlb_model::machine::MachineSpec;
use lazytlb_model::{CpuModel, Features, Machine, MemoryModel, State};

use crate::automaton::Automaton;
pub use crate::error::CheckError;
use crate::expand::AfterViolation;
use crate::explore::{Ended, Exploration, Found, Limits, Visitor};
use crate::hardware::Hardware;
use crate::order::BreadthFirst;
use crate::program::{DeclaredCell, Program};
use crate::reduction::{AsItIs, Reduction};
use crate::second_run::SecondRun;
use crate::store::{StateId, StateStore, Storage};
use crate::system::System;
use crate::timeline::Timeline;
use crate::verdict::{Effort, Finding, Verdict};
use crate::watchdog::{self, Pulse};

/// Checks programs: the bounds and the means of a search.
///
/// The defaults are x86-TSO, the weakest CPU, full states, no limits, one thread.
#[derive(Clone, Debug)]
pub struct Checker {
    cpu_model: CpuModel,
    memory: MemoryModel,
    storage: Storage,
    reduction: Reduction,
    limits: Limits,
    threads: usize,
    /// Tells whoever waits for a check what code runs in it.
    pulse: Arc<Pulse>,
}

/// An exploration as the checker makes it.
pub(crate) type Explored<'p> = Exploration<'p, AsItIs, StateStore, BreadthFirst>;

/// How far a search is, for a progress display.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The work so far.
    pub effort: Effort,
    /// States found and not yet explored.
    pub waiting: u64,
}

/// Room for numbers of states, with some to spare for what one state leads to.
pub(crate) const MOST_STATES: u64 = StateId::MAX as u64 - (1 << 20);

impl Default for Checker {
    fn default() -> Self {
        Checker::new()
    }
}

impl Checker {
    /// Makes a checker with the defaults.
    pub fn new() -> Self {
        Checker {
            cpu_model: CpuModel::WEAKEST,
            memory: MemoryModel::TSO,
            storage: Storage::FullStates,
            reduction: Reduction::CollapseLocal,
            limits: Limits {
                max_states: MOST_STATES,
                max_time: Duration::MAX,
                max_memory_bytes: u64::MAX,
            },
            threads: 1,
            pulse: Arc::default(),
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
    pub fn max_states(mut self, max_states: u64) -> Self {
        self.limits.max_states = max_states.min(MOST_STATES);
        self
    }

    /// Sets after how much time a search ends as incomplete.
    pub fn max_time(mut self, max_time: Duration) -> Self {
        self.limits.max_time = max_time;
        self
    }

    /// Sets at how much memory for states, in bytes, a search ends as incomplete. Tables double when they are
    /// full: allow for twice as much.
    pub fn max_memory_bytes(mut self, max_memory_bytes: u64) -> Self {
        self.limits.max_memory_bytes = max_memory_bytes;
        self
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
    /// Before the verdict, the code runs once more, in another order, and must do the same. State that it keeps
    /// outside of the program's words is seen better where the code can start anew: [`Checker::try_check_built`].
    ///
    /// # Errors
    /// If the program's code is nondeterministic, does not come back, or does not fit into the model.
    pub fn try_check(
        &self,
        program: &Program,
        progress: impl FnMut(Progress),
    ) -> Result<Verdict, CheckError> {
        self.search_twice(program, progress, || program.clone())
    }

    /// Checks the program that a function builds, as [`Checker::try_check_built`].
    ///
    /// # Panics
    /// Where [`Checker::try_check_built`] returns an error.
    pub fn check_built(&self, build: impl FnMut() -> Program) -> Verdict {
        match self.try_check_built(build, |_| {}) {
            Ok(verdict) => verdict,
            Err(error) => panic!("{error}"),
        }
    }

    /// Checks the program that a function builds, and tells its progress now and then. Before the verdict, the
    /// code runs once more in programs that are built anew, with nothing left in them of the first run.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicBool, Ordering};
    /// use lazytlb::Hw;
    /// use lazytlb_check::{CheckError, Checker, Program};
    ///
    /// // The flag is no word of the program: once it is set, it is set in every execution.
    /// let build = || {
    ///     let mut program = Program::new("captured", 1);
    ///     let (word, was_here) = (program.atomic("word", 0), Arc::new(AtomicBool::new(false)));
    ///     program.operation(0, "once", move |hw| {
    ///         let is_first = !was_here.swap(true, Ordering::Relaxed);
    ///         hw.store(&word, 1);
    ///         if is_first {
    ///             hw.store(&word, 2);
    ///         }
    ///     });
    ///     program
    /// };
    /// let error = Checker::new().try_check_built(build, |_| {}).unwrap_err();
    /// assert!(matches!(error, CheckError::Nondeterminism(_)));
    /// ```
    ///
    /// # Errors
    /// As [`Checker::try_check`]; and if the function does not build the same program each time.
    pub fn try_check_built(
        &self,
        mut build: impl FnMut() -> Program,
        progress: impl FnMut(Progress),
    ) -> Result<Verdict, CheckError> {
        let program = build();
        self.search_twice(&program, progress, build)
    }

    /// Searches, then runs all code once more, in programs that are made anew.
    fn search_twice(
        &self,
        program: &Program,
        progress: impl FnMut(Progress),
        again: impl FnMut() -> Program,
    ) -> Result<Verdict, CheckError> {
        let (verdict, second) = self.watched(program, progress, |checker, program, tell| {
            checker.search(program, tell)
        })?;
        second.hold_against(program, self.limits.max_time, again)?;
        Ok(verdict)
    }

    /// Does something with a program on a thread that can be left behind, if the program's code does not come back.
    pub(crate) fn watched<T: Send + 'static>(
        &self,
        program: &Program,
        progress: impl FnMut(Progress),
        work: impl FnOnce(&Checker, &Program, &dyn Fn(Progress)) -> Result<T, CheckError>
        + Send
        + 'static,
    ) -> Result<T, CheckError> {
        let pulse = Arc::<Pulse>::default();
        let checker = Checker {
            pulse: Arc::clone(&pulse),
            ..self.clone()
        };
        let its_own = program.clone();
        let patience = watchdog::patience(self.limits.max_time);
        watchdog::watched(&pulse, patience, progress, move |tell| {
            work(&checker, &its_own, tell)
        })
        .map_err(|hung| hung.told(program))?
    }

    /// Searches a program for a violation.
    fn search(
        &self,
        program: &Program,
        tell: &dyn Fn(Progress),
    ) -> Result<(Verdict, SecondRun), CheckError> {
        let mut search = Search { found: None, tell };
        let (mut exploration, ended) = self.explore(program, &mut search)?;
        let rests_on = exploration.system.automaton.rests_on();
        let finding = match (ended, search.found) {
            (_, Some(found)) => self.replay(program, &mut exploration, &found)?,
            (Ended::AtLimit(why), None) => Finding::Incomplete { why },
            (Ended::Exhausted, None) => Finding::of_exhausted(rests_on, program.proves.as_deref()),
            (Ended::AtViolation | Ended::NeedsMoreFeatures, None) => {
                unreachable!("the search learns of every violation")
            }
        };
        let (effort, automaton) = (exploration.effort, &exploration.system.automaton);
        let verdict = Verdict {
            program: program.name().to_owned(),
            cpu_model: self.cpu_model,
            memory: self.memory,
            storage: self.storage,
            reduction: self.reduction,
            uses_write_combining: program.features.write_combining > 0,
            uses_pcids: program.features.tags,
            finding,
            effort: Effort {
                seconds: exploration.started.elapsed().as_secs_f64(),
                ..effort
            },
            rests_on,
            proves: program.proves.clone(),
            unreached: automaton.unreached(),
            never_happened: automaton.never_happened(),
        };
        let second = SecondRun {
            ways: automaton.ways(),
            quirks: self.cpu_model.quirks,
            longest: self.pulse.longest(),
        };
        Ok((verdict, second))
    }

    /// Explores a program; once more if it turns out to use what costs only the programs that do.
    pub(crate) fn explore<'p>(
        &self,
        program: &'p Program,
        visitor: &mut impl Visitor,
    ) -> Result<(Explored<'p>, Ended), CheckError> {
        let started = Instant::now();
        let mut features = program.features_in_use();
        loop {
            let mut exploration = self.exploration_with(program, features)?;
            exploration.started = started;
            match exploration.run(visitor)? {
                Ended::NeedsMoreFeatures => {
                    let machine = exploration.system.hardware.machine();
                    features = machine.features_that_turned_up();
                }
                ended => return Ok((exploration, ended)),
            }
        }
    }

    /// Makes an exploration of a program that has not begun.
    #[cfg(test)]
    pub(crate) fn exploration<'p>(&self, program: &'p Program) -> Result<Explored<'p>, CheckError> {
        self.exploration_with(program, program.features_in_use())
    }

    fn exploration_with<'p>(
        &self,
        program: &'p Program,
        features: Features,
    ) -> Result<Explored<'p>, CheckError> {
        let started = Instant::now();
        program.test_declarations().map_err(CheckError::Limit)?;
        if self.memory == (MemoryModel::Tso { buffer_depth: 0 }) {
            return Err(CheckError::Limit(
                "a store buffer for 0 stores lets no store through: use a depth of 1 or more, or \
                 `MemoryModel::Sc`, which has no buffers"
                    .to_owned(),
            ));
        }
        let system = self.system(program, features)?;
        let store = StateStore::new(system.hardware.machine().layout(), self.storage);
        Ok(Exploration {
            system,
            form: AsItIs,
            store,
            order: BreadthFirst::default(),
            limits: self.limits,
            threads: self.threads,
            started,
            effort: Effort::default(),
        })
    }

    fn system<'p>(
        &self,
        program: &'p Program,
        features: Features,
    ) -> Result<System<'p>, CheckError> {
        let first_values = |cells: &Vec<DeclaredCell>| {
            let cells = cells.iter();
            cells.map(|cell| cell.first_value).collect::<Vec<_>>()
        };
        let spec = MachineSpec {
            atomics: first_values(&program.atomics),
            own_cells: program.own_cells.iter().map(first_values).collect(),
            frames: program.frames.clone(),
            page_words: program.page_words.clone(),
            entries: program.entries.clone(),
            root: program.root,
            cr4: program.cr4,
            features,
            garbage: program.garbage,
            ignored: program.ignored.clone(),
            cpu_model: self.cpu_model,
            memory: self.memory,
        };
        let machine = Machine::new(&spec).map_err(|limit| CheckError::Limit(limit.to_string()))?;
        let automaton = Automaton::new(program, self.cpu_model.quirks, Arc::clone(&self.pulse));
        Ok(System::new(
            Hardware::new(machine),
            automaton,
            self.reduction,
        ))
    }

    /// Makes a system that knows nothing yet, but for what an exploration has learnt of the program's words.
    pub(crate) fn fresh_system<'p>(
        &self,
        program: &'p Program,
        exploration: &Explored<'_>,
    ) -> Result<System<'p>, CheckError> {
        let explored = exploration.system.hardware.machine();
        let system = self.system(program, explored.features())?;
        system.hardware.machine().learn_from(explored);
        Ok(system)
    }

    /// Replays a violation on a system that knows nothing yet.
    fn replay(
        &self,
        program: &Program,
        exploration: &mut Explored<'_>,
        found: &Found,
    ) -> Result<Finding, CheckError> {
        let steps = exploration.steps_to_violation(found);
        let system = self.fresh_system(program, exploration)?;
        let (violation, timeline) = Timeline::replay(&system, &steps, &found.violation)?;
        Ok(Finding::Violation {
            violation,
            timeline,
        })
    }
}

/// Looks for a violation: the first one ends it.
struct Search<'a> {
    found: Option<Found>,
    tell: &'a dyn Fn(Progress),
}

impl Visitor for Search<'_> {
    const AFTER_VIOLATION: AfterViolation = AfterViolation::Stop;

    fn begin(&mut self) {
        self.found = None;
    }

    fn violated(&mut self, found: Found) {
        self.found = Some(found);
    }

    fn ended(&mut self, _machine: &Machine, _id: StateId, _state: &State) {}

    fn progressed(&mut self, effort: Effort, waiting: StateId) {
        let waiting = u64::from(waiting);
        (self.tell)(Progress { effort, waiting });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::automaton::{Nodes, Routine};
    use crate::reduction::CanonicalForm;
    use crate::step::StepError;
    use lazytlb::{CpuId, Hw};
    use lazytlb_model::{AtomicCell, Violation};

    /// What CPU 0 read first does not matter to it: it counts as 0.
    struct ForgetsWhatWasRead;

    impl CanonicalForm for ForgetsWhatWasRead {
        fn apply(
            &self,
            hardware: &Hardware,
            nodes: &Nodes,
            state: &mut State,
        ) -> Result<(), StepError> {
            let cpu = CpuId(0);
            let Some(id) = hardware.node(state, cpu) else {
                return Ok(());
            };
            let routine = nodes.get(id).routine;
            let mut place = nodes.start(cpu, routine)?;
            for (index, (_, answer)) in nodes.log_of(id).into_iter().enumerate() {
                let answer = if index == 0 { 0 } else { answer };
                place = nodes.successor(place, answer)?;
            }
            Ok(hardware.set_node(state, cpu, routine, Some(place))?)
        }
    }

    /// CPU 0 reads a flag, and says so; CPU 1 has set it, and takes the news badly.
    fn program() -> Program {
        let mut program = Program::new("news", 2);
        let (flag, read): (AtomicCell, AtomicCell) =
            (program.atomic("flag", 0), program.atomic("read", 0));
        program.operation(0, "read the flag", move |hw| {
            hw.load(&flag);
            hw.store(&read, 1);
        });
        program.operation(1, "set the flag", move |hw| {
            hw.store(&flag, 1);
            hw.store(&flag, 0);
            assert!(hw.load(&read) == 0, "it was read");
        });
        program
    }

    fn explore<C: CanonicalForm>(
        checker: &Checker,
        program: &Program,
        form: C,
    ) -> (u64, Option<(Violation, Timeline)>) {
        let plain = checker.exploration(program).unwrap();
        let mut exploration = Exploration {
            system: plain.system,
            form,
            store: plain.store,
            order: plain.order,
            limits: plain.limits,
            threads: plain.threads,
            started: plain.started,
            effort: plain.effort,
        };
        let mut search = Search {
            found: None,
            tell: &|_| {},
        };
        exploration.run(&mut search).unwrap();
        let replayed = search.found.map(|found| {
            let mut steps = exploration.steps_to(found.from.unwrap());
            steps.extend(found.step);
            let system = checker.system(program, program.features).unwrap();
            Timeline::replay(&system, &steps, &found.violation).unwrap()
        });
        (exploration.effort.states, replayed)
    }

    #[test]
    fn a_canonical_form_may_move_a_cpu_and_its_counterexample_replays_without() {
        let checker = Checker::new().memory(MemoryModel::Sc);
        let program = program();
        let (_, plain) = explore(&checker, &program, AsItIs);
        let (_, formed) = explore(&checker, &program, ForgetsWhatWasRead);
        let (plain, formed) = (plain.unwrap(), formed.unwrap());
        assert_eq!(plain.0, formed.0);
        assert_eq!(plain.1.events.len(), formed.1.events.len());
    }

    #[test]
    fn states_that_differ_in_what_a_form_leaves_out_count_once() {
        let mut program = program();
        program.operations[1].clear();
        let flag = AtomicCell(0);
        program.operation(1, "set the flag", move |hw| {
            hw.store(&flag, 1);
            hw.store(&flag, 0);
        });
        let checker = Checker::new().memory(MemoryModel::Sc);
        // CPU 1 before its stores, between them, and at its end; CPU 0 before its load, after it, and at its
        // end. Two states remember that the flag was set.
        let (plain, _) = explore(&checker, &program, AsItIs);
        let (formed, _) = explore(&checker, &program, ForgetsWhatWasRead);
        assert_eq!((plain, formed), (11, 9));
    }

    #[test]
    fn a_place_that_a_state_has_no_room_for_is_a_limit() {
        let program = program();
        let exploration = Checker::new().exploration(&program).unwrap();
        let hardware = &exploration.system.hardware;
        let mut state = hardware.machine().initial();
        let mut put = |number| {
            let place = crate::automaton::NodeId::from_number(number);
            let put = hardware.set_node(&mut state, CpuId(1), Routine::Handler, place);
            put.map(|()| hardware.handler_node(&state, CpuId(1)) == place)
        };
        assert_eq!((put(u32::from(u16::MAX)), put(0)), (Ok(true), Ok(true)));
        let limit = put(u32::from(u16::MAX) + 1).unwrap_err();
        assert_eq!(limit.most, usize::from(u16::MAX));
    }

    #[test]
    fn a_place_is_known_by_its_log() {
        let program = program();
        let mut exploration = Checker::new().exploration(&program).unwrap();
        let mut search = Search {
            found: None,
            tell: &|_| {},
        };
        exploration.run(&mut search).unwrap();
        let nodes = exploration.system.automaton.read();
        let first = crate::program::OperationIndex::FIRST;
        let start = nodes.start(CpuId(0), Routine::Operation(first)).unwrap();
        let after = nodes.successor(start, 1).unwrap();
        let load = lazytlb_model::Call::Load(AtomicCell(0));
        assert_eq!(nodes.log_of(start), []);
        assert_eq!(nodes.log_of(after), [(load, 1)]);
    }
}
