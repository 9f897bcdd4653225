//! Which format a recording has.

use std::fs::File;
use std::io::Read;

use crate::compression::Compression;
use crate::error::{LineProblem, TraceError};
use crate::event::Event;
use crate::source::Source;
use crate::summary::Summary;
use crate::text::TextEvents;
use crate::trace_dat::{Bytes, MAGIC, TraceDatEvents};

/// A reader of one format.
pub(crate) enum Format<R> {
    /// What the kernel, or a tool, prints.
    Text(Box<TextEvents<R>>),
    /// What trace-cmd records.
    TraceDat(Box<TraceDatEvents>),
}

impl Format<File> {
    /// Opens a file: what needs seeking is read in place.
    ///
    /// # Errors
    /// As [`Format::open`].
    pub(crate) fn open_file(
        name: &str,
        file: File,
        summary: &mut Summary,
    ) -> Result<Self, TraceError> {
        let Some(bytes) = Bytes::in_place(&file) else {
            return Self::open(name, file, summary);
        };
        Self::trace_dat(name, bytes, Compression::Plain, None, summary)
    }
}

impl<R: Read> Format<R> {
    /// Finds out by the first bytes what to read, and begins.
    ///
    /// # Errors
    /// If they cannot be read, or no format begins so.
    pub(crate) fn open(file: &str, read: R, summary: &mut Summary) -> Result<Self, TraceError> {
        let mut source = Source::new(read).map_err(|source| TraceError::Read {
            file: file.to_owned(),
            offset: 0,
            source,
        })?;
        let is_trace_dat = match source.peek(MAGIC.len()) {
            Ok(head) => head == MAGIC,
            Err(error) => return Err(source.explain(file, error)),
        };
        if is_trace_dat {
            let bytes = Bytes::spooled(file, |spool| {
                spool.take_all(&mut source, |source, error| source.explain(file, error))
            })?;
            let read = source.offset();
            return Self::trace_dat(file, bytes, source.compression(), Some(read), summary);
        }
        let text = TextEvents::new(file.to_owned(), source)?;
        Ok(Format::Text(Box::new(text)))
    }

    fn trace_dat(
        file: &str,
        bytes: Bytes,
        compression: Compression,
        compressed_bytes: Option<u64>,
        summary: &mut Summary,
    ) -> Result<Self, TraceError> {
        let file_bytes = compressed_bytes.unwrap_or(bytes.len());
        let events = TraceDatEvents::new(file.to_owned(), bytes, compression, file_bytes, summary)?;
        Ok(Format::TraceDat(Box::new(events)))
    }

    /// Reads the next event in the order of time, counted in the summary; `false` if there is none.
    ///
    /// # Errors
    /// Where the recording cannot be right, and at its end if it is not complete.
    #[inline]
    pub(crate) fn next(
        &mut self,
        summary: &mut Summary,
        event: &mut Event,
    ) -> Result<bool, TraceError> {
        match self {
            Format::Text(text) => match text.next(summary)? {
                Some(next) => *event = next,
                None => return Ok(false),
            },
            Format::TraceDat(events) => return events.next(summary, event),
        }
        Ok(true)
    }

    /// Says of a problem that it is the last event's.
    #[cold]
    pub(crate) fn at_last_event(&self, problem: LineProblem) -> TraceError {
        match self {
            Format::Text(text) => text.at_last_line(problem),
            Format::TraceDat(events) => events.at_last_event(problem),
        }
    }

    /// How the file is compressed as a whole.
    pub(crate) fn compression(&self) -> Compression {
        match self {
            Format::Text(text) => text.compression(),
            Format::TraceDat(events) => events.compression(),
        }
    }

    /// The bytes of the file that were used so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        match self {
            Format::Text(text) => text.bytes_read(),
            Format::TraceDat(events) => events.bytes_read(),
        }
    }
}
