//! Instructions that need no privilege: mnemonics, and which operands go together. Shared by the two
//! syntaxes, which differ in the order of operands and in the default width.

use crate::error::SyntaxError;
use crate::instruction::{AluOp, Instruction};
use crate::operand::Operand;
use crate::position::Position;
use crate::register::Width;
use crate::value::Value;

/// A mnemonic without its suffix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Opcode {
    Mov,
    Xchg,
    Movnti,
    Alu(AluOp),
}

const OPCODES: [(&str, Opcode); 12] = [
    ("mov", Opcode::Mov),
    ("xchg", Opcode::Xchg),
    ("movnti", Opcode::Movnti),
    ("add", Opcode::Alu(AluOp::Add)),
    ("sub", Opcode::Alu(AluOp::Sub)),
    ("and", Opcode::Alu(AluOp::And)),
    ("or", Opcode::Alu(AluOp::Or)),
    ("xor", Opcode::Alu(AluOp::Xor)),
    ("inc", Opcode::Alu(AluOp::Inc)),
    ("dec", Opcode::Alu(AluOp::Dec)),
    ("xadd", Opcode::Alu(AluOp::Xadd)),
    ("cmpxchg", Opcode::Alu(AluOp::Cmpxchg)),
];

impl Opcode {
    /// Finds a mnemonic in lower case, and the width that its suffix gives.
    pub(crate) fn find(mnemonic: &str) -> Option<(Opcode, Option<Width>)> {
        if let Some((_, opcode)) = OPCODES.iter().find(|(name, _)| *name == mnemonic) {
            return Some((*opcode, None));
        }
        OPCODES.iter().find_map(|(name, opcode)| {
            let width = Width::of_suffix(mnemonic.strip_prefix(name)?)?;
            Some((*opcode, Some(width)))
        })
    }

    /// Tells whether there is no source.
    pub(crate) fn has_one_operand(self) -> bool {
        matches!(self, Opcode::Alu(AluOp::Inc | AluOp::Dec))
    }
}

/// Finds the fences and the instructions that do nothing; `None` inside if there is nothing to do.
pub(crate) fn without_operands(mnemonic: &str) -> Option<Option<Instruction>> {
    match mnemonic {
        "mfence" => Some(Some(Instruction::Mfence)),
        "sfence" => Some(Some(Instruction::Sfence)),
        "lfence" => Some(Some(Instruction::Lfence)),
        "nop" | "pause" | "endbr32" | "endbr64" => Some(None),
        _ => None,
    }
}

/// What is known before the operands are put together.
pub(crate) struct Head {
    pub(crate) at: Position,
    pub(crate) opcode: Opcode,
    pub(crate) locked: bool,
    /// The width by the suffix.
    pub(crate) suffix: Option<Width>,
    /// The width if neither suffix nor register gives one.
    pub(crate) default: Option<Width>,
}

impl Head {
    /// Puts an instruction together, and refuses what the hardware has not.
    pub(crate) fn build(
        self,
        src: Option<Operand>,
        dst: Operand,
    ) -> Result<Instruction, SyntaxError> {
        let (src, dst) = match (self.opcode, src, dst) {
            // herd writes `cmpxchg (x),%eax`, assemblers `cmpxchg %eax,(x)`; only one of them exists.
            (
                Opcode::Alu(AluOp::Cmpxchg),
                Some(Operand::Memory(memory)),
                Operand::Register(register),
            ) => (Some(Operand::Register(register)), Operand::Memory(memory)),
            (_, src, dst) => (src, dst),
        };
        self.check_operands(src.as_ref(), &dst)?;
        let width = self.width(src.as_ref(), &dst)?;
        match (self.opcode, src, dst) {
            (Opcode::Mov, Some(src), dst) => Ok(Instruction::Mov { width, src, dst }),
            (Opcode::Xchg, Some(src), dst) => Ok(Instruction::Xchg { width, src, dst }),
            (Opcode::Movnti, Some(src), Operand::Memory(dst)) => {
                Ok(Instruction::Movnti { width, src, dst })
            }
            (Opcode::Alu(op), src, dst) => Ok(Instruction::Alu {
                op,
                locked: self.locked,
                width,
                src,
                dst,
            }),
            _ => Err(self.error("these operands", "a source and a destination", "write both")),
        }
    }

