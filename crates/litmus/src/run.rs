//! Answers a test, step by step: names, instructions, question, program, search.

use std::sync::{Arc, OnceLock};

use lazytlb_check::{CheckError, Checker, Outcomes, Program};
use lazytlb_litmus_syntax::{LitmusTest, SyntaxError};
use lazytlb_model::{CpuModel, MemoryModel, Property};

use crate::access::Common;
use crate::answer::Answer;
use crate::assembly::{self, Assembly};
use crate::cpus::Cpus;
use crate::expectation;
use crate::keys::Keys;
use crate::needs::{self, Buffers};
use crate::placement;
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

/// Explores all executions of a test.
///
/// # Errors
/// If a name or a value makes no sense, or the test does not fit into the model.
pub fn run(test: &LitmusTest, options: &Options) -> Result<Answer, RunError> {
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
    });
    let assembly = Assembly {
        common: &common,
        settings: &settings,
        question: &question,
        registers: &assembly::first_registers(test, &cpus, &common.world)?,
    };
    assembly.add_routines(&mut program, routines);
    let checker = checker(options, cpu_model, buffers);
    let outcomes = explore(&checker, &program, &common, buffers)?;
    Ok(Answer {
        expected,
        ..question.answer(test, &common.world, outcomes)
    })
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

/// Collects everything that a program can come to.
fn explore(
    checker: &Checker,
    program: &Program,
    common: &Common,
    buffers: Buffers,
) -> Result<Outcomes, RunError> {
    let outcomes = checker.outcomes(program);
    if let Some(nonsense) = common.nonsense.get() {
        return Err(nonsense.clone().into());
    }
    let mut outcomes = outcomes?;
    if let Some(what) = outcomes.violations.get(&Property::Panic) {
        return Err(RunError::Outside(what.clone()));
    }
    let cut = buffers.cut.map(str::to_owned);
    outcomes.incomplete = outcomes.incomplete.or(cut);
    Ok(outcomes)
}
