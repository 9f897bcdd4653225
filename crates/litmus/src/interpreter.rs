//! Runs a thread's instructions on the checker's machine: an operation like any other.

use std::sync::Arc;

use lazytlb::{CpuSet, Hw, Interrupts, Until, VirtAddr};
use lazytlb_check::ModelHw;
use lazytlb_litmus_syntax::{AluOp, Position, Register, Width};
use lazytlb_model::{Invpcid, LocalCell, Privilege, Rmw};

use crate::access::{Common, Part, View};
use crate::code::{
    Address, Atomicity, Control, Hint, Line, Modify, Op, Source, Where, accumulator,
};
use crate::registers::{Registers, mask};
use crate::world::Target;

/// A thread, ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) common: Arc<Common>,
    pub(crate) lines: Vec<Line>,
    pub(crate) first_registers: Vec<(Register, u64)>,
    pub(crate) privilege: Privilege,
    /// Registers to publish at the end, and the private words for them.
    pub(crate) published: Vec<(Register, LocalCell)>,
    /// The private word for the lines that faulted, a bit each.
    pub(crate) faults: Option<LocalCell>,
    pub(crate) interruption: Interruption,
}

/// Whether anybody interrupts a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interruption {
    Possible,
    /// Then it may as well run with interrupts off, which saves states.
    Never,
}

/// Lines whose faults are told apart: a bit each in one word.
pub(crate) const MOST_LINES: usize = 60;

impl Code {
    /// Runs the thread from its first line to its last.
    pub(crate) fn run(&self, hw: &ModelHw) {
        let mut thread = Running {
            view: View {
                hw,
                common: &self.common,
                privilege: self.privilege,
                at: Position::START,
            },
            registers: Registers::default(),
            interruption: self.interruption,
        };
        for (register, value) in &self.first_registers {
            thread.registers.set(*register, register.width, *value);
        }
        let first = hw.interrupts();
        if self.interruption == Interruption::Never {
            hw.disable_interrupts();
        }
        let mut faults = 0;
        for (number, line) in self.lines.iter().enumerate() {
            thread.view.at = line.position;
            if thread.execute(&line.op).is_none() {
                faults |= 1 << number;
            }
        }
        for (register, cell) in &self.published {
            hw.store_local(cell, thread.registers.get(*register, register.width));
        }
        if let Some(cell) = &self.faults {
            hw.store_local(cell, faults);
        }
        if hw.interrupts() != first {
            hw.restore_interrupts(first);
        }
    }
}

/// A thread in the middle of its lines.
struct Running<'a> {
    view: View<'a>,
    registers: Registers,
    interruption: Interruption,
}

