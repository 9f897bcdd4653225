//! Pages to events.

use super::buffer::BufferPlace;
use super::chunks::Supply;
use super::clock::Clock;
use super::head;
use super::header_page::{PageLayout, check_header_event};
use super::merge::Merge;
use super::pages::{RecordFault, Stream};
use crate::bytes::{Bytes, Fault};
use crate::compression::Compression;
use crate::dat_problem::TraceDatProblem;
use crate::error::{LineProblem, TraceError};
use crate::event::Event;
use crate::records::{EventType, Types};
use crate::summary::Summary;

/// Records of each CPU that are looked at to choose among several buffers.
const SAMPLE: usize = 2000;

/// The events of a trace.dat file.
pub(crate) struct TraceDatEvents {
    file: String,
    supply: Supply,
    types: Types,
    clock: Clock,
    merge: Merge,
    compression: Compression,
    /// Bytes of the file as it lies on the disk, and of the pages in it.
    file_bytes: u64,
    page_bytes: u64,
}

impl TraceDatEvents {
    /// Reads all but the events. `compression` is that around the whole, of a file of `file_bytes`.
    ///
    /// # Errors
    /// If the file is cut or damaged, or of a kind that is not read.
    pub(crate) fn new(
        file: String,
        bytes: Bytes,
        compression: Compression,
        file_bytes: u64,
        summary: &mut Summary,
    ) -> Result<Self, TraceError> {
        let layout = head::read(&bytes).map_err(|fault| fault.of(&file))?;
        let whole = |problem| Fault::Dat(0, problem).of(&file);
        check_header_event(&layout.header_event).map_err(whole)?;
        let types = Types::read(&layout.formats).map_err(whole)?;
        let pages: Result<Vec<_>, _> = layout
            .buffers
            .iter()
            .map(|buffer| PageLayout::read(&layout.header_page, layout.page_size, buffer.page_size))
            .collect();
        let pages = pages.map_err(whole)?;
        let mut supply = Supply::new(bytes, layout.codec);
        let mut buffers: Vec<_> = layout.buffers.into_iter().zip(pages).collect();
        let chosen = choose(&buffers, &mut supply, &types);
        let (mut buffer, page) = buffers.swap_remove(chosen);
        let clock = Clock::new(&layout.options, buffer.clock.as_deref()).map_err(whole)?;
        supply.shrink(&file, &mut buffer, page.size)?;
        let windows = supply.windows(&buffer, page.size);
        let windows = windows.map_err(|fault| fault.of(&file))?;
        supply.consumed = 0;
        let in_buffer = buffer.cpus.len() as u64;
        summary.cpus_announced = Some(layout.options.cpus.unwrap_or(0).max(in_buffer));
        summary.kernel = layout.options.release();
        summary.tasks = layout.options.tasks.clone();
        summary.idle_states = layout.options.idle_states.clone();
        summary.counted_shootdowns = layout.options.shootdowns;
        summary.clock = clock.name.clone();
        summary.resolution_ns = Some(1);
        summary.temporary_file = supply.bytes().temporary_file().map(Into::into);
        summary.other_buffers = buffers.into_iter().map(|(other, _)| other.name).collect();
        summary.buffer = Some(buffer.name);
        summary.cpus_below = windows.iter().map(|(cpu, _)| cpu + 1).max();
        let streams = windows.into_iter();
        let streams = streams.map(|(cpu, window)| Stream::new(cpu, window, page));
        Ok(TraceDatEvents {
            merge: Merge::new(streams.collect()),
            file,
            supply,
            types,
            clock,
            compression,
            file_bytes,
            page_bytes: buffer.cpus.iter().map(|place| place.size).sum(),
        })
    }

