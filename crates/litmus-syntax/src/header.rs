//! Everything before the init section: architecture, name, title, metadata, free text.

use crate::error::SyntaxError;
use crate::lexer::Lexer;
use crate::position::{Located, Position};
use crate::test::Arch;

/// What stands before the opening brace.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) arch: Arch,
    pub(crate) name: String,
    pub(crate) title: Option<String>,
    pub(crate) metadata: Vec<(String, String)>,
    /// Where each key of the metadata stands.
    pub(crate) metadata_positions: Vec<Position>,
    /// What was skipped: lines that are neither title nor metadata.
    pub(crate) free_text: Vec<Located<String>>,
}

/// Reads the header and the opening brace of the init section.
pub(crate) fn header(lexer: &mut Lexer<'_>) -> Result<Header, SyntaxError> {
    lexer.skip_blank()?;
    let arch = arch(lexer)?;
    let name = name(lexer)?;
    let mut header = Header {
        arch,
        name,
        title: None,
        metadata: Vec::new(),
        metadata_positions: Vec::new(),
        free_text: Vec::new(),
    };
    loop {
        lexer.skip_blank()?;
        let at = lexer.position();
        match lexer.peek_char() {
            None => {
                return Err(SyntaxError::new(
                    at,
                    "the end of the file",
                    "`{`",
                    "write an init section behind the header, `{ }` if all is 0",
                ));
            }
            Some('{') => {
                lexer.next_char();
                return Ok(header);
            }
            Some('"') => title_or_text(lexer, &mut header)?,
            Some(_) => metadata_or_text(lexer, &mut header)?,
        }
    }
}

fn arch(lexer: &mut Lexer<'_>) -> Result<Arch, SyntaxError> {
    let at = lexer.position();
    let word = lexer.take_while(|c| !c.is_whitespace() && c != '{');
    match word.to_ascii_uppercase().as_str() {
        "X86" => Ok(Arch::X86),
        "X86_64" | "X86-64" => Ok(Arch::X86_64),
        _ => Err(SyntaxError::new(
            at,
            format_args!("{word:?}"),
            "`X86` or `X86_64`",
            "start the file with the architecture and the test's name; other architectures are not read",
        )),
    }
}

/// Reads the name, which stands on the architecture's line.
fn name(lexer: &mut Lexer<'_>) -> Result<String, SyntaxError> {
    lexer.take_while(|c| c.is_whitespace() && c != '\n');
    let at = lexer.position();
    let name = lexer.take_while(|c| !c.is_whitespace() && !matches!(c, '{' | '"' | ';'));
    if name.is_empty() {
        let advice = "write it behind the architecture, `X86_64 SB`";
        return Err(SyntaxError::new(at, "no name", "the test's name", advice));
    }
    Ok(name.into())
}

/// Reads a title in quotes. A quote that nothing closes before the init section is free text.
fn title_or_text(lexer: &mut Lexer<'_>, header: &mut Header) -> Result<(), SyntaxError> {
    for stop in ['\n', '{'] {
        let mut ahead = *lexer;
        ahead.next_char();
        let text = ahead.take_while(|c| c != '"' && c != stop);
        if ahead.peek_char() == Some('"') {
            ahead.next_char();
            *lexer = ahead;
            let title = header.title.get_or_insert_default();
            if !title.is_empty() {
                title.push('\n');
            }
            title.push_str(text.trim());
            return Ok(());
        }
    }
    skip_text(lexer, header)
}

/// Reads `Key=Value` up to the end of the line, or skips a line of free text.
fn metadata_or_text(lexer: &mut Lexer<'_>, header: &mut Header) -> Result<(), SyntaxError> {
    let mut ahead = *lexer;
    let key = ahead.take_while(|c| {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '-' | '@' | '+')
    });
    ahead.take_while(|c| matches!(c, ' ' | '\t'));
    let is_key = key.starts_with(|c: char| c.is_ascii_alphabetic());
    if !is_key || ahead.peek_char() != Some('=') {
        return skip_text(lexer, header);
    }
    let position = lexer.position();
    ahead.next_char();
    *lexer = ahead;
    let value = value(lexer);
    header.metadata.push((key.into(), value.trim().into()));
    header.metadata_positions.push(position);
    Ok(())
}

