//! Instructions that need no privilege: mnemonics, and which operands go together. Shared by the two
//! syntaxes, which differ in the order of operands and in the default width.

use crate::error::SyntaxError;
use crate::instruction::{AluOp, CompareOp, Instruction, JumpCondition, JumpIf};
use crate::lexer::{Lexer, Token};
use crate::operand::{self, Dialect, Operand};
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
    Compare(CompareOp),
}

const OPCODES: [(&str, Opcode); 18] = [
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
    ("bts", Opcode::Alu(AluOp::Bts)),
    ("btr", Opcode::Alu(AluOp::Btr)),
    ("btc", Opcode::Alu(AluOp::Btc)),
    ("cmp", Opcode::Compare(CompareOp::Cmp)),
    ("test", Opcode::Compare(CompareOp::Test)),
    ("bt", Opcode::Compare(CompareOp::Bt)),
];

/// The conditions of jumps, by the letters behind `j`.
const CONDITIONS: [(&str, JumpIf); 28] = {
    use JumpCondition as C;
    use JumpIf::{Holds, HoldsNot};
    [
        ("o", Holds(C::Overflow)),
        ("no", HoldsNot(C::Overflow)),
        ("b", Holds(C::Below)),
        ("c", Holds(C::Below)),
        ("nae", Holds(C::Below)),
        ("ae", HoldsNot(C::Below)),
        ("nb", HoldsNot(C::Below)),
        ("nc", HoldsNot(C::Below)),
        ("e", Holds(C::Equal)),
        ("z", Holds(C::Equal)),
        ("ne", HoldsNot(C::Equal)),
        ("nz", HoldsNot(C::Equal)),
        ("be", Holds(C::BelowOrEqual)),
        ("na", Holds(C::BelowOrEqual)),
        ("a", HoldsNot(C::BelowOrEqual)),
        ("nbe", HoldsNot(C::BelowOrEqual)),
        ("s", Holds(C::Sign)),
        ("ns", HoldsNot(C::Sign)),
        ("l", Holds(C::Less)),
        ("nge", Holds(C::Less)),
        ("ge", HoldsNot(C::Less)),
        ("nl", HoldsNot(C::Less)),
        ("le", Holds(C::LessOrEqual)),
        ("ng", Holds(C::LessOrEqual)),
        ("g", HoldsNot(C::LessOrEqual)),
        ("nle", HoldsNot(C::LessOrEqual)),
        ("mp", JumpIf::Always),
        ("mpq", JumpIf::Always),
    ]
};

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

    /// Tells whether neither suffix nor register is needed in AT&T syntax: eight bytes are meant.
    pub(crate) fn is_quad_by_itself(self) -> bool {
        matches!(
            self,
            Opcode::Movnti
                | Opcode::Alu(AluOp::Bts | AluOp::Btr | AluOp::Btc)
                | Opcode::Compare(CompareOp::Bt)
        )
    }

    /// Tells whether there is no source.
    pub(crate) fn has_one_operand(self) -> bool {
        matches!(self, Opcode::Alu(AluOp::Inc | AluOp::Dec))
    }
}

/// Reads what has operands that are no values: jumps, instructions for caches, and those that do nothing;
/// `None` if the mnemonic is another, `None` inside if there is nothing to do.
pub(crate) fn with_other_operands(
    mnemonic: &str,
    lexer: &mut Lexer<'_>,
    dialect: Dialect,
) -> Result<Option<Option<Instruction>>, SyntaxError> {
    let letters = mnemonic.strip_prefix('j');
    let jump = letters.and_then(|letters| CONDITIONS.iter().find(|(known, _)| *known == letters));
    if let Some((_, when)) = jump {
        let advice = "write the label of an instruction of this column: `jne L0`";
        let label = lexer.name("a label", advice)?.0.into();
        return Ok(Some(Some(Instruction::Jump { when: *when, label })));
    }
    match mnemonic {
        "clflush" | "clflushopt" | "clwb" => {
            let memory = operand::memory(lexer, dialect)?;
            Ok(Some(Some(Instruction::Clflush(memory))))
        }
        "nop" | "nopw" | "nopl" | "nopq" => {
            // Its operand is not accessed, and may be of any form.
            while !matches!(lexer.peek()?.0, Token::Symbol("|" | ";") | Token::End) {
                lexer.next()?;
            }
            Ok(Some(None))
        }
        _ => Ok(None),
    }
}

