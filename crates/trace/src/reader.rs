//! The reader: bytes in, operations out.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::compression::Compression;
use crate::error::TraceError;
use crate::event::{Context, Event, Kind};
use crate::format::Format;
use crate::operation::Operation;
use crate::reconstruct::Reconstruct;
use crate::summary::Summary;

/// Events without which a replay is wrong.
const ESSENTIAL: [&str; 3] = ["switch_mm", "enter_lazy", "flush_mm_range"];

/// Reads a recording and returns its operations one by one.
///
/// One pass, constant memory: the buffers, one entry for each CPU and for each live address space.
/// That the recording is complete is known only at its end; so operations come first, and an error
/// may follow them.
pub struct TraceReader<R> {
    file: String,
    format: Format<R>,
    reconstruct: Reconstruct,
    summary: Summary,
    /// The last event, in one place: copies of it would cost as much as reading it.
    event: Event,
    /// What it was found to ask for.
    pending: Option<Operation>,
    progress: Progress,
}

/// What comes next in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An event, as it was recorded.
    Event(Event),
    /// What the event before asks of the protocol.
    Operation(Operation),
}

#[derive(Clone, Copy)]
enum Progress {
    Reading,
    Finished,
    Failed,
}

impl TraceReader<File> {
    /// Opens a recording: text, trace.dat or perf.data, plain or in gz, xz or zstd, told apart by content.
    ///
    /// A plain trace.dat or perf.data is read in place. A compressed one is decompressed into a temporary file first, which
    /// [`Summary::temporary_file`] names and which goes with the reader.
    ///
    /// # Errors
    /// If the file cannot be read, is empty, or is no recording.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TraceError> {
        let name = path.as_ref().display().to_string();
        match File::open(path) {
            Ok(file) => Self::begin(name, |name, summary| Format::open_file(name, file, summary)),
            Err(source) => Err(TraceError::Open { file: name, source }),
        }
    }
}

impl<R: Read> TraceReader<R> {
    /// Reads a recording from `read`; `name` is what errors call it. It buffers by itself.
    ///
    /// A trace.dat or perf.data is copied to the end first, if it is large into a temporary file, see [`TraceReader::open`].
    ///
    /// # Errors
    /// If the first bytes cannot be read, there are none, or they are no recording.
    pub fn new(read: R, name: impl Into<String>) -> Result<Self, TraceError> {
        Self::begin(name.into(), |name, summary| {
            Format::open(name, read, summary)
        })
    }

    fn begin(
        file: String,
        open: impl FnOnce(&str, &mut Summary) -> Result<Format<R>, TraceError>,
    ) -> Result<Self, TraceError> {
        let mut summary = Summary::default();
        Ok(TraceReader {
            format: open(&file, &mut summary)?,
            file,
            reconstruct: Reconstruct::new(),
            summary,
            event: Event {
                cpu: 0,
                time_ns: 0,
                pid: 0,
                context: Context::Unknown,
                kind: Kind::Other,
            },
            pending: None,
            progress: Progress::Reading,
        })
    }

    /// Returns the next operation, or `None` at the end of a complete recording.
    ///
    /// # Errors
    /// [`TraceError`], at the first line that cannot be right, or at the end if events are
    /// missing. After an error the reader is of no more use: it returns [`TraceError::Ended`].
    pub fn next_operation(&mut self) -> Result<Option<Operation>, TraceError> {
        loop {
            if let Some(operation) = self.pending.take() {
                return Ok(Some(operation));
            }
            if !self.next_event()? {
                return Ok(None);
            }
        }
    }

    /// Returns the next event, or what the event before asks for; `None` at the end of a complete recording.
    ///
    /// # Errors
    /// As [`TraceReader::next_operation`].
    #[inline]
    pub fn next_step(&mut self) -> Result<Option<Step>, TraceError> {
        if let Some(operation) = self.pending.take() {
            return Ok(Some(Step::Operation(operation)));
        }
        Ok(self.next_event()?.then_some(Step::Event(self.event)))
    }

    #[inline]
    fn next_event(&mut self) -> Result<bool, TraceError> {
        match self.progress {
            Progress::Reading => {}
            Progress::Finished => return Ok(false),
            Progress::Failed => {
                return Err(TraceError::Ended {
                    file: self.file.clone(),
                });
            }
        }
        let result = self.read_event();
        match &result {
            Ok(true) => {}
            Ok(false) => self.progress = Progress::Finished,
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
        self.format.compression()
    }

    /// Returns how many bytes of the (compressed) file were used so far, for a progress bar.
    ///
    /// It runs ahead of the operations by a buffer.
    pub fn bytes_read(&self) -> u64 {
        self.format.bytes_read()
    }

    #[inline]
    fn read_event(&mut self) -> Result<bool, TraceError> {
        if !self.format.next(&mut self.summary, &mut self.event)? {
            return self.finish().map(|()| false);
        }
        self.pending = self
            .reconstruct
            .apply(&self.event, &mut self.summary)
            .map_err(|problem| self.format.at_last_event(problem))?;
        Ok(true)
    }

    /// Checks at the end that events which operations are made of were there.
    fn finish(&self) -> Result<(), TraceError> {
        // Binary recordings have no lines.
        let lines = self.summary.lines.max(self.summary.events);
        let file = self.file.clone();
        let absent = |name: &&str| self.summary.events_named(name) == 0;
        let missing: Vec<_> = ESSENTIAL.into_iter().filter(absent).collect();
        match missing.len() {
            0 => Ok(()),
            3 => Err(TraceError::NoEvents { file, lines }),
            _ => Err(TraceError::MissingEvents {
                file,
                lines,
                missing,
            }),
        }
    }
}
