//! Page-table entries as literals, `(oa:PA(y), w:0)`, and the names of their fields.

use crate::error::SyntaxError;
use crate::lexer::Lexer;
use crate::place::{self, Frame};
use crate::position::Position;

/// Names a field of a page-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Field {
    /// `oa`: the frame.
    Oa,
    /// `valid`: the P bit.
    Valid,
    /// `w`: the R/W bit.
    Writable,
    /// `u`: the U/S bit.
    User,
    /// `a`: the A bit.
    Accessed,
    /// `d`: the D bit.
    Dirty,
    /// `ps`: the PS bit.
    PageSize,
    /// `g`: the G bit.
    Global,
    /// `nx`: the XD bit.
    NoExecute,
    /// `type`: the memory type that PAT, PCD and PWT select.
    Type,
}

impl Field {
    /// Every field, in the order of the documentation.
    pub const ALL: [Field; 10] = [
        Field::Oa,
        Field::Valid,
        Field::Writable,
        Field::User,
        Field::Accessed,
        Field::Dirty,
        Field::PageSize,
        Field::Global,
        Field::NoExecute,
        Field::Type,
    ];

    /// Gives the field's name.
    pub fn name(self) -> &'static str {
        match self {
            Field::Oa => "oa",
            Field::Valid => "valid",
            Field::Writable => "w",
            Field::User => "u",
            Field::Accessed => "a",
            Field::Dirty => "d",
            Field::PageSize => "ps",
            Field::Global => "g",
            Field::NoExecute => "nx",
            Field::Type => "type",
        }
    }

    /// Finds the field called `name`.
    pub fn named(name: &str) -> Option<Field> {
        Field::ALL.into_iter().find(|field| field.name() == name)
    }
}

/// Gives a page-table entry field by field. The fields that a test omits have their defaults:
/// valid, writable, user, accessed, dirty, write-back; not large, not global, executable. In an
/// entry without frame they are 0: `(valid:0)` is the empty entry, `(valid:0, d:1)` has D alone.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EntryLiteral {
    /// The frame; `None` only if the entry is not valid.
    pub oa: Option<Frame>,
    /// The P bit.
    pub valid: bool,
    /// The R/W bit.
    pub writable: bool,
    /// The U/S bit.
    pub user: bool,
    /// The A bit.
    pub accessed: bool,
    /// The D bit.
    pub dirty: bool,
    /// The PS bit: the entry maps a large page.
    pub page_size: bool,
    /// The G bit.
    pub global: bool,
    /// The XD bit.
    pub no_execute: bool,
    /// The memory type.
    pub memory_type: Caching,
}

impl Default for EntryLiteral {
    fn default() -> EntryLiteral {
        EntryLiteral {
            oa: None,
            valid: true,
            writable: true,
            user: true,
            accessed: true,
            dirty: true,
            page_size: false,
            global: false,
            no_execute: false,
            memory_type: Caching::WriteBack,
        }
    }
}

impl EntryLiteral {
    /// Gives fields that are not among the `named` 0, where the default is 1.
    fn clear_what_was_left_out(&mut self, named: &[Field]) {
        let defaults = [
            (Field::Writable, &mut self.writable),
            (Field::User, &mut self.user),
            (Field::Accessed, &mut self.accessed),
            (Field::Dirty, &mut self.dirty),
        ];
        for (field, bit) in defaults {
            *bit &= named.contains(&field);
        }
    }
}

/// Selects how memory is cached: what the field `type` of an entry holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Caching {
    /// `wb`: write-back.
    WriteBack,
    /// `wc`: write-combining.
    WriteCombining,
    /// `uc`: uncacheable.
    Uncacheable,
}

impl Caching {
    /// Every way, in the order of the documentation.
    pub const ALL: [Caching; 3] = [
        Caching::WriteBack,
        Caching::WriteCombining,
        Caching::Uncacheable,
    ];

    /// Gives the name that tests write.
    pub fn name(self) -> &'static str {
        match self {
            Caching::WriteBack => "wb",
            Caching::WriteCombining => "wc",
            Caching::Uncacheable => "uc",
        }
    }

    /// Finds the one called `name`.
    pub fn named(name: &str) -> Option<Caching> {
        Caching::ALL.into_iter().find(|known| known.name() == name)
    }
}