/// Finds the fences and the instructions that do nothing; `None` inside if there is nothing to do.
pub(crate) fn without_operands(mnemonic: &str) -> Option<Option<Instruction>> {
    match mnemonic {
        "mfence" => Some(Some(Instruction::Mfence)),
        "sfence" => Some(Some(Instruction::Sfence)),
        "lfence" => Some(Some(Instruction::Lfence)),
        "pause" | "endbr32" | "endbr64" => Some(None),
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
            (Opcode::Compare(op), Some(src), dst) => Ok(Instruction::Compare {
                op,
                width,
                src,
                dst,
            }),
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
        let is_of_a_bit = matches!(
            self.opcode,
            Opcode::Alu(AluOp::Bts | AluOp::Btr | AluOp::Btc) | Opcode::Compare(CompareOp::Bt)
        );
        if is_of_a_bit && matches!(src, Some(Operand::Memory(_)))
            || is_of_a_bit
                && matches!(dst, Operand::Memory(_))
                && !matches!(src, Some(Operand::Immediate(_)))
        {
            // By a register, the bit may lie far outside of the operand.
            let advice = "write the bit as an immediate: `lock btrq $0,(PTE(x))`";
            return Err(self.error("another source", "an immediate as source", advice));
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
                Opcode::Mov | Opcode::Movnti | Opcode::Compare(_) => false,
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
    fn mnemonics_that_begin_like_others_are_told_apart() {
        let compare = |op, width| Some((Opcode::Compare(op), width));
        assert_eq!(Opcode::find("cmp"), compare(CompareOp::Cmp, None));
        assert_eq!(
            Opcode::find("cmpl"),
            compare(CompareOp::Cmp, Some(Width::Long))
        );
        assert_eq!(Opcode::find("bt"), compare(CompareOp::Bt, None));
        assert_eq!(
            Opcode::find("btq"),
            compare(CompareOp::Bt, Some(Width::Quad))
        );
        assert_eq!(
            Opcode::find("btsq"),
            Some((Opcode::Alu(AluOp::Bts), Some(Width::Quad)))
        );
        assert_eq!(
            Opcode::find("cmpxchg"),
            Some((Opcode::Alu(AluOp::Cmpxchg), None))
        );
    }

    #[test]
    fn jumps_have_a_condition_and_a_label() {
        let jump = |text: &str| {
            let (mnemonic, label) = text.split_once(' ').expect("two words");
            with_other_operands(mnemonic, &mut Lexer::new(label), Dialect::Att)
        };
        for (text, when) in [
            ("jmp L0", JumpIf::Always),
            ("jz L0", JumpIf::Holds(JumpCondition::Equal)),
            ("jnbe L0", JumpIf::HoldsNot(JumpCondition::BelowOrEqual)),
            ("jnge L0", JumpIf::Holds(JumpCondition::Less)),
        ] {
            let label = "L0".into();
            let expected = Instruction::Jump { when, label };
            assert_eq!(jump(text), Ok(Some(Some(expected))), "{text}");
        }
        assert_eq!(jump("jp L0"), Ok(None));
        assert!(jump("jmp 1").is_err());
        assert_eq!(jump("nopl (x)"), Ok(Some(None)));
    }

    #[test]
    fn no_operation_is_no_instruction() {
        assert_eq!(without_operands("pause"), Some(None));
        for operand in ["", "(x)", "%cs:0(%rax,%rax,1)"] {
            let read = with_other_operands("nopw", &mut Lexer::new(operand), Dialect::Att);
            assert_eq!(read, Ok(Some(None)), "{operand}");
        }
        assert_eq!(without_operands("mfence"), Some(Some(Instruction::Mfence)));
        assert_eq!(without_operands("movl"), None);
    }
}
