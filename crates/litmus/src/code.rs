//! A thread's instructions with every name resolved: what the interpreter runs.

use lazytlb::{Cr3Load, PhysAddr};
use lazytlb_model::{AtomicCell, Broadcast, Cr4, Invpcid};

use crate::world::{Target, World, refuse};
use lazytlb::VirtAddr;
use lazytlb_litmus_syntax::Place;
use lazytlb_litmus_syntax::{AluOp, Instruction, InvpcidType};
use lazytlb_litmus_syntax::{GeneralRegister, Register, Width};
use lazytlb_litmus_syntax::{Located, Thread};
use lazytlb_litmus_syntax::{Memory, Operand};
use lazytlb_litmus_syntax::{Position, SyntaxError};

/// A memory operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Where {
    /// Known from the start.
    At(Target),
    /// Where a register points to.
    ByRegister(Register, i64),
}

/// What an instruction reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    Register(Register),
    Number(u64),
    Memory(Where),
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
        non_temporal: bool,
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
    Modify {
        op: AluOp,
        locked: bool,
        memory: Where,
        source: Source,
        width: Width,
    },
    Compute {
        op: AluOp,
        to: Register,
        source: Source,
        width: Width,
    },
    FullFence,
    StoreFence,
    LoadFence,
    Nothing,
    Invlpg(Where),
    Invpcid(Invpcid),
    InvpcidAddress(u16, Where),
    LoadCr3 {
        root: PhysAddr,
        pcid: u16,
        load: Cr3Load,
    },
    ChangeCr4 {
        set: Cr4,
        clear: Cr4,
    },
    Invlpgb(Broadcast),
    Tlbsync,
    Cpuid,
    Cli,
    Sti,
    Halt,
    Ipi(usize),
    Nmi(usize),
    Wait {
        cell: AtomicCell,
        value: u64,
    },
    Fetch(Where),
}

/// A line of a thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    pub(crate) op: Op,
    pub(crate) position: Position,
    /// The labels before it.
    pub(crate) labels: Vec<String>,
    /// The variable that it accesses by name.
    pub(crate) variable: Option<String>,
}

/// Resolves a thread. `cpu_of` finds the CPU of a thread's number.
pub(crate) fn resolve(
    thread: &Thread,
    world: &World,
    cpu_of: &dyn Fn(u32) -> Option<usize>,
) -> Result<Vec<Line>, SyntaxError> {
    let (mut lines, mut labels) = (Vec::new(), Vec::new());
    for Located { value, position } in &thread.instructions {
        if let Instruction::Label(label) = value {
            labels.push(label.clone());
            continue;
        }
        let resolver = Resolver {
            world,
            at: *position,
            cpu_of,
        };
        lines.push(Line {
            op: resolver.op(value)?,
            position: *position,
            labels: std::mem::take(&mut labels),
            variable: accessed(value),
        });
    }
    Ok(lines)
}

/// Returns the variable that an instruction accesses by its name.
fn accessed(instruction: &Instruction) -> Option<String> {
    let of_memory = |memory: &Memory| match memory {
        Memory::Place(Place::Variable(name)) => Some(name.clone()),
        _ => None,
    };
    let of_operand = |operand: &Operand| match operand {
        Operand::Memory(memory) => of_memory(memory),
        _ => None,
    };
    match instruction {
        Instruction::Mov { src, dst, .. } | Instruction::Xchg { src, dst, .. } => {
            of_operand(src).or_else(|| of_operand(dst))
        }
        Instruction::Alu { src, dst, .. } => {
            let source = src.as_ref().and_then(of_operand);
            source.or_else(|| of_operand(dst))
        }
        Instruction::Movnti { dst, .. } => of_memory(dst),
        Instruction::Fetch(memory) => of_memory(memory),
        _ => None,
    }
}

struct Resolver<'a> {
    world: &'a World,
    at: Position,
    cpu_of: &'a dyn Fn(u32) -> Option<usize>,
}

