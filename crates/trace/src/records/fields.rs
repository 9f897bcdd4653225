//! Reads the numbers of a record by its recorded format.

use super::formats::{Declared, Format};
use crate::error::LineProblem;

/// Bytes that must follow any record in memory, so that a field of any size is one load.
pub(crate) const SLACK_BYTES: usize = 8;

/// Bytes of a task's name, with its NUL.
const TASK_COMM_LEN: u32 = 16;

/// Largest record that a ring buffer's page can hold.
const MAX_RECORD_BYTES: u32 = 1 << 20;

/// Where a number stands in a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    offset: u32,
    /// What a load of eight bytes has too many, in bits.
    excess: u8,
    /// The bits that are the number's, once it is extended by its sign: of one without, those that it has in the record.
    bits: u64,
    signed: bool,
    /// For errors.
    name: &'static str,
}

/// Where a text of a fixed size stands in a record; it ends at a NUL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextField {
    offset: u32,
    size: u32,
}

/// A record's bytes, and [`SLACK_BYTES`] or more after them.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    bytes: &'a [u8],
    event: &'static str,
}

/// Finds fields of one format, and remembers how long a record must be to have them.
pub(crate) struct Finder<'a> {
    format: &'a Format<'a>,
    event: &'static str,
    /// Bytes up to the end of the last field that was found.
    pub(crate) length: usize,
}

impl<'a> Finder<'a> {
    /// Finds fields for the event that errors call `event`.
    pub(crate) fn new(format: &'a Format<'a>, event: &'static str) -> Self {
        Finder {
            format,
            event,
            length: 0,
        }
    }

    /// Finds a field that may be missing.
    pub(crate) fn optional(&mut self, name: &'static str) -> Option<Field> {
        let is_it = |field: &&Declared<'_>| field.is_number && field.name == name.as_bytes();
        let declared = self.format.fields.iter().find(is_it)?;
        let end = declared.offset.checked_add(declared.size)?;
        if end > MAX_RECORD_BYTES {
            return None;
        }
        self.length = self.length.max(end as usize);
        Some(Field {
            offset: declared.offset,
            // A number has 1, 2, 4 or 8 bytes.
            excess: (64 - 8 * declared.size) as u8,
            bits: match declared.signed {
                true => u64::MAX,
                false => u64::MAX >> (64 - 8 * declared.size),
            },
            signed: declared.signed,
            name,
        })
    }

    /// Finds the name of a task (`char NAME[16]`), which may be missing.
    pub(crate) fn task_name(&mut self, name: &'static str) -> Option<TextField> {
        let is_name = |field: &Declared<'_>| !field.is_number && field.size == TASK_COMM_LEN;
        let is_it = |field: &&Declared<'_>| is_name(field) && field.name == name.as_bytes();
        let declared = self.format.fields.iter().find(is_it)?;
        let (offset, size) = (declared.offset, declared.size);
        let end = offset.checked_add(size)?;
        if end > MAX_RECORD_BYTES {
            return None;
        }
        self.length = self.length.max(end as usize);
        Some(TextField { offset, size })
    }

    /// Finds a field.
    ///
    /// # Errors
    /// If the format does not have it.
    pub(crate) fn needed(&mut self, field: &'static str) -> Result<Field, LineProblem> {
        let event = self.event;
        self.optional(field)
            .ok_or(LineProblem::MissingField { event, field })
    }
}

impl<'a> Record<'a> {
    /// Takes the bytes of a record and those after it.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], event: &'static str) -> Self {
        Record { bytes, event }
    }

    /// Reads a number; a signed one is extended.
    #[inline]
    pub(crate) fn number(&self, field: Field) -> u64 {
        let at = field.offset as usize;
        let bytes = self.bytes[at..at + 8].try_into();
        let number = i64::from_le_bytes(bytes.expect("a range of eight")) << field.excess;
        (number >> field.excess) as u64 & field.bits
    }

    /// Reads a text.
    #[inline]
    pub(crate) fn text(&self, field: TextField) -> &'a [u8] {
        let at = field.offset as usize;
        let text = &self.bytes[at..at + field.size as usize];
        &text[..memchr::memchr(0, text).unwrap_or(text.len())]
    }

    /// Reads a number that may be missing.
    #[inline]
    pub(crate) fn optional(&self, field: Option<Field>) -> Option<u64> {
        field.map(|field| self.number(field))
    }

    /// Reads a number below 2^32.
    ///
    /// # Errors
    /// If it is larger, or negative.
    #[inline]
    pub(crate) fn small(&self, field: Field) -> Result<u32, LineProblem> {
        u32::try_from(self.number(field)).map_err(|_| self.bad(field, "a number below 2^32"))
    }

    /// Reads a truth value.
    ///
    /// # Errors
    /// If it is neither 0 nor 1.
    #[inline]
    pub(crate) fn is_set(&self, field: Field) -> Result<bool, LineProblem> {
        match self.number(field) {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.bad(field, "0 or 1")),
        }
    }

    /// Makes the error for a value that cannot be right.
    #[cold]
    pub(crate) fn bad(&self, field: Field, expected: &'static str) -> LineProblem {
        let number = self.number(field);
        LineProblem::BadField {
            event: self.event,
            field: field.name,
            text: match field.signed {
                true => (number as i64).to_string(),
                false => number.to_string(),
            },
            expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_sign_are_the_formats() {
        let text = b"name: e\nID: 9\n\
            field:u8 a; offset:1; size:1; signed:0;\n\
            field:s16 b; offset:2; size:2; signed:1;\n\
            field:u32 c; offset:3; size:4; signed:0;\n";
        let format = Format::read(text).unwrap();
        let mut finder = Finder::new(&format, "e");
        let mut field = |name| finder.needed(name).unwrap();
        let (a, b, c) = (field("a"), field("b"), field("c"));
        assert_eq!(finder.length, 7);
        let bytes = [9, 255, 0xfe, 0xff, 1, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7];
        let record = Record::new(&bytes, "e");
        assert_eq!((record.number(a), record.number(c)), (255, 0x1ff));
        assert_eq!(record.number(b) as i64, -2);
        assert!(record.small(b).is_err() && record.is_set(a).is_err());
        assert!(finder.optional("d").is_none());
        assert!(matches!(
            finder.needed("d"),
            Err(LineProblem::MissingField { field: "d", .. })
        ));
    }
}
