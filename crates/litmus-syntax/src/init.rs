//! The init section: `{ x=1; int y; 0:rax=x; [PTE(x)]=(oa:PA(y)); VA(x)=0x200000; }`.

use crate::error::SyntaxError;
use crate::lexer::{Lexer, Token};
use crate::location::{self, Location};
use crate::place;
use crate::position::Located;
use crate::value::{self, Value};

/// Holds one entry of the init section.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum InitItem {
    /// `int x=1`, `x=1`, `0:rax=x`, `uint64_t x`.
    Set {
        /// The C type, if one is written; stars belong to it.
        ctype: Option<String>,
        /// What is set or declared.
        location: Location,
        /// `None`: only declared, so 0.
        value: Option<Value>,
    },
    /// `VA(x) = 0x200000`: where a variable lies.
    Address {
        /// The variable.
        variable: String,
        /// Its virtual address.
        address: u64,
    },
    /// `frame F`: a spare frame, `PA(F)`.
    Frame(String),
    /// `table T`: a spare empty page table.
    Table(String),
    /// `device D`: a variable that is a device.
    Device(String),
}

const ADVICE: &str = "write entries as `x=1;`, `int x=1;`, `0:rax=x;` or `[PTE(x)]=(oa:PA(y));`";

/// Reads the entries and the closing brace.
pub(crate) fn init(lexer: &mut Lexer<'_>) -> Result<Vec<Located<InitItem>>, SyntaxError> {
    let mut items = Vec::new();
    loop {
        while lexer.eat(";")? {}
        if lexer.eat("}")? {
            return Ok(items);
        }
        let position = lexer.peek()?.1;
        items.push(Located {
            value: item(lexer)?,
            position,
        });
        let (token, at) = lexer.peek()?;
        if !matches!(token, Token::Symbol(";" | "}")) {
            return Err(SyntaxError::new(at, token, "`;` or `}`", ADVICE));
        }
    }
}

fn item(lexer: &mut Lexer<'_>) -> Result<InitItem, SyntaxError> {
    let mut ahead = *lexer;
    if let Token::Name(name) = ahead.next()?.0 {
        if name == "VA" && ahead.peek()?.0 == Token::Symbol("(") {
            *lexer = ahead;
            return address(lexer);
        }
        if let Some(declaration) = declaration(name)
            && let (Token::Name(declared), _) = ahead.next()?
            && matches!(ahead.peek()?.0, Token::Symbol(";" | "}"))
        {
            *lexer = ahead;
            return Ok(declaration(declared.into()));
        }
    }
    let ctype = ctype(lexer)?;
    let location = location::location(lexer)?;
    let value = match lexer.eat("=")? {
        true => Some(value::value(lexer)?),
        false => None,
    };
    Ok(InitItem::Set {
        ctype,
        location,
        value,
    })
}

/// Finds what a keyword before a name declares.
fn declaration(keyword: &str) -> Option<fn(String) -> InitItem> {
    match keyword {
        "frame" => Some(InitItem::Frame),
        "table" => Some(InitItem::Table),
        "device" => Some(InitItem::Device),
        _ => None,
    }
}

/// Reads `(x) = 0x200000` behind `VA`.
fn address(lexer: &mut Lexer<'_>) -> Result<InitItem, SyntaxError> {
    let variable = place::name_in_parentheses(lexer)?;
    lexer.expect("=", "write `VA(x) = 0x200000`")?;
    let address = lexer.number("an address", u64::MAX)?;
    Ok(InitItem::Address { variable, address })
}

/// Reads the words of a type: all before the one that is the location's.
fn ctype(lexer: &mut Lexer<'_>) -> Result<Option<String>, SyntaxError> {
    let mut words: Vec<&str> = Vec::new();
    loop {
        let mut ahead = *lexer;
        match ahead.next()?.0 {
            Token::Symbol("*") => words.push("*"),
            Token::Name(word)
                if !word.starts_with(|c: char| c.is_ascii_digit()) && continues_a_type(ahead)? =>
            {
                words.push(word);
            }
            _ => return Ok((!words.is_empty()).then(|| words.join(" "))),
        }
        *lexer = ahead;
    }
}

