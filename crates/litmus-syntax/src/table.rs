//! The table of threads: a header row, then rows of cells, `|` between columns, `;` behind rows.

use crate::att_syntax;
use crate::condition;
use crate::error::SyntaxError;
use crate::instruction::Instruction;
use crate::intel_syntax;
use crate::lexer::{Lexer, Token};
use crate::location;
use crate::position::Located;
use crate::test::{Arch, Handler, Thread};

/// Reads the table up to the section behind it.
pub(crate) fn table(lexer: &mut Lexer<'_>, arch: Arch) -> Result<Vec<Thread>, SyntaxError> {
    lexer.eat(";")?;
    let mut threads = header_row(lexer)?;
    while !ends_here(*lexer)? {
        row(lexer, arch, &mut threads)?;
    }
    Ok(threads)
}

/// Reads `P0 | P1 | P1.ipi ;`.
fn header_row(lexer: &mut Lexer<'_>) -> Result<Vec<Thread>, SyntaxError> {
    const ADVICE: &str = "write the table's first row as `P0 | P1 ;`, a handler as `P1.ipi`";
    let mut threads: Vec<Thread> = Vec::new();
    let mut handlers = Vec::new();
    loop {
        let (id, at) = location::thread(lexer)?;
        let handler = match lexer.eat(".")? {
            true => Some(handler(lexer)?),
            false => None,
        };
        if threads
            .iter()
            .any(|thread| thread.id == id && thread.handler == handler)
        {
            let found = "a column for the second time";
            return Err(SyntaxError::new(
                at,
                found,
                "each thread once",
                "rename one of the two",
            ));
        }
        if handler.is_some() {
            handlers.push((id, at));
        }
        threads.push(Thread {
            id,
            handler,
            instructions: Vec::new(),
        });
        let (token, at) = lexer.next()?;
        match token {
            Token::Symbol("|") => {}
            Token::Symbol(";") => break,
            other => return Err(SyntaxError::new(at, other, "`|` or `;`", ADVICE)),
        }
    }
    for (id, at) in handlers {
        if !threads
            .iter()
            .any(|thread| thread.id == id && thread.handler.is_none())
        {
            let found = format_args!("a handler of P{id}");
            let expected = "a column for the thread too";
            return Err(SyntaxError::new(
                at,
                found,
                expected,
                "add one, it may be empty",
            ));
        }
    }
    Ok(threads)
}

fn handler(lexer: &mut Lexer<'_>) -> Result<Handler, SyntaxError> {
    let (expected, advice) = ("a handler", "write `P1.ipi` or `P1.nmi`");
    let (name, at) = lexer.name(expected, advice)?;
    match name.to_ascii_lowercase().as_str() {
        "ipi" => Ok(Handler::Ipi),
        "nmi" => Ok(Handler::Nmi),
        _ => Err(SyntaxError::new(
            at,
            format_args!("`{name}`"),
            expected,
            advice,
        )),
    }
}

/// Tells whether no row follows.
fn ends_here(lexer: Lexer<'_>) -> Result<bool, SyntaxError> {
    Ok(match lexer.peek()?.0 {
        Token::End | Token::Name("locations" | "filter") | Token::Symbol("<<") => true,
        _ => condition::starts_here(lexer),
    })
}

/// Reads one row with its `;`.
fn row(lexer: &mut Lexer<'_>, arch: Arch, threads: &mut [Thread]) -> Result<(), SyntaxError> {
    let columns = threads.len();
    for (column, thread) in threads.iter_mut().enumerate() {
        cell(lexer, arch, &mut thread.instructions)?;
        let (token, at) = lexer.next()?;
        let (separator, advice) = match column + 1 == columns {
            true => (";", "end each row with `;`, with one cell for each thread"),
            false => (
                "|",
                "separate cells by `|`, one for each thread, empty or not",
            ),
        };
        if token != Token::Symbol(separator) {
            return Err(SyntaxError::new(
                at,
                token,
                format_args!("`{separator}`"),
                advice,
            ));
        }
    }
    Ok(())
}

