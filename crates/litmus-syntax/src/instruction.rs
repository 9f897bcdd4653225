//! Instructions as data.

use crate::operand::{Memory, Operand};
use crate::register::{Register, Width};
use crate::value::Value;

/// Selects what a read-modify-write instruction computes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AluOp {
    /// `dst += src`
    Add,
    /// `dst -= src`
    Sub,
    /// `dst &= src`
    And,
    /// `dst |= src`
    Or,
    /// `dst ^= src`
    Xor,
    /// `dst += 1`; no source.
    Inc,
    /// `dst -= 1`; no source.
    Dec,
    /// `dst += src`, and `src` takes the old value; the source is a register.
    Xadd,
    /// If `dst` equals the accumulator, `dst = src`; else the accumulator takes `dst`. The source is
    /// a register.
    Cmpxchg,
    /// Sets a bit of `dst`; CF takes what it was.
    Bts,
    /// Clears a bit of `dst`; CF takes what it was.
    Btr,
    /// Inverts a bit of `dst`; CF takes what it was.
    Btc,
}

/// Selects what an instruction compares, for the flags alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CompareOp {
    /// `cmp`: the flags of `dst - src`.
    Cmp,
    /// `test`: the flags of `dst & src`.
    Test,
    /// `bt`: CF takes a bit of `dst`.
    Bt,
}

/// Says of which flags a conditional jump hangs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum JumpCondition {
    /// `jo`: OF.
    Overflow,
    /// `jb`, `jc`, `jnae`: CF.
    Below,
    /// `je`, `jz`: ZF.
    Equal,
    /// `jbe`, `jna`: CF or ZF.
    BelowOrEqual,
    /// `js`: SF.
    Sign,
    /// `jl`, `jnge`: SF is not OF.
    Less,
    /// `jle`, `jng`: ZF, or SF is not OF.
    LessOrEqual,
}

/// Says whether a condition must hold, or must not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum JumpIf {
    /// `jmp`
    Always,
    /// `je`
    Holds(JumpCondition),
    /// `jne`
    HoldsNot(JumpCondition),
}

/// Selects what INVPCID invalidates.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum InvpcidType {
    /// 0: one address in one PCID, not its global translations.
    Address,
    /// 1: one PCID, not its global translations.
    SingleContext,
    /// 2: all PCIDs and the global translations.
    AllWithGlobal,
    /// 3: all PCIDs, not the global translations.
    AllExceptGlobal,
}

/// Selects how INVLPGB counts pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stride {
    /// `4k`
    Page4K,
    /// `2m`
    Page2M,
}

