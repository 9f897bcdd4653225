//! What inits, conditions and `locations` name: a place in memory or a register of a thread.

use crate::error::SyntaxError;
use crate::lexer::{Lexer, Token};
use crate::place::{self, Place};
use crate::position::Position;
use crate::register::{self, Register};

/// Names what an init sets and a condition reads.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Location {
    /// `x`, `[x]`, `[PTE(x)]`: a place in memory.
    Memory(Place),
    /// `0:rax`: a register of a thread.
    Register {
        /// The thread.
        thread: u32,
        /// The register.
        register: Register,
    },
}

const ADVICE: &str = "write `x`, `[x]`, `[PTE(x)]` or `0:rax`";

/// Reads a location.
pub(crate) fn location(lexer: &mut Lexer<'_>) -> Result<Location, SyntaxError> {
    if lexer.eat("[")? {
        let place = place::place(lexer)?;
        lexer.expect("]", "close the bracket before the name")?;
        return Ok(Location::Memory(place));
    }
    let (token, at) = lexer.next()?;
    match token {
        Token::Number(number) => {
            let thread = u32::try_from(number).map_err(|_| {
                SyntaxError::new(
                    at,
                    token,
                    "a thread",
                    "use the number of a column, 0 for `P0`",
                )
            })?;
            register_of(lexer, thread)
        }
        Token::Name(name) => {
            if lexer.peek()?.0 == Token::Symbol(":")
                && let Some(thread) = thread_number(name)
            {
                return register_of(lexer, thread);
            }
            if name.starts_with(|c: char| c.is_ascii_digit()) {
                return Err(SyntaxError::new(
                    at,
                    token,
                    "a variable or a register",
                    ADVICE,
                ));
            }
            Ok(Location::Memory(place::place_called(lexer, name, at)?))
        }
        other => Err(SyntaxError::new(
            at,
            other,
            "a variable or a register",
            ADVICE,
        )),
    }
}

/// Reads `:rax`.
fn register_of(lexer: &mut Lexer<'_>, thread: u32) -> Result<Location, SyntaxError> {
    lexer.expect(":", "write registers with their thread, `0:rax`")?;
    Ok(Location::Register {
        thread,
        register: register::register(lexer)?,
    })
}

/// Gives the number in `P0`.
pub(crate) fn thread_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix('P').or_else(|| name.strip_prefix('p'))?;
    if !digits.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Reads `P0`.
pub(crate) fn thread(lexer: &mut Lexer<'_>) -> Result<(u32, Position), SyntaxError> {
    let (expected, advice) = ("a thread", "write `P` and the number of a column, `P0`");
    let (name, at) = lexer.name(expected, advice)?;
    match thread_number(name) {
        Some(number) => Ok((number, at)),
        None => Err(SyntaxError::new(
            at,
            format_args!("`{name}`"),
            expected,
            advice,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Location, SyntaxError> {
        location(&mut Lexer::new(text))
    }

    #[test]
    fn brackets_around_a_variable_change_nothing() {
        let x = Location::Memory(Place::Variable("x".into()));
        assert_eq!(read("x"), Ok(x.clone()));
        assert_eq!(read("[x]"), Ok(x));
    }

    #[test]
    fn registers_belong_to_a_thread() {
        let register = Register::named("eax").expect("a register");
        for text in ["1:EAX", "P1:eax", "1:%eax", "1 : eax"] {
            assert_eq!(
                read(text),
                Ok(Location::Register {
                    thread: 1,
                    register
                }),
                "{text}"
            );
        }
    }

    #[test]
    fn other_things_are_errors() {
        for text in ["", "1", "1:", "1:r99", "4294967296:rax", "2m", "[x", "%"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn threads_are_p_and_a_number() {
        assert_eq!(thread_number("P12"), Some(12));
        for name in ["P", "Px", "12", "P99999999999", "P+1"] {
            assert_eq!(thread_number(name), None, "{name}");
        }
    }
}