    fn error(&self, found: &str, expected: &str, advice: &str) -> SyntaxError {
        SyntaxError::new(self.at, found, expected, advice)
    }

    /// Refuses combinations that cannot be encoded: they would be typing errors.
    fn check_operands(&self, src: Option<&Operand>, dst: &Operand) -> Result<(), SyntaxError> {
        if matches!(dst, Operand::Immediate(_)) {
            let advice = "in `X86_64` the destination stands last, in `X86` first";
            return Err(self.error(
                "an immediate as destination",
                "a register or memory",
                advice,
            ));
        }
        if matches!((src, dst), (Some(Operand::Memory(_)), Operand::Memory(_))) {
            let advice = "go through a register with two instructions";
            return Err(self.error("two memory operands", "at most one", advice));
        }
        let register_source = matches!(self.opcode, Opcode::Alu(AluOp::Xadd | AluOp::Cmpxchg));
        if register_source && !matches!(src, Some(Operand::Register(_))) {
            return Err(self.error("another source", "a register as source", "use a register"));
        }
        if self.opcode == Opcode::Xchg && matches!(src, Some(Operand::Immediate(_))) {
            return Err(self.error("an immediate", "a register or memory", "use a register"));
        }
        if self.opcode == Opcode::Movnti && !matches!(dst, Operand::Memory(_)) {
            return Err(self.error("a register as destination", "memory", "write `(x)` last"));
        }
        if self.locked {
            let allowed = match self.opcode {
                Opcode::Alu(_) => matches!(dst, Operand::Memory(_)),
                Opcode::Xchg => {
                    matches!(dst, Operand::Memory(_)) || matches!(src, Some(Operand::Memory(_)))
                }
                Opcode::Mov | Opcode::Movnti => false,
            };
            if !allowed {
                let expected = "`lock` before an instruction that reads and writes memory";
                return Err(self.error("`lock`", expected, "remove the prefix"));
            }
        }
        Ok(())
    }

    /// Finds the width; suffix and registers must agree, and numbers must fit.
    fn width(&self, src: Option<&Operand>, dst: &Operand) -> Result<Width, SyntaxError> {
        let mut width = self.suffix;
        for operand in src.into_iter().chain([dst]) {
            let Operand::Register(register) = operand else {
                continue;
            };
            match width {
                None => width = Some(register.width),
                Some(width) if width != register.width => {
                    return Err(SyntaxError::new(
                        self.at,
                        format_args!("the register `{register}`"),
                        format_args!("a register of {} bytes", width.bytes()),
                        "use the register's name and the suffix for one width",
                    ));
                }
                Some(_) => {}
            }
        }
        let Some(width) = width.or(self.default) else {
            let expected = "a width";
            let advice = "add a suffix: b, w, l or q for 1, 2, 4 or 8 bytes";
            return Err(self.error(
                "an instruction without suffix or register",
                expected,
                advice,
            ));
        };
        if let Some(Operand::Immediate(Value::Number(number))) = src
            && !width.holds(*number)
        {
            return Err(SyntaxError::new(
                self.at,
                format_args!("the number {number}"),
                format_args!("a number of {} bytes", width.bytes()),
                "write a smaller number or a wider instruction",
            ));
        }
        if self.opcode == Opcode::Movnti && !matches!(width, Width::Long | Width::Quad) {
            return Err(self.error("a narrow `movnti`", "four or eight bytes", "use `movntiq`"));
        }
        Ok(width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_give_the_width() {
        assert_eq!(Opcode::find("movl"), Some((Opcode::Mov, Some(Width::Long))));
        assert_eq!(Opcode::find("mov"), Some((Opcode::Mov, None)));
        assert_eq!(Opcode::find("sub"), Some((Opcode::Alu(AluOp::Sub), None)));
        assert_eq!(
            Opcode::find("subb"),
            Some((Opcode::Alu(AluOp::Sub), Some(Width::Byte)))
        );
        assert_eq!(
            Opcode::find("movntiq"),
            Some((Opcode::Movnti, Some(Width::Quad)))
        );
        assert_eq!(Opcode::find("movx"), None);
    }

    #[test]
    fn no_operation_is_no_instruction() {
        assert_eq!(without_operands("nop"), Some(None));
        assert_eq!(without_operands("mfence"), Some(Some(Instruction::Mfence)));
        assert_eq!(without_operands("movl"), None);
    }
}
