//! Instructions in Intel syntax, destination first: the header `X86`. Memory is four bytes wide
//! unless a register or a suffix says otherwise.

use crate::error::SyntaxError;
use crate::instruction::Instruction;
use crate::lexer::Lexer;
use crate::operand::{self, Dialect};
use crate::plain::{self, Head, Opcode};
use crate::privileged;
use crate::register::Width;

const ADVICE: &str = "the reader knows MOV, XCHG, ADD, SUB, AND, OR, XOR, INC, DEC, XADD, CMPXCHG, \
    BTS, BTR, BTC, BT, CMP, TEST, JMP and conditional jumps, CLFLUSH, MFENCE, SFENCE and LFENCE";

/// Reads an instruction; `None` if it does nothing.
pub(crate) fn instruction(lexer: &mut Lexer<'_>) -> Result<Option<Instruction>, SyntaxError> {
    let locked = lexer.eat_word("lock")?;
    if locked {
        lexer.eat(";")?;
    }
    let (name, at) = lexer.name("an instruction", ADVICE)?;
    let mnemonic = name.to_ascii_lowercase();
    if let Some((opcode, suffix)) = Opcode::find(&mnemonic) {
        let head = Head {
            at,
            opcode,
            locked,
            suffix,
            default: Some(Width::Long),
        };
        let dst = operand::operand(lexer, Dialect::Intel)?;
        if opcode.has_one_operand() {
            return head.build(None, dst).map(Some);
        }
        lexer.expect(
            ",",
            "write destination and source with a comma between them",
        )?;
        let src = operand::operand(lexer, Dialect::Intel)?;
        return head.build(Some(src), dst).map(Some);
    }
    if !locked
        && let Some(instruction) = plain::with_other_operands(&mnemonic, lexer, Dialect::Intel)?
    {
        return Ok(instruction);
    }
    if !locked && let Some(instruction) = plain::without_operands(&mnemonic) {
        return Ok(instruction);
    }
    let advice = match privileged::is_mnemonic(&mnemonic) {
        true => "translation tests have the header `X86_64` and AT&T syntax",
        false => ADVICE,
    };
    Err(SyntaxError::new(
        at,
        format_args!("`{name}`"),
        "an instruction",
        advice,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruction::AluOp;
    use crate::operand::{Memory, Operand};
    use crate::place::Place;
    use crate::register::Register;
    use crate::value::Value;

    fn read(text: &str) -> Result<Option<Instruction>, SyntaxError> {
        instruction(&mut Lexer::new(text))
    }

    fn x() -> Operand {
        Operand::Memory(Memory::Place(Place::Variable("x".into())))
    }

    fn eax() -> Operand {
        Operand::Register(Register::named("eax").expect("a register"))
    }

    #[test]
    fn the_destination_stands_first_and_memory_has_four_bytes() {
        let store = Instruction::Mov {
            width: Width::Long,
            src: Operand::Immediate(Value::Number(1)),
            dst: x(),
        };
        for text in ["MOV [x],$1", "mov [x], 1", "MOV [x],$0x1"] {
            assert_eq!(read(text), Ok(Some(store.clone())), "{text}");
        }
        let load = Instruction::Mov {
            width: Width::Long,
            src: x(),
            dst: eax(),
        };
        assert_eq!(read("mov EAX,[x]"), Ok(Some(load)));
    }

    #[test]
    fn exchanges_take_both_orders() {
        let to_memory = Instruction::Xchg {
            width: Width::Long,
            src: eax(),
            dst: x(),
        };
        let to_register = Instruction::Xchg {
            width: Width::Long,
            src: x(),
            dst: eax(),
        };
        assert_eq!(read("XCHG [x],EAX"), Ok(Some(to_memory)));
        assert_eq!(read("xchg eax,[x]"), Ok(Some(to_register)));
    }

    #[test]
    fn read_modify_write_takes_a_lock() {
        let expected = Instruction::Alu {
            op: AluOp::Inc,
            locked: true,
            width: Width::Long,
            src: None,
            dst: x(),
        };
        assert_eq!(read("LOCK INC [x]"), Ok(Some(expected)));
        assert!(read("LOCK XADD [x],EAX").is_ok());
        assert!(read("LOCK CMPXCHG [x],ECX").is_ok());
        assert_eq!(read("MFENCE"), Ok(Some(Instruction::Mfence)));
    }

    #[test]
    fn instructions_of_translation_tests_are_refused() {
        let error = read("INVLPG [x]").expect_err("needs AT&T syntax");
        assert!(error.message.contains("X86_64"), "{error}");
        for text in ["MOV 1,[x]", "MOV [x],[y]", "LOCK MFENCE", "MOV", ""] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
