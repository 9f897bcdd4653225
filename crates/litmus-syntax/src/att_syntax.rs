//! Instructions in AT&T syntax, source first: the header `X86_64`.

use crate::error::SyntaxError;
use crate::instruction::Instruction;
use crate::lexer::Lexer;
use crate::operand::{self, Dialect};
use crate::plain::{self, Head, Opcode};
use crate::privileged;
use crate::register::Width;

const ADVICE: &str = "the reader knows mov, xchg, add, sub, and, or, xor, inc, dec, xadd, cmpxchg, \
    bts, btr, btc, bt, cmp, test, jmp and conditional jumps, clflush, mfence, sfence, lfence, movnti, and the \
    instructions of translation tests";

/// Reads an instruction; `None` if it does nothing.
pub(crate) fn instruction(lexer: &mut Lexer<'_>) -> Result<Option<Instruction>, SyntaxError> {
    let locked = lexer.eat_word("lock")?;
    if locked {
        lexer.eat(";")?;
    }
    let (name, at) = lexer.name("an instruction", ADVICE)?;
    let mnemonic = name.to_ascii_lowercase();
    if let Some((opcode, suffix)) = Opcode::find(&mnemonic) {
        if opcode == Opcode::Mov
            && !locked
            && suffix.is_none_or(|width| width == Width::Quad)
            && let Some(instruction) = match privileged::control_register(lexer)? {
                None => privileged::register_to_cr3(lexer)?,
                known => known,
            }
        {
            return Ok(Some(instruction));
        }
        // Variables are words of eight bytes, and these have no other common width.
        let default = opcode.is_quad_by_itself().then_some(Width::Quad);
        let head = Head {
            at,
            opcode,
            locked,
            suffix,
            default,
        };
        let first = operand::operand(lexer, Dialect::Att)?;
        if opcode.has_one_operand() {
            return head.build(None, first).map(Some);
        }
        lexer.expect(
            ",",
            "write source and destination with a comma between them",
        )?;
        let second = operand::operand(lexer, Dialect::Att)?;
        return head.build(Some(first), second).map(Some);
    }
    if locked {
        let found = format_args!("`{name}`");
        let expected = "an instruction that `lock` can stand before";
        return Err(SyntaxError::new(at, found, expected, "remove the prefix"));
    }
    if let Some(instruction) = plain::with_other_operands(&mnemonic, lexer, Dialect::Att)? {
        return Ok(instruction);
    }
    if let Some(instruction) = plain::without_operands(&mnemonic) {
        return Ok(instruction);
    }
    if let Some(instruction) = privileged::instruction(&mnemonic, lexer)? {
        return Ok(Some(instruction));
    }
    Err(SyntaxError::new(
        at,
        format_args!("`{name}`"),
        "an instruction",
        ADVICE,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryLiteral;
    use crate::instruction::AluOp;
    use crate::operand::{Memory, Operand};
    use crate::place::{EntryName, Frame, Level, Place};
    use crate::register::Register;
    use crate::value::Value;

    fn read(text: &str) -> Result<Option<Instruction>, SyntaxError> {
        instruction(&mut Lexer::new(text))
    }

    fn x() -> Operand {
        Operand::Memory(Memory::Place(Place::Variable("x".into())))
    }

    fn register(name: &str) -> Operand {
        Operand::Register(Register::named(name).expect("a register"))
    }

    #[test]
    fn the_source_stands_first() {
        let store = Instruction::Mov {
            width: Width::Quad,
            src: Operand::Immediate(Value::Number(1)),
            dst: x(),
        };
        assert_eq!(read("movq $1,(x)"), Ok(Some(store)));
        let load = Instruction::Mov {
            width: Width::Long,
            src: x(),
            dst: register("eax"),
        };
        assert_eq!(read("MOV (x),%EAX"), Ok(Some(load)));
    }

    #[test]
    fn entries_are_stored_as_literals() {
        let entry = EntryName {
            level: Level::Pte,
            variable: "x".into(),
            space: None,
        };
        let literal = EntryLiteral {
            oa: Some(Frame::Of("y".into())),
            ..EntryLiteral::default()
        };
        let expected = Instruction::Mov {
            width: Width::Quad,
            src: Operand::Immediate(Value::Entry(literal)),
            dst: Operand::Memory(Memory::Place(Place::Entry(entry))),
        };
        assert_eq!(read("movq $(oa:PA(y)), (PTE(x))"), Ok(Some(expected)));
    }

    #[test]
    fn lock_may_be_followed_by_a_semicolon() {
        let expected = Instruction::Alu {
            op: AluOp::Xadd,
            locked: true,
            width: Width::Long,
            src: Some(register("eax")),
            dst: x(),
        };
        for text in [
            "lock xaddl %eax,(x)",
            "lock; xaddl %eax,(x)",
            "LOCK XADD %EAX,(x)",
        ] {
            assert_eq!(read(text), Ok(Some(expected.clone())), "{text}");
        }
    }

    #[test]
    fn both_orders_of_cmpxchg_mean_the_same() {
        assert_eq!(
            read("lock cmpxchgl %ebx,(x)"),
            read("lock cmpxchgl (x),%ebx")
        );
        assert!(read("lock cmpxchgl %ebx,(x)").is_ok());
    }

    #[test]
    fn one_operand_is_enough_to_count() {
        let expected = Instruction::Alu {
            op: AluOp::Inc,
            locked: true,
            width: Width::Long,
            src: None,
            dst: x(),
        };
        assert_eq!(read("lock incl (x)"), Ok(Some(expected)));
    }

    #[test]
    fn what_hardware_has_not_is_an_error() {
        for text in [
            "movq $1",
            "movq $1,",
            "movq (x),(y)",
            "movq %rax,$1",
            "movq %eax,(x)",
            "mov $1,(x)",
            "movb $256,(x)",
            "lock movq $1,(x)",
            "lock addq $1,%rax",
            "lock mfence",
            "xchgl $1,(x)",
            "xaddl $1,(x)",
            "movnti %rax,%rbx",
            "movntib %al,(x)",
            "frobnicate",
            "movl $CR3(A), %cr3",
            "lock",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
