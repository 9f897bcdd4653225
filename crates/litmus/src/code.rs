//! A thread's instructions with every name resolved: what the interpreter runs.
//!
//! Operations come in families, so that each who goes through them sees all of one: what computes or
//! accesses memory ([`Op`]), and what steers the machine ([`Control`]).

use lazytlb::{CpuId, Cr3Load, PhysAddr, VirtAddr};
use lazytlb_litmus_syntax::{
    AluOp, CompareOp, GeneralRegister, Handler, JumpIf, Position, Register, Width,
};
use lazytlb_model::{AtomicCell, Broadcast, Cr4, Invpcid};

use crate::page_tables::Slot;
use crate::world::Target;

/// A column of the table, ready to run.
#[derive(Debug)]
pub(crate) struct Routine {
    /// The CPU that runs it.
    pub(crate) cpu: CpuId,
    /// The number of its thread.
    pub(crate) thread: u32,
    /// `None`: the thread itself.
    pub(crate) handler: Option<Handler>,
    pub(crate) lines: Vec<Line>,
}

/// A line of a thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    pub(crate) op: Op,
    pub(crate) position: Position,
    /// The labels before it.
    pub(crate) labels: Vec<String>,
    /// How it names the memory that it accesses.
    pub(crate) access: Named,
}

/// How an instruction names the memory that it accesses: what a condition can ask for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Named {
    /// It accesses none.
    Nothing,
    /// A variable, by its name.
    Variable(String),
    /// By a register: which variable that is, the text does not say.
    ByRegister,
    /// A frame or a page-table entry, past all translations.
    Physical,
}

/// A memory operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Where {
    /// Known from the start.
    At(Target),
    /// Where a register points to.
    ByRegister(Register, i64),
}

/// An address that an instruction gives to the machine: nothing is read there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    /// Known from the start.
    Fixed(VirtAddr),
    /// What a register holds, and what is added.
    InRegister(Register, i64),
}

/// What an instruction reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    Register(Register),
    Number(u64),
    Memory(Where),
}

/// Whether a store has a non-temporal hint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hint {
    Temporal,
    NonTemporal,
}

/// An instruction, ready to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Load {
        to: Register,
        from: Where,
        width: Width,
    },
    Store {
        to: Where,
        from: Source,
        width: Width,
        hint: Hint,
    },
    Set {
        to: Register,
        from: Source,
        width: Width,
    },
    Exchange {
        memory: Where,
        register: Register,
        width: Width,
    },
    ExchangeRegisters(Register, Register),
    Modify(Modify),
    Compute {
        op: AluOp,
        to: Register,
        source: Source,
        width: Width,
    },
    Compare {
        op: CompareOp,
        left: Source,
        right: Source,
        width: Width,
    },
    Jump {
        when: JumpIf,
        /// The number of the line; past the last one, the thread ends.
        to: usize,
    },
    /// Reads, and leaves what it has read: for the faults (CLFLUSH).
    Touch(Where),
    Wait {
        cell: AtomicCell,
        value: u64,
    },
    Fetch(Address),
    Control(Control),
}

/// A read-modify-write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Modify {
    pub(crate) op: AluOp,
    pub(crate) atomicity: Atomicity,
    pub(crate) memory: Where,
    pub(crate) source: Source,
    pub(crate) width: Width,
}

/// Whether other CPUs may come in between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Atomicity {
    Locked,
    Plain,
}

/// An instruction that steers the machine: it neither reads nor writes a word, and takes no fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Control {
    FullFence,
    StoreFence,
    LoadFence,
    Invlpg(Address),
    Invpcid(Invpcid),
    InvpcidAddress(u16, Address),
    LoadCr3 {
        root: PhysAddr,
        pcid: u16,
        load: Cr3Load,
    },
    /// MOV to CR3 from a register.
    LoadCr3From(Register),
    ChangeCr4 {
        set: Cr4,
        clear: Cr4,
    },
    Invlpgb(Broadcast),
    Tlbsync,
    Cpuid,
    /// IRET: the handler ends.
    Iret,
    Cli,
    Sti,
    Halt,
    Ipi(CpuId),
    Nmi(CpuId),
}

/// Where an instruction reads or writes, and how wide.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WordAccess {
    pub(crate) place: Where,
    pub(crate) width: Width,
}

