//! Answers a test, step by step: names, instructions, question, program, search.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use lazytlb_check::{CheckError, Checker, Outcome, Outcomes, Program, ReachedOutcome, Timeline};
use lazytlb_litmus_syntax::{LitmusTest, Position, SyntaxError};
use lazytlb_model::{CpuModel, MemoryModel, Property};

use crate::access::Common;
use crate::answer::{Answer, FinalState, LitmusVerdict};
use crate::assembly::{self, Assembly};
use crate::cpus::Cpus;
use crate::expectation;
use crate::keys::Keys;
use crate::loops::MOST_JUMPS_BACK;
use crate::needs::{self, Buffers};
use crate::placement;
use crate::proposition::Ending;
use crate::question::Question;
use crate::resolve;
use crate::settings::Settings;

/// How a test is answered.
#[derive(Clone, Debug)]
pub struct Options {
    /// The CPU model.
    pub cpu_model: CpuModel,
    /// Stores are visible at once, as on no x86.
    pub sequentially_consistent: bool,
    /// Gives up, as incomplete, after this many states.
    pub max_states: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cpu_model: CpuModel::WEAKEST,
            sequentially_consistent: false,
            max_states: 20_000_000,
        }
    }
}

/// Why a test has no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RunError {
    /// The test is not one that can be run: a name that nothing has, a value out of place.
    #[error(transparent)]
    Meaning(#[from] SyntaxError),
    /// The test does not fit into the model.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// An execution does what the model has no rule for.
    #[error("the test has no answer: in some execution {0}")]
    Outside(String),
}

/// One execution of a test, replayed.
#[derive(Clone, Debug)]
pub struct Execution {
    /// The final state, or the violation that it ends in.
    pub state: FinalState,
    /// Whether it makes the verdict `Allowed`: the proposition holds, and the filter lets it pass.
    pub is_witness: bool,
    /// The property that it violates, if it ends in a violation.
    pub violated: Option<Property>,
    /// What happened, in order.
    pub timeline: Timeline,
}

/// Explores all executions of a test.
///
/// # Errors
/// If a name or a value makes no sense, or the test does not fit into the model.
pub fn run(test: &LitmusTest, options: &Options) -> Result<Answer, RunError> {
    let prepared = Prepared::new(test, options)?;
    let outcomes = prepared.checker.outcomes(&prepared.program);
    prepared.answer(test, outcomes.map_err(|error| prepared.nonsense_or(error))?)
}

/// As [`run()`], and hands out executions, each a shortest one to its end: first one in which the proposition
/// holds, if the verdict is `Allowed`; then one for each property that some execution violates.
///
/// # Errors
/// As [`run()`].
pub fn run_with_executions(
    test: &LitmusTest,
    options: &Options,
) -> Result<(Answer, Vec<Execution>), RunError> {
    let prepared = Prepared::new(test, options)?;
    let question = &prepared.question;
    let is_wanted = |outcome: Outcome<'_>| {
        // Those are threads that are not followed any further.
        outcome != Outcome::Violation(Property::Panic) && question.is_witnessed_by(outcome.into())
    };
    let found = prepared
        .checker
        .outcomes_with_executions(&prepared.program, is_wanted);
    let (outcomes, executions) = found.map_err(|error| prepared.nonsense_or(error))?;
    let world = &prepared.common.world;
    let execution = |ending: Ending<'_>, timeline: &Timeline| Execution {
        state: question.final_state(ending, world),
        is_witness: question.is_witnessed_by(ending),
        violated: match ending {
            Ending::End(_) => None,
            Ending::Violation(property) => Some(property),
        },
        timeline: timeline.clone(),
    };
    let mut all = Vec::new();
    let mut shown = None;
    match &executions.wanted {
        None => {}
        Some((ReachedOutcome::End(end), timeline)) => {
            all.push(execution(Ending::End(end), timeline));
        }
        Some((ReachedOutcome::Violation(property), timeline)) => {
            shown = Some(*property);
            all.push(execution(Ending::Violation(*property), timeline));
        }
    }
    for (property, timeline) in &executions.violations {
        if ![shown, Some(Property::Panic)].contains(&Some(*property)) {
            all.push(execution(Ending::Violation(*property), timeline));
        }
    }
    Ok((prepared.answer(test, outcomes)?, all))
}

