//! Resolves the names in the instructions of a test.

use lazytlb_litmus_syntax::{
    AluOp, Handler, Instruction, LitmusTest, Located, Memory, Operand, Place as PlaceName,
    Register, Thread, Width,
};

use crate::code::{Broadcast, Column, Cr4Change, Line, Op, Place, Source};
use crate::world::{Unknown, World};

/// Resolves all columns of a test.
pub(crate) fn columns(test: &LitmusTest, world: &World) -> Result<Vec<Column>, Unknown> {
    let users = test.metadata("User").unwrap_or_default();
    let users: Vec<&str> = users.split(',').map(str::trim).collect();
    let resolver = Resolver {
        world,
        threads: threads(test),
    };
    let column = |thread: &Thread| {
        let name = format!("P{}", thread.id);
        Ok(Column {
            thread: thread.id,
            handler: thread.handler,
            user: thread.handler.is_none() && users.contains(&name.as_str()),
            lines: resolver.lines(&thread.instructions)?,
        })
    };
    test.threads.iter().map(column).collect()
}

/// Lists the threads that have a CPU of their own.
pub(crate) fn threads(test: &LitmusTest) -> Vec<u32> {
    let threads = test.threads.iter();
    let threads = threads.filter(|thread| thread.handler.is_none());
    threads.map(|thread| thread.id).collect()
}

struct Resolver<'w> {
    world: &'w World,
    threads: Vec<u32>,
}