/// Tells whether the word before is a type: what follows starts another name.
fn continues_a_type(ahead: Lexer<'_>) -> Result<bool, SyntaxError> {
    Ok(match ahead.peek()?.0 {
        Token::Name(_) | Token::Number(_) | Token::Symbol("*") => true,
        // `uint64_t [x]` against the slot `T[3]`, which has an equals sign, and `T[x]` too: the
        // blank tells them apart.
        Token::Symbol("[") => ahead.peek_char().is_some_and(char::is_whitespace),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::{Place, TableIndex};
    use crate::register::Register;

    fn read(text: &str) -> Result<Vec<InitItem>, SyntaxError> {
        Ok(init(&mut Lexer::new(text))?
            .into_iter()
            .map(|item| item.value)
            .collect())
    }

    fn set(ctype: Option<&str>, location: Location, value: Option<Value>) -> InitItem {
        InitItem::Set {
            ctype: ctype.map(String::from),
            location,
            value,
        }
    }

    fn x() -> Location {
        Location::Memory(Place::Variable("x".into()))
    }

    fn rax() -> Location {
        Location::Register {
            thread: 0,
            register: Register::named("rax").expect("a register"),
        }
    }

    #[test]
    fn an_empty_section_is_enough() {
        assert_eq!(read("}"), Ok(vec![]));
        assert_eq!(read(" \r\n ; ;}"), Ok(vec![]));
    }

    #[test]
    fn entries_may_have_types_and_lack_values() {
        let one = || Some(Value::Number(1));
        assert_eq!(
            read(
                "x=1; [x]=1; int x=1; uint64_t [x]=1; uint64_t x; int64_t 0:rax; unsigned int x; x}"
            ),
            Ok(vec![
                set(None, x(), one()),
                set(None, x(), one()),
                set(Some("int"), x(), one()),
                set(Some("uint64_t"), x(), one()),
                set(Some("uint64_t"), x(), None),
                set(Some("int64_t"), rax(), None),
                set(Some("unsigned int"), x(), None),
                set(None, x(), None),
            ])
        );
    }

    #[test]
    fn registers_hold_numbers_and_addresses() {
        assert_eq!(
            read("0:rax=x; 0:rax=-1; int *x = y;}"),
            Ok(vec![
                set(None, rax(), Some(Value::Address("x".into()))),
                set(None, rax(), Some(Value::Number(-1))),
                set(Some("int *"), x(), Some(Value::Address("y".into()))),
            ])
        );
    }

    #[test]
    fn translation_tests_declare_frames_tables_devices_and_addresses() {
        assert_eq!(
            read("VA(x) = 0x200000; frame F; table T; device D; frame=1 }")
                .map(|items| items.len()),
            Ok(5)
        );
        let address = InitItem::Address {
            variable: "x".into(),
            address: 0x20_0000,
        };
        assert_eq!(read("VA(x) = 0x200000}"), Ok(vec![address]));
        assert_eq!(read("table T}"), Ok(vec![InitItem::Table("T".into())]));
    }

    #[test]
    fn entries_of_page_tables_are_set() {
        let items = read("[PTE(x)] = (oa:PA(y), w:0); [T[3]] = (valid:0); T[x] = (oa:PA(x));}")
            .expect("reads");
        let slot = Place::Slot {
            table: "T".into(),
            index: TableIndex::Number(3),
        };
        assert!(
            matches!(&items[1], InitItem::Set { location: Location::Memory(place), .. } if *place == slot)
        );
        assert_eq!(items.len(), 3);
    }

    #[test]
    fn broken_sections_are_errors() {
        for text in [
            "",
            "x=1",
            "x=1 y=2}",
            "x=}",
            "=1}",
            "1}",
            "VA(x)=y}",
            "int x[2]={1,2}}",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