const FIELDS: &str =
    "write fields as in `(oa:PA(y), valid:1, w:1, u:1, a:1, d:1, ps:0, g:0, nx:0, type:wb)`";

/// Reads an entry with its parentheses.
pub(crate) fn entry_literal(lexer: &mut Lexer<'_>) -> Result<EntryLiteral, SyntaxError> {
    let opened = lexer.peek()?.1;
    lexer.expect("(", FIELDS)?;
    let mut entry = EntryLiteral::default();
    let mut seen = Vec::new();
    loop {
        let (name, at) = lexer.name("a field of an entry", FIELDS)?;
        let Some(field) = Field::named(name) else {
            return Err(SyntaxError::new(
                at,
                format_args!("`{name}`"),
                "a field of an entry",
                FIELDS,
            ));
        };
        refuse_duplicate(&mut seen, field, name, at)?;
        lexer.expect(":", FIELDS)?;
        match field {
            Field::Oa => entry.oa = Some(place::frame(lexer)?),
            Field::Type => entry.memory_type = caching(lexer)?,
            Field::Valid => entry.valid = bit(lexer)?,
            Field::Writable => entry.writable = bit(lexer)?,
            Field::User => entry.user = bit(lexer)?,
            Field::Accessed => entry.accessed = bit(lexer)?,
            Field::Dirty => entry.dirty = bit(lexer)?,
            Field::PageSize => entry.page_size = bit(lexer)?,
            Field::Global => entry.global = bit(lexer)?,
            Field::NoExecute => entry.no_execute = bit(lexer)?,
        }
        if !lexer.eat(",")? {
            break;
        }
    }
    lexer.expect(")", FIELDS)?;
    if entry.oa.is_none() && entry.valid {
        let expected = "the field `oa` of a valid entry";
        let advice = "name the frame, `oa:PA(y)`, or write `valid:0`";
        return Err(SyntaxError::new(
            opened,
            "an entry without frame",
            expected,
            advice,
        ));
    }
    if entry.oa.is_none() {
        entry.clear_what_was_left_out(&seen);
    }
    Ok(entry)
}

/// Refuses a key that is written twice: one of the two would be ignored.
pub(crate) fn refuse_duplicate<K: PartialEq>(
    seen: &mut Vec<K>,
    key: K,
    name: &str,
    at: Position,
) -> Result<(), SyntaxError> {
    if seen.contains(&key) {
        let found = format_args!("`{name}` again");
        return Err(SyntaxError::new(
            at,
            found,
            "each name once",
            "remove one of the two",
        ));
    }
    seen.push(key);
    Ok(())
}

/// Reads 0 or 1.
pub(crate) fn bit(lexer: &mut Lexer<'_>) -> Result<bool, SyntaxError> {
    Ok(lexer.number("a bit", 1)? == 1)
}

/// Reads a memory type.
pub(crate) fn caching(lexer: &mut Lexer<'_>) -> Result<Caching, SyntaxError> {
    let (expected, advice) = ("a memory type", "write `wb`, `wc` or `uc`");
    let (name, at) = lexer.name(expected, advice)?;
    Caching::named(name)
        .ok_or_else(|| SyntaxError::new(at, format_args!("`{name}`"), expected, advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<EntryLiteral, SyntaxError> {
        entry_literal(&mut Lexer::new(text))
    }

    #[test]
    fn omitted_fields_have_their_defaults() {
        let expected = EntryLiteral {
            oa: Some(Frame::Of("y".into())),
            writable: false,
            memory_type: Caching::WriteCombining,
            ..EntryLiteral::default()
        };
        assert_eq!(read("(oa:PA(y), w:0, type:wc)"), Ok(expected));
    }

    #[test]
    fn only_an_invalid_entry_may_lack_a_frame() {
        let empty = EntryLiteral {
            valid: false,
            writable: false,
            user: false,
            accessed: false,
            dirty: false,
            ..EntryLiteral::default()
        };
        assert_eq!(read("(valid:0)"), Ok(empty.clone()));
        let dirty = EntryLiteral {
            dirty: true,
            ..empty
        };
        assert_eq!(read("(valid:0, d:1)"), Ok(dirty));
        assert!(read("(w:0)").is_err());
    }

    #[test]
    fn unknown_repeated_and_wide_fields_are_errors() {
        for text in [
            "(oa:PA(y), x:1)",
            "(valid:0, valid:1)",
            "(valid:2)",
            "(valid:0",
            "()",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