impl Resolver<'_> {
    fn lines(&self, instructions: &[Located<Instruction>]) -> Result<Vec<Line>, Unknown> {
        let (mut lines, mut labels) = (Vec::new(), Vec::new());
        for Located { value, .. } in instructions {
            if let Instruction::Label(label) = value {
                labels.push(label.clone());
                continue;
            }
            let accessed = value.accessed();
            lines.push(Line {
                op: self.op(value)?,
                labels: std::mem::take(&mut labels),
                variable: match accessed {
                    Some(Memory::Place(PlaceName::Variable(name))) => Some(name.clone()),
                    _ => None,
                },
            });
        }
        Ok(lines)
    }

    fn op(&self, instruction: &Instruction) -> Result<Op, Unknown> {
        use Instruction as I;
        Ok(match instruction {
            I::Mov { width, src, dst } => match (src, dst) {
                (Operand::Memory(from), Operand::Register(to)) => Op::Load {
                    to: *to,
                    from: self.memory(from)?,
                },
                (from, Operand::Register(to)) => Op::Set {
                    to: *to,
                    from: self.source(from)?,
                },
                (from, to) => Op::Store {
                    to: self.memory_of(to)?,
                    from: self.source(from)?,
                    width: *width,
                    non_temporal: false,
                },
            },
            I::Xchg { src, dst, .. } => self.exchange(src, dst)?,
            I::Alu {
                op,
                locked,
                width,
                src,
                dst,
            } => {
                let is_of_bits = matches!(op, AluOp::Bts | AluOp::Btr | AluOp::Btc);
                if is_of_bits && !matches!(src, Some(Operand::Immediate(_))) {
                    return Err("a bit that a register selects".to_owned());
                }
                let source = match src {
                    Some(source) => self.source(source)?,
                    None => Source::Number(1),
                };
                match dst {
                    Operand::Register(to) => Op::Compute {
                        op: *op,
                        to: *to,
                        source: register_or_number(source)?,
                    },
                    _ => Op::Modify {
                        op: *op,
                        locked: *locked,
                        memory: self.memory_of(dst)?,
                        source,
                        width: *width,
                    },
                }
            }
            I::Movnti { width, src, dst } => Op::Store {
                to: self.memory(dst)?,
                from: self.source(src)?,
                width: *width,
                non_temporal: true,
            },
            I::Wait { memory, value } => match memory {
                Memory::Place(place) => Op::Wait {
                    word: self.world.word(place)?,
                    value: self.world.number(value)?,
                },
                Memory::Register { .. } => return Err("a wait by a register".to_owned()),
            },
            I::Fetch(memory) => Op::Fetch(self.memory(memory)?),
            _ => self.control(instruction)?,
        })
    }

    fn control(&self, instruction: &Instruction) -> Result<Op, Unknown> {
        use Instruction as I;
        Ok(match instruction {
            I::Mfence => Op::Mfence,
            I::Sfence => Op::Sfence,
            I::Lfence => Op::Lfence,
            I::Invlpg(memory) => Op::Invlpg(self.memory(memory)?),
            I::Invpcid {
                kind,
                pcid,
                address,
            } => {
                let address = address.as_ref().map(|memory| self.memory(memory));
                Op::Invpcid {
                    kind: *kind,
                    pcid: *pcid,
                    address: address.transpose()?,
                }
            }
            I::MovCr3 { space, pcid, keep } => Op::LoadCr3 {
                root: self.world.root(space)?,
                pcid: pcid.unwrap_or(0),
                keep: *keep,
            },
            I::MovCr4 { pge, pcide, smep } => Op::ChangeCr4(Cr4Change {
                pge: *pge,
                pcide: *pcide,
                smep: *smep,
            }),
            I::Invlpgb {
                variable,
                pcid,
                global,
                final_only,
                // H30: it goes by the size of the page that is cached.
                stride: _,
            } => {
                let variable = variable.as_ref().map(|name| self.world.variable(name));
                Op::Invlpgb(Broadcast {
                    address: variable.transpose()?.map(|variable| variable.address),
                    pcid: *pcid,
                    globals: *global,
                    final_only: *final_only,
                })
            }
            I::Tlbsync => Op::Tlbsync,
            I::Cpuid => Op::Cpuid,
            I::Cli => Op::Cli,
            I::Sti => Op::Sti,
            I::Hlt => Op::Hlt,
            I::Ipi { thread } => self.interrupt(*thread, Handler::Ipi)?,
            I::Nmi { thread } => self.interrupt(*thread, Handler::Nmi)?,
            other => return Err(format!("{other:?}")),
        })
    }

    fn interrupt(&self, thread: u32, handler: Handler) -> Result<Op, Unknown> {
        let cpu = self.threads.iter().position(|known| *known == thread);
        let cpu = cpu.ok_or_else(|| format!("P{thread}"))?;
        Ok(Op::Interrupt { cpu, handler })
    }

    fn exchange(&self, one: &Operand, other: &Operand) -> Result<Op, Unknown> {
        match (one, other) {
            (Operand::Register(register), Operand::Memory(memory))
            | (Operand::Memory(memory), Operand::Register(register)) => Ok(Op::Exchange {
                memory: self.memory(memory)?,
                register: *register,
            }),
            (Operand::Register(one), Operand::Register(other)) => {
                Ok(Op::ExchangeRegisters(*one, *other))
            }
            _ => Err("an exchange with an immediate".to_owned()),
        }
    }

    fn memory(&self, memory: &Memory) -> Result<Place, Unknown> {
        match memory {
            Memory::Place(place) => self.world.place(place),
            Memory::Register { register, offset } => Ok(Place::Pointer(
                Register {
                    width: Width::Quad,
                    ..*register
                },
                *offset,
            )),
        }
    }

    fn memory_of(&self, operand: &Operand) -> Result<Place, Unknown> {
        let memory = operand.memory().ok_or("an immediate as destination")?;
        self.memory(memory)
    }

    fn source(&self, operand: &Operand) -> Result<Source, Unknown> {
        Ok(match operand {
            Operand::Register(register) => Source::Register(*register),
            Operand::Immediate(value) => Source::Number(self.world.number(value)?),
            Operand::Memory(memory) => Source::Memory(self.memory(memory)?),
        })
    }
}

/// Refuses an arithmetic instruction with a source in memory: it would load and compute in one.
fn register_or_number(source: Source) -> Result<Source, Unknown> {
    match source {
        Source::Memory(_) => Err("arithmetic with a source in memory".to_owned()),
        other => Ok(other),
    }
}
