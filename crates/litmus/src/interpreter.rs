//! Runs a thread's instructions on the checker's machine: an operation like any other.

use std::sync::{Arc, OnceLock};

use lazytlb::{CpuId, CpuSet, Hw, Interrupts, Memory as _, Until, VirtAddr};
use lazytlb_check::ModelHw;
use lazytlb_model::{AtomicCell, Invpcid, LocalCell, Privilege, Rmw};

use crate::code::{Line, Op, Source, Where, accumulator};
use crate::world::{Slot, Target, World};
use lazytlb_litmus_syntax::AluOp;
use lazytlb_litmus_syntax::{GeneralRegister, Register, Width};
use lazytlb_litmus_syntax::{Position, SyntaxError};

/// What the threads of a test have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) world: World,
    /// Whether every access to a word is of this width, at its start: then a store writes all of it.
    pub(crate) only_width: Option<Width>,
    /// What some execution does that no machine could: then the test has no answer.
    pub(crate) nonsense: OnceLock<SyntaxError>,
}

/// A thread, ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) common: Arc<Common>,
    pub(crate) lines: Arc<[Line]>,
    pub(crate) first_registers: Arc<[(Register, u64)]>,
    pub(crate) privilege: Privilege,
    /// Registers to publish at the end, and the private words for them.
    pub(crate) published: Arc<[(Register, LocalCell)]>,
    /// The private word for the lines that faulted, a bit each.
    pub(crate) faults: Option<LocalCell>,
    /// Whether nobody interrupts this CPU: then it may as well run with interrupts off, which saves states.
    pub(crate) is_undisturbed: bool,
}

/// Lines whose faults are told apart: a bit each in one word.
pub(crate) const MOST_LINES: usize = 60;

impl Code {
    /// Runs the thread from its first line to its last.
    pub(crate) fn run(&self, hw: &ModelHw) {
        let mut cpu = Cpu {
            hw,
            common: &self.common,
            registers: [0; 16],
            privilege: self.privilege,
            is_undisturbed: self.is_undisturbed,
            at: Position::START,
        };
        for (register, value) in self.first_registers.iter() {
            cpu.set(*register, register.width, *value);
        }
        let first = hw.interrupts();
        if self.is_undisturbed {
            hw.disable_interrupts();
        }
        let mut faults = 0;
        for (number, line) in self.lines.iter().enumerate() {
            cpu.at = line.position;
            if cpu.execute(&line.op).is_none() {
                faults |= 1 << number;
            }
        }
        for (register, cell) in self.published.iter() {
            hw.store_local(cell, cpu.get(*register, register.width));
        }
        if let Some(cell) = &self.faults {
            hw.store_local(cell, faults);
        }
        if hw.interrupts() != first {
            hw.restore_interrupts(first);
        }
    }
}

/// A CPU in the middle of a thread.
struct Cpu<'a> {
    hw: &'a ModelHw,
    common: &'a Common,
    registers: [u64; 16],
    privilege: Privilege,
    is_undisturbed: bool,
    /// Where the instruction stands.
    at: Position,
}

/// A fault skips the instruction.
type Done<T> = Option<T>;

