//! What an event's `format` file says.

use std::sync::Arc;

use crate::dat_problem::TraceDatProblem;

/// Formats that a file may have: the numbers of events have 16 bits.
const MAX_FORMATS: usize = 1 << 16;

/// The texts of all `format` files, each with its group.
#[derive(Default)]
pub(crate) struct FormatTexts {
    /// Group and text.
    pub(crate) texts: Vec<(Arc<str>, Vec<u8>)>,
}

impl FormatTexts {
    /// Takes one more.
    ///
    /// # Errors
    /// If there are more than a kernel can have.
    pub(crate) fn push(&mut self, group: &Arc<str>, text: Vec<u8>) -> Result<(), TraceDatProblem> {
        if self.texts.len() == MAX_FORMATS {
            return Err(TraceDatProblem::Damaged(
                "more formats than events can have",
            ));
        }
        self.texts.push((Arc::clone(group), text));
        Ok(())
    }
}

/// One event's format.
#[derive(Debug)]
pub(crate) struct Format<'a> {
    /// The event's name.
    pub(crate) name: &'a [u8],
    /// Its number in this recording.
    pub(crate) id: u16,
    /// Its fields, with those that all events have.
    pub(crate) fields: Vec<Declared<'a>>,
}

/// A field, as it is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Declared<'a> {
    /// Its name, without `[16]`.
    pub(crate) name: &'a [u8],
    /// Bytes before it.
    pub(crate) offset: u32,
    /// Bytes.
    pub(crate) size: u32,
    /// Whether it may be negative.
    pub(crate) signed: bool,
    /// Whether it is one number, and no array or text.
    pub(crate) is_number: bool,
}

impl<'a> Format<'a> {
    /// Reads a `format` file; `None` if it is none.
    pub(crate) fn read(text: &'a [u8]) -> Option<Self> {
        let (mut name, mut id) = (None, None);
        for line in lines(text) {
            if let Some(rest) = line.strip_prefix(b"name:") {
                name = Some(rest.trim_ascii());
            } else if let Some(rest) = line.strip_prefix(b"ID:") {
                id = number(rest).and_then(|id| u16::try_from(id).ok());
            } else if line.starts_with(b"print fmt:") {
                break;
            }
        }
        Some(Format {
            name: name?,
            id: id?,
            fields: declared_fields(text),
        })
    }
}

/// Reads the lines `field:TYPE NAME; offset:N; size:N; signed:N;`, up to `print fmt`.
pub(crate) fn declared_fields(text: &[u8]) -> Vec<Declared<'_>> {
    lines(text)
        .take_while(|line| !line.starts_with(b"print fmt:"))
        .filter_map(declared)
        .collect()
}

fn declared(line: &[u8]) -> Option<Declared<'_>> {
    let mut parts = line.strip_prefix(b"field:")?.split(|byte| *byte == b';');
    let declaration = parts.next()?.trim_ascii();
    let (mut offset, mut size, mut signed) = (None, None, false);
    for part in parts {
        let part = part.trim_ascii();
        if let Some(rest) = part.strip_prefix(b"offset:") {
            offset = number(rest);
        } else if let Some(rest) = part.strip_prefix(b"size:") {
            size = number(rest);
        } else if let Some(rest) = part.strip_prefix(b"signed:") {
            signed = number(rest)? != 0;
        }
    }
    let (head, is_array) = match memchr::memchr(b'[', declaration) {
        // `__data_loc char[] name` has its brackets in the type.
        Some(bracket) if declaration.ends_with(b"]") => (&declaration[..bracket], true),
        found => (declaration, found.is_some()),
    };
    let head = head.trim_ascii_end();
    let name = head
        .rsplit(|byte| *byte == b' ' || *byte == b'*')
        .next()
        .filter(|name| !name.is_empty())?;
    let size = size?;
    Some(Declared {
        name,
        offset: offset?,
        size,
        signed,
        is_number: !is_array && matches!(size, 1 | 2 | 4 | 8),
    })
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii)
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_file_is_read() {
        let text = b"name: sched_switch\nID: 372\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
            \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
            \tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\
            \tfield:__data_loc char[] path;\toffset:24;\tsize:4;\tsigned:0;\n\
            \tfield:void *caller;\toffset:28;\tsize:8;\tsigned:0;\n\
            \nprint fmt: \"\nfield:int fake;\toffset:1;\tsize:4;\tsigned:1;\n";
        let format = Format::read(text).unwrap();
        assert_eq!((format.name, format.id), (&b"sched_switch"[..], 372));
        let fields: Vec<_> = format
            .fields
            .iter()
            .map(|field| (String::from_utf8_lossy(field.name), field.is_number))
            .collect();
        let expected = [
            ("common_type", true),
            ("common_pid", true),
            ("prev_comm", false),
            ("path", false),
            ("caller", true),
        ];
        assert_eq!(fields, expected.map(|(name, number)| (name.into(), number)));
        assert!(format.fields[1].signed);
    }

    #[test]
    fn what_is_no_format_is_none() {
        assert!(Format::read(b"").is_none());
        assert!(Format::read(b"name: x\nID: 70000\n").is_none());
        assert!(declared_fields(b"field:;offset:0;size:1;").is_empty());
    }
}
