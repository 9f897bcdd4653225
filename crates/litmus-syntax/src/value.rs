//! What memory and registers hold: the right-hand sides of inits and conditions, and immediates.

use crate::cr3::{self, Cr3Literal};
use crate::entry::{self, EntryLiteral};
use crate::error::SyntaxError;
use crate::lexer::{Lexer, Token};
use crate::place::{self, EntryName, Frame, Place};

/// Gives the content of a register or of a word of memory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Value {
    /// A number from -2^63 to 2^64 - 1, as written: `-1` is not yet cut to a width.
    Number(i128),
    /// The address of a variable.
    Address(String),
    /// The address of a page-table entry, `PTE(x)`.
    EntryAddress(EntryName),
    /// The physical address of a frame, `PA(x)`.
    Frame(Frame),
    /// A page-table entry, `(oa:PA(y))`.
    Entry(EntryLiteral),
    /// What CR3 may hold, `CR3(B, pcid:2, keep)`.
    Cr3(Cr3Literal),
}

const ADVICE: &str = "write a number, a variable for its address, or an entry `(oa:PA(y))`";

/// Reads a value.
pub(crate) fn value(lexer: &mut Lexer<'_>) -> Result<Value, SyntaxError> {
    let (token, at) = lexer.peek()?;
    match token {
        Token::Number(_) | Token::Symbol("-") => Ok(Value::Number(signed_number(lexer)?)),
        Token::Symbol("(") => Ok(Value::Entry(entry::entry_literal(lexer)?)),
        Token::Name(_) => named_value(lexer),
        other => Err(SyntaxError::new(at, other, "a value", ADVICE)),
    }
}

/// Reads a value that starts with a name.
fn named_value(lexer: &mut Lexer<'_>) -> Result<Value, SyntaxError> {
    let mut ahead = *lexer;
    let (name, at) = ahead.name("a value", ADVICE)?;
    if ahead.peek()?.0 != Token::Symbol("(") {
        *lexer = ahead;
        return Ok(Value::Address(name.into()));
    }
    if name.eq_ignore_ascii_case("cr3") {
        *lexer = ahead;
        return Ok(Value::Cr3(cr3::literal(lexer)?));
    }
    if place::is_frame(name) {
        return Ok(Value::Frame(place::frame(lexer)?));
    }
    if place::is_entry(name)
        && let Place::Entry(entry) = place::place(lexer)?
    {
        return Ok(Value::EntryAddress(entry));
    }
    Err(SyntaxError::new(
        at,
        format_args!("`{name}(`"),
        "a value",
        ADVICE,
    ))
}

/// Reads a number with its sign.
pub(crate) fn signed_number(lexer: &mut Lexer<'_>) -> Result<i128, SyntaxError> {
    let negative = lexer.eat("-")?;
    let limit = if negative { 1 << 63 } else { u64::MAX };
    let number = i128::from(lexer.number("a number", limit)?);
    Ok(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Level;

    fn read(text: &str) -> Result<Value, SyntaxError> {
        value(&mut Lexer::new(text))
    }

    #[test]
    fn numbers_have_a_sign_and_64_bits() {
        assert_eq!(read("-1"), Ok(Value::Number(-1)));
        assert_eq!(read("0x10"), Ok(Value::Number(16)));
        assert_eq!(
            read("-9223372036854775808"),
            Ok(Value::Number(i128::from(i64::MIN)))
        );
        assert_eq!(
            read("18446744073709551615"),
            Ok(Value::Number(i128::from(u64::MAX)))
        );
        assert!(read("-9223372036854775809").is_err());
    }

    #[test]
    fn names_are_addresses_frames_and_entries() {
        assert_eq!(read("x"), Ok(Value::Address("x".into())));
        assert_eq!(read("PA(x)"), Ok(Value::Frame(Frame::Of("x".into()))));
        let entry = EntryName {
            level: Level::Pte,
            variable: "x".into(),
            space: None,
        };
        assert_eq!(read("PTE(x)"), Ok(Value::EntryAddress(entry)));
        assert!(matches!(read("(oa:PA(x))"), Ok(Value::Entry(_))));
    }

    #[test]
    fn other_things_are_errors() {
        for text in ["", ")", "f(x)", "2m", "-x"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