/// Gives an instruction.
///
/// Sources and destinations are those of the processor's manual, whatever the syntax's order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Instruction {
    /// `L0:` names the next instruction of the thread.
    Label(String),
    /// Load, store, or move between registers.
    Mov {
        /// How many bytes.
        width: Width,
        /// A register, an immediate or memory.
        src: Operand,
        /// A register or memory.
        dst: Operand,
    },
    /// Exchange; atomic if an operand is memory, with or without `lock`.
    Xchg {
        /// How many bytes.
        width: Width,
        /// A register or memory.
        src: Operand,
        /// A register or memory, at most one of the two.
        dst: Operand,
    },
    /// Read, modify, write.
    Alu {
        /// What is computed.
        op: AluOp,
        /// With the `lock` prefix: atomic; the destination is memory.
        locked: bool,
        /// How many bytes.
        width: Width,
        /// `None` for [`AluOp::Inc`] and [`AluOp::Dec`].
        src: Option<Operand>,
        /// A register or memory.
        dst: Operand,
    },
    /// Reads, and sets the flags.
    Compare {
        /// What is compared.
        op: CompareOp,
        /// How many bytes.
        width: Width,
        /// A register, an immediate or memory.
        src: Operand,
        /// A register or memory, at most one of the two.
        dst: Operand,
    },
    /// `jmp L0`, `jne L0`
    Jump {
        /// When.
        when: JumpIf,
        /// Where to: a label of the same column.
        label: String,
    },
    /// `clflush (x)`, `clflushopt`, `clwb`: caches are coherent, so it only reads, for faults.
    Clflush(Memory),
    /// `mfence`
    Mfence,
    /// `sfence`
    Sfence,
    /// `lfence`
    Lfence,
    /// `movnti`: a store with a non-temporal hint.
    Movnti {
        /// Four or eight bytes.
        width: Width,
        /// A register or, beyond real hardware, an immediate.
        src: Operand,
        /// Memory.
        dst: Memory,
    },
    /// `invlpg (x)`
    Invlpg(Memory),
    /// `invpcid $0, $1, (x)`
    Invpcid {
        /// What to invalidate.
        kind: InvpcidType,
        /// Of which PCID, below 4096; ignored by the types that take all.
        pcid: u16,
        /// At which address; always there for [`InvpcidType::Address`], ignored by the others.
        address: Option<Memory>,
    },
    /// `movq $CR3(B, pcid:2, keep), %cr3`
    MovCr3 {
        /// The address space whose root is loaded.
        space: String,
        /// The PCID, below 4096; `None` if not named.
        pcid: Option<u16>,
        /// Bit 63: invalidate nothing.
        keep: bool,
    },
    /// `movq %rax, %cr3`: the root's address, the PCID below it, bit 63.
    MovCr3From {
        /// What holds it.
        register: Register,
    },
    /// `movq $CR4(pge:0), %cr4`: bits not named keep their value.
    MovCr4 {
        /// Global pages.
        pge: Option<bool>,
        /// PCIDs.
        pcide: Option<bool>,
        /// Supervisor-mode execution prevention.
        smep: Option<bool>,
    },
    /// `invlpgb $(va:x, pcid:1, global:1, final:1, stride:2m)`
    Invlpgb {
        /// The variable whose address is invalidated; `None`: every address.
        variable: Option<String>,
        /// In this PCID; `None`: in every PCID.
        pcid: Option<u16>,
        /// Also global translations.
        global: bool,
        /// Only the final translation, not paging-structure caches.
        final_only: bool,
        /// The size of a page.
        stride: Stride,
    },
    /// `tlbsync`
    Tlbsync,
    /// `cpuid`
    Cpuid,
    /// `cli`
    Cli,
    /// `sti`
    Sti,
    /// `hlt`
    Hlt,
    /// `iretq`: ends a handler, and serializes.
    Iretq,
    /// `ipi P1`: sends an interrupt to the CPU of a thread.
    Ipi {
        /// The thread.
        thread: u32,
    },
    /// `nmi P1`: sends a non-maskable interrupt to the CPU of a thread.
    Nmi {
        /// The thread.
        thread: u32,
    },
    /// `wait (x), $1`: loads until the value is this.
    Wait {
        /// What is loaded.
        memory: Memory,
        /// What ends the loop.
        value: Value,
    },
    /// `fetch (x)`: fetches an instruction.
    Fetch(Memory),
}

impl Instruction {
    /// Gives the memory whose data the instruction loads or stores, or that it fetches: where it may
    /// take a page fault. What only gives an address (INVLPG) or a word to wait for is not accessed.
    pub fn accessed(&self) -> Option<&Memory> {
        match self {
            Instruction::Mov { src, dst, .. } | Instruction::Xchg { src, dst, .. } => {
                src.memory().or_else(|| dst.memory())
            }
            Instruction::Alu { src, dst, .. } => {
                let source = src.as_ref().and_then(Operand::memory);
                source.or_else(|| dst.memory())
            }
            Instruction::Compare { src, dst, .. } => src.memory().or_else(|| dst.memory()),
            Instruction::Movnti { dst, .. } => Some(dst),
            Instruction::Fetch(memory) | Instruction::Clflush(memory) => Some(memory),
            Instruction::Label(_)
            | Instruction::Jump { .. }
            | Instruction::Mfence
            | Instruction::Sfence
            | Instruction::Lfence
            | Instruction::Invlpg(_)
            | Instruction::Invpcid { .. }
            | Instruction::MovCr3 { .. }
            | Instruction::MovCr3From { .. }
            | Instruction::MovCr4 { .. }
            | Instruction::Invlpgb { .. }
            | Instruction::Tlbsync
            | Instruction::Cpuid
            | Instruction::Cli
            | Instruction::Sti
            | Instruction::Hlt
            | Instruction::Iretq
            | Instruction::Ipi { .. }
            | Instruction::Nmi { .. }
            | Instruction::Wait { .. } => None,
        }
    }
}