impl Cpu<'_> {
    fn get(&self, register: Register, width: Width) -> u64 {
        self.registers[index_of(register.general)] & mask(width)
    }

    /// Writes a register: 32 bits clear those above, fewer leave them.
    fn set(&mut self, register: Register, width: Width, value: u64) {
        let whole = &mut self.registers[index_of(register.general)];
        *whole = match width {
            Width::Quad | Width::Long => value & mask(width),
            Width::Word | Width::Byte => *whole & !mask(width) | value & mask(width),
        };
    }

    fn source(&self, source: Source, width: Width) -> Done<u64> {
        Some(match source {
            Source::Register(register) => self.get(register, width),
            Source::Number(number) => number & mask(width),
            Source::Memory(place) => {
                let (target, offset) = self.target(place, width);
                self.load(target)? >> (8 * offset) & mask(width)
            }
        })
    }

    /// Gives up an execution that no machine could take, and with it the test.
    fn refuse(&self, found: String, expected: &str, advice: &str) -> ! {
        let error = SyntaxError::new(self.at, found, expected, advice);
        let told = error.to_string();
        let _ = self.common.nonsense.set(error);
        panic!("{told}")
    }

    /// Returns what a memory operand names, and how far into its word the access begins.
    fn target(&self, place: Where, width: Width) -> (Target, u32) {
        let (register, offset) = match place {
            Where::At(target) => return (target, 0),
            Where::ByRegister(register, offset) => (register, offset),
        };
        let address = self.get(register, Width::Quad).wrapping_add_signed(offset);
        let Some(target) = self.common.world.at_address(address) else {
            let advice = "give the register an address in the init section: `0:rbx=x;`";
            let found = format!("the address {address:#x} in a register");
            self.refuse(found, "the address of a variable or an entry", advice)
        };
        let offset = (address % 8) as u32;
        if offset + width.bytes() > 8 {
            let found = format!("{} bytes at the address {address:#x}", width.bytes());
            let advice = "the model has no access that crosses into the next word";
            self.refuse(found, "an access inside one word of 8 bytes", advice)
        }
        (target, offset)
    }

    fn execute(&mut self, op: &Op) -> Done<()> {
        match *op {
            Op::Load { to, from, width } => {
                let (target, offset) = self.target(from, width);
                let word = self.load(target)?;
                self.set(to, width, word >> (8 * offset));
            }
            Op::Store {
                to,
                from,
                width,
                non_temporal,
            } => {
                let value = self.source(from, width)?;
                let (target, offset) = self.target(to, width);
                self.store(target, offset, width, value, non_temporal)?;
            }
            Op::Set { to, from, width } => {
                let value = self.source(from, width)?;
                self.set(to, width, value);
            }
            Op::Exchange {
                memory,
                register,
                width,
            } => {
                let new = self.get(register, width);
                let (target, offset) = self.target(memory, width);
                let old = self.locked(target, offset, width, Rmw::Swap, new)?;
                self.set(register, width, old);
            }
            Op::ExchangeRegisters(one, other) => {
                let width = one.width;
                let (first, second) = (self.get(one, width), self.get(other, width));
                self.set(one, width, second);
                self.set(other, width, first);
            }
            Op::Modify {
                op,
                locked,
                memory,
                source,
                width,
            } => self.modify(op, locked, memory, source, width)?,
            Op::Compute {
                op,
                to,
                source,
                width,
            } => {
                let (old, operand) = (self.get(to, width), self.source(source, width)?);
                let new = self.computed(op, width, old, operand);
                self.set(to, width, new);
                self.leave_old(op, width, source, old);
            }
            Op::Wait { cell, value } => self.hw.pause_until(&cell, Until::Equals(value)),
            Op::Fetch(place) => match self.target(place, Width::Byte).0 {
                Target::Virtual(addr) => self.hw.fetch(addr, self.privilege)?,
                Target::Cell(_) | Target::Entry(_) => {}
            },
            _ => self.control(op),
        }
        Some(())
    }

    /// Runs what neither reads nor writes a word.
    fn control(&mut self, op: &Op) {
        let hw = self.hw;
        match *op {
            Op::FullFence => hw.fence(),
            Op::StoreFence => hw.store_fence(),
            Op::LoadFence if !self.is_undisturbed => hw.load_fence(),
            Op::Invlpg(place) => hw.invlpg(self.address(place)),
            Op::InvpcidAddress(pcid, place) => {
                hw.invpcid(Invpcid::Address(pcid, self.address(place)));
            }
            Op::Invpcid(what) => hw.invpcid(what),
            Op::LoadCr3 { root, pcid, load } => hw.load_cr3_with_pcid(root, pcid, load),
            Op::ChangeCr4 { set, clear } => {
                hw.change_cr4(set, clear);
            }
            Op::Invlpgb(what) => hw.invlpgb(what),
            Op::Tlbsync => hw.tlbsync(),
            Op::Cpuid => hw.serialize(),
            Op::Cli => {
                hw.disable_interrupts();
            }
            Op::Sti => hw.restore_interrupts(Interrupts::Enabled),
            Op::Halt => hw.halt(),
            Op::Ipi(cpu) => {
                let mut target = CpuSet::<1>::EMPTY;
                target.insert(CpuId(cpu as u16));
                hw.send_ipi(&target);
            }
            Op::Nmi(cpu) => hw.send_nmi(1 << cpu),
            _ => {}
        }
    }

    /// Returns the address that an operand of INVLPG or INVPCID names: any in its page.
    fn address(&self, place: Where) -> VirtAddr {
        match place {
            Where::At(Target::Virtual(addr)) => addr,
            Where::At(Target::Cell(_) | Target::Entry(_)) => self.refuse(
                "an operand without translation".to_owned(),
                "the virtual address of a variable",
                "write `invlpg (x)`, in a test of translation",
            ),
            Where::ByRegister(register, offset) => {
                VirtAddr(self.get(register, Width::Quad).wrapping_add_signed(offset))
            }
        }
    }

    fn load(&self, target: Target) -> Done<u64> {
        match target {
            Target::Cell(cell) => Some(self.hw.load(&cell)),
            Target::Virtual(addr) => self.hw.load_virtual(addr, self.privilege),
            Target::Entry((table, index)) => Some(self.hw.read_entry(table, index).0),
        }
    }

    fn store(
        &self,
        target: Target,
        offset: u32,
        width: Width,
        value: u64,
        non_temporal: bool,
    ) -> Done<()> {
        let bytes = self.bytes(width, offset);
        let placed = value << (8 * offset);
        match target {
            Target::Cell(_) | Target::Entry(_)
                if non_temporal && self.common.world.is_translated =>
            {
                let found = "a non-temporal store without translation".to_owned();
                let advice = "write `movnti $1,(x)`: the model has them by virtual address only";
                self.refuse(found, "a virtual address", advice)
            }
            Target::Cell(cell) if self.common.only_width == Some(width) && offset == 0 => {
                self.hw.store(&cell, value);
            }
            Target::Cell(cell) => self.hw.store_bytes(&cell, bytes, placed),
            Target::Virtual(addr) => {
                let whole = self.common.only_width == Some(width) && offset == 0;
                let bytes = if whole { 0 } else { bytes };
                let (hw, privilege) = (self.hw, self.privilege);
                hw.store_virtual(addr, bytes, placed, privilege, non_temporal)?;
            }
            Target::Entry((table, index)) => {
                self.refuse_part_of_entry(width);
                self.hw.write_entry(table, index, lazytlb::Entry(placed));
            }
        }
        Some(())
    }

    fn refuse_part_of_entry(&self, width: Width) {
        if width != Width::Quad {
            let found = format!("a write of {} bytes to a page-table entry", width.bytes());
            let advice = "write the whole entry, with the suffix q";
            self.refuse(found, "8 bytes", advice)
        }
    }

    fn bytes(&self, width: Width, offset: u32) -> u8 {
        let bytes = ((1_u16 << width.bytes()) - 1) << offset;
        bytes as u8
    }

    /// A locked read-modify-write; returns what was there.
    fn locked(
        &self,
        target: Target,
        offset: u32,
        width: Width,
        rmw: Rmw,
        operand: u64,
    ) -> Done<u64> {
        let bytes = self.bytes(width, offset);
        match target {
            Target::Cell(cell) => Some(self.locked_cell(cell, bytes, rmw, operand)),
            Target::Entry(slot) => {
                self.refuse_part_of_entry(width);
                Some(self.locked_entry(slot, rmw, operand))
            }
            Target::Virtual(addr) => {
                let (hw, privilege) = (self.hw, self.privilege);
                hw.rmw_virtual(addr, bytes, rmw, operand, privilege)
            }
        }
    }

    fn locked_cell(&self, cell: AtomicCell, bytes: u8, rmw: Rmw, operand: u64) -> u64 {
        self.hw.locked_rmw(&cell, bytes, rmw, operand)
    }

    fn locked_entry(&self, (table, index): Slot, rmw: Rmw, operand: u64) -> u64 {
        let hw = self.hw;
        hw.rmw_entry(table, index, rmw, lazytlb::Entry(operand)).0
    }

    fn modify(
        &mut self,
        op: AluOp,
        locked: bool,
        memory: Where,
        source: Source,
        width: Width,
    ) -> Done<()> {
        let (target, offset) = self.target(memory, width);
        let operand = self.source(source, width)?;
        if locked {
            let rmw = match op {
                AluOp::Add | AluOp::Inc | AluOp::Xadd | AluOp::Sub | AluOp::Dec => Rmw::Add,
                AluOp::And => Rmw::And,
                AluOp::Or => Rmw::Or,
                AluOp::Xor => Rmw::Xor,
                AluOp::Cmpxchg => Rmw::SwapIf(self.get(accumulator(width), width)),
            };
            let operand = match op {
                AluOp::Sub | AluOp::Dec => operand.wrapping_neg() & mask(width),
                _ => operand,
            };
            let old = self.locked(target, offset, width, rmw, operand)?;
            self.leave_old(op, width, source, old);
            return Some(());
        }
        // An interrupt comes before an instruction or after it.
        let former = (!self.is_undisturbed).then(|| self.hw.disable_interrupts());
        let old = self.read_and_write(op, target, offset, width, operand);
        if let Some(former) = former {
            self.hw.restore_interrupts(former);
        }
        self.leave_old(op, width, source, old?);
        Some(())
    }

    /// A read-modify-write without LOCK: other CPUs may come in between. Returns what was there.
    fn read_and_write(
        &self,
        op: AluOp,
        target: Target,
        offset: u32,
        width: Width,
        operand: u64,
    ) -> Done<u64> {
        let old = self.load(target)? >> (8 * offset) & mask(width);
        let new = self.computed(op, width, old, operand);
        self.store(target, offset, width, new, false)?;
        Some(old)
    }

    fn computed(&self, op: AluOp, width: Width, old: u64, operand: u64) -> u64 {
        let new = match op {
            AluOp::Add | AluOp::Inc | AluOp::Xadd => old.wrapping_add(operand),
            AluOp::Sub | AluOp::Dec => old.wrapping_sub(operand),
            AluOp::And => old & operand,
            AluOp::Or => old | operand,
            AluOp::Xor => old ^ operand,
            AluOp::Cmpxchg if old == self.get(accumulator(width), width) => operand,
            AluOp::Cmpxchg => old,
        };
        new & mask(width)
    }

    /// Leaves the old value where XADD and a CMPXCHG that failed want it.
    fn leave_old(&mut self, op: AluOp, width: Width, source: Source, old: u64) {
        match (op, source) {
            (AluOp::Xadd, Source::Register(register)) => self.set(register, width, old),
            (AluOp::Cmpxchg, _) if old != self.get(accumulator(width), width) => {
                self.set(accumulator(width), width, old);
            }
            _ => {}
        }
    }
}

fn mask(width: Width) -> u64 {
    u64::MAX >> (64 - 8 * width.bytes())
}

fn index_of(register: GeneralRegister) -> usize {
    register as usize
}