/// Takes the rest of the line without the comments that end on it. Other `(*` belong to the value,
/// as in herd.
fn value(lexer: &mut Lexer<'_>) -> String {
    let mut value = String::new();
    loop {
        if lexer.starts_with("(*") {
            let mut ahead = *lexer;
            if ahead.skip_comment().is_ok() && ahead.position().line == lexer.position().line {
                *lexer = ahead;
                continue;
            }
        }
        match lexer.peek_char() {
            None | Some('\n') => return value,
            Some(character) => value.push(character),
        }
        lexer.next_char();
    }
}

/// Skips free text up to the end of the line or the init section, and keeps what it was.
fn skip_text(lexer: &mut Lexer<'_>, header: &mut Header) -> Result<(), SyntaxError> {
    let position = lexer.position();
    let mut text = String::new();
    loop {
        if lexer.starts_with("(*") {
            lexer.skip_comment()?;
            text.push(' ');
        } else if matches!(lexer.peek_char(), None | Some('\n' | '{')) {
            header.free_text.push(Located {
                value: text.trim_end().into(),
                position,
            });
            return Ok(());
        } else {
            text.extend(lexer.next_char());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Header, SyntaxError> {
        header(&mut Lexer::new(text))
    }

    #[test]
    fn a_name_and_a_brace_are_enough() {
        for text in [
            "X86_64 SB\n{",
            "X86_64 SB {",
            "(* c *)\r\nx86_64\tSB\r\n\r\n{",
            "X86_64 SB;\n{",
        ] {
            let header = read(text).expect(text);
            assert_eq!(
                (header.arch, header.name.as_str()),
                (Arch::X86_64, "SB"),
                "{text}"
            );
            assert_eq!((header.title, header.metadata), (None, vec![]), "{text}");
        }
    }

    #[test]
    fn names_hold_any_printing_character() {
        assert_eq!(
            read("X86 iwp2.3.a/amd4+[rfi]\n{").expect("reads").name,
            "iwp2.3.a/amd4+[rfi]"
        );
    }

    #[test]
    fn titles_stand_on_either_line_and_may_hold_braces() {
        assert_eq!(
            read("X86 SB \"a {b}\"\n{").expect("reads").title.as_deref(),
            Some("a {b}")
        );
        assert_eq!(
            read("X86 SB\n\"a\"\n\"b\nc\"\n{")
                .expect("reads")
                .title
                .as_deref(),
            Some("a\nb\nc")
        );
        assert_eq!(read("X86 SB\n\"open\n{").expect("reads").title, None);
    }

    #[test]
    fn metadata_runs_to_the_end_of_its_line() {
        let header = read(
            "X86_64 SB\nSafe=[Rfi,PodRR] Rfe\r\nRelax=\nExpect@amd-k10 = Forbidden (* why *)\nOrig=a=b (*\n{",
        )
        .expect("reads");
        let expected = [
            ("Safe", "[Rfi,PodRR] Rfe"),
            ("Relax", ""),
            ("Expect@amd-k10", "Forbidden"),
            ("Orig", "a=b (*"),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        assert_eq!(header.metadata, expected);
        let lines = header.metadata_positions.iter().map(|at| at.line);
        assert_eq!(lines.collect::<Vec<_>>(), [2, 3, 4, 5]);
    }

    #[test]
    fn free_text_is_skipped() {
        let header = read("X86 SB extra\nIt's free (* { *) text\n1=2\n{").expect("reads");
        assert_eq!((header.title, header.metadata), (None, vec![]));
        let text = header.free_text.iter();
        let text = text.map(|line| (line.position.line, line.value.as_str()));
        assert_eq!(
            text.collect::<Vec<_>>(),
            [(1, "extra"), (2, "It's free   text"), (3, "1=2")]
        );
    }

    #[test]
    fn other_files_are_errors() {
        for text in [
            "",
            "AArch64 SB\n{",
            "X86",
            "X86\nSB\n{",
            "X86 SB\n",
            "X86 SB\n(* {",
            "{",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
