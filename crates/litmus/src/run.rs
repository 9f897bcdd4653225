//! Answers a test, step by step: names, instructions, question, program, search.

use std::sync::{Arc, OnceLock};

use lazytlb::{CpuId, Hw};
use lazytlb_check::{CheckError, Checker, ModelHw, Outcomes, Program};
use lazytlb_litmus_syntax::{Handler, InitItem, LitmusTest, Location, Register, SyntaxError};
use lazytlb_model::{CpuModel, MemoryModel, Privilege, Property};

use crate::access::Common;
use crate::answer::Answer;
use crate::code::Routine;
use crate::cpus::{Cpus, number};
use crate::interpreter::{Code, Interruption};
use crate::needs::{self, Buffers};
use crate::placement;
use crate::question::Question;
use crate::resolve;
use crate::settings::Settings;
use crate::world::World;

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
    let settings = Settings::of(test)?;
    let cpu_model = settings.applied_to(options.cpu_model)?;
    let mut program = Program::new(test.name.clone(), cpus.count());
    let world = placement::place(test, &settings, &mut program)?;
    let routines = resolve::routines(test, &world, &cpus, &settings)?;
    let question = Question::resolve(test, &world, &cpus, &routines, &mut program)?;
    let buffers = Buffers::of(test, &world, &routines);
    needs::set_features(&mut program, &world, &settings, &routines, buffers);
    for property in [Property::ForeignTranslation, Property::StaleSpeculation] {
        if !question.asks_for(property) {
            program.ignore(property);
        }
    }
    let common = Arc::new(Common {
        only_width: needs::only_width(test, &routines),
        world,
        nonsense: OnceLock::new(),
    });
    let registers = first_registers(test, &cpus, &common.world)?;
    let assembly = Assembly {
        common: &common,
        settings: &settings,
        question: &question,
        registers: &registers,
    };
    assembly.add_threads(&mut program, routines);
    let checker = Checker::new()
        .cpu_model(cpu_model)
        .memory(match options.sequentially_consistent {
            true => MemoryModel::Sc,
            false => MemoryModel::Tso {
                buffer_depth: buffers.store_depth,
            },
        })
        .max_states(options.max_states);
    let outcomes = explore(&checker, &program, &common, buffers)?;
    Ok(question.answer(test, &common.world, outcomes))
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

/// What init puts into the registers of a CPU's thread and handlers.
type FirstRegisters = Vec<(CpuId, Register, u64)>;

fn first_registers(
    test: &LitmusTest,
    cpus: &Cpus,
    world: &World,
) -> Result<FirstRegisters, SyntaxError> {
    let mut registers = Vec::new();
    for item in &test.init {
        let InitItem::Set {
            location: Location::Register { thread, register },
            value,
            ..
        } = &item.value
        else {
            continue;
        };
        let written = format_args!("thread {thread}");
        let cpu = cpus.of_thread(*thread, written, item.position)?;
        if let Some(value) = value {
            registers.push((cpu, *register, world.number(value, item.position)?));
        }
    }
    Ok(registers)
}

/// Makes operations and handlers of routines.
struct Assembly<'a> {
    common: &'a Arc<Common>,
    settings: &'a Settings,
    question: &'a Question,
    registers: &'a FirstRegisters,
}

impl Assembly<'_> {
    fn add_threads(&self, program: &mut Program, routines: Vec<Routine>) {
        let interruption = match needs::uses_interrupts(&routines) {
            true => Interruption::Possible,
            false => Interruption::Never,
        };
        let (mut on_ipi, mut on_nmi) = (Vec::new(), Vec::new());
        for routine in routines {
            let (cpu, thread, handler) = (routine.cpu, routine.thread, routine.handler);
            let code = self.code(routine, interruption);
            match handler {
                None => {
                    let name = format!("P{thread}");
                    program.operation(number(cpu), name, move |hw| code.run(hw));
                }
                Some(Handler::Ipi) => on_ipi.push((cpu, code)),
                Some(Handler::Nmi) => on_nmi.push((cpu, code)),
            }
        }
        if interruption == Interruption::Possible {
            program.on_flush_interrupt(run_of_own(on_ipi));
        }
        if program.features().nmis {
            program.on_nmi(run_of_own(on_nmi));
        }
    }

    fn code(&self, routine: Routine, interruption: Interruption) -> Code {
        let cpu = routine.cpu;
        let own = self.registers.iter().filter(|(of, ..)| *of == cpu);
        let first_registers = own
            .map(|(_, register, value)| (*register, *value))
            .collect();
        // An interrupt enters ring 0, and handlers publish nothing.
        let (privilege, published, faults) = match routine.handler {
            None => (
                self.settings.privilege(routine.thread),
                self.question.registers_of(cpu),
                self.question.faults_of(cpu),
            ),
            Some(Handler::Ipi | Handler::Nmi) => (Privilege::Supervisor, Vec::new(), None),
        };
        Code {
            common: Arc::clone(self.common),
            lines: routine.lines,
            first_registers,
            privilege,
            published,
            faults,
            interruption,
        }
    }
}

/// Returns a handler that runs the code of the CPU that it is on, if it has one.
fn run_of_own(codes: Vec<(CpuId, Code)>) -> impl Fn(&ModelHw) {
    move |hw| {
        let own = codes.iter().find(|(cpu, _)| *cpu == hw.cpu());
        if let Some((_, code)) = own {
            code.run(hw);
        }
    }
}
