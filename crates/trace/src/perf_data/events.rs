//! Records to events.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::attribute::{Attribute, u64_at};
use super::fault::PerfFault;
use super::head::Head;
use super::rounds::{Rounds, Waiting};
use super::stream::Stream;
use crate::bytes::Bytes;
use crate::compression::Compression;
use crate::dat_problem::TraceDatProblem;
use crate::error::{LineProblem, TraceError};
use crate::event::Event;
use crate::limits::MAX_CPUS;
use crate::perf_problem::PerfDataProblem;
use crate::records::Types;
use crate::summary::Summary;
use crate::trace_dat::{Clock, read_tracing_data};

/// Kinds of records: `PERF_RECORD_*`.
const LOST: u32 = 2;
const THROTTLE: u32 = 5;
const SAMPLE: u32 = 9;
const LOST_SAMPLES: u32 = 13;
const FINISHED_ROUND: u32 = 68;
const ID_INDEX: u32 = 69;

/// The thread of an id that belongs to a CPU instead.
const ANY_THREAD: u64 = u64::MAX;

/// The events of a perf.data file.
pub(crate) struct PerfDataEvents {
    file: String,
    stream: Stream,
    rounds: Rounds,
    samples: Samples,
    types: Types,
    clock: Clock,
    compression: Compression,
    /// Bytes of the file as it lies on the disk.
    file_bytes: u64,
    latest_cpu: u16,
}

/// Which attribute a sample belongs to.
struct Samples {
    attributes: Vec<Attribute>,
    /// By the id that samples begin with; `None` if all are alike.
    by_id: Option<HashMap<u64, usize, FixedState>>,
    /// The CPU of each id, as far as the file says.
    cpus: HashMap<u64, u16, FixedState>,
}

