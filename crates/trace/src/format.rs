//! Which format a recording has.

use std::fs::File;
use std::io::Read;

use crate::bytes::{Bytes, MAGIC_BYTES};
use crate::compression::Compression;
use crate::error::{LineProblem, TraceError};
use crate::event::Event;
use crate::perf_data::{self, PerfDataEvents};
use crate::source::Source;
use crate::summary::Summary;
use crate::text::TextEvents;
use crate::trace_dat::{self, TraceDatEvents};

/// A reader of one format.
pub(crate) enum Format<R> {
    /// What the kernel, or a tool, prints.
    Text(Box<TextEvents<R>>),
    /// What trace-cmd records.
    TraceDat(Box<TraceDatEvents>),
    /// What perf records.
    PerfData(Box<PerfDataEvents>),
}

/// A format that needs seeking.
#[derive(Clone, Copy)]
enum Seekable {
    TraceDat,
    PerfData,
}

impl Seekable {
    /// How files of each begin; one of the other byte order is refused where its head is read.
    const MAGICS: [(Seekable, &[u8]); 3] = [
        (Seekable::TraceDat, trace_dat::MAGIC),
        (Seekable::PerfData, perf_data::MAGIC),
        (Seekable::PerfData, perf_data::MAGIC_BIG_ENDIAN),
    ];

    fn of(head: &[u8]) -> Option<Self> {
        let mut magics = Self::MAGICS.into_iter();
        let found = magics.find(|(_, magic)| head.starts_with(magic));
        found.map(|(format, _)| format)
    }
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
        let Some((format, bytes)) = Bytes::in_place(&file, Seekable::of) else {
            return Self::open(name, file, summary);
        };
        Self::seekable(name, format, bytes, (Compression::Plain, None), summary)
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
        let format = match source.peek(MAGIC_BYTES) {
            Ok(head) => Seekable::of(head),
            Err(error) => return Err(source.explain(file, error)),
        };
        if let Some(format) = format {
            let bytes = Bytes::spooled(file, |spool| {
                spool.take_all(&mut source, |source, error| source.explain(file, error))
            })?;
            let read = source.offset();
            let compressed = (source.compression(), Some(read));
            return Self::seekable(file, format, bytes, compressed, summary);
        }
        let text = TextEvents::new(file.to_owned(), source)?;
        Ok(Format::Text(Box::new(text)))
    }

    fn seekable(
        file: &str,
        format: Seekable,
        bytes: Bytes,
        (compression, compressed_bytes): (Compression, Option<u64>),
        summary: &mut Summary,
    ) -> Result<Self, TraceError> {
        let file_bytes = compressed_bytes.unwrap_or(bytes.len());
        let file = file.to_owned();
        Ok(match format {
            Seekable::TraceDat => {
                let events = TraceDatEvents::new(file, bytes, compression, file_bytes, summary)?;
                Format::TraceDat(Box::new(events))
            }
            Seekable::PerfData => {
                let events = PerfDataEvents::new(file, bytes, compression, file_bytes, summary)?;
                Format::PerfData(Box::new(events))
            }
        })
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
            Format::Text(text) => text.next(summary, event),
            Format::TraceDat(events) => events.next(summary, event),
            Format::PerfData(events) => events.next(summary, event),
        }
    }

    /// Says of a problem that it is the last event's.
    #[cold]
    pub(crate) fn at_last_event(&self, problem: LineProblem) -> TraceError {
        match self {
            Format::Text(text) => text.at_last_line(problem),
            Format::TraceDat(events) => events.at_last_event(problem),
            Format::PerfData(events) => events.at_last_event(problem),
        }
    }

    /// How the file is compressed as a whole.
    pub(crate) fn compression(&self) -> Compression {
        match self {
            Format::Text(text) => text.compression(),
            Format::TraceDat(events) => events.compression(),
            Format::PerfData(events) => events.compression(),
        }
    }

    /// The bytes of the file that were used so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        match self {
            Format::Text(text) => text.bytes_read(),
            Format::TraceDat(events) => events.bytes_read(),
            Format::PerfData(events) => events.bytes_read(),
        }
    }
}
