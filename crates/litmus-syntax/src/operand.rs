//! Operands of instructions.

use crate::error::SyntaxError;
use crate::lexer::{Lexer, Token};
use crate::place::{self, Place};
use crate::register::{self, Register, Width};
use crate::value::{self, Value};

/// Names the memory that an instruction accesses.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Memory {
    /// `(x)`, `[x]`, `(PTE(x))`.
    Place(Place),
    /// `(%rax)`, `8(%rax)`, `[EAX]`: where a register points.
    Register {
        /// The register that holds the address: four or eight bytes wide.
        register: Register,
        /// What is added to it, in bytes.
        offset: i64,
    },
}

/// Names what an instruction reads or writes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Operand {
    /// A register.
    Register(Register),
    /// `$1`, `$x`, `$(oa:PA(y))`: the value itself.
    Immediate(Value),
    /// Memory.
    Memory(Memory),
}

impl Operand {
    /// Gives the memory, if it is one.
    pub fn memory(&self) -> Option<&Memory> {
        match self {
            Operand::Memory(memory) => Some(memory),
            Operand::Register(_) | Operand::Immediate(_) => None,
        }
    }
}

/// Tells which syntax the operands have: they differ in where a bare name is a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dialect {
    /// `%eax`, `(x)`, source first.
    Att,
    /// `EAX`, `[x]`, destination first.
    Intel,
}

const ATT_ADVICE: &str = "write `%rax`, `$1`, `$x`, `(x)`, `(%rax)`, `8(%rax)` or `(PTE(x))`";
const INTEL_ADVICE: &str = "write `EAX`, `1`, `$1`, `[x]` or `[EAX]`";

impl Dialect {
    fn advice(self) -> &'static str {
        match self {
            Dialect::Att => ATT_ADVICE,
            Dialect::Intel => INTEL_ADVICE,
        }
    }
}

/// Reads an operand.
pub(crate) fn operand(lexer: &mut Lexer<'_>, dialect: Dialect) -> Result<Operand, SyntaxError> {
    let (token, at) = lexer.peek()?;
    match token {
        Token::Symbol("%") => Ok(Operand::Register(register::register(lexer)?)),
        Token::Name(name) if dialect == Dialect::Intel && Register::named(name).is_some() => {
            Ok(Operand::Register(register::register(lexer)?))
        }
        Token::Symbol("$") => Ok(Operand::Immediate(immediate(lexer)?)),
        Token::Symbol("(" | "[") => Ok(Operand::Memory(memory(lexer, dialect)?)),
        Token::Number(_) | Token::Symbol("-") => {
            // As in herd: a number alone is an immediate also without `$`.
            let mut ahead = *lexer;
            let number = value::signed_number(&mut ahead)?;
            if matches!(ahead.peek()?.0, Token::Symbol("(" | "[")) {
                return Ok(Operand::Memory(memory(lexer, dialect)?));
            }
            *lexer = ahead;
            Ok(Operand::Immediate(Value::Number(number)))
        }
        Token::Name(_) if is_rip_relative(*lexer) => Ok(Operand::Memory(memory(lexer, dialect)?)),
        other => Err(SyntaxError::new(at, other, "an operand", dialect.advice())),
    }
}

/// Reads an immediate with its `$`.
pub(crate) fn immediate(lexer: &mut Lexer<'_>) -> Result<Value, SyntaxError> {
    lexer.expect("$", "write immediates as `$1`")?;
    value::value(lexer)
}

