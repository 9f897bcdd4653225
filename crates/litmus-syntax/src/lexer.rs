//! Tokens, read on demand. Nothing behind the last token asked for is looked at, so that a header and a block
//! `<< >>` may be any text.

use std::fmt;

use crate::error::SyntaxError;
use crate::position::Position;

/// How deep parentheses, negations and comments may nest.
///
/// The condition's parser recurses; without a limit a hostile file overflows the stack.
pub(crate) const NESTING_LIMIT: usize = 200;

/// One token. Words keep their case; a number's sign is a symbol of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Token<'a> {
    /// A name, a mnemonic, or digits followed by letters (`2m`).
    Name(&'a str),
    /// A number, decimal or `0x`.
    Number(u64),
    /// Punctuation.
    Symbol(&'static str),
    /// The end of the file.
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Name(name) => write!(f, "`{name}`"),
            Token::Number(number) => write!(f, "the number {number}"),
            Token::Symbol(symbol) => write!(f, "`{symbol}`"),
            Token::End => write!(f, "the end of the file"),
        }
    }
}

/// A place in the text. Copying it is how the parsers look ahead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lexer<'a> {
    rest: &'a str,
    position: Position,
}

impl<'a> Lexer<'a> {
    /// Starts at the first character, behind a byte order mark.
    pub(crate) fn new(text: &'a str) -> Lexer<'a> {
        Lexer {
            rest: text.strip_prefix('\u{feff}').unwrap_or(text),
            position: Position::START,
        }
    }

    /// Tells where the next character is.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// Looks at the next character.
    pub(crate) fn peek_char(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Takes the next character.
    pub(crate) fn next_char(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let taken = chars.next()?;
        self.rest = chars.as_str();
        self.position.step(taken);
        Some(taken)
    }

    /// Tells whether the text goes on with `prefix`.
    pub(crate) fn starts_with(&self, prefix: &str) -> bool {
        self.rest.starts_with(prefix)
    }

    /// Takes characters for as long as they are `wanted`.
    pub(crate) fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        for character in taken.chars() {
            self.position.step(character);
        }
        taken
    }

    /// Skips white space and comments.
    pub(crate) fn skip_blank(&mut self) -> Result<(), SyntaxError> {
        loop {
            self.take_while(char::is_whitespace);
            if !self.starts_with("(*") {
                return Ok(());
            }
            self.skip_comment()?;
        }
    }

    /// Skips one comment with the comments in it. The text must go on with `(*`.
    pub(crate) fn skip_comment(&mut self) -> Result<(), SyntaxError> {
        let opened = self.position;
        let mut depth = 0_usize;
        loop {
            if self.starts_with("(*") {
                depth += 1;
                if depth > NESTING_LIMIT {
                    return Err(too_deep(self.position, "comments"));
                }
                self.next_char();
            } else if self.starts_with("*)") {
                depth -= 1;
                self.next_char();
            }
            if self.next_char().is_none() {
                return Err(SyntaxError::new(
                    opened,
                    "a comment without end",
                    "`*)`",
                    "close every `(*`, also those inside a comment",
                ));
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// Skips a block `<< >>`, whatever is in it. The text must go on with `<<`.
    pub(crate) fn skip_block(&mut self) -> Result<(), SyntaxError> {
        let (_, opened) = self.next()?;
        while !self.starts_with(">>") {
            if self.next_char().is_none() {
                let (found, advice) = ("a block without end", "close every `<<`");
                return Err(SyntaxError::new(opened, found, "`>>`", advice));
            }
        }
        self.next()?;
        Ok(())
    }

    /// Takes the next token, and tells where it stood.
    pub(crate) fn next(&mut self) -> Result<(Token<'a>, Position), SyntaxError> {
        self.skip_blank()?;
        let at = self.position;
        let Some(first) = self.peek_char() else {
            return Ok((Token::End, at));
        };
        if first.is_ascii_alphanumeric() || first == '_' {
            let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
            return Ok((word_or_number(word, at)?, at));
        }
        if let Some(symbol) = symbol(self.rest.as_bytes()) {
            for _ in symbol.chars() {
                self.next_char();
            }
            return Ok((Token::Symbol(symbol), at));
        }
        Err(SyntaxError::new(
            at,
            format_args!("the character {first:?}"),
            "a name, a number or punctuation",
            "remove it, or put it in a comment `(* *)`",
        ))
    }

    /// Looks at the next token.
    pub(crate) fn peek(&self) -> Result<(Token<'a>, Position), SyntaxError> {
        let mut ahead = *self;
        ahead.next()
    }

    /// Takes the next token if it is `symbol`.
    pub(crate) fn eat(&mut self, symbol: &str) -> Result<bool, SyntaxError> {
        let mut ahead = *self;
        let found = matches!(ahead.next()?.0, Token::Symbol(s) if s == symbol);
        if found {
            *self = ahead;
        }
        Ok(found)
    }

    /// Takes the next token if it is `word`, in any case.
    pub(crate) fn eat_word(&mut self, word: &str) -> Result<bool, SyntaxError> {
        let mut ahead = *self;
        let found = matches!(ahead.next()?.0, Token::Name(w) if w.eq_ignore_ascii_case(word));
        if found {
            *self = ahead;
        }
        Ok(found)
    }

    /// Takes `symbol`, or fails with `advice`.
    pub(crate) fn expect(&mut self, symbol: &str, advice: &str) -> Result<(), SyntaxError> {
        let (token, at) = self.next()?;
        match token {
            Token::Symbol(s) if s == symbol => Ok(()),
            other => Err(SyntaxError::new(
                at,
                other,
                format_args!("`{symbol}`"),
                advice,
            )),
        }
    }

    /// Takes a name: a word that does not start with a digit.
    pub(crate) fn name(
        &mut self,
        expected: &str,
        advice: &str,
    ) -> Result<(&'a str, Position), SyntaxError> {
        let (token, at) = self.next()?;
        match token {
            Token::Name(word) if !word.starts_with(|c: char| c.is_ascii_digit()) => Ok((word, at)),
            other => Err(SyntaxError::new(at, other, expected, advice)),
        }
    }

    /// Takes a number without sign, at most `limit`.
    pub(crate) fn number(&mut self, expected: &str, limit: u64) -> Result<u64, SyntaxError> {
        let (token, at) = self.next()?;
        match token {
            Token::Number(number) if number <= limit => Ok(number),
            other => Err(SyntaxError::new(
                at,
                other,
                expected,
                format_args!("write a number from 0 to {limit}"),
            )),
        }
    }
}

/// Finds the symbol that a text starts with; the longer of two.
fn symbol(text: &[u8]) -> Option<&'static str> {
    Some(match text {
        [b'/', b'\\', ..] => "/\\",
        [b'\\', b'/', ..] => "\\/",
        [b'!', b'=', ..] => "!=",
        [b'<', b'>', ..] => "<>",
        [b'<', b'<', ..] => "<<",
        [b'>', b'>', ..] => ">>",
        [b'=', b'>', ..] => "=>",
        [b'=', b'=', ..] => "==",
        [b'&', b'&', ..] => "&&",
        [b'|', b'|', ..] => "||",
        [b'{', ..] => "{",
        [b'}', ..] => "}",
        [b'(', ..] => "(",
        [b')', ..] => ")",
        [b'[', ..] => "[",
        [b']', ..] => "]",
        [b'|', ..] => "|",
        [b';', ..] => ";",
        [b',', ..] => ",",
        [b':', ..] => ":",
        [b'=', ..] => "=",
        [b'$', ..] => "$",
        [b'%', ..] => "%",
        [b'.', ..] => ".",
        [b'-', ..] => "-",
        [b'+', ..] => "+",
        [b'*', ..] => "*",
        [b'~', ..] => "~",
        [b'&', ..] => "&",
        [b'<', ..] => "<",
        [b'>', ..] => ">",
        _ => return None,
    })
}

/// Tells numbers from names, and refuses numbers beyond 64 bits.
fn word_or_number(word: &str, at: Position) -> Result<Token<'_>, SyntaxError> {
    let hexadecimal = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    let (digits, radix) = match hexadecimal {
        Some(digits) => (digits, 16),
        None => (word, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Ok(Token::Name(word));
    }
    match u64::from_str_radix(digits, radix) {
        Ok(number) => Ok(Token::Number(number)),
        Err(_) => Err(SyntaxError::new(
            at,
            format_args!("the number {word}"),
            "a number of at most 64 bits",
            "write a smaller one",
        )),
    }
}

/// Refuses a nesting beyond [`NESTING_LIMIT`].
pub(crate) fn too_deep(at: Position, what: &str) -> SyntaxError {
    SyntaxError::new(
        at,
        format_args!("{what} nested more than {NESTING_LIMIT} deep"),
        "less nesting",
        "remove the ones that change nothing",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Vec<Token<'_>>, SyntaxError> {
        let mut lexer = Lexer::new(text);
        let mut tokens = Vec::new();
        loop {
            match lexer.next()?.0 {
                Token::End => return Ok(tokens),
                token => tokens.push(token),
            }
        }
    }

    #[test]
    fn words_numbers_and_symbols_are_told_apart() {
        assert_eq!(
            tokens("movq $0x1F,(x_1) 2m /\\").expect("lexes"),
            [
                Token::Name("movq"),
                Token::Symbol("$"),
                Token::Number(31),
                Token::Symbol(","),
                Token::Symbol("("),
                Token::Name("x_1"),
                Token::Symbol(")"),
                Token::Name("2m"),
                Token::Symbol("/\\"),
            ]
        );
    }

    #[test]
    fn nested_comments_are_skipped_and_positions_kept() {
        let mut lexer = Lexer::new("(* a (* b *)\n c *)  x");
        let (token, at) = lexer.next().expect("lexes");
        assert_eq!(token, Token::Name("x"));
        assert_eq!(at, Position { line: 2, column: 8 });
    }

    #[test]
    fn a_comment_without_end_is_reported_where_it_starts() {
        let error = tokens("a\n (* (* *)").expect_err("open");
        assert_eq!((error.line, error.column), (2, 2));
        assert!(tokens("(*)").is_err(), "the star belongs to the opening");
        assert!(tokens("(*").is_err());
    }

    #[test]
    fn comments_nest_up_to_the_limit() {
        let nested = |n: usize| format!("{}{}", "(*".repeat(n), "*)".repeat(n));
        assert!(tokens(&nested(NESTING_LIMIT)).is_ok());
        assert!(tokens(&nested(NESTING_LIMIT + 1)).is_err());
    }

    #[test]
    fn numbers_beyond_64_bits_are_errors() {
        assert!(tokens("18446744073709551615 0xFFFFFFFFFFFFFFFF").is_ok());
        assert!(tokens("18446744073709551616").is_err());
        assert!(tokens("0x10000000000000000").is_err());
    }

    #[test]
    fn a_character_outside_the_syntax_is_an_error() {
        let error = tokens("x \u{e9}").expect_err("not ASCII");
        assert_eq!(error.column, 3);
    }
}
