//! Which format a recording has.

use std::io::Read;

use crate::compression::Compression;
use crate::error::{LineProblem, TraceError};
use crate::event::Event;
use crate::source::Source;
use crate::summary::Summary;
use crate::text::TextEvents;

/// A reader of one format.
pub(crate) enum Format<R> {
    /// What the kernel, or a tool, prints.
    Text(Box<TextEvents<R>>),
}

impl<R: Read> Format<R> {
    /// Finds out by the first bytes what to read, and begins.
    ///
    /// # Errors
    /// If they cannot be read, or no format begins so.
    pub(crate) fn open(file: &str, read: R) -> Result<Self, TraceError> {
        let source = Source::new(read).map_err(|source| TraceError::Read {
            file: file.to_owned(),
            offset: 0,
            source,
        })?;
        let text = TextEvents::new(file.to_owned(), source)?;
        Ok(Format::Text(Box::new(text)))
    }

    /// Returns the next event in the order of time, counted in the summary.
    ///
    /// # Errors
    /// Where the recording cannot be right, and at its end if it is not complete.
    #[inline]
    pub(crate) fn next(&mut self, summary: &mut Summary) -> Result<Option<Event>, TraceError> {
        match self {
            Format::Text(text) => text.next(summary),
        }
    }

    /// Says of a problem that it is the last event's.
    #[cold]
    pub(crate) fn at_last_event(&self, problem: LineProblem) -> TraceError {
        match self {
            Format::Text(text) => text.at_last_line(problem),
        }
    }

    /// How the file is compressed as a whole.
    pub(crate) fn compression(&self) -> Compression {
        match self {
            Format::Text(text) => text.compression(),
        }
    }

    /// The bytes of the file that were used so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        match self {
            Format::Text(text) => text.bytes_read(),
        }
    }
}