impl Op {
    /// Returns the word that an instruction reads or writes; none if it only fetches or waits.
    pub(crate) fn word_access(&self) -> Option<WordAccess> {
        let access = |place, width| Some(WordAccess { place, width });
        match *self {
            Op::Load { from, width, .. } => access(from, width),
            Op::Store { to, width, .. } => access(to, width),
            Op::Exchange { memory, width, .. } => access(memory, width),
            Op::Modify(Modify { memory, width, .. }) => access(memory, width),
            Op::Compute { source, width, .. } => match source {
                Source::Memory(place) => access(place, width),
                Source::Register(_) | Source::Number(_) => None,
            },
            Op::Compare {
                left, right, width, ..
            } => match (left, right) {
                (Source::Memory(place), _) | (_, Source::Memory(place)) => access(place, width),
                (Source::Register(_) | Source::Number(_), _) => None,
            },
            Op::Set { .. }
            | Op::ExchangeRegisters(..)
            | Op::Jump { .. }
            | Op::Touch(_)
            | Op::Wait { .. }
            | Op::Fetch(_)
            | Op::Control(_) => None,
        }
    }

    /// Lists the registers that an instruction may write.
    pub(crate) fn written_registers(&self) -> Vec<Register> {
        match *self {
            Op::Load { to, .. } | Op::Set { to, .. } => vec![to],
            Op::Exchange { register, .. } => vec![register],
            Op::ExchangeRegisters(one, other) => vec![one, other],
            Op::Modify(Modify {
                op, source, width, ..
            }) => op_writes(op, source, width),
            Op::Compute {
                op,
                to,
                source,
                width,
            } => {
                let mut written = op_writes(op, source, width);
                written.push(to);
                written
            }
            Op::Store { .. } | Op::Compare { .. } | Op::Jump { .. } | Op::Touch(_) => Vec::new(),
            Op::Wait { .. } | Op::Fetch(_) | Op::Control(_) => Vec::new(),
        }
    }

    /// Returns the page-table entry that an instruction names and accesses.
    pub(crate) fn entry(&self) -> Option<Slot> {
        match self.word_access()?.place {
            Where::At(Target::Entry(slot)) => Some(slot),
            Where::At(Target::Cell(_) | Target::Virtual(_)) | Where::ByRegister(..) => None,
        }
    }

    /// Returns what it is, if it steers the machine.
    pub(crate) fn control(&self) -> Option<&Control> {
        match self {
            Op::Control(control) => Some(control),
            Op::Load { .. }
            | Op::Store { .. }
            | Op::Set { .. }
            | Op::Exchange { .. }
            | Op::ExchangeRegisters(..)
            | Op::Modify(_)
            | Op::Compute { .. }
            | Op::Compare { .. }
            | Op::Jump { .. }
            | Op::Touch(_)
            | Op::Wait { .. }
            | Op::Fetch(_) => None,
        }
    }
}

impl From<Control> for Op {
    fn from(control: Control) -> Op {
        Op::Control(control)
    }
}

impl Control {
    /// Says whether it is for ring 0 only.
    pub(crate) fn is_privileged(&self) -> bool {
        match self {
            Control::Invlpg(_) | Control::Invpcid(_) | Control::InvpcidAddress(..) => true,
            Control::LoadCr3 { .. } | Control::LoadCr3From(_) | Control::ChangeCr4 { .. } => true,
            Control::Invlpgb(_) | Control::Tlbsync => true,
            Control::Cli | Control::Sti | Control::Halt => true,
            Control::Ipi(_) | Control::Nmi(_) => true,
            Control::FullFence | Control::StoreFence | Control::LoadFence => false,
            Control::Cpuid | Control::Iret => false,
        }
    }

    /// Says whether it sends an interrupt.
    pub(crate) fn sends_interrupt(&self) -> bool {
        matches!(self, Control::Ipi(_) | Control::Nmi(_))
    }
}

/// Lists the registers that an operation writes besides its destination.
fn op_writes(op: AluOp, source: Source, width: Width) -> Vec<Register> {
    match (op, source) {
        (AluOp::Xadd, Source::Register(register)) => vec![register],
        (AluOp::Cmpxchg, _) => vec![accumulator(width)],
        (AluOp::Xadd, Source::Number(_) | Source::Memory(_)) => Vec::new(),
        (AluOp::Add | AluOp::Sub | AluOp::And | AluOp::Or | AluOp::Xor, _) => Vec::new(),
        (AluOp::Inc | AluOp::Dec | AluOp::Bts | AluOp::Btr | AluOp::Btc, _) => Vec::new(),
    }
}

/// The accumulator, which CMPXCHG compares with.
pub(crate) const fn accumulator(width: Width) -> Register {
    Register {
        general: GeneralRegister::Rax,
        width,
    }
}
