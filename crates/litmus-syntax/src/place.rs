//! What tests name besides registers: variables, page-table entries, frames.

use crate::error::SyntaxError;
use crate::lexer::{Lexer, Token};
use crate::position::Position;

/// Names a level of the page tables by its entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// `PTE`: maps 4 KiB.
    Pte,
    /// `PDE`: maps 2 MiB, or refers to a page table.
    Pde,
    /// `PDPTE`: maps 1 GiB, or refers to a page directory.
    Pdpte,
    /// `PML4E`: refers to a page-directory-pointer table.
    Pml4e,
    /// `PML5E`: refers to a PML4 table.
    Pml5e,
}

impl Level {
    /// Every level, from the pages up.
    pub const ALL: [Level; 5] = [
        Level::Pte,
        Level::Pde,
        Level::Pdpte,
        Level::Pml4e,
        Level::Pml5e,
    ];

    /// Gives the name of an entry.
    pub fn entry_name(self) -> &'static str {
        match self {
            Level::Pte => "PTE",
            Level::Pde => "PDE",
            Level::Pdpte => "PDPTE",
            Level::Pml4e => "PML4E",
            Level::Pml5e => "PML5E",
        }
    }

    /// Gives the name of a table of such entries.
    pub fn table_name(self) -> &'static str {
        match self {
            Level::Pte => "PT",
            Level::Pde => "PD",
            Level::Pdpte => "PDPT",
            Level::Pml4e => "PML4",
            Level::Pml5e => "PML5",
        }
    }

    /// Finds the level whose entries are called `name`.
    fn of_entry(name: &str) -> Option<Level> {
        Level::ALL
            .into_iter()
            .find(|level| level.entry_name() == name)
    }

    /// Finds the level whose tables are called `name`.
    fn of_table(name: &str) -> Option<Level> {
        Level::ALL
            .into_iter()
            .find(|level| level.table_name() == name)
    }
}

/// Names the page-table entry that translates a variable at one level: `PDE(x)`, `PTE(x,B)`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EntryName {
    /// The level.
    pub level: Level,
    /// The variable whose address selects the entry.
    pub variable: String,
    /// The address space; space A if it is not named.
    pub space: Option<String>,
}

/// Names a frame of physical memory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Frame {
    /// `PA(x)`: what the variable maps to at the start, or a frame declared by `frame x`.
    Of(String),
    /// `PT(x)`, `PD(x)`, `PDPT(x,B)`, …: the table that holds this entry.
    Holding(EntryName),
    /// `ROOT(A)`: the topmost table of an address space.
    Root(String),
    /// `T`: the spare table declared by `table T`.
    Table(String),
}

/// Selects an entry of a spare table.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TableIndex {
    /// `T[3]`: this one; below 512.
    Number(u16),
    /// `T[x]`: the one that the variable's address selects.
    Variable(String),
}

/// Names a place in memory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Place {
    /// `x`: through the variable's virtual address.
    Variable(String),
    /// `PTE(x)`: a page-table entry.
    Entry(EntryName),
    /// `T[3]`: an entry of a spare table.
    Slot {
        /// The spare table.
        table: String,
        /// Which entry.
        index: TableIndex,
    },
    /// `PA(x)`: the first word of a frame, whatever maps it.
    Frame(String),
}

/// Reads a place without brackets.
pub(crate) fn place(lexer: &mut Lexer<'_>) -> Result<Place, SyntaxError> {
    let (name, at) = lexer.name("the name of a variable or of a page-table entry", ADVICE)?;
    place_called(lexer, name, at)
}

/// Reads the rest of a place whose first word has been read.
pub(crate) fn place_called(
    lexer: &mut Lexer<'_>,
    name: &str,
    at: Position,
) -> Result<Place, SyntaxError> {
    match lexer.peek()?.0 {
        Token::Symbol("(") => {
            if let Some(level) = Level::of_entry(name) {
                return Ok(Place::Entry(entry_name(lexer, level)?));
            }
            if name == "PA" {
                return Ok(Place::Frame(name_in_parentheses(lexer)?));
            }
            let found = format_args!("`{name}(`");
            Err(SyntaxError::new(
                at,
                found,
                "`PTE(`, `PDE(`, `PDPTE(`, `PML4E(` or `PA(`",
                ADVICE,
            ))
        }
        Token::Symbol("[") => {
            lexer.expect("[", ADVICE)?;
            let index = match lexer.peek()?.0 {
                Token::Number(_) => {
                    let number = lexer.number("an index into a table", 511)?;
                    TableIndex::Number(u16::try_from(number).expect("it is 511 at most"))
                }
                _ => TableIndex::Variable(lexer.name("an index into a table", ADVICE)?.0.into()),
            };
            lexer.expect("]", "close the index of the table")?;
            Ok(Place::Slot {
                table: name.into(),
                index,
            })
        }
        _ => Ok(Place::Variable(name.into())),
    }
}