/// Reads a memory operand.
pub(crate) fn memory(lexer: &mut Lexer<'_>, dialect: Dialect) -> Result<Memory, SyntaxError> {
    if is_rip_relative(*lexer) {
        let (name, _) = lexer.name("a variable", dialect.advice())?;
        for symbol in ["(", "%"] {
            lexer.expect(symbol, dialect.advice())?;
        }
        lexer.eat_word("rip")?;
        lexer.expect(")", dialect.advice())?;
        return Ok(Memory::Place(Place::Variable(name.into())));
    }
    let (token, offset_at) = lexer.peek()?;
    let offset = match token {
        Token::Number(_) | Token::Symbol("-") => Some(value::signed_number(lexer)?),
        _ => None,
    };
    let (open, at) = lexer.next()?;
    let close = match open {
        Token::Symbol("(") => ")",
        Token::Symbol("[") => "]",
        other => {
            return Err(SyntaxError::new(
                at,
                other,
                "a memory operand",
                dialect.advice(),
            ));
        }
    };
    let inside = match lexer.peek()?.0 {
        Token::Symbol("%") => Memory::Register {
            register: address(lexer)?,
            offset: 0,
        },
        Token::Name(name) if dialect == Dialect::Intel && Register::named(name).is_some() => {
            Memory::Register {
                register: address(lexer)?,
                offset: 0,
            }
        }
        _ => Memory::Place(place::place(lexer)?),
    };
    lexer.expect(close, "addresses are a variable, an entry or one register")?;
    match (inside, offset) {
        (inside, None) => Ok(inside),
        (Memory::Register { register, .. }, Some(offset)) => match i32::try_from(offset) {
            Ok(offset) => Ok(Memory::Register {
                register,
                offset: i64::from(offset),
            }),
            Err(_) => Err(SyntaxError::new(
                offset_at,
                format_args!("the offset {offset}"),
                "an offset of at most 32 bits",
                "put the whole address into the register",
            )),
        },
        (Memory::Place(_), Some(_)) => Err(SyntaxError::new(
            offset_at,
            "an offset before a variable",
            "a register in the parentheses",
            "put the variable's address into a register in the init section, `0:rax=x`",
        )),
    }
}

/// Reads a register that holds an address.
fn address(lexer: &mut Lexer<'_>) -> Result<Register, SyntaxError> {
    let at = lexer.peek()?.1;
    let register = register::register(lexer)?;
    match register.width {
        Width::Long | Width::Quad => Ok(register),
        Width::Byte | Width::Word => Err(SyntaxError::new(
            at,
            format_args!("`{register}`"),
            "a register that can hold an address",
            "use its 32-bit or 64-bit name",
        )),
    }
}

/// Tells whether the text goes on with `x(%rip)`.
fn is_rip_relative(mut ahead: Lexer<'_>) -> bool {
    let found = |ahead: &mut Lexer<'_>| -> Result<bool, SyntaxError> {
        Ok(matches!(ahead.next()?.0, Token::Name(_))
            && ahead.eat("(")?
            && ahead.eat("%")?
            && ahead.eat_word("rip")?)
    };
    // What is no token is refused by whoever reads it.
    found(&mut ahead).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn att(text: &str) -> Result<Operand, SyntaxError> {
        operand(&mut Lexer::new(text), Dialect::Att)
    }

    fn intel(text: &str) -> Result<Operand, SyntaxError> {
        operand(&mut Lexer::new(text), Dialect::Intel)
    }

    fn variable() -> Operand {
        Operand::Memory(Memory::Place(Place::Variable("x".into())))
    }

    fn rax(offset: i64) -> Operand {
        let register = Register::named("rax").expect("a register");
        Operand::Memory(Memory::Register { register, offset })
    }

    #[test]
    fn variables_stand_in_parentheses_or_brackets() {
        for text in ["(x)", "[x]", "( x )", "x(%rip)"] {
            assert_eq!(att(text), Ok(variable()), "{text}");
        }
        assert_eq!(intel("[x]"), Ok(variable()));
        assert!(att("x").is_err());
    }

    #[test]
    fn registers_can_point() {
        assert_eq!(att("(%rax)"), Ok(rax(0)));
        assert_eq!(att("-8(%RAX)"), Ok(rax(-8)));
        assert_eq!(intel("[RAX]"), Ok(rax(0)));
        assert!(att("(%al)").is_err());
        assert!(att("8(x)").is_err());
        assert!(att("4294967296(%rax)").is_err());
    }

    #[test]
    fn a_bare_name_is_a_register_only_in_intel_syntax() {
        assert!(matches!(intel("EAX"), Ok(Operand::Register(_))));
        assert!(matches!(att("%eax"), Ok(Operand::Register(_))));
        assert!(att("eax").is_err());
        let eax = Operand::Memory(Memory::Place(Place::Variable("eax".into())));
        assert_eq!(att("(eax)"), Ok(eax));
    }

    #[test]
    fn immediates_have_a_dollar_or_are_numbers() {
        for text in ["$-1", "-1"] {
            assert_eq!(
                att(text),
                Ok(Operand::Immediate(Value::Number(-1))),
                "{text}"
            );
        }
        assert_eq!(
            att("$x"),
            Ok(Operand::Immediate(Value::Address("x".into())))
        );
        assert!(matches!(
            att("$(oa:PA(y))"),
            Ok(Operand::Immediate(Value::Entry(_)))
        ));
    }
}
