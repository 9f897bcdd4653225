//! Conditions: `exists (0:rax=1 /\ ~[x]=2)`, and the expressions in them.

use crate::entry::{self, Field, MemoryType};
use crate::error::{Position, SyntaxError};
use crate::lexer::{self, Lexer, NESTING_LIMIT, Token};
use crate::location::{self, Location};
use crate::place::{self, Frame};
use crate::test::Located;
use crate::value::{self, Value};

/// Says over which final states a condition asks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Quantifier {
    /// `exists`: one fulfils it.
    Exists,
    /// `~exists`, `not exists`: none fulfils it.
    NotExists,
    /// `forall`: each fulfils it.
    Forall,
    /// `final`: herd's old word for `exists`.
    Final,
}

/// Holds the question of a test.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Condition {
    /// Over which states.
    pub quantifier: Quantifier,
    /// What about them.
    pub expr: Expr,
}

/// Holds a proposition about one final state. It nests at most a few hundred levels deep.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Expr {
    /// `true`
    True,
    /// `false`
    False,
    /// A fact about the state.
    Atom(Located<Atom>),
    /// `~a`, `not a`
    Not(Box<Expr>),
    /// `a /\ b /\ …`: at least two.
    And(Vec<Expr>),
    /// `a \/ b \/ …`: at least two. `a => b` is read as `~a \/ b`.
    Or(Vec<Expr>),
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
    Type(MemoryType),
}

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

const ADVICE: &str = "write `[x]=1`, `0:rax=1`, `a(PTE(x))=1`, `fault(P0,x)`, `violation(NAME)`, \
    `true` or `false`, joined by `/\\`, `\\/` and `~`";

/// Tells whether the text goes on with a quantifier.
pub(crate) fn starts_here(lexer: Lexer<'_>) -> bool {
    let mut ahead = lexer;
    matches!(quantifier(&mut ahead), Ok(Some(_)))
}

/// Reads a quantifier and its expression.
pub(crate) fn condition(lexer: &mut Lexer<'_>) -> Result<Condition, SyntaxError> {
    let (token, at) = lexer.peek()?;
    let Some(quantifier) = quantifier(lexer)? else {
        let expected = "`exists`, `~exists`, `forall` or `final`";
        return Err(SyntaxError::new(
            at,
            token,
            expected,
            "end the test with a condition",
        ));
    };
    Ok(Condition {
        quantifier,
        expr: expr(lexer)?,
    })
}

/// Takes a quantifier, or nothing.
fn quantifier(lexer: &mut Lexer<'_>) -> Result<Option<Quantifier>, SyntaxError> {
    let mut ahead = *lexer;
    let found = match ahead.next()?.0 {
        Token::Word("exists") => Some(Quantifier::Exists),
        Token::Word("forall") => Some(Quantifier::Forall),
        Token::Word("final") => Some(Quantifier::Final),
        Token::Word("not") | Token::Symbol("~") if ahead.eat_word("exists")? => {
            Some(Quantifier::NotExists)
        }
        _ => None,
    };
    if found.is_some() {
        *lexer = ahead;
    }
    Ok(found)
}

/// Reads an expression. It ends before the first token that cannot belong to it.
pub(crate) fn expr(lexer: &mut Lexer<'_>) -> Result<Expr, SyntaxError> {
    disjunction(lexer, 0)
}

fn disjunction(lexer: &mut Lexer<'_>, depth: usize) -> Result<Expr, SyntaxError> {
    let mut parts = vec![conjunction(lexer, depth)?];
    while eat_operator(lexer, "\\/") {
        parts.push(conjunction(lexer, depth)?);
    }
    Ok(joined(parts, Expr::Or))
}

fn conjunction(lexer: &mut Lexer<'_>, depth: usize) -> Result<Expr, SyntaxError> {
    let mut parts = vec![implication(lexer, depth)?];
    while eat_operator(lexer, "/\\") {
        parts.push(implication(lexer, depth)?);
    }
    Ok(joined(parts, Expr::And))
}

/// Reads `a => b`. As in herd it binds tighter than `/\` and groups to the right.
fn implication(lexer: &mut Lexer<'_>, depth: usize) -> Result<Expr, SyntaxError> {
    let premise = negation(lexer, depth)?;
    if !eat_operator(lexer, "=>") {
        return Ok(premise);
    }
    check_depth(lexer.position(), depth)?;
    let conclusion = implication(lexer, depth + 1)?;
    Ok(Expr::Or(vec![Expr::Not(Box::new(premise)), conclusion]))
}

fn negation(lexer: &mut Lexer<'_>, depth: usize) -> Result<Expr, SyntaxError> {
    let (token, at) = lexer.peek()?;
    match token {
        Token::Symbol("~") | Token::Word("not") => {
            check_depth(at, depth)?;
            lexer.next()?;
            Ok(Expr::Not(Box::new(negation(lexer, depth + 1)?)))
        }
        Token::Symbol("(") => {
            check_depth(at, depth)?;
            lexer.next()?;
            let inside = disjunction(lexer, depth + 1)?;
            lexer.expect(")", "close the parenthesis, or join with `/\\` or `\\/`")?;
            Ok(inside)
        }
        Token::Word("true") => lexer.next().map(|_| Expr::True),
        Token::Word("false") => lexer.next().map(|_| Expr::False),
        _ => Ok(Expr::Atom(Located {
            value: atom(lexer)?,
            position: at,
        })),
    }
}

