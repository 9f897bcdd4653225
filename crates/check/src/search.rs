//! The search: breadth first, level by level, to a shortest violation or to exhaustion.

use std::time::Instant;

use lazytlb_model::{Machine, State};

use crate::checker::Explored;
pub use crate::checker::{Checker, Progress};
pub use crate::error::CheckError;
use crate::expand::AfterViolation;
use crate::explore::{Ended, Found, Visitor};
use crate::livelock::{Livelock, Looked};
use crate::never_happened::never_happened;
use crate::program::Program;
use crate::renumber::Form;
use crate::rests_on::RestsOn;
use crate::second_run::SecondRun;
use crate::statement;
use crate::store::StateId;
use crate::timeline::Timeline;
use crate::verdict::{Effort, Finding, Verdict};
use crate::watchdog;

impl Checker {
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
    /// The function runs on the caller's thread. If it does not come back, nor does this: after
    /// [`Checker::max_time`], at least 1 second and at most 10, the standard error output says so.
    ///
    /// # Errors
    /// As [`Checker::try_check`]; and if the function does not build the same program each time.
    pub fn try_check_built(
        &self,
        mut build: impl FnMut() -> Program,
        progress: impl FnMut(Progress),
    ) -> Result<Verdict, CheckError> {
        let patience = watchdog::patience(self.limits.max_time);
        let mut build = || watchdog::while_building(patience, &mut build);
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

    /// Searches a program for a violation; anew, and with all generations in one range, if code turns out to compare
    /// some that are said to count apart.
    fn search(
        &self,
        program: &Program,
        tell: &dyn Fn(Progress),
    ) -> Result<(Verdict, SecondRun), CheckError> {
        let started = Instant::now();
        if let Some(searched) = self.search_as_claimed(started, program, tell)? {
            return Ok(searched);
        }
        let joined = program.in_one_range();
        let searched = self.search_as_claimed(started, &joined, tell)?;
        Ok(searched.expect("what claims nothing of ranges compares none that are apart"))
    }

    /// Searches a program for a violation; `None` if what it claims of ranges is false.
    fn search_as_claimed(
        &self,
        started: Instant,
        program: &Program,
        tell: &dyn Fn(Progress),
    ) -> Result<Option<(Verdict, SecondRun)>, CheckError> {
        let mut search = Search { found: None, tell };
        let (mut exploration, ended) = self.explore_since(started, program, &mut search)?;
        let rests_on = RestsOn {
            stretched: exploration.stretched,
            ..exploration.system.automaton.rests_on()
        };
        let finding = match (ended, search.found) {
            (Ended::ComparesRanges, _) => return Ok(None),
            (_, Some(found)) => match self.replay(program, &mut exploration, &found)? {
                Some(finding) => finding,
                None => return Ok(None),
            },
            (Ended::AtLimit(why), None) => Finding::Incomplete { why },
            (Ended::Exhausted, None) => match exploration.livelock()? {
                Looked::Nowhere => Finding::of_exhausted(rests_on, program),
                Looked::Found(livelock) => {
                    match self.replay_livelock(program, &mut exploration, livelock)? {
                        Some(finding) => finding,
                        None => return Ok(None),
                    }
                }
                Looked::Unfinished(why) => Finding::Incomplete { why },
            },
            (Ended::AtViolation | Ended::NeedsMoreFeatures, None) => {
                unreachable!("the search learns of every violation")
            }
        };
        let (effort, automaton) = (exploration.effort, &exploration.system.automaton);
        let machine = exploration.system.hardware.machine();
        let is_safe = matches!(finding, Finding::Safe);
        let statement =
            is_safe.then(|| statement::of(automaton, machine, self.storage, exploration.stretched));
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
            statement: statement.flatten(),
            proves: program.proves.clone(),
            unreached: automaton.unreached(),
            never_happened: never_happened(automaton),
        };
        let second = SecondRun {
            ways: automaton.ways(),
            constants: self.constants(program),
            longest: self.pulse.longest(),
        };
        Ok(Some((verdict, second)))
    }

    /// Replays a violation on a system that knows nothing yet, and in which no generations count apart; `None` if it
    /// hangs on that they do.
    fn replay(
        &self,
        program: &Program,
        exploration: &mut Explored<'_>,
        found: &Found,
    ) -> Result<Option<Finding>, CheckError> {
        let Some(steps) = exploration.steps_to_violation(found)? else {
            return Ok(None);
        };
        let joined = program.in_one_range();
        let system = self.fresh_system(&joined, exploration)?;
        match Timeline::replay(&system, &steps, &found.violation) {
            Err(_) if program.claims_ranges() => Ok(None),
            replayed => {
                let (violation, timeline) = replayed?;
                Ok(Some(Finding::Violation {
                    violation,
                    timeline,
                }))
            }
        }
    }

