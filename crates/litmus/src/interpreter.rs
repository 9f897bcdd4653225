//! Runs a thread's instructions on the checker's machine: an operation like any other.

use std::sync::Arc;

use lazytlb::{CpuSet, Cr3Load, Hw, Interrupts, PhysAddr, Until, VirtAddr};
use lazytlb_check::ModelHw;
use lazytlb_litmus_syntax::{AluOp, Position, Register, Width};
use lazytlb_model::{Invpcid, LocalCell, Privilege, Rmw};

use crate::access::{Common, Part, View};
use crate::code::{
    Address, Atomicity, Control, Hint, Line, Modify, Op, Source, Where, accumulator,
};
use crate::flags::{Flags, bit};
use crate::loops::{Effect, End, Loops};
use crate::registers::{Registers, mask};
use crate::world::{KEEP_BIT, Target};

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

/// The bits of CR3 that are the root's address.
const CR3_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// The bits of a value for CR3 that must be clear.
const CR3_RESERVED: u64 = !(CR3_ADDRESS | 0xfff | 1 << KEEP_BIT);
/// The last PCID that the model has.
const MOST_PCID: u16 = 255;

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
            flags: Flags::default(),
            loops: Loops::default(),
            interruption: self.interruption,
        };
        for (register, value) in &self.first_registers {
            thread.registers.set(*register, register.width, *value);
        }
        let first = hw.interrupts();
        if self.interruption == Interruption::Never {
            hw.disable_interrupts();
        }
        let faults = thread.run(&self.lines);
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
    flags: Flags,
    loops: Loops,
    interruption: Interruption,
}