    /// Reads the next event; `false` if there is none.
    ///
    /// # Errors
    /// At the first record that cannot be right.
    #[inline]
    pub(crate) fn next(
        &mut self,
        summary: &mut Summary,
        event: &mut Event,
    ) -> Result<bool, TraceError> {
        let stream = match self.merge.next(&mut self.supply) {
            Ok(Some(stream)) => stream,
            Ok(None) => return self.finish(summary).map(|()| false),
            Err((stream, fault)) => {
                let stream = self.merge.stream(stream);
                return Err(explain(&self.file, stream, fault));
            }
        };
        let (bytes, length) = (stream.bytes(), stream.record.length);
        let fault = |fault| explain(&self.file, stream, fault);
        let index = self.types.of(bytes, length);
        let index = index.ok_or_else(|| fault(short(stream)))?;
        let kind = self.types.get(index);
        read_record(kind, bytes, length, stream, event).map_err(fault)?;
        if let Some(names) = &mut summary.task_names
            && let Some(name) = kind.prev_comm(bytes)
        {
            names.note(event.pid, name);
        }
        event.time_ns = self.clock.nanoseconds(event.time_ns);
        let counted = match kind.counted {
            Some(counted) => counted,
            None => {
                let problem = |problem| fault(RecordFault::File(Fault::Dat(0, problem)));
                self.types.first_use(index, summary).map_err(problem)?
            }
        };
        self.clock.observe(event);
        summary.count_as(event, counted);
        Ok(true)
    }

    /// Says of a problem that it is the last event's.
    #[cold]
    pub(crate) fn at_last_event(&self, problem: LineProblem) -> TraceError {
        let stream = self.merge.latest();
        TraceError::Event {
            file: self.file.clone(),
            cpu: stream.map_or(0, |stream| stream.cpu),
            offset: stream.map_or(0, Stream::offset),
            problem,
        }
    }

    /// How the file is compressed as a whole.
    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    /// The bytes of the file that were used so far: of a decompressed one, in proportion.
    pub(crate) fn bytes_read(&self) -> u64 {
        let part = u128::from(self.supply.consumed.min(self.page_bytes));
        let read = part * u128::from(self.file_bytes) / u128::from(self.page_bytes.max(1));
        u64::try_from(read).unwrap_or(self.file_bytes)
    }

    fn finish(&self, summary: &mut Summary) -> Result<(), TraceError> {
        let verdict = self.clock.verdict();
        summary.clocks_apart = verdict.map_err(|problem| Fault::Dat(0, problem).of(&self.file))?;
        Ok(())
    }
}

#[inline]
fn read_record(
    kind: &EventType,
    bytes: &[u8],
    length: usize,
    stream: &Stream,
    into: &mut Event,
) -> Result<(), RecordFault> {
    if length < kind.length {
        return Err(short(stream));
    }
    into.cpu = stream.cpu;
    into.time_ns = stream.time;
    kind.decode(bytes, into).map_err(RecordFault::Event)
}

#[cold]
fn short(stream: &Stream) -> RecordFault {
    let problem = TraceDatProblem::Damaged("a record is shorter than its format");
    RecordFault::File(Fault::Dat(stream.offset(), problem))
}

#[cold]
fn explain(file: &str, stream: &Stream, fault: RecordFault) -> TraceError {
    match fault {
        RecordFault::File(fault) => fault.of(file),
        RecordFault::Event(problem) => TraceError::Event {
            file: file.to_owned(),
            cpu: stream.cpu,
            offset: stream.offset(),
            problem,
        },
    }
}

/// Chooses the buffer that has most of the events that mean something, by the beginning of each CPU; the first of equals,
/// which is the top instance's.
fn choose(buffers: &[(BufferPlace, PageLayout)], supply: &mut Supply, types: &Types) -> usize {
    if buffers.len() == 1 {
        return 0;
    }
    let mut best = (0, 0);
    for (index, (buffer, page)) in buffers.iter().enumerate() {
        let mut found = 0;
        // What is damaged is found again when the buffer is read.
        for (cpu, window) in supply.windows(buffer, page.size).unwrap_or_default() {
            let mut stream = Stream::new(cpu, window, *page);
            for _ in 0..SAMPLE {
                if !matches!(stream.advance(supply), Ok(true)) {
                    break;
                }
                let kind = types.of(stream.bytes(), stream.record.length);
                found += usize::from(kind.is_some_and(|kind| types.has_meaning(kind)));
            }
        }
        if found > best.0 {
            best = (found, index);
        }
    }
    best.1
}