impl Resolver<'_> {
    fn memory(&self, memory: &Memory) -> Result<Where, SyntaxError> {
        Ok(match memory {
            Memory::Place(place) => Where::At(self.world.target(place, self.at)?),
            Memory::Register { register, offset } => Where::ByRegister(*register, *offset),
        })
    }

    fn source(&self, operand: &Operand) -> Result<Source, SyntaxError> {
        match operand {
            Operand::Register(register) => Ok(Source::Register(*register)),
            Operand::Immediate(value) => Ok(Source::Number(self.world.number(value, self.at)?)),
            Operand::Memory(memory) => Ok(Source::Memory(self.memory(memory)?)),
        }
    }

    fn cpu(&self, thread: u32) -> Result<usize, SyntaxError> {
        (self.cpu_of)(thread).ok_or_else(|| {
            let advice = "name a column of the table";
            refuse(
                self.at,
                format!("`P{thread}`"),
                "a thread of this test",
                advice,
            )
        })
    }

    fn op(&self, instruction: &Instruction) -> Result<Op, SyntaxError> {
        use Instruction as I;
        Ok(match instruction {
            I::Label(_) => Op::Nothing,
            I::Lfence => Op::LoadFence,
            I::Mov { width, src, dst } => match (src, dst) {
                (Operand::Memory(from), Operand::Register(to)) => Op::Load {
                    to: *to,
                    from: self.memory(from)?,
                    width: *width,
                },
                (from, Operand::Memory(to)) => Op::Store {
                    to: self.memory(to)?,
                    from: self.source(from)?,
                    width: *width,
                    non_temporal: false,
                },
                (from, Operand::Register(to)) => Op::Set {
                    to: *to,
                    from: self.source(from)?,
                    width: *width,
                },
                (_, Operand::Immediate(_)) => return Err(self.no_destination()),
            },
            I::Xchg { width, src, dst } => match (src, dst) {
                (Operand::Register(register), Operand::Memory(memory))
                | (Operand::Memory(memory), Operand::Register(register)) => Op::Exchange {
                    memory: self.memory(memory)?,
                    register: *register,
                    width: *width,
                },
                (Operand::Register(one), Operand::Register(other)) => {
                    Op::ExchangeRegisters(*one, *other)
                }
                _ => return Err(self.no_destination()),
            },
            I::Alu {
                op,
                locked,
                width,
                src,
                dst,
            } => self.arithmetic(*op, *locked, *width, src.as_ref(), dst)?,
            I::Mfence => Op::FullFence,
            I::Sfence => Op::StoreFence,
            I::Movnti { width, src, dst } => Op::Store {
                to: self.memory(dst)?,
                from: self.source(src)?,
                width: *width,
                non_temporal: true,
            },
            I::Invlpg(memory) => Op::Invlpg(self.memory(memory)?),
            I::Invpcid {
                kind,
                pcid,
                address,
            } => match (kind, address) {
                (InvpcidType::Address, Some(memory)) => {
                    Op::InvpcidAddress(*pcid, self.memory(memory)?)
                }
                (InvpcidType::Address, None) => {
                    let advice = "write `invpcid $0, $1, (x)`";
                    return Err(refuse(self.at, "no address", "an address", advice));
                }
                (InvpcidType::SingleContext, _) => Op::Invpcid(Invpcid::Pcid(*pcid)),
                (InvpcidType::AllWithGlobal, _) => Op::Invpcid(Invpcid::AllWithGlobals),
                (InvpcidType::AllExceptGlobal, _) => Op::Invpcid(Invpcid::AllNonGlobal),
            },
            I::MovCr3 { space, pcid, keep } => Op::LoadCr3 {
                root: self.world.root(space, self.at)?,
                pcid: pcid.unwrap_or(0),
                load: if *keep { Cr3Load::Keep } else { Cr3Load::Flush },
            },
            I::MovCr4 { pge, pcide, smep } => {
                let named = [(pge, Cr4::PGE), (pcide, Cr4::PCIDE), (smep, Cr4::SMEP)];
                let of = |wanted| {
                    let bits = named.iter().filter(|(bit, _)| **bit == Some(wanted));
                    bits.fold(Cr4::default(), |cr4, (_, bit)| cr4.with(*bit, true))
                };
                Op::ChangeCr4 {
                    set: of(true),
                    clear: of(false),
                }
            }
            I::Invlpgb {
                variable,
                pcid,
                global,
                final_only,
                // H30: the model goes by the size of the page that is cached, whatever the stride.
                stride: _,
            } => Op::Invlpgb(Broadcast {
                addr: match variable {
                    Some(name) => Some(VirtAddr(self.world.variable(name, self.at)?.address)),
                    None => None,
                },
                pcid: *pcid,
                globals: *global,
                final_only: *final_only,
            }),
            I::Tlbsync => Op::Tlbsync,
            I::Cpuid => Op::Cpuid,
            I::Cli => Op::Cli,
            I::Sti => Op::Sti,
            I::Hlt => Op::Halt,
            I::Ipi { thread } => Op::Ipi(self.cpu(*thread)?),
            I::Nmi { thread } => Op::Nmi(self.cpu(*thread)?),
            I::Wait { memory, value } => {
                let Memory::Place(place @ (Place::Variable(_) | Place::Frame(_))) = memory else {
                    let advice = "wait on a variable: `wait (x), $1`";
                    return Err(refuse(self.at, "another place", "a variable", advice));
                };
                let name = match place {
                    Place::Variable(name) | Place::Frame(name) => name,
                    _ => return Err(self.no_destination()),
                };
                Op::Wait {
                    cell: self.world.word_of(name, self.at)?,
                    value: self.world.number(value, self.at)?,
                }
            }
            I::Fetch(memory) => Op::Fetch(self.memory(memory)?),
        })
    }

    fn arithmetic(
        &self,
        op: AluOp,
        locked: bool,
        width: Width,
        source: Option<&Operand>,
        to: &Operand,
    ) -> Result<Op, SyntaxError> {
        let source = match source {
            Some(source) => self.source(source)?,
            None => Source::Number(1),
        };
        match to {
            Operand::Register(to) => Ok(Op::Compute {
                op,
                to: *to,
                source,
                width,
            }),
            Operand::Memory(memory) => Ok(Op::Modify {
                op,
                locked,
                memory: self.memory(memory)?,
                source,
                width,
            }),
            Operand::Immediate(_) => Err(self.no_destination()),
        }
    }

    fn no_destination(&self) -> SyntaxError {
        let advice = "an immediate can only be read";
        refuse(
            self.at,
            "an immediate as the destination",
            "a register or memory",
            advice,
        )
    }
}

/// The accumulator, which CMPXCHG compares with.
pub(crate) const fn accumulator(width: Width) -> Register {
    Register {
        general: GeneralRegister::Rax,
        width,
    }
}
