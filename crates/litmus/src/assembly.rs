//! Makes a program of a test's routines: an operation for each thread, and the interrupts' handlers.

use std::sync::Arc;

use lazytlb::{CpuId, Hw};
use lazytlb_check::{ModelHw, Program};
use lazytlb_litmus_syntax::{Handler, InitItem, LitmusTest, Location, Register, SyntaxError};
use lazytlb_model::Privilege;

use crate::access::Common;
use crate::code::Routine;
use crate::cpus::{Cpus, number};
use crate::interpreter::{Code, Interruption};
use crate::needs;
use crate::question::Question;
use crate::settings::Settings;
use crate::world::World;

/// What init puts into the registers of each CPU's thread and handlers.
pub(crate) type FirstRegisters = Vec<(CpuId, Register, u64)>;

/// Finds what init puts into registers.
///
/// # Errors
/// If it names a thread that the test does not have, or a value that means nothing.
pub(crate) fn first_registers(
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
pub(crate) struct Assembly<'a> {
    pub(crate) common: &'a Arc<Common>,
    pub(crate) settings: &'a Settings,
    pub(crate) question: &'a Question,
    pub(crate) registers: &'a FirstRegisters,
}

impl Assembly<'_> {
    /// Adds each thread as an operation of its CPU, and the handlers.
    pub(crate) fn add_routines(&self, program: &mut Program, routines: Vec<Routine>) {
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
