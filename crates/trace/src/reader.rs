//! The reader: bytes in, operations out.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::compression::Compression;
use crate::error::TraceError;
use crate::event::{Context, Event, Kind};
use crate::format::Format;
use crate::idle_evidence::IdleEvidence;
use crate::idle_states::IdleStates;
use crate::operation::{Onto, Operation, OperationKind};
use crate::reconstruct::Reconstruct;
use crate::snapshot::Snapshot;
use crate::step::Step;
use crate::steps::{Next, Steps};
use crate::summary::{MadeFrom, Summary};
use crate::task_names::TaskNames;

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
    /// Where the latest step is.
    latest: Next,
    steps: Steps,
    idle: IdleEvidence,
    partial: bool,
    progress: Progress,
    /// What is wrong, until it is told.
    error: Option<TraceError>,
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
        let format = open(&file, &mut summary)?;
        Ok(TraceReader {
            format,
            file,
            reconstruct: Reconstruct::new(summary.tasks.clone()),
            summary,
            event: Event {
                cpu: 0,
                time_ns: 0,
                pid: 0,
                context: Context::Unknown,
                kind: Kind::Other,
            },
            latest: Next::LatestEvent,
            steps: Steps::default(),
            idle: IdleEvidence::default(),
            partial: false,
            progress: Progress::Reading,
            error: None,
        })
    }

    /// Gives the tasks that ran before the recording; without kprobes, nothing in it tells which have a space. To be
    /// called before the first step.
    pub fn with_tasks(mut self, snapshot: Snapshot) -> Self {
        self.reconstruct = Reconstruct::new(Some(snapshot));
        self
    }

    /// Keeps what tasks are called, for [`Summary::task_name`]: at each task switch one name is noted. To be called before
    /// the first step.
    pub fn with_task_names(mut self) -> Self {
        self.summary.task_names = Some(TaskNames::default());
        self
    }

    /// Gives the machine's idle states, in place of those that the recording may tell. To be called before the first step.
    pub fn with_idle_states(mut self, states: IdleStates) -> Self {
        self.summary.idle_states = Some(states);
        self
    }

    /// Accepts a recording that lacks CPUs which its header announces.
    pub fn accept_partial(mut self) -> Self {
        self.partial = true;
        self
    }

    /// Returns the next operation, or `None` at the end of a complete recording.
    ///
    /// # Errors
    /// [`TraceError`], at the first line that cannot be right, or at the end if events are
    /// missing. After an error the reader is of no more use: it returns [`TraceError::Ended`].
    pub fn next_operation(&mut self) -> Result<Option<Operation>, TraceError> {
        while self.advance()? {
            if let Step::Operation(operation) = self.step() {
                return Ok(Some(*operation));
            }
        }
        Ok(None)
    }

    /// Returns the next event, or what the event before asks for; `None` at the end of a complete recording.
    ///
    /// # Errors
    /// As [`TraceReader::next_operation`].
    #[inline]
    pub fn next_step(&mut self) -> Result<Option<Step<'_>>, TraceError> {
        Ok(self.advance()?.then(|| self.step()))
    }

    /// Returns the step that the reader has gone on to last; of no meaning before that.
    ///
    /// With [`TraceReader::advance`] it is [`TraceReader::next_step`], where the summary is looked at beside it.
    #[inline]
    pub fn step(&self) -> Step<'_> {
        let event = Step::Event(&self.event);
        match self.latest {
            Next::LatestEvent => event,
            Next::Waiting => self.steps.shown().unwrap_or(event),
        }
    }

    /// Goes on to the next step; `false` at the end of a complete recording.
    ///
    /// # Errors
    /// As [`TraceReader::next_operation`].
    #[inline]
    pub fn advance(&mut self) -> Result<bool, TraceError> {
        loop {
            if let Some(next) = self.steps.go_on() {
                self.latest = next;
                if let Step::Operation(operation) = self.step()
                    && let OperationKind::GoLazy {
                        onto: Onto::Unknown,
                    } = operation.kind
                {
                    self.summary.unknown_onto += 1;
                }
                return Ok(true);
            }
            match self.progress {
                Progress::Reading => {}
                Progress::Finished => return Ok(false),
                Progress::Failed => {
                    let ended = TraceError::Ended {
                        file: self.file.clone(),
                    };
                    return Err(self.error.take().unwrap_or(ended));
                }
            }
            match self.read_event() {
                Ok(More::Yes) => {}
                Ok(More::No) => self.progress = Progress::Finished,
                // What came before it comes first.
                Err(error) => {
                    self.progress = Progress::Failed;
                    self.error = Some(error);
                }
            }
        }
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
    fn read_event(&mut self) -> Result<More, TraceError> {
        if !self.format.next(&mut self.summary, &mut self.event)? {
            self.finish()?;
            return Ok(More::No);
        }
        if let Some(states) = &mut self.summary.idle_states
            && states.is_in_doubt()
            && let Some(shown) = self.idle.observe(&self.event)
        {
            states.learn(self.event.cpu, shown.state, shown.tlb);
        }
        self.reconstruct
            .apply(&self.event, &mut self.summary, &mut self.steps)
            .map_err(|problem| self.format.at_last_event(problem))?;
        Ok(More::Yes)
    }

    /// Checks at the end that events which operations are made of were there.
    fn finish(&mut self) -> Result<(), TraceError> {
        self.reconstruct
            .finish(&mut self.summary, &mut self.steps)
            .map_err(|problem| self.format.at_last_event(problem))?;
        self.check_events()?;
        self.check_cpus()
    }

    fn check_events(&self) -> Result<(), TraceError> {
        // Binary recordings have no lines.
        let lines = self.summary.lines.max(self.summary.events);
        let file = self.file.clone();
        let absent = |name: &&str| self.summary.events_named(name) == 0;
        if self.summary.made_from == MadeFrom::Tracepoints {
            return match absent(&"tlb_flush") {
                true => Err(TraceError::NoEvents { file, lines }),
                false => Ok(()),
            };
        }
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

    /// Checks that the CPUs which the header announces were there.
    fn check_cpus(&self) -> Result<(), TraceError> {
        let announced = self.summary.header.and_then(|header| header.online_cpus);
        let seen = self.summary.cpus().count() as u64;
        match announced {
            Some(announced) if seen < announced && !self.partial => Err(TraceError::MissingCpus {
                file: self.file.clone(),
                announced,
                seen,
            }),
            _ => Ok(()),
        }
    }
}

/// Whether there may be more events.
enum More {
    Yes,
    No,
}
