//! The one error of the reader: where it stopped, what it found there, and what to write instead.

use std::fmt;

use thiserror::Error;

/// Locates a character of the file, both numbers from 1. Columns count characters, a tab as one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Position {
    /// The first character of a file.
    pub const START: Position = Position { line: 1, column: 1 };

    /// Moves over one character.
    pub(crate) fn step(&mut self, over: char) {
        if over == '\n' {
            self.line = self.line.saturating_add(1);
            self.column = 1;
        } else {
            self.column = self.column.saturating_add(1);
        }
    }
}

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

    #[test]
    fn a_line_feed_starts_a_line() {
        let mut at = Position::START;
        for character in "ab\nc".chars() {
            at.step(character);
        }
        assert_eq!(at, Position { line: 2, column: 2 });
    }
}
