//! Resolves the names in a test's instructions.

use std::collections::BTreeMap;

use lazytlb::{CpuId, Cr3Load};
use lazytlb_litmus_syntax::{
    AluOp, Handler, Instruction, InvpcidType, JumpIf, LitmusTest, Located, Memory, Operand, Place,
    Position, SyntaxError, Thread, Value, Width,
};
use lazytlb_model::{Broadcast, Cr4, Invpcid, Privilege};

use crate::code::{
    Address, Atomicity, Control, Hint, Line, Modify, Named, Op, Routine, Source, Where,
};
use crate::cpus::Cpus;
use crate::interpreter::MOST_LINES;
use crate::settings::Settings;
use crate::world::{Target, World};

/// Resolves all columns of a test.
///
/// # Errors
/// If a name means nothing, or a column is not one that can run.
pub(crate) fn routines(
    test: &LitmusTest,
    world: &World,
    cpus: &Cpus,
    settings: &Settings,
) -> Result<Vec<Routine>, SyntaxError> {
    let mut routines = Vec::new();
    for thread in &test.threads {
        let lines = lines(test, thread, world, cpus)?;
        if thread.handler.is_none() && settings.privilege(thread.id) == Privilege::User {
            refuse_privileged(&lines)?;
        }
        if let Some(line) = lines.get(MOST_LINES) {
            let (found, expected) = ("too many instructions", "at most 60 in a thread");
            return Err(SyntaxError::new(
                line.position,
                found,
                expected,
                "split the test",
            ));
        }
        let column = format_args!("a handler of P{}", thread.id);
        routines.push(Routine {
            cpu: cpus.of_thread(thread.id, column, Position::START)?,
            thread: thread.id,
            handler: thread.handler,
            lines,
        });
    }
    Ok(routines)
}

fn lines(
    test: &LitmusTest,
    thread: &Thread,
    world: &World,
    cpus: &Cpus,
) -> Result<Vec<Line>, SyntaxError> {
    let targets = labels(thread)?;
    let (mut lines, mut labels) = (Vec::new(), Vec::new());
    for Located { value, position } in &thread.instructions {
        if let Instruction::Label(label) = value {
            labels.push(label.clone());
        }
        let resolver = Resolver {
            test,
            world,
            cpus,
            labels: &targets,
            handler: thread.handler,
            at: *position,
        };
        if let Some(op) = resolver.op(value)? {
            lines.push(Line {
                op,
                position: *position,
                labels: std::mem::take(&mut labels),
                access: named(value),
            });
        }
    }
    Ok(lines)
}

/// Finds the number of the line that each label of a column stands before.
fn labels(thread: &Thread) -> Result<BTreeMap<&str, usize>, SyntaxError> {
    let mut labels = BTreeMap::new();
    let mut line = 0;
    for Located { value, position } in &thread.instructions {
        let Instruction::Label(label) = value else {
            line += 1;
            continue;
        };
        if labels.insert(label.as_str(), line).is_some() {
            let found = format!("the label `{label}` for the second time");
            let advice = "rename one of the two";
            return Err(SyntaxError::new(
                *position,
                found,
                "each label once",
                advice,
            ));
        }
    }
    Ok(labels)
}

/// Returns how an instruction names the memory that it accesses.
fn named(instruction: &Instruction) -> Named {
    match instruction.accessed() {
        None => Named::Nothing,
        Some(Memory::Place(Place::Variable(name))) => Named::Variable(name.clone()),
        Some(Memory::Place(_)) => Named::Physical,
        Some(Memory::Register { .. }) => Named::ByRegister,
    }
}

/// Refuses what ring 3 must not execute: it would be #GP, and end there.
fn refuse_privileged(lines: &[Line]) -> Result<(), SyntaxError> {
    let is_privileged = |line: &&Line| line.op.control().is_some_and(Control::is_privileged);
    match lines.iter().find(is_privileged) {
        None => Ok(()),
        Some(line) => Err(SyntaxError::new(
            line.position,
            "a privileged instruction in a thread of ring 3",
            "an instruction that ring 3 may execute",
            "take the thread out of `User=`, or use another thread or a handler",
        )),
    }
}

struct Resolver<'a> {
    test: &'a LitmusTest,
    world: &'a World,
    cpus: &'a Cpus,
    labels: &'a BTreeMap<&'a str, usize>,
    handler: Option<Handler>,
    at: Position,
}

