//! Facts about a final state: `0:rax=1`, `a(PTE(x))=1`, `fault(P0,x)`.

use crate::entry::{self, Caching, Field};
use crate::error::SyntaxError;
use crate::lexer::{Lexer, Token};
use crate::location::{self, Location};
use crate::place::{self, Frame};
use crate::value::{self, Value};

/// States a fact about a final state.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Atom {
    /// `[x]=1`, `0:rax!=0`
    Compare {
        /// What is read.
        location: Location,
        /// How it compares.
        relation: Relation,
        /// To what.
        value: Value,
    },
    /// `a(PTE(x))=1`, `w(0:rax)=0`
    Field {
        /// Which field.
        field: Field,
        /// Of the entry that is here.
        location: Location,
        /// How it compares.
        relation: Relation,
        /// To what.
        value: FieldValue,
    },
    /// `fault(P0,x)`, `fault(P0:L0,x)`
    Fault {
        /// The thread that faulted.
        thread: u32,
        /// The label of the instruction; `None`: any.
        label: Option<String>,
        /// The variable that was accessed; `None`: any.
        variable: Option<String>,
    },
    /// `violation(multiple-match)`: the execution ended by breaking this property.
    Violation(String),
}

/// Compares for equality.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Relation {
    /// `=`, `==`
    Equal,
    /// `!=`, `<>`
    Different,
}

/// Gives the content of one field of a page-table entry.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum FieldValue {
    /// 0 or 1.
    Bit(bool),
    /// The frame of `oa`.
    Frame(Frame),
    /// The memory type of `type`.
    Type(Caching),
}

const ADVICE: &str = "write `[x]=1`, `0:rax=1`, `a(PTE(x))=1`, `fault(P0,x)`, `violation(NAME)`, \
    `true` or `false`, joined by `/\\`, `\\/` and `~`";

/// Reads a fact.
pub(crate) fn atom(lexer: &mut Lexer<'_>) -> Result<Atom, SyntaxError> {
    let mut ahead = *lexer;
    let (token, at) = ahead.next()?;
    match token {
        Token::Name(name) if ahead.peek()?.0 == Token::Symbol("(") => {
            if let Some(field) = Field::named(name) {
                *lexer = ahead;
                return field_atom(lexer, field);
            }
            if name.eq_ignore_ascii_case("fault") {
                *lexer = ahead;
                return fault(lexer);
            }
            if name == "violation" {
                *lexer = ahead;
                return violation(lexer);
            }
        }
        Token::Name(_) | Token::Number(_) | Token::Symbol("[") => {}
        other => return Err(SyntaxError::new(at, other, "a proposition", ADVICE)),
    }
    let location = location::location(lexer)?;
    let relation = relation(lexer)?;
    Ok(Atom::Compare {
        location,
        relation,
        value: value::value(lexer)?,
    })
}

fn relation(lexer: &mut Lexer<'_>) -> Result<Relation, SyntaxError> {
    let (token, at) = lexer.next()?;
    match token {
        Token::Symbol("=" | "==") => Ok(Relation::Equal),
        Token::Symbol("!=" | "<>") => Ok(Relation::Different),
        other => Err(SyntaxError::new(at, other, "`=`, `!=` or `<>`", ADVICE)),
    }
}

/// Reads `(PTE(x))=1` behind the name of a field.
fn field_atom(lexer: &mut Lexer<'_>, field: Field) -> Result<Atom, SyntaxError> {
    lexer.expect("(", ADVICE)?;
    let location = location::location(lexer)?;
    lexer.expect(
        ")",
        "close the parenthesis behind the entry or the register",
    )?;
    let relation = relation(lexer)?;
    let value = match field {
        Field::Oa => FieldValue::Frame(place::frame(lexer)?),
        Field::Type => FieldValue::Type(entry::caching(lexer)?),
        _ => FieldValue::Bit(entry::bit(lexer)?),
    };
    Ok(Atom::Field {
        field,
        location,
        relation,
        value,
    })
}

/// Reads `(P0:L0,x)`.
fn fault(lexer: &mut Lexer<'_>) -> Result<Atom, SyntaxError> {
    const ADVICE: &str = "write `fault(P0,x)` or `fault(P0:L0,x)`";
    lexer.expect("(", ADVICE)?;
    let (thread, _) = location::thread(lexer)?;
    let label = match lexer.eat(":")? {
        true => Some(lexer.name("a label", ADVICE)?.0.into()),
        false => None,
    };
    let variable = match lexer.eat(",")? {
        true => Some(lexer.name("a variable", ADVICE)?.0.into()),
        false => None,
    };
    lexer.expect(")", ADVICE)?;
    Ok(Atom::Fault {
        thread,
        label,
        variable,
    })
}

/// Reads `(multiple-match)`.
fn violation(lexer: &mut Lexer<'_>) -> Result<Atom, SyntaxError> {
    const ADVICE: &str = "write `violation(multiple-match)`";
    lexer.expect("(", ADVICE)?;
    let mut name = String::from(lexer.name("a property", ADVICE)?.0);
    while lexer.eat("-")? {
        name.push('-');
        name.push_str(lexer.name("a property", ADVICE)?.0);
    }
    lexer.expect(")", ADVICE)?;
    Ok(Atom::Violation(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::{EntryName, Level, Place};

    fn read(text: &str) -> Result<Atom, SyntaxError> {
        atom(&mut Lexer::new(text))
    }

    #[test]
    fn fields_faults_and_violations_are_atoms() {
        let entry = EntryName {
            level: Level::Pte,
            variable: "x".into(),
            space: None,
        };
        for (text, expected) in [
            (
                "a(PTE(x))=1",
                Atom::Field {
                    field: Field::Accessed,
                    location: Location::Memory(Place::Entry(entry)),
                    relation: Relation::Equal,
                    value: FieldValue::Bit(true),
                },
            ),
            (
                "fault(P0:L0,x)",
                Atom::Fault {
                    thread: 0,
                    label: Some("L0".into()),
                    variable: Some("x".into()),
                },
            ),
            (
                "Fault(P1)",
                Atom::Fault {
                    thread: 1,
                    label: None,
                    variable: None,
                },
            ),
            (
                "violation(multiple-match)",
                Atom::Violation("multiple-match".into()),
            ),
        ] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        for text in [
            "a(0:rax)=1",
            "type(PTE(x))=wc",
            "oa(PTE(x))!=PA(y)",
            "[PTE(x)]=(oa:PA(y))",
        ] {
            assert!(read(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn variables_may_be_called_like_fields() {
        for text in ["a=1", "[d]=2", "w=x"] {
            assert!(read(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn broken_facts_are_errors() {
        for text in ["", "x", "x=", "a(PTE(x))=2", "0:=1", "f(x)=1"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
