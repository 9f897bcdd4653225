//! Propositions about a final state: facts, joined by `/\`, `\/`, `=>` and `~`.

use crate::atom::{self, Atom};
use crate::error::SyntaxError;
use crate::lexer::{self, Lexer, NESTING_LIMIT, Token};
use crate::position::{Located, Position};

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

impl Expr {
    /// Lists the facts in it, in the order in which they stand.
    pub fn atoms(&self) -> Vec<&Located<Atom>> {
        match self {
            Expr::True | Expr::False => Vec::new(),
            Expr::Atom(atom) => vec![atom],
            Expr::Not(inner) => inner.atoms(),
            Expr::And(parts) | Expr::Or(parts) => parts.iter().flat_map(Expr::atoms).collect(),
        }
    }
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
        Token::Symbol("~") | Token::Name("not") => {
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
        Token::Name("true") => lexer.next().map(|_| Expr::True),
        Token::Name("false") => lexer.next().map(|_| Expr::False),
        _ => Ok(Expr::Atom(Located {
            value: atom::atom(lexer)?,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atom::Relation;
    use crate::value::Value;

    fn read(text: &str) -> Result<Expr, SyntaxError> {
        expr(&mut Lexer::new(text))
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
            let read = read(&format!("({text})")).expect(text);
            assert_eq!(shape(&read), expected, "{text}");
        }
    }

    #[test]
    fn depth_is_limited_and_length_is_not() {
        let nested = |n: usize| format!("{}x=1{}", "(".repeat(n), ")".repeat(n));
        assert!(read(&nested(NESTING_LIMIT)).is_ok());
        assert!(read(&nested(NESTING_LIMIT + 1)).is_err());
        assert!(read(&format!("{}x=1", "~".repeat(100_000))).is_err());
        assert!(read(&format!("{}x=1", "x=1 => ".repeat(100_000))).is_err());
        assert!(read(&format!("{}x=1", "x=1 /\\ ".repeat(10_000))).is_ok());
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
            assert!(read(text).is_err(), "{text}");
        }
    }
}