impl Resolver<'_> {
    /// Resolves an instruction; `None` for a label, which is no operation.
    fn op(&self, instruction: &Instruction) -> Result<Option<Op>, SyntaxError> {
        use Instruction as I;
        let op = match instruction {
            I::Label(_) => return Ok(None),
            I::Mov { width, src, dst } => self.mov(*width, src, dst)?,
            I::Xchg { width, src, dst } => self.exchange(*width, src, dst)?,
            I::Alu {
                op,
                locked,
                width,
                src,
                dst,
            } => self.arithmetic(*op, *width, src.as_ref(), dst, atomicity(*locked))?,
            I::Movnti { width, src, dst } => Op::Store {
                to: self.memory(dst)?,
                from: self.source(src)?,
                width: *width,
                hint: Hint::NonTemporal,
            },
            I::Compare {
                op,
                width,
                src,
                dst,
            } => Op::Compare {
                op: *op,
                left: self.source(dst)?,
                right: self.source(src)?,
                width: *width,
            },
            I::Jump { when, label } => self.jump(*when, label)?,
            I::Clflush(memory) => Op::Touch(self.memory(memory)?),
            I::Wait { memory, value } => self.wait(memory, value)?,
            I::Fetch(memory) => Op::Fetch(self.address(memory, "write `fetch (x)`")?),
            I::Iretq => self.iret()?,
            other => self.control(other)?.into(),
        };
        Ok(Some(op))
    }

    /// Resolves an instruction that steers the machine.
    fn control(&self, instruction: &Instruction) -> Result<Control, SyntaxError> {
        use Instruction as I;
        Ok(match instruction {
            I::Mfence => Control::FullFence,
            I::Sfence => Control::StoreFence,
            I::Lfence => Control::LoadFence,
            I::Invlpg(memory) => Control::Invlpg(self.invalidated(memory)?),
            I::Invpcid {
                kind,
                pcid,
                address,
            } => self.invpcid(*kind, *pcid, address.as_ref())?,
            I::MovCr3 { space, pcid, keep } => Control::LoadCr3 {
                root: self.world.root(space, self.at)?,
                pcid: pcid.unwrap_or(0),
                load: if *keep { Cr3Load::Keep } else { Cr3Load::Flush },
            },
            I::MovCr3From { register } => Control::LoadCr3From(*register),
            I::MovCr4 { pge, pcide, smep } => change_cr4(*pge, *pcide, *smep),
            I::Invlpgb {
                variable,
                pcid,
                global,
                final_only,
                // H30: the model goes by the size of the page that is cached, whatever the stride.
                stride: _,
            } => {
                let variable = variable.as_ref();
                let found = variable.map(|name| self.world.variable(name, self.at));
                Control::Invlpgb(Broadcast {
                    addr: found.transpose()?.map(|variable| variable.address),
                    pcid: *pcid,
                    globals: *global,
                    final_only: *final_only,
                })
            }
            I::Tlbsync => Control::Tlbsync,
            I::Cpuid => Control::Cpuid,
            I::Cli => Control::Cli,
            I::Sti => Control::Sti,
            I::Hlt => Control::Halt,
            I::Ipi { thread } => Control::Ipi(self.target(*thread, Handler::Ipi)?),
            I::Nmi { thread } => Control::Nmi(self.target(*thread, Handler::Nmi)?),
            I::Label(_) | I::Mov { .. } | I::Xchg { .. } | I::Alu { .. } | I::Movnti { .. } => {
                unreachable!("`op` resolves it")
            }
            I::Compare { .. } | I::Jump { .. } | I::Clflush(_) | I::Wait { .. } | I::Fetch(_) => {
                unreachable!("`op` resolves it")
            }
            I::Iretq => unreachable!("`op` resolves it"),
        })
    }

    fn mov(&self, width: Width, src: &Operand, dst: &Operand) -> Result<Op, SyntaxError> {
        match (src, dst) {
            (Operand::Memory(from), Operand::Register(to)) => Ok(Op::Load {
                to: *to,
                from: self.memory(from)?,
                width,
            }),
            (from, Operand::Memory(to)) => Ok(Op::Store {
                to: self.memory(to)?,
                from: self.source(from)?,
                width,
                hint: Hint::Temporal,
            }),
            (from, Operand::Register(to)) => Ok(Op::Set {
                to: *to,
                from: self.source(from)?,
                width,
            }),
            (_, Operand::Immediate(_)) => Err(self.no_destination()),
        }
    }

    fn exchange(&self, width: Width, src: &Operand, dst: &Operand) -> Result<Op, SyntaxError> {
        match (src, dst) {
            (Operand::Register(register), Operand::Memory(memory))
            | (Operand::Memory(memory), Operand::Register(register)) => Ok(Op::Exchange {
                memory: self.memory(memory)?,
                register: *register,
                width,
            }),
            (Operand::Register(one), Operand::Register(other)) => {
                Ok(Op::ExchangeRegisters(*one, *other))
            }
            (Operand::Immediate(_), _)
            | (_, Operand::Immediate(_))
            | (Operand::Memory(_), Operand::Memory(_)) => Err(self.no_destination()),
        }
    }

    fn arithmetic(
        &self,
        op: AluOp,
        width: Width,
        source: Option<&Operand>,
        to: &Operand,
        atomicity: Atomicity,
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
            Operand::Memory(memory) => Ok(Op::Modify(Modify {
                op,
                atomicity,
                memory: self.memory(memory)?,
                source,
                width,
            })),
            Operand::Immediate(_) => Err(self.no_destination()),
        }
    }

    fn jump(&self, when: JumpIf, label: &str) -> Result<Op, SyntaxError> {
        match self.labels.get(label) {
            Some(to) => Ok(Op::Jump { when, to: *to }),
            None => {
                let advice = "put it before an instruction of this column, or behind the last one";
                Err(self.refuse(&format!("`{label}`"), "a label of this column", advice))
            }
        }
    }

    fn iret(&self) -> Result<Op, SyntaxError> {
        match self.handler {
            Some(Handler::Ipi | Handler::Nmi) => Ok(Control::Iret.into()),
            None => {
                let advice = "it ends a handler: a column `P1.ipi` or `P1.nmi`";
                Err(self.refuse("`iretq` in a thread", "a handler", advice))
            }
        }
    }

    fn wait(&self, memory: &Memory, value: &Value) -> Result<Op, SyntaxError> {
        let Memory::Place(Place::Variable(name) | Place::Frame(name)) = memory else {
            let advice = "wait on a variable: `wait (x), $1`";
            return Err(self.refuse("another place", "a variable", advice));
        };
        Ok(Op::Wait {
            cell: self.world.cell(name, self.at)?.0,
            value: self.world.number(value, self.at)?,
        })
    }

    fn invpcid(
        &self,
        kind: InvpcidType,
        pcid: u16,
        address: Option<&Memory>,
    ) -> Result<Control, SyntaxError> {
        match (kind, address) {
            (InvpcidType::Address, Some(memory)) => {
                Ok(Control::InvpcidAddress(pcid, self.invalidated(memory)?))
            }
            (InvpcidType::Address, None) => {
                let advice = "write `invpcid $0, $1, (x)`";
                Err(self.refuse("no address", "an address", advice))
            }
            (InvpcidType::SingleContext, _) => Ok(Control::Invpcid(Invpcid::Pcid(pcid))),
            (InvpcidType::AllWithGlobal, _) => Ok(Control::Invpcid(Invpcid::AllWithGlobals)),
            (InvpcidType::AllExceptGlobal, _) => Ok(Control::Invpcid(Invpcid::AllNonGlobal)),
        }
    }

    /// Finds the CPU that an interrupt goes to, which has to have a handler for it.
    fn target(&self, thread: u32, handler: Handler) -> Result<CpuId, SyntaxError> {
        let written = format_args!("`P{thread}`");
        let cpu = self.cpus.of_thread(thread, written, self.at)?;
        let mut columns = self.test.threads.iter();
        if columns.any(|column| (column.id, column.handler) == (thread, Some(handler))) {
            return Ok(cpu);
        }
        let name = match handler {
            Handler::Ipi => "ipi",
            Handler::Nmi => "nmi",
        };
        let found = format!("`{name} P{thread}` without a handler");
        let expected = format!("a column `P{thread}.{name}`");
        let advice = "add the handler's column to the table; it may be empty but for a `nop`";
        Err(self.refuse(&found, &expected, advice))
    }

    fn memory(&self, memory: &Memory) -> Result<Where, SyntaxError> {
        match memory {
            Memory::Place(place) => Ok(Where::At(self.world.target(place, self.at)?)),
            Memory::Register { register, offset } => Ok(Where::ByRegister(*register, *offset)),
        }
    }

    /// Resolves an operand that only gives an address: a virtual one.
    fn address(&self, memory: &Memory, advice: &str) -> Result<Address, SyntaxError> {
        match self.memory(memory)? {
            Where::At(Target::Virtual(address)) => Ok(Address::Fixed(address)),
            Where::ByRegister(register, offset) => Ok(Address::InRegister(register, offset)),
            Where::At(Target::Cell(_) | Target::Entry(_)) => {
                let expected = "the virtual address of a variable";
                Err(self.refuse("an operand without translation", expected, advice))
            }
        }
    }

    fn invalidated(&self, memory: &Memory) -> Result<Address, SyntaxError> {
        self.address(memory, "write `invlpg (x)`, in a test of translation")
    }

    fn source(&self, operand: &Operand) -> Result<Source, SyntaxError> {
        match operand {
            Operand::Register(register) => Ok(Source::Register(*register)),
            Operand::Immediate(value) => Ok(Source::Number(self.world.number(value, self.at)?)),
            Operand::Memory(memory) => Ok(Source::Memory(self.memory(memory)?)),
        }
    }

    fn refuse(&self, found: &str, expected: &str, advice: &str) -> SyntaxError {
        SyntaxError::new(self.at, found, expected, advice)
    }

    fn no_destination(&self) -> SyntaxError {
        let (expected, advice) = ("a register or memory", "an immediate can only be read");
        self.refuse("an immediate as the destination", expected, advice)
    }
}

fn atomicity(locked: bool) -> Atomicity {
    match locked {
        true => Atomicity::Locked,
        false => Atomicity::Plain,
    }
}

fn change_cr4(pge: Option<bool>, pcide: Option<bool>, smep: Option<bool>) -> Control {
    let named = [(pge, Cr4::PGE), (pcide, Cr4::PCIDE), (smep, Cr4::SMEP)];
    let of = |wanted| {
        let bits = named.iter().filter(|(bit, _)| *bit == Some(wanted));
        bits.fold(Cr4::default(), |cr4, (_, bit)| cr4.with(*bit, true))
    };
    Control::ChangeCr4 {
        set: of(true),
        clear: of(false),
    }
}
