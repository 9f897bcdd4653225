//! Conditions: `exists (0:rax=1 /\ ~[x]=2)`.

use crate::error::SyntaxError;
use crate::expr::{self, Expr};
use crate::lexer::{Lexer, Token};

/// Holds the question of a test.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Condition {
    /// Over which states.
    pub quantifier: Quantifier,
    /// What about them.
    pub expr: Expr,
}

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

/// Tells whether the text goes on with a quantifier.
pub(crate) fn starts_here(lexer: Lexer<'_>) -> bool {
    let mut ahead = lexer;
    matches!(quantifier(&mut ahead), Ok(Some(_)))
}

/// Reads a quantifier and its expression.
pub(crate) fn condition(lexer: &mut Lexer<'_>) -> Result<Condition, SyntaxError> {
    Ok(Condition {
        quantifier: quantifier_alone(lexer)?,
        expr: expr::expr(lexer)?,
    })
}

/// Reads a quantifier, which has to be there.
pub(crate) fn quantifier_alone(lexer: &mut Lexer<'_>) -> Result<Quantifier, SyntaxError> {
    let (token, at) = lexer.peek()?;
    quantifier(lexer)?.ok_or_else(|| {
        let expected = "`exists`, `~exists`, `forall` or `final`";
        SyntaxError::new(at, token, expected, "end the test with a condition")
    })
}

/// Takes a quantifier, or nothing.
fn quantifier(lexer: &mut Lexer<'_>) -> Result<Option<Quantifier>, SyntaxError> {
    let mut ahead = *lexer;
    let found = match ahead.next()?.0 {
        Token::Name("exists") => Some(Quantifier::Exists),
        Token::Name("forall") => Some(Quantifier::Forall),
        Token::Name("final") => Some(Quantifier::Final),
        Token::Name("not") | Token::Symbol("~") if ahead.eat_word("exists")? => {
            Some(Quantifier::NotExists)
        }
        _ => None,
    };
    if found.is_some() {
        *lexer = ahead;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Condition, SyntaxError> {
        condition(&mut Lexer::new(text))
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
            assert!(matches!(read.expr, Expr::Atom(_)), "{text}");
        }
        assert!(read("never (x=1)").is_err());
    }
}
