//! Places in a file.

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

/// Keeps where something stood in the file, for messages about what it means.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Located<T> {
    /// The thing.
    pub value: T,
    /// Its first character.
    pub position: Position,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_feed_starts_a_line() {
        let mut at = Position::START;
        for character in "ab\nc".chars() {
            at.step(character);
        }
        assert_eq!(at, Position { line: 2, column: 2 });
    }
}
