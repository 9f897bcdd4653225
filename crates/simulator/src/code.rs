//! Instructions with their names resolved.

use lazytlb_litmus_syntax::{AluOp, Handler, InvpcidType, Register, Width};

use crate::memory::{Frame, Word};

/// What a memory operand names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// A word, whatever maps it.
    Physical(Word),
    /// An address to translate.
    Virtual(u64),
    /// The address in a register, and what is added to it.
    Pointer(Register, i64),
}

/// What an instruction reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    Register(Register),
    Number(u64),
    Memory(Place),
}

/// What an INVLPGB asks every CPU to drop (H29).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Broadcast {
    pub(crate) address: Option<u64>,
    pub(crate) pcid: Option<u16>,
    pub(crate) globals: bool,
    pub(crate) final_only: bool,
}

/// Bits of CR4 to change; `None`: as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cr4Change {
    pub(crate) pge: Option<bool>,
    pub(crate) pcide: Option<bool>,
    pub(crate) smep: Option<bool>,
}

/// An instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Load {
        to: Register,
        from: Place,
    },
    Store {
        to: Place,
        from: Source,
        width: Width,
        non_temporal: bool,
    },
    Set {
        to: Register,
        from: Source,
    },
    Exchange {
        memory: Place,
        register: Register,
    },
    ExchangeRegisters(Register, Register),
    Modify {
        op: AluOp,
        locked: bool,
        memory: Place,
        source: Source,
        width: Width,
    },
    Compute {
        op: AluOp,
        to: Register,
        source: Source,
    },
    Wait {
        word: Word,
        value: u64,
    },
    Fetch(Place),
    Mfence,
    Sfence,
    Lfence,
    Invlpg(Place),
    Invpcid {
        kind: InvpcidType,
        pcid: u16,
        address: Option<Place>,
    },
    LoadCr3 {
        root: Frame,
        pcid: u16,
        keep: bool,
    },
    ChangeCr4(Cr4Change),
    Invlpgb(Broadcast),
    Tlbsync,
    Cpuid,
    Cli,
    Sti,
    Hlt,
    /// Interrupts a CPU, by its number.
    Interrupt {
        cpu: usize,
        handler: Handler,
    },
}

/// An instruction and what a fault at it is known by.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) op: Op,
    pub(crate) labels: Vec<String>,
    /// The variable that it accesses by name.
    pub(crate) variable: Option<String>,
}

/// A column of the table.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) thread: u32,
    pub(crate) handler: Option<Handler>,
    /// It runs in ring 3.
    pub(crate) user: bool,
    pub(crate) lines: Vec<Line>,
}