impl Running<'_> {
    /// Runs an instruction; `None` if it took a page fault.
    fn execute(&mut self, op: &Op) -> Option<()> {
        match op {
            Op::Load { to, from, width } => {
                let value = self.view.load(self.part(*from, *width))?;
                self.registers.set(*to, *width, value);
            }
            Op::Store {
                to,
                from,
                width,
                hint,
            } => {
                let value = self.source(*from, *width)?;
                self.view.store(self.part(*to, *width), value, *hint)?;
            }
            Op::Set { to, from, width } => {
                let value = self.source(*from, *width)?;
                self.registers.set(*to, *width, value);
            }
            Op::Exchange {
                memory,
                register,
                width,
            } => {
                let new = self.registers.get(*register, *width);
                let part = self.part(*memory, *width);
                let old = self.view.locked(part, Rmw::Swap, new)?;
                self.registers.set(*register, *width, old);
            }
            Op::ExchangeRegisters(one, other) => {
                let width = one.width;
                let registers = &mut self.registers;
                let (first, second) = (registers.get(*one, width), registers.get(*other, width));
                registers.set(*one, width, second);
                registers.set(*other, width, first);
            }
            Op::Modify(modify) => self.modify(modify)?,
            Op::Compute {
                op,
                to,
                source,
                width,
            } => {
                let old = self.registers.get(*to, *width);
                let operand = self.source(*source, *width)?;
                let new = self.computed(*op, *width, old, operand);
                self.registers.set(*to, *width, new);
                self.leave_old(*op, *width, *source, old);
            }
            Op::Wait { cell, value } => self.view.hw.pause_until(cell, Until::Equals(*value)),
            Op::Fetch(address) => {
                let address = self.fetched(*address);
                self.view.hw.fetch(address, self.view.privilege)?;
            }
            Op::Control(control) => self.control(control),
        }
        Some(())
    }

    /// Runs what steers the machine.
    fn control(&self, control: &Control) {
        let hw = self.view.hw;
        match control {
            Control::FullFence => hw.fence(),
            Control::StoreFence => hw.store_fence(),
            Control::LoadFence => match self.interruption {
                // Loads are in order: only a test with interrupts can tell it from nothing (H36).
                Interruption::Never => {}
                Interruption::Possible => hw.load_fence(),
            },
            Control::Invlpg(address) => hw.invlpg(self.address(*address)),
            Control::Invpcid(what) => hw.invpcid(*what),
            Control::InvpcidAddress(pcid, address) => {
                hw.invpcid(Invpcid::Address(*pcid, self.address(*address)));
            }
            Control::LoadCr3 { root, pcid, load } => hw.load_cr3_with_pcid(*root, *pcid, *load),
            Control::ChangeCr4 { set, clear } => hw.change_cr4(*set, *clear),
            Control::Invlpgb(what) => hw.invlpgb(*what),
            Control::Tlbsync => hw.tlbsync(),
            Control::Cpuid => hw.serialize(),
            Control::Cli => {
                hw.disable_interrupts();
            }
            Control::Sti => hw.restore_interrupts(Interrupts::Enabled),
            Control::Halt => hw.halt(),
            Control::Ipi(cpu) => {
                let mut target = CpuSet::<1>::EMPTY;
                target.insert(*cpu);
                hw.send_ipi(&target);
            }
            Control::Nmi(cpu) => hw.send_nmi(1 << cpu.0),
        }
    }

    fn source(&self, source: Source, width: Width) -> Option<u64> {
        match source {
            Source::Register(register) => Some(self.registers.get(register, width)),
            Source::Number(number) => Some(number & mask(width)),
            Source::Memory(place) => self.view.load(self.part(place, width)),
        }
    }

    /// Finds what a memory operand names.
    fn part(&self, place: Where, width: Width) -> Part {
        match place {
            Where::At(target) => Part {
                target,
                offset: 0,
                width,
            },
            Where::ByRegister(register, offset) => {
                let address = self.address(Address::InRegister(register, offset));
                self.view.at_address(address, width)
            }
        }
    }

    fn address(&self, address: Address) -> VirtAddr {
        match address {
            Address::Fixed(address) => address,
            Address::InRegister(register, offset) => {
                let base = self.registers.get(register, Width::Quad);
                VirtAddr(base.wrapping_add_signed(offset))
            }
        }
    }

    /// Finds the address that a fetch goes to: a variable's.
    fn fetched(&self, address: Address) -> VirtAddr {
        let wanted = self.address(address);
        if let Address::InRegister(..) = address
            && let Target::Cell(_) | Target::Entry(_) =
                self.view.at_address(wanted, Width::Byte).target
        {
            let found = "an operand without translation".to_owned();
            let expected = "the virtual address of a variable";
            self.view.refuse(found, expected, "write `fetch (x)`")
        }
        wanted
    }

    fn modify(&mut self, modify: &Modify) -> Option<()> {
        let Modify {
            op,
            atomicity,
            memory,
            source,
            width,
        } = *modify;
        let part = self.part(memory, width);
        let operand = self.source(source, width)?;
        let old = match atomicity {
            Atomicity::Locked => {
                let (rmw, operand) = self.rmw(op, width, operand);
                self.view.locked(part, rmw, operand)
            }
            Atomicity::Plain => self.read_and_write(op, part, operand),
        };
        self.leave_old(op, width, source, old?);
        Some(())
    }

    /// Returns the machine's operation, and its operand, for a locked instruction.
    fn rmw(&self, op: AluOp, width: Width, operand: u64) -> (Rmw, u64) {
        match op {
            AluOp::Add | AluOp::Inc | AluOp::Xadd => (Rmw::Add, operand),
            AluOp::Sub | AluOp::Dec => (Rmw::Add, operand.wrapping_neg() & mask(width)),
            AluOp::And => (Rmw::And, operand),
            AluOp::Or => (Rmw::Or, operand),
            AluOp::Xor => (Rmw::Xor, operand),
            AluOp::Cmpxchg => {
                let expected = self.registers.get(accumulator(width), width);
                (Rmw::SwapIf(expected), operand)
            }
        }
    }

    /// A read-modify-write without LOCK: other CPUs may come in between, interrupts only before it or
    /// after it. Returns what was there.
    fn read_and_write(&self, op: AluOp, part: Part, operand: u64) -> Option<u64> {
        let hw = self.view.hw;
        let former = match self.interruption {
            Interruption::Possible => Some(hw.disable_interrupts()),
            Interruption::Never => None,
        };
        let old = self.view.load(part);
        let stored = old.and_then(|old| {
            let new = self.computed(op, part.width, old, operand);
            self.view.store(part, new, Hint::Temporal)
        });
        if let Some(former) = former {
            hw.restore_interrupts(former);
        }
        stored.and(old)
    }

    fn computed(&self, op: AluOp, width: Width, old: u64, operand: u64) -> u64 {
        let new = match op {
            AluOp::Add | AluOp::Inc | AluOp::Xadd => old.wrapping_add(operand),
            AluOp::Sub | AluOp::Dec => old.wrapping_sub(operand),
            AluOp::And => old & operand,
            AluOp::Or => old | operand,
            AluOp::Xor => old ^ operand,
            AluOp::Cmpxchg if old == self.registers.get(accumulator(width), width) => operand,
            AluOp::Cmpxchg => old,
        };
        new & mask(width)
    }

    /// Leaves the old value where XADD and a CMPXCHG that failed want it.
    fn leave_old(&mut self, op: AluOp, width: Width, source: Source, old: u64) {
        let register = match (op, source) {
            (AluOp::Xadd, Source::Register(register)) => register,
            (AluOp::Cmpxchg, _) => accumulator(width),
            (AluOp::Xadd, Source::Number(_) | Source::Memory(_)) => return,
            (AluOp::Add | AluOp::Sub | AluOp::And | AluOp::Or | AluOp::Xor, _) => return,
            (AluOp::Inc | AluOp::Dec, _) => return,
        };
        let succeeded = op == AluOp::Cmpxchg && old == self.registers.get(register, width);
        if !succeeded {
            self.registers.set(register, width, old);
        }
    }
}