impl Running<'_> {
    /// Runs the lines from the first on, as jumps lead; returns those that faulted, a bit each.
    fn run(&mut self, lines: &[Line]) -> u64 {
        let (mut faults, mut next) = (0, 0);
        while let Some(line) = lines.get(next) {
            self.view.at = line.position;
            match line.op {
                Op::Jump { when, to } if self.flags.let_jump(when) => {
                    if to <= next {
                        self.jump_back(to);
                    }
                    next = to;
                    continue;
                }
                Op::Control(Control::Iret) => {
                    self.view.hw.serialize();
                    return faults;
                }
                _ => {}
            }
            match self.execute(&line.op) {
                Some(effect) => self.loops.count(effect),
                None => {
                    self.loops.count(Effect::Possible);
                    faults |= 1 << next;
                }
            }
            next += 1;
        }
        faults
    }

    /// Learns of a jump back; an execution that is not followed any further ends here.
    fn jump_back(&mut self, to: usize) {
        match self.loops.jumps_back(to, &self.registers, self.flags) {
            Ok(()) => {}
            Err(End::Redundant) => self.view.leave_out(),
            Err(End::Cut) => self.view.cut(),
        }
    }

    /// Runs an instruction, and says whether it may have changed the machine; `None` if it took a page fault.
    fn execute(&mut self, op: &Op) -> Option<Effect> {
        match op {
            Op::Load { to, from, width } => {
                let part = self.part(*from, *width);
                let value = self.view.load(part)?;
                self.registers.set(*to, *width, value);
                return Some(part.effect_of_load());
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
                return Some(self.effect_of_reading(&[*from]));
            }
            Op::Exchange {
                memory,
                register,
                width,
            } => return self.exchange(*memory, *register, *width),
            Op::ExchangeRegisters(one, other) => {
                let width = one.width;
                let registers = &mut self.registers;
                let (first, second) = (registers.get(*one, width), registers.get(*other, width));
                registers.set(*one, width, second);
                registers.set(*other, width, first);
                return Some(Effect::None);
            }
            Op::Modify(modify) => return self.modify(modify),
            Op::Compute {
                op,
                to,
                source,
                width,
            } => return self.compute(*op, *to, *source, *width),
            Op::Compare {
                op,
                left,
                right,
                width,
            } => {
                let (one, other) = (self.source(*left, *width)?, self.source(*right, *width)?);
                self.flags.compare(*op, *width, one, other);
                return Some(self.effect_of_reading(&[*left, *right]));
            }
            // One that is taken is no instruction to run.
            Op::Jump { .. } => return Some(Effect::None),
            Op::Touch(place) => {
                self.view.load(self.part(*place, Width::Byte))?;
            }
            Op::Wait { cell, value } => self.view.hw.pause_until(cell, Until::Equals(*value)),
            Op::Fetch(address) => {
                let address = self.fetched(*address);
                self.view.hw.fetch(address, self.view.privilege)?;
            }
            Op::Control(control) => self.control(control),
        }
        Some(Effect::Possible)
    }

    /// Returns what reading sources may do to the machine.
    fn effect_of_reading(&self, sources: &[Source]) -> Effect {
        let changes = |source: &Source| match *source {
            Source::Register(_) | Source::Number(_) => false,
            Source::Memory(place) => {
                self.part(place, Width::Byte).effect_of_load() == Effect::Possible
            }
        };
        match sources.iter().any(changes) {
            true => Effect::Possible,
            false => Effect::None,
        }
    }

    fn compute(&mut self, op: AluOp, to: Register, source: Source, width: Width) -> Option<Effect> {
        let old = self.registers.get(to, width);
        let operand = self.source(source, width)?;
        let new = self.computed(op, width, old, operand);
        self.set_flags(op, width, old, operand);
        self.registers.set(to, width, new);
        self.leave_old(op, width, source, old);
        Some(self.effect_of_reading(&[source]))
    }

    fn exchange(&mut self, memory: Where, register: Register, width: Width) -> Option<Effect> {
        let new = self.registers.get(register, width);
        let part = self.part(memory, width);
        let old = self.view.locked(part, Rmw::Swap, new)?;
        self.registers.set(register, width, old);
        Some(part.effect_of_locked(old, new))
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
            Control::LoadCr3From(register) => self.load_cr3(*register),
            Control::ChangeCr4 { set, clear } => hw.change_cr4(*set, *clear),
            Control::Invlpgb(what) => hw.invlpgb(*what),
            Control::Tlbsync => hw.tlbsync(),
            Control::Cpuid | Control::Iret => hw.serialize(),
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

    /// MOV to CR3 of what a register holds: a root's address, the PCID below it, and bit 63.
    fn load_cr3(&self, register: Register) {
        let value = self.registers.get(register, Width::Quad);
        let (root, pcid) = (PhysAddr(value & CR3_ADDRESS), (value & 0xfff) as u16);
        let world = &self.view.common.world;
        if !world.is_root(root) || pcid > MOST_PCID || value & CR3_RESERVED != 0 {
            let found = format!("the value {value:#x} for CR3");
            let advice =
                "give the register `CR3(B, pcid:1)` in the init section or by `movq $CR3(B),%rbx`";
            self.view.refuse(
                found,
                "an address space's root, and a PCID below 256",
                advice,
            )
        }
        let load = match value >> KEEP_BIT {
            0 => Cr3Load::Flush,
            _ => Cr3Load::Keep,
        };
        self.view.hw.load_cr3_with_pcid(root, pcid, load);
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

    fn modify(&mut self, modify: &Modify) -> Option<Effect> {
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
                let (rmw, by) = self.rmw(op, width, operand);
                self.view.locked(part, rmw, by)
            }
            Atomicity::Plain => self.read_and_write(op, part, operand),
        };
        let old = old?;
        let new = self.computed(op, width, old, operand);
        self.set_flags(op, width, old, operand);
        self.leave_old(op, width, source, old);
        Some(match atomicity {
            Atomicity::Locked => part.effect_of_locked(old, new),
            Atomicity::Plain => Effect::Possible,
        })
    }

    fn set_flags(&mut self, op: AluOp, width: Width, old: u64, operand: u64) {
        let accumulator = self.registers.get(accumulator(width), width);
        self.flags.change(op, width, old, operand, accumulator);
    }

    /// Returns the machine's operation, and its operand, for a locked instruction.
    fn rmw(&self, op: AluOp, width: Width, operand: u64) -> (Rmw, u64) {
        match op {
            AluOp::Add | AluOp::Inc | AluOp::Xadd => (Rmw::Add, operand),
            AluOp::Sub | AluOp::Dec => (Rmw::Add, operand.wrapping_neg() & mask(width)),
            AluOp::And => (Rmw::And, operand),
            AluOp::Or => (Rmw::Or, operand),
            AluOp::Xor => (Rmw::Xor, operand),
            AluOp::Bts => (Rmw::Or, bit(width, operand)),
            AluOp::Btr => (Rmw::And, !bit(width, operand) & mask(width)),
            AluOp::Btc => (Rmw::Xor, bit(width, operand)),
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
            AluOp::Bts => old | bit(width, operand),
            AluOp::Btr => old & !bit(width, operand),
            AluOp::Btc => old ^ bit(width, operand),
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
            (AluOp::Inc | AluOp::Dec | AluOp::Bts | AluOp::Btr | AluOp::Btc, _) => return,
        };
        let succeeded = op == AluOp::Cmpxchg && old == self.registers.get(register, width);
        if !succeeded {
            self.registers.set(register, width, old);
        }
    }
}