const ADVICE: &str = "write `x`, `PTE(x)`, `PTE(x,B)`, `PA(x)`, or `T[3]` for a spare table";

/// Tells whether `name` before a parenthesis names a page-table entry.
pub(crate) fn is_entry(name: &str) -> bool {
    Level::of_entry(name).is_some()
}

/// Tells whether `name` before a parenthesis names a frame.
pub(crate) fn is_frame(name: &str) -> bool {
    name == "PA" || name == "ROOT" || Level::of_table(name).is_some()
}

/// Reads a frame.
pub(crate) fn frame(lexer: &mut Lexer<'_>) -> Result<Frame, SyntaxError> {
    let (name, at) = lexer.name("a frame", FRAME_ADVICE)?;
    if lexer.peek()?.0 != Token::Symbol("(") {
        return Ok(Frame::Table(name.into()));
    }
    if let Some(level) = Level::of_table(name) {
        return Ok(Frame::Holding(entry_name(lexer, level)?));
    }
    match name {
        "PA" => Ok(Frame::Of(name_in_parentheses(lexer)?)),
        "ROOT" => Ok(Frame::Root(name_in_parentheses(lexer)?)),
        _ => Err(SyntaxError::new(
            at,
            format_args!("`{name}(`"),
            "a frame",
            FRAME_ADVICE,
        )),
    }
}

const FRAME_ADVICE: &str = "write `PA(x)`, `PT(x)`, `PD(x)`, `PDPT(x)`, `PML4(x)`, `ROOT(A)`, or the name of a spare table";

/// Reads `(x)` or `(x,B)`.
fn entry_name(lexer: &mut Lexer<'_>, level: Level) -> Result<EntryName, SyntaxError> {
    lexer.expect("(", ADVICE)?;
    let variable = lexer
        .name("the variable that is translated", ADVICE)?
        .0
        .into();
    let space = match lexer.eat(",")? {
        true => Some(lexer.name("the name of an address space", ADVICE)?.0.into()),
        false => None,
    };
    lexer.expect(")", "close the name of the entry")?;
    Ok(EntryName {
        level,
        variable,
        space,
    })
}

/// Reads `(x)`.
pub(crate) fn name_in_parentheses(lexer: &mut Lexer<'_>) -> Result<String, SyntaxError> {
    lexer.expect("(", "put the name in parentheses")?;
    let (name, _) = lexer.name("a name", "start it with a letter or `_`")?;
    lexer.expect(")", "close the parenthesis behind the name")?;
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Place, SyntaxError> {
        place(&mut Lexer::new(text))
    }

    #[test]
    fn an_entry_has_a_level_a_variable_and_perhaps_a_space() {
        let expected = EntryName {
            level: Level::Pde,
            variable: "x".into(),
            space: None,
        };
        assert_eq!(read("PDE(x)"), Ok(Place::Entry(expected.clone())));
        let in_b = EntryName {
            space: Some("B".into()),
            ..expected
        };
        assert_eq!(read("PDE(x, B)"), Ok(Place::Entry(in_b)));
    }

    #[test]
    fn slots_of_spare_tables_have_an_index_below_512() {
        let table = String::from("T");
        assert_eq!(
            read("T[511]"),
            Ok(Place::Slot {
                table: table.clone(),
                index: TableIndex::Number(511)
            })
        );
        assert_eq!(
            read("T[x]"),
            Ok(Place::Slot {
                table,
                index: TableIndex::Variable("x".into())
            })
        );
        assert!(read("T[512]").is_err());
    }

    #[test]
    fn unknown_functions_are_errors() {
        assert!(read("PTD(x)").is_err());
        assert!(read("PTE(x").is_err());
        assert!(read("3").is_err());
    }

    #[test]
    fn frames_are_pages_tables_and_roots() {
        let read = |text| frame(&mut Lexer::new(text));
        assert_eq!(read("PA(x)"), Ok(Frame::Of("x".into())));
        assert_eq!(read("ROOT(A)"), Ok(Frame::Root("A".into())));
        assert_eq!(read("T"), Ok(Frame::Table("T".into())));
        let entry = EntryName {
            level: Level::Pte,
            variable: "x".into(),
            space: None,
        };
        assert_eq!(read("PT(x)"), Ok(Frame::Holding(entry)));
        assert!(read("PTE(x)").is_err());
    }
}
