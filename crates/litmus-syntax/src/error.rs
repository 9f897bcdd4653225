//! The one error of the reader: where it stopped, what it found there, and what to write instead.

use std::fmt;

use thiserror::Error;

use crate::position::Position;

/// Reports a text that is no litmus test, or uses syntax that this reader does not know.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("line {line}, column {column}: {message}")]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What was found, what was expected, and what to do about it.
    pub message: String,
}

impl SyntaxError {
    /// Says what was found and what was expected, and how to repair it.
    pub fn new(
        at: Position,
        found: impl fmt::Display,
        expected: impl fmt::Display,
        advice: impl fmt::Display,
    ) -> SyntaxError {
        SyntaxError {
            line: at.line,
            column: at.column,
            message: format!("found {found}, expected {expected}; {advice}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_where_what_and_how() {
        let at = Position { line: 3, column: 7 };
        let error = SyntaxError::new(at, "`]`", "`)`", "close the bracket that was opened");
        assert_eq!(
            error.to_string(),
            "line 3, column 7: found `]`, expected `)`; close the bracket that was opened"
        );
    }
}