    /// Replays CPUs that go on for ever, as [`Checker::replay`] a violation.
    fn replay_livelock(
        &self,
        program: &Program,
        exploration: &mut Explored<'_>,
        livelock: Livelock,
    ) -> Result<Option<Finding>, CheckError> {
        let violation = livelock.violation;
        let mut steps = exploration.steps_to(livelock.from);
        let stem = steps.len();
        steps.extend(livelock.round);
        let Some(steps) = exploration.plain_steps(steps, &violation)? else {
            return Ok(None);
        };
        let joined = program.in_one_range();
        let system = self.fresh_system(&joined, exploration)?;
        let form = Form::of(&joined, exploration.system.dead_words.clone());
        match Timeline::replay_round(&system, &form, steps.split_at(stem), &violation) {
            Err(_) if program.claims_ranges() => Ok(None),
            replayed => Ok(Some(Finding::Violation {
                violation,
                timeline: replayed?,
            })),
        }
    }
}

/// Looks for a violation: the first one ends it.
struct Search<'a> {
    found: Option<Found>,
    tell: &'a dyn Fn(Progress),
}

impl Visitor for Search<'_> {
    const AFTER_VIOLATION: AfterViolation = AfterViolation::Stop;
    const LOOKS_AGAIN: bool = true;

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
pub(crate) mod tests {
    use super::*;
    use crate::automaton::{Nodes, Routine};
    use crate::explore::Exploration;
    use crate::hardware::Hardware;
    use crate::reduction::CanonicalForm;
    use crate::renumber::Form;
    use crate::step::StepError;
    use lazytlb::{CpuId, Hw};
    use lazytlb_model::MemoryModel;
    use lazytlb_model::{AtomicCell, Violation};

    /// Explores without looking at anything.
    pub(crate) struct Ignores;

    impl Visitor for Ignores {
        const AFTER_VIOLATION: AfterViolation = AfterViolation::Stop;
        const LOOKS_AGAIN: bool = false;

        fn begin(&mut self) {}
        fn violated(&mut self, _found: Found) {}
        fn ended(&mut self, _machine: &Machine, _id: StateId, _state: &State) {}
        fn progressed(&mut self, _effort: Effort, _waiting: StateId) {}
    }

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

        // The replay takes the same ways, whatever was read.
        fn renames(&self) -> bool {
            false
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
            stretched: plain.stretched,
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
        let (_, plain) = explore(&checker, &program, Form::AsItIs);
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
        let (plain, _) = explore(&checker, &program, Form::AsItIs);
        let (formed, _) = explore(&checker, &program, ForgetsWhatWasRead);
        assert_eq!((plain, formed), (11, 9));
    }

    #[test]
    fn a_state_has_room_for_more_places_only_where_they_turned_up() {
        let mut program = program();
        program.on_nmi(|_| {});
        let checker = Checker::new();
        let place = crate::automaton::NodeId::from_number;
        let first = Routine::Operation(crate::routine::OperationIndex::FIRST);
        let (cpu, last_small) = (CpuId(1), u32::from(u16::MAX));
        let small = checker.exploration(&program).unwrap().system.hardware;
        for routine in [first, Routine::Handler, Routine::Nmi] {
            let mut state = small.machine().initial();
            for number in [last_small, 0] {
                let put = small.set_node(&mut state, cpu, routine, place(number));
                assert_eq!(
                    (put, small.places(&state, cpu).next()),
                    (Ok(()), place(number))
                );
            }
        }
        assert!(!small.machine().needs_more_features());
        let mut state = small.machine().initial();
        let put = small.set_node(&mut state, cpu, Routine::Handler, place(last_small + 1));
        assert_eq!(put.unwrap_err().most, usize::from(u16::MAX));
        assert_eq!(state, small.machine().initial());
        assert!(small.machine().needs_more_features());

        let features = small.machine().features_that_turned_up();
        let large = checker.system(&program, features).unwrap().hardware;
        let mut state = large.machine().initial();
        let numbers = [last_small + 1, u32::MAX, last_small << 16];
        for (routine, number) in [first, Routine::Handler, Routine::Nmi]
            .into_iter()
            .zip(numbers)
        {
            large
                .set_node(&mut state, cpu, routine, place(number))
                .unwrap();
        }
        let places: Vec<_> = large.places(&state, cpu).collect();
        assert_eq!(places, numbers.map(|number| place(number).unwrap()));
        assert_eq!(large.places(&state, CpuId(0)).count(), 0);
        for routine in [first, Routine::Handler, Routine::Nmi] {
            large.set_node(&mut state, cpu, routine, None).unwrap();
        }
        assert_eq!(state, large.machine().initial());
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
        let first = crate::routine::OperationIndex::FIRST;
        let start = nodes.start(CpuId(0), Routine::Operation(first)).unwrap();
        let after = nodes.successor(start, 1).unwrap();
        let load = lazytlb_model::Call::Load(AtomicCell(0));
        assert_eq!(nodes.log_of(start), []);
        assert_eq!(nodes.log_of(after), [(load, 1)]);
    }
}