fn check_depth(at: Position, depth: usize) -> Result<(), SyntaxError> {
    match depth < NESTING_LIMIT {
        true => Ok(()),
        false => Err(lexer::too_deep(at, "conditions")),
    }
}

/// Takes an operator. What is no token ends the expression: any text may follow it.
fn eat_operator(lexer: &mut Lexer<'_>, operator: &str) -> bool {
    lexer.eat(operator).unwrap_or(false)
}

/// Joins several parts; one part stays as it is.
fn joined(mut parts: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            join(parts)
        }
        None => Expr::True,
    }
}

fn atom(lexer: &mut Lexer<'_>) -> Result<Atom, SyntaxError> {
    let mut ahead = *lexer;
    let (token, at) = ahead.next()?;
    match token {
        Token::Word(name) if ahead.peek()?.0 == Token::Symbol("(") => {
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
        Token::Word(_) | Token::Number(_) | Token::Symbol("[") => {}
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
        Field::Type => FieldValue::Type(entry::memory_type(lexer)?),
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

    fn read(text: &str) -> Result<Condition, SyntaxError> {
        condition(&mut Lexer::new(text))
    }

    /// Writes an expression with all its parentheses, atoms as the number they compare to.
    fn shape(expr: &Expr) -> String {
        let list = |parts: &[Expr], join: &str| {
            let parts: Vec<String> = parts.iter().map(shape).collect();
            format!("({})", parts.join(join))
        };
        match expr {
            Expr::True => "T".into(),
            Expr::False => "F".into(),
            Expr::Not(inside) => format!("~{}", shape(inside)),
            Expr::And(parts) => list(parts, "&"),
            Expr::Or(parts) => list(parts, "|"),
            Expr::Atom(atom) => match &atom.value {
                Atom::Compare {
                    relation,
                    value: Value::Number(number),
                    ..
                } => match relation {
                    Relation::Equal => number.to_string(),
                    Relation::Different => format!("!{number}"),
                },
                other => format!("{other:?}"),
            },
        }
    }

    #[test]
    fn quantifiers_have_two_negations() {
        for (text, expected) in [
            ("exists (x=1)", Quantifier::Exists),
            ("~exists x=1", Quantifier::NotExists),
            ("~ exists (x=1)", Quantifier::NotExists),
            ("not exists (x=1)", Quantifier::NotExists),
            ("forall (x=1)", Quantifier::Forall),
            ("final (x=1)", Quantifier::Final),
        ] {
            let read = read(text).expect(text);
            assert_eq!(read.quantifier, expected, "{text}");
            assert_eq!(shape(&read.expr), "1", "{text}");
        }
        assert!(read("never (x=1)").is_err());
    }

    #[test]
    fn and_binds_tighter_than_or_and_implication_tightest() {
        for (text, expected) in [
            ("x=1 \\/ x=2 /\\ x=3", "(1|(2&3))"),
            ("(x=1 \\/ x=2) /\\ x=3", "((1|2)&3)"),
            ("~x=1 /\\ not x=2", "(~1&~2)"),
            ("x=1 /\\ x=2 /\\ x=3", "(1&2&3)"),
            ("x=1 /\\ x=2 => x=3", "(1&(~2|3))"),
            ("~(true \\/ false)", "~(T|F)"),
            ("0:EAX=1 /\\ [x]<>2 /\\ x!=-3", "(1&!2&!-3)"),
        ] {
            let read = read(&format!("exists ({text})")).expect(text);
            assert_eq!(shape(&read.expr), expected, "{text}");
        }
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
            match read(&format!("exists {text}")).expect(text).expr {
                Expr::Atom(atom) => assert_eq!(atom.value, expected, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        for text in [
            "a(0:rax)=1",
            "type(PTE(x))=wc",
            "oa(PTE(x))!=PA(y)",
            "[PTE(x)]=(oa:PA(y))",
        ] {
            assert!(read(&format!("exists {text}")).is_ok(), "{text}");
        }
    }

    #[test]
    fn variables_may_be_called_like_fields() {
        assert!(read("exists (a=1 /\\ [d]=2 /\\ w=x)").is_ok());
    }

    #[test]
    fn depth_is_limited_and_length_is_not() {
        let nested = |n: usize| format!("exists {}x=1{}", "(".repeat(n), ")".repeat(n));
        assert!(read(&nested(NESTING_LIMIT)).is_ok());
        assert!(read(&nested(NESTING_LIMIT + 1)).is_err());
        assert!(read(&format!("exists {}x=1", "~".repeat(100_000))).is_err());
        assert!(read(&format!("exists {}x=1", "x=1 => ".repeat(100_000))).is_err());
        assert!(read(&format!("exists {}x=1", "x=1 /\\ ".repeat(10_000))).is_ok());
    }

    #[test]
    fn broken_expressions_are_errors() {
        for text in [
            "",
            "()",
            "(x=1",
            "x",
            "x=",
            "x=1 /\\",
            "a(PTE(x))=2",
            "0:=1",
            "f(x)=1",
            "~",
        ] {
            assert!(read(&format!("exists {text}")).is_err(), "{text}");
        }
    }
}