/// A test that is ready to be explored.
struct Prepared {
    program: Program,
    common: Arc<Common>,
    question: Question,
    checker: Checker,
    buffers: Buffers,
    expected: Option<LitmusVerdict>,
}

impl Prepared {
    fn new(test: &LitmusTest, options: &Options) -> Result<Prepared, RunError> {
        let cpus = Cpus::of(test)?;
        let keys = Keys::of(test)?;
        let settings = Settings::of(test, &keys)?;
        let expected = expectation::of(&keys, options.cpu_model)?;
        let cpu_model = settings.applied_to(options.cpu_model)?;
        let mut program = Program::new(test.name.clone(), cpus.count());
        let world = placement::place(test, &settings, &mut program)?;
        let routines = resolve::routines(test, &world, &cpus, &settings)?;
        let question = Question::resolve(test, &world, &cpus, &routines, &mut program)?;
        question.ignore_the_rest(&mut program);
        let buffers = Buffers::of(test, &world, &settings, &routines);
        needs::set_features(&mut program, &world, &settings, &routines, buffers);
        let common = Arc::new(Common {
            only_width: needs::only_width(test, &routines),
            world,
            nonsense: OnceLock::new(),
            leaves_out: AtomicBool::new(false),
            cut: OnceLock::new(),
        });
        let assembly = Assembly {
            common: &common,
            settings: &settings,
            question: &question,
            registers: &assembly::first_registers(test, &cpus, &common.world)?,
        };
        assembly.add_routines(&mut program, routines);
        Ok(Prepared {
            checker: checker(options, cpu_model, buffers),
            program,
            common,
            question,
            buffers,
            expected,
        })
    }

    /// Answers the question by everything that the program can come to.
    fn answer(&self, test: &LitmusTest, mut outcomes: Outcomes) -> Result<Answer, RunError> {
        self.refuse_nonsense()?;
        let leaves_out = self.common.leaves_out.load(Ordering::Relaxed);
        let cut = self.common.cut.get().copied();
        // A thread that is not followed any further ends in a panic of the interpreter's.
        let panic = outcomes.violations.remove(&Property::Panic);
        if let (Some(what), false, None) = (panic, leaves_out, cut) {
            return Err(RunError::Outside(what));
        }
        let cut = cut.map(|at| self.told_cut(at));
        let buffers = self.buffers.cut.map(str::to_owned);
        let unfollowed = (leaves_out && self.question.asks_for_violations()).then(|| {
            "rounds of a loop were left out, in which other threads may violate something"
                .to_owned()
        });
        outcomes.incomplete = outcomes.incomplete.or(cut).or(buffers).or(unfollowed);
        Ok(Answer {
            expected: self.expected,
            is_endless: leaves_out && outcomes.ends.is_empty() && outcomes.violations.is_empty(),
            ..self.question.answer(test, &self.common.world, outcomes)
        })
    }

    fn told_cut(&self, at: Position) -> String {
        let Position { line, column } = at;
        format!(
            "line {line}, column {column}: a loop was followed through {MOST_JUMPS_BACK} rounds only; let it \
             end sooner, or wait for a word by `wait (x), $1`"
        )
    }

    /// Fails if some execution did what no machine could: whatever else was found, the test has no answer.
    fn refuse_nonsense(&self) -> Result<(), RunError> {
        match self.common.nonsense.get() {
            Some(nonsense) => Err(nonsense.clone().into()),
            None => Ok(()),
        }
    }

    fn nonsense_or(&self, error: CheckError) -> RunError {
        self.refuse_nonsense().err().unwrap_or(error.into())
    }
}

/// Sets up the search.
fn checker(options: &Options, cpu_model: CpuModel, buffers: Buffers) -> Checker {
    let buffer_depth = buffers.store_depth;
    let memory = match options.sequentially_consistent {
        true => MemoryModel::Sc,
        false => MemoryModel::Tso { buffer_depth },
    };
    Checker::new()
        .cpu_model(cpu_model)
        .memory(memory)
        .max_states(options.max_states)
}