impl PerfDataEvents {
    /// Reads all but the records. `compression` is that around the whole, of a file of `file_bytes`.
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
        let opened = Self::open(&file, bytes, compression, file_bytes, summary);
        opened.map_err(|fault| fault.of(&file))
    }

    fn open(
        file: &str,
        bytes: Bytes,
        compression: Compression,
        file_bytes: u64,
        summary: &mut Summary,
    ) -> Result<Self, PerfFault> {
        let whole = |problem| PerfFault::Problem(0, problem);
        let head = Head::read(&bytes)?;
        let formats = head.formats.ok_or(whole(PerfDataProblem::NoTracepoints))?;
        let texts = read_tracing_data(&bytes, formats.offset)?;
        let dat = |problem: TraceDatProblem| PerfFault::Problem(formats.offset, problem.into());
        let types = Types::read(&texts).map_err(dat)?;
        let clock = Clock::named(clock_name(&head.attributes)).map_err(dat)?;
        summary.cpus_announced = head.cpus;
        summary.kernel = head.release;
        summary.clock = clock.name.clone();
        summary.resolution_ns = Some(1);
        summary.temporary_file = bytes.temporary_file().map(Into::into);
        Ok(PerfDataEvents {
            file: file.to_owned(),
            stream: Stream::new(bytes, head.data),
            rounds: Rounds::default(),
            samples: Samples::new(head.attributes).map_err(whole)?,
            types,
            clock,
            compression,
            file_bytes,
            latest_cpu: 0,
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
        loop {
            if let Some(sample) = self.rounds.next() {
                let read = self.read_sample(sample, summary, event);
                return match read {
                    Ok(()) => Ok(true),
                    Err(fault) => Err(fault.of(&self.file)),
                };
            }
            if self.rounds.is_over() {
                return self.finish(summary).map(|()| false);
            }
            self.read_round().map_err(|fault| fault.of(&self.file))?;
        }
    }

    #[inline]
    fn read_sample(
        &mut self,
        sample: Waiting,
        summary: &mut Summary,
        event: &mut Event,
    ) -> Result<(), PerfFault> {
        let (bytes, length) = self.rounds.bytes(sample);
        let short = || PerfFault::damaged(self.stream.offset(), "a sample shorter than its format");
        let index = self.types.of(bytes, length).ok_or_else(short)?;
        let kind = self.types.get(index);
        if length < kind.length {
            return Err(short());
        }
        self.latest_cpu = sample.cpu;
        event.cpu = sample.cpu;
        event.time_ns = sample.time;
        let offset = self.stream.offset();
        let problem = |problem| PerfFault::Event(offset, sample.cpu, problem);
        kind.decode(bytes, event).map_err(problem)?;
        if let Some(names) = &mut summary.task_names
            && let Some(name) = kind.prev_comm(bytes)
        {
            names.note(event.pid, name);
        }
        if let Some(before_ns) = summary.last_time_ns
            && sample.time < before_ns
        {
            let now_ns = sample.time;
            return Err(problem(LineProblem::TimeBackwards { before_ns, now_ns }));
        }
        let counted = match kind.counted {
            Some(counted) => counted,
            None => {
                let counted = self.types.first_use(index, summary);
                counted.map_err(|problem| PerfFault::Problem(offset, problem.into()))?
            }
        };
        self.clock.observe(event);
        summary.count_as(event, counted);
        Ok(())
    }

    /// Reads records up to the end of a round.
    #[cold]
    fn read_round(&mut self) -> Result<(), PerfFault> {
        self.rounds.begin();
        loop {
            let offset = self.stream.offset();
            let problem = |problem| PerfFault::Problem(offset, problem);
            let Some(record) = self.stream.next()? else {
                self.rounds.end_all();
                return Ok(());
            };
            match record.kind {
                SAMPLE => {
                    let Some(attribute) = self.samples.attribute(record.body) else {
                        return Err(PerfFault::damaged(offset, "a sample's id"));
                    };
                    if !attribute.is_tracepoint {
                        continue;
                    }
                    let sample = attribute.layout.sample(record.body);
                    let cut = || PerfFault::damaged(offset, "a sample is cut");
                    let sample = sample.ok_or_else(cut)?;
                    let cpu = checked_cpu(sample.cpu).map_err(problem)?;
                    let pushed = self.rounds.push(sample.time, cpu, sample.raw);
                    pushed.map_err(problem)?;
                }
                FINISHED_ROUND => {
                    self.rounds.end();
                    return Ok(());
                }
                kind => self.samples.other(kind, record.body).map_err(problem)?,
            }
        }
    }

    /// Says of a problem that it is the last event's.
    #[cold]
    pub(crate) fn at_last_event(&self, problem: LineProblem) -> TraceError {
        PerfFault::Event(self.stream.offset(), self.latest_cpu, problem).of(&self.file)
    }

    /// How the file is compressed as a whole.
    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    /// The bytes of the file that were used so far: of a decompressed one, in proportion.
    pub(crate) fn bytes_read(&self) -> u64 {
        let length = u128::from(self.stream.bytes().len().max(1));
        let read = u128::from(self.stream.offset()) * u128::from(self.file_bytes) / length;
        u64::try_from(read).unwrap_or(self.file_bytes)
    }

    fn finish(&self, summary: &mut Summary) -> Result<(), TraceError> {
        let explain = |problem: TraceDatProblem| {
            let problem = problem.into();
            PerfFault::Problem(self.stream.offset(), problem).of(&self.file)
        };
        summary.clocks_apart = self.clock.verdict().map_err(explain)?;
        Ok(())
    }
}

impl Samples {
    fn new(attributes: Vec<Attribute>) -> Result<Self, PerfDataProblem> {
        let mut tracepoints = attributes
            .iter()
            .filter(|attribute| attribute.is_tracepoint);
        let first = tracepoints.next().ok_or(PerfDataProblem::NoTracepoints)?;
        first.check()?;
        tracepoints.try_for_each(Attribute::check)?;
        let is_alike = |other: &Attribute| other.is_tracepoint && other.layout == first.layout;
        let by_id = match attributes.iter().all(is_alike) {
            true => None,
            false => Some(by_id(&attributes)?),
        };
        Ok(Samples {
            attributes,
            by_id,
            cpus: HashMap::default(),
        })
    }

    #[inline]
    fn attribute(&self, body: &[u8]) -> Option<&Attribute> {
        match &self.by_id {
            None => self.attributes.first(),
            Some(by_id) => self.attributes.get(*by_id.get(&u64_at(body, 0)?)?),
        }
    }

    /// Takes a record that is no sample.
    #[cold]
    fn other(&mut self, kind: u32, body: &[u8]) -> Result<(), PerfDataProblem> {
        let word = |index: usize| u64_at(body, 8 * index);
        match kind {
            LOST | LOST_SAMPLES => {
                let (id, count) = match kind {
                    LOST => (word(0), word(1)),
                    _ => (None, word(0)),
                };
                let cpu = id.and_then(|id| self.cpus.get(&id).copied());
                match count {
                    Some(0) => Ok(()),
                    count => Err(PerfDataProblem::Lost {
                        cpu,
                        count: count.unwrap_or(1),
                    }),
                }
            }
            THROTTLE => match word(1) {
                Some(id) if self.is_of_tracepoint(id) => Err(PerfDataProblem::Throttled),
                _ => Ok(()),
            },
            ID_INDEX => self.take_ids(body),
            _ => Ok(()),
        }
    }

    fn is_of_tracepoint(&self, id: u64) -> bool {
        let mut tracepoints = self.attributes.iter().filter(|kind| kind.is_tracepoint);
        tracepoints.any(|tracepoint| tracepoint.ids.contains(&id))
    }

    /// Notes the CPU of each id: entries of id, index, CPU, thread.
    fn take_ids(&mut self, body: &[u8]) -> Result<(), PerfDataProblem> {
        let count = u64_at(body, 0).unwrap_or(0);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        for entry in body
            .get(8..)
            .unwrap_or_default()
            .chunks_exact(32)
            .take(count)
        {
            let word = |index: usize| u64_at(entry, 8 * index).unwrap_or(ANY_THREAD);
            let id = word(0);
            if word(3) != ANY_THREAD && self.is_of_tracepoint(id) {
                return Err(PerfDataProblem::SomeTasks);
            }
            if let Ok(cpu) = u16::try_from(word(2))
                && self.cpus.len() < 1 << 20
            {
                self.cpus.insert(id, cpu);
            }
        }
        Ok(())
    }
}

fn by_id(attributes: &[Attribute]) -> Result<HashMap<u64, usize, FixedState>, PerfDataProblem> {
    let mut by_id = HashMap::default();
    for (index, attribute) in attributes.iter().enumerate() {
        if !attribute.layout.has_identifier() {
            return Err(PerfDataProblem::NoIdentifier);
        }
        by_id.extend(attribute.ids.iter().map(|id| (*id, index)));
    }
    Ok(by_id)
}

fn checked_cpu(cpu: u32) -> Result<u16, PerfDataProblem> {
    match u16::try_from(cpu) {
        Ok(small) if u64::from(cpu) < MAX_CPUS => Ok(small),
        _ => Err(TraceDatProblem::TooLarge {
            what: "the CPU of a sample",
            size: cpu.into(),
            limit: MAX_CPUS,
        }
        .into()),
    }
}

/// Names the clock as `trace_clock` does; without one, perf takes `sched_clock()`.
fn clock_name(attributes: &[Attribute]) -> &'static str {
    let mut tracepoints = attributes.iter().filter(|kind| kind.is_tracepoint);
    match tracepoints.find_map(|tracepoint| tracepoint.clock) {
        None => "perf",
        Some(1) => "mono",
        Some(4) => "mono_raw",
        Some(7) => "boot",
        Some(11) => "tai",
        Some(_) => "realtime",
    }
}