/// Reads labels and at most one instruction.
fn cell(
    lexer: &mut Lexer<'_>,
    arch: Arch,
    instructions: &mut Vec<Located<Instruction>>,
) -> Result<(), SyntaxError> {
    loop {
        let (token, position) = lexer.peek()?;
        if matches!(token, Token::Symbol("|" | ";")) {
            return Ok(());
        }
        if let Some(label) = label(lexer)? {
            instructions.push(Located {
                value: Instruction::Label(label),
                position,
            });
            continue;
        }
        let read = match arch {
            Arch::X86 => intel_syntax::instruction(lexer)?,
            Arch::X86_64 => att_syntax::instruction(lexer)?,
        };
        instructions.extend(read.map(|value| Located { value, position }));
        return Ok(());
    }
}

/// Takes a label with its colon, or nothing.
fn label(lexer: &mut Lexer<'_>) -> Result<Option<String>, SyntaxError> {
    let mut ahead = *lexer;
    if let Token::Name(name) = ahead.next()?.0
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && ahead.eat(":")?
    {
        *lexer = ahead;
        return Ok(Some(name.into()));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Thread>, SyntaxError> {
        table(&mut Lexer::new(text), Arch::X86_64)
    }

    fn lengths(text: &str) -> Vec<usize> {
        read(text)
            .expect(text)
            .iter()
            .map(|thread| thread.instructions.len())
            .collect()
    }

    #[test]
    fn empty_cells_are_skipped() {
        assert_eq!(
            lengths("P0 | P1 ;\n mfence | ;\n | ;\n\tsfence|\tlfence ;\r\nexists"),
            [2, 1]
        );
        assert_eq!(lengths("P0;"), [0]);
        assert_eq!(lengths("P0 | P1 ; nop | ;"), [0, 0]);
    }

    #[test]
    fn a_lock_with_a_semicolon_does_not_end_the_row() {
        assert_eq!(
            lengths("P0 | P1 ; lock; incl (x) | lock; decl (x) ; mfence | ;"),
            [2, 1]
        );
    }

    #[test]
    fn labels_stand_alone_or_before_an_instruction() {
        let threads = read("P0 ; L0: ; L1: mfence ; A: B: sfence ;").expect("reads");
        let kinds: Vec<bool> = threads[0]
            .instructions
            .iter()
            .map(|instruction| matches!(instruction.value, Instruction::Label(_)))
            .collect();
        assert_eq!(kinds, [true, true, false, true, true, false]);
    }

    #[test]
    fn handlers_have_columns_of_their_own() {
        let threads = read("P0 | P1 | P1.ipi | P1.NMI ;").expect("reads");
        let columns: Vec<_> = threads
            .iter()
            .map(|thread| (thread.id, thread.handler))
            .collect();
        assert_eq!(
            columns,
            [
                (0, None),
                (1, None),
                (1, Some(Handler::Ipi)),
                (1, Some(Handler::Nmi))
            ]
        );
        assert!(read("P0 | P1.ipi ;").is_err());
        assert!(read("P0 | P0.smi ;").is_err());
    }

    #[test]
    fn positions_are_those_of_the_instructions() {
        let threads = read("P0 | P1 ;\n | mfence ;").expect("reads");
        let position = threads[1].instructions[0].position;
        assert_eq!((position.line, position.column), (2, 4));
    }

    #[test]
    fn rows_have_one_cell_for_each_thread() {
        for text in [
            "P0 | P1 ; mfence ;",
            "P0 ; mfence | mfence ;",
            "P0 ; mfence",
            "P0 ; mfence exists",
            "P0 | P0 ;",
            "P0 | ;",
            "",
            "x ;",
            "P0 ; 1: mfence ;",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
