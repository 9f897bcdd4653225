//! Lines to events, with what the header promises.

use std::io::Read;

use super::header::Line;
use super::lines::{Lines, Next};
use crate::compression::Compression;
use crate::error::{BinaryKind, LineProblem, Place, TraceError, excerpt};
use crate::event::Event;
use crate::source::Source;
use crate::summary::{Header, Summary};

/// The events of a text.
pub(crate) struct TextEvents<R> {
    file: String,
    source: Source<R>,
    lines: Lines,
}

impl<R: Read> TextEvents<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// If the first bytes cannot be read, there are none, or they are not text.
    pub(crate) fn new(file: String, source: Source<R>) -> Result<Self, TraceError> {
        let mut text = TextEvents {
            file,
            source,
            lines: Lines::new(),
        };
        let head = match text.lines.head(&mut text.source) {
            Ok(head) => head,
            Err(error) => return Err(text.source.explain(&text.file, error)),
        };
        if head.is_empty() {
            return Err(TraceError::Empty { file: text.file });
        }
        if let Some(found) = BinaryKind::of(head) {
            return Err(TraceError::Binary {
                file: text.file,
                found,
            });
        }
        Ok(text)
    }

    /// Returns the next event.
    ///
    /// # Errors
    /// At the first line that cannot be right.
    #[inline]
    pub(crate) fn next(&mut self, summary: &mut Summary) -> Result<Option<Event>, TraceError> {
        loop {
            let next = match self.lines.next(&mut self.source) {
                Ok(next) => next,
                Err(error) => return Err(self.source.explain(&self.file, error)),
            };
            let result = match next {
                Next::Line(line) => read_line(line, summary),
                Next::Cut(line) => Err(LineProblem::CutAtEnd {
                    excerpt: excerpt(line),
                }),
                Next::TooLong => Err(LineProblem::TooLong),
                Next::End => return self.check_header(summary),
            };
            match result {
                Ok(None) => {}
                Ok(event) => return Ok(event),
                Err(problem) => return Err(self.at_last_line(problem)),
            }
        }
    }

    /// Says of a problem that it is the last line's.
    pub(crate) fn at_last_line(&self, problem: LineProblem) -> TraceError {
        let at = Place {
            file: self.file.clone(),
            line: self.lines.count,
        };
        TraceError::Line { at, problem }
    }

    /// How the text is compressed.
    pub(crate) fn compression(&self) -> Compression {
        self.source.compression()
    }

    /// The bytes of the file that were used so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.source.offset()
    }

    /// Compares, at the end, with what the header announced.
    fn check_header(&self, summary: &Summary) -> Result<Option<Event>, TraceError> {
        let header = summary.header;
        let announced = header.map_or(0, |header| header.entries_in_buffer);
        if summary.events < announced {
            return Err(TraceError::EntriesMissing {
                file: self.file.clone(),
                lines: summary.lines,
                announced,
                read: summary.events,
            });
        }
        Ok(None)
    }
}

#[inline]
fn read_line(line: &[u8], summary: &mut Summary) -> Result<Option<Event>, LineProblem> {
    summary.lines += 1;
    if line.first().is_none_or(|byte| *byte == b'#') {
        return read_header(line, summary).map(|()| None);
    }
    let line = Line::parse(line)?;
    let event = line.event()?;
    if let Some(before_ns) = summary.last_time_ns
        && event.time_ns < before_ns
    {
        return Err(LineProblem::TimeBackwards {
            before_ns,
            now_ns: event.time_ns,
        });
    }
    summary.count(&event, line.name);
    Ok(Some(event))
}

/// Reads `# entries-in-buffer/entries-written: 302390/302390   #P:8`; other comments say nothing.
#[cold]
fn read_header(line: &[u8], summary: &mut Summary) -> Result<(), LineProblem> {
    let text = String::from_utf8_lossy(line);
    let Some(rest) = text.strip_prefix("# entries-in-buffer/entries-written:") else {
        return Ok(());
    };
    let mut words = rest.split_whitespace();
    let entries = words.next().and_then(|word| word.split_once('/'));
    let parsed = entries.map(|(left, right)| (left.parse::<u64>(), right.parse::<u64>()));
    let Some((Ok(in_buffer), Ok(written))) = parsed else {
        return Ok(());
    };
    if in_buffer != written {
        return Err(LineProblem::Overrun { in_buffer, written });
    }
    let cpus = words.find_map(|word| word.strip_prefix("#P:")?.parse().ok());
    let header = summary.header.get_or_insert_with(Header::default);
    header.entries_in_buffer = header.entries_in_buffer.saturating_add(in_buffer);
    header.entries_written = header.entries_written.saturating_add(written);
    header.online_cpus = header.online_cpus.max(cpus);
    Ok(())
}
