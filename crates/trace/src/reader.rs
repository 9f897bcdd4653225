//! The reader: bytes in, operations out.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::compression::Compression;
use crate::error::{BinaryKind, LineProblem, Place, TraceError, excerpt};
use crate::operation::Operation;
use crate::reconstruct::Reconstruct;
use crate::source::Source;
use crate::summary::{Header, Summary};
use crate::text::{Line, Lines, Next};

/// Events without which a replay is wrong.
const ESSENTIAL: [&str; 3] = ["switch_mm", "enter_lazy", "flush_mm_range"];

/// Reads a recording and returns its operations one by one.
///
/// One pass, constant memory: the buffers, one entry for each CPU and for each live address space.
/// That the recording is complete is known only at its end; so operations come first, and an error
/// may follow them.
pub struct TraceReader<R> {
    file: String,
    source: Source<R>,
    lines: Lines,
    reconstruct: Reconstruct,
    summary: Summary,
    progress: Progress,
}

#[derive(Clone, Copy)]
enum Progress {
    Reading,
    Finished,
    Failed,
}

impl TraceReader<File> {
    /// Opens a recording: plain text, gz or xz, told apart by content.
    ///
    /// # Errors
    /// If the file cannot be read, is empty, or is not text.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TraceError> {
        let name = path.as_ref().display().to_string();
        match File::open(path) {
            Ok(file) => Self::new(file, name),
            Err(source) => Err(TraceError::Open { file: name, source }),
        }
    }
}

impl<R: Read> TraceReader<R> {
    /// Reads a recording from `read`; `name` is what errors call it. It buffers by itself.
    ///
    /// # Errors
    /// If the first bytes cannot be read, there are none, or they are not text.
    pub fn new(read: R, name: impl Into<String>) -> Result<Self, TraceError> {
        let file = name.into();
        let mut source = match Source::new(read) {
            Ok(source) => source,
            Err(source) => {
                return Err(TraceError::Read {
                    file,
                    offset: 0,
                    source,
                });
            }
        };
        let mut lines = Lines::new();
        let head = match lines.head(&mut source) {
            Ok(head) => head,
            Err(error) => return Err(source.explain(&file, error)),
        };
        if head.is_empty() {
            return Err(TraceError::Empty { file });
        }
        if let Some(found) = BinaryKind::of(head) {
            return Err(TraceError::Binary { file, found });
        }
        Ok(TraceReader {
            file,
            source,
            lines,
            reconstruct: Reconstruct::new(),
            summary: Summary::default(),
            progress: Progress::Reading,
        })
    }

    /// Returns the next operation, or `None` at the end of a complete recording.
    ///
    /// # Errors
    /// [`TraceError`], at the first line that cannot be right, or at the end if events are
    /// missing. After an error the reader is of no more use: it returns [`TraceError::Ended`].
    pub fn next_operation(&mut self) -> Result<Option<Operation>, TraceError> {
        match self.progress {
            Progress::Reading => {}
            Progress::Finished => return Ok(None),
            Progress::Failed => {
                return Err(TraceError::Ended {
                    file: self.file.clone(),
                });
            }
        }
        let result = self.read_operation();
        match &result {
            Ok(Some(_)) => {}
            Ok(None) => self.progress = Progress::Finished,
            Err(_) => self.progress = Progress::Failed,
        }
        result
    }

    /// Returns what was read so far: the whole trace, once there are no more operations.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Returns how the recording is compressed.
    pub fn compression(&self) -> Compression {
        self.source.compression()
    }

    /// Returns how many bytes of the (compressed) file were used so far, for a progress bar.
    ///
    /// It runs ahead of the operations by a buffer.
    pub fn bytes_read(&self) -> u64 {
        self.source.offset()
    }

    fn read_operation(&mut self) -> Result<Option<Operation>, TraceError> {
        loop {
            let next = match self.lines.next(&mut self.source) {
                Ok(next) => next,
                Err(error) => return Err(self.source.explain(&self.file, error)),
            };
            let result = match next {
                Next::Line(line) => apply_line(line, &mut self.reconstruct, &mut self.summary),
                Next::Cut(line) => Err(LineProblem::CutAtEnd {
                    excerpt: excerpt(line),
                }),
                Next::TooLong => Err(LineProblem::TooLong),
                Next::End => return self.finish(),
            };
            match result {
                Ok(None) => {}
                Ok(operation) => return Ok(operation),
                Err(problem) => {
                    let at = Place {
                        file: self.file.clone(),
                        line: self.lines.count,
                    };
                    return Err(TraceError::Line { at, problem });
                }
            }
        }
    }

    /// Checks at the end that the recording was complete.
    fn finish(&self) -> Result<Option<Operation>, TraceError> {
        let (file, lines, read) = (self.file.clone(), self.summary.lines, self.summary.events);
        let announced = self
            .summary
            .header
            .map_or(0, |header| header.entries_in_buffer);
        if read < announced {
            return Err(TraceError::EntriesMissing {
                file,
                lines,
                announced,
                read,
            });
        }
        let absent = |name: &&str| self.summary.events_named(name) == 0;
        let missing: Vec<_> = ESSENTIAL.into_iter().filter(absent).collect();
        match missing.len() {
            0 => Ok(None),
            3 => Err(TraceError::NoEvents { file, lines }),
            _ => Err(TraceError::MissingEvents {
                file,
                lines,
                missing,
            }),
        }
    }
}

#[inline]
fn apply_line(
    line: &[u8],
    reconstruct: &mut Reconstruct,
    summary: &mut Summary,
) -> Result<Option<Operation>, LineProblem> {
    summary.lines += 1;
    if line.first().is_none_or(|byte| *byte == b'#') {
        return apply_header(line, summary).map(|()| None);
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
    reconstruct.apply(&event, summary)
}

/// Reads `# entries-in-buffer/entries-written: 302390/302390   #P:8`; other comments say nothing.
#[cold]
fn apply_header(line: &[u8], summary: &mut Summary) -> Result<(), LineProblem> {
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
