//! What a trace held, and how the recorded kernel reacted.

use std::path::PathBuf;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::event::Event;
use crate::idle_states::IdleStates;
use crate::interrupts::CountedShootdowns;
use crate::snapshot::Snapshot;
use crate::task_names::TaskNames;

/// Event names that are counted one by one; events beyond are counted together. Real traces have
/// some 20; the bound keeps memory constant.
const MAX_EVENT_NAMES: usize = 1024;

/// Counts what a trace held; complete once the reader has returned its last operation.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Lines, with the header and empty ones.
    pub lines: u64,
    /// Event lines.
    pub events: u64,
    /// Operations that were returned.
    pub operations: OperationCounts,
    /// Flushes that arrived from another CPU: the recorded kernel's real shootdown IPI targets.
    pub remote_shootdowns: RemoteShootdowns,
    /// Flushes that a CPU ran for itself.
    pub local_flushes: u64,
    /// `switch_mm` to `init_mm` that a lazy CPU made on its own, because of an IPI, an exit or a
    /// temporary space. A reaction, not an operation.
    pub left_for_init_mm: u64,
    /// Events whose pid contradicts the latest `sched_switch` of their CPU.
    pub chain_repairs: u64,
    /// Address spaces whose pointer was reused though their mmdrop was never seen.
    pub missing_retires: u64,
    /// Flushes of which the recording did not tell at once whether they free page tables.
    pub unknown_tables: u64,
    /// CPUs that went lazy, and of which the recording does not tell whether they idled or ran a kernel thread.
    pub unknown_onto: u64,
    /// Flushes by tasks without a space: of whose space is unknown, and they are left out.
    pub flushes_of_unknown_spaces: u64,
    /// Switches to tasks of which nothing tells whether they have a space; taken for kernel threads.
    pub unknown_tasks: u64,
    /// What the operations were made from.
    pub made_from: MadeFrom,
    /// Time of the first event in nanoseconds of the recording's clock.
    pub first_time_ns: Option<u64>,
    /// Time of the last event in nanoseconds of the recording's clock.
    pub last_time_ns: Option<u64>,
    /// What the kernel's header says, if the trace has one.
    pub header: Option<Header>,
    /// CPUs that the recording says the machine has.
    pub cpus_announced: Option<u64>,
    /// What the number of every CPU is below that events are of, if the recording tells that before the first one.
    pub cpus_below: Option<u16>,
    /// The tasks that ran before the recording, if it tells them.
    pub tasks: Option<Snapshot>,
    /// The idle states of the machine, if the recording tells them, with what it has shown of them so far.
    pub idle_states: Option<IdleStates>,
    /// The shootdowns that the kernel counted meanwhile, each target, if the recording tells its counters of interrupts.
    pub counted_shootdowns: Option<CountedShootdowns>,
    /// The recorded kernel's release, as `uname -r` prints it.
    pub kernel: Option<String>,
    /// The clock that the events' times are of (`trace_clock`).
    pub clock: Option<String>,
    /// What one step of the events' times is, in nanoseconds.
    pub resolution_ns: Option<u64>,
    /// Task switches to a task that, by the times, still ran on another CPU: with the clock `local` a sign that the CPUs' clocks differ.
    pub clocks_apart: u64,
    /// The tracing instance whose buffer was read; the top one's name is empty.
    pub buffer: Option<String>,
    /// Names of other instances that the file holds and that were not read.
    pub other_buffers: Vec<String>,
    /// The temporary file that holds the decompressed recording; it is gone with the reader.
    pub temporary_file: Option<PathBuf>,
    pub(crate) cpu_events: Vec<u64>,
    /// If they were asked for.
    pub(crate) task_names: Option<TaskNames>,
    names: EventNames,
}

/// What the operations were made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MadeFrom {
    /// Kprobes on the memory-management functions.
    #[default]
    Kprobes,
    /// Tracepoints alone.
    Tracepoints,
}

/// Counts the operations of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperationCounts {
    /// [`OperationKind::Switch`](crate::OperationKind::Switch).
    pub switch: u64,
    /// [`OperationKind::GoLazy`](crate::OperationKind::GoLazy).
    pub go_lazy: u64,
    /// [`OperationKind::Flush`](crate::OperationKind::Flush).
    pub flush: u64,
    /// [`OperationKind::Retire`](crate::OperationKind::Retire).
    pub retire: u64,
}

impl OperationCounts {
    /// Returns the number of all operations.
    pub fn total(&self) -> u64 {
        self.switch + self.go_lazy + self.flush + self.retire
    }
}

/// Counts the shootdown requests that arrived at a CPU other than their initiator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteShootdowns {
    /// `flush_func` events with `initcpu` not their own CPU.
    pub arrived: u64,
    /// Of them, those that found the CPU lazy, so that it left for `init_mm` at once.
    pub found_lazy: u64,
}

/// Holds what the line `# entries-in-buffer/entries-written: 10/10 #P:8` says.
///
/// A trace that is several recordings in a row has several; their entries add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Events in the buffer when it was copied.
    pub entries_in_buffer: u64,
    /// Events written to it; more than in the buffer is an error.
    pub entries_written: u64,
    /// CPUs that were online (`#P`), if given.
    pub online_cpus: Option<u64>,
}

impl Summary {
    /// Returns what a task was called when it last left a CPU, as `sched_switch` tells; `None` if that was never seen, or
    /// there are too many, or the reader was not asked for names ([`TraceReader::with_task_names`](crate::TraceReader::with_task_names)).
    pub fn task_name(&self, tid: u32) -> Option<String> {
        self.task_names.as_ref()?.of(tid)
    }

    /// Returns the CPUs that have events, in ascending order, with the number of their events.
    pub fn cpus(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        (0_u16..)
            .zip(self.cpu_events.iter().copied())
            .filter(|(_, events)| *events > 0)
    }

    /// Returns the events' names with the number of their lines, sorted by name.
    ///
    /// Beyond 1024 different names, the rest is counted under `(other)`.
    pub fn events_by_name(&self) -> Vec<(String, u64)> {
        let names = &self.names;
        let mut counts: Vec<_> = names
            .known
            .iter()
            .map(|(name, index)| {
                let name = String::from_utf8_lossy(name).into_owned();
                (name, names.counts[index.0])
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        counts.sort();
        let beyond = names.counts[NameIndex::BEYOND.0];
        if beyond > 0 {
            counts.push(("(other)".to_owned(), beyond));
        }
        counts
    }

    /// Returns how many lines the event `name` has.
    pub fn events_named(&self, name: &str) -> u64 {
        let index = self.names.known.get(name.as_bytes());
        index.map_or(0, |index| self.names.counts[index.0])
    }

    /// Returns what a reader of the comparison should know: events whose absence weakens it.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings_of_the_file();
        if self.made_from == MadeFrom::Tracepoints {
            self.warn_of_tracepoints(&mut warnings);
            return warnings;
        }
        if self.events_named("flush_func") == 0 {
            warnings.push(
                "no flush_func event: the recorded kernel's own IPIs are unknown (0 is no count)"
                    .to_owned(),
            );
        }
        if self.events_named("mmdrop") == 0 {
            warnings.push("no mmdrop event: address spaces are never retired".to_owned());
        }
        if self.missing_retires > 0 {
            warnings.push(format!(
                "{} address spaces were replaced at their pointer without an mmdrop event",
                self.missing_retires
            ));
        }
        if self.events_named("sched_switch") == 0 {
            let untold = match self.unknown_onto {
                0 => String::new(),
                times => format!(
                    "; {times} of {} times there is none soon, and IPIs to such a CPU are counted as to a kernel thread at \
                     one end, to an idle CPU at the other",
                    self.operations.go_lazy
                ),
            };
            warnings.push(format!(
                "no sched_switch event: whether a lazy CPU idles is told by its next event{untold}"
            ));
        } else if self.chain_repairs > 0 {
            warnings.push(format!(
                "{} events contradict the latest sched_switch of their CPU: switches are missing",
                self.chain_repairs
            ));
        }
        warnings
    }

    /// What the file itself gives reason to doubt.
    fn warnings_of_the_file(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let clock = self.clock.as_deref().unwrap_or("unknown");
        if self.clocks_apart > 0 {
            warnings.push(format!(
                "{} task switches go to a task that still runs elsewhere: the clock ({clock}) was not always in step between CPUs",
                self.clocks_apart
            ));
        }
        if !self.other_buffers.is_empty() {
            let name = |name: &str| match name {
                "" => "the top instance".to_owned(),
                name => name.escape_debug().to_string(),
            };
            let others: Vec<_> = self.other_buffers.iter().map(|other| name(other)).collect();
            warnings.push(format!(
                "the file holds several instances; read: {}; not read: {}",
                name(self.buffer.as_deref().unwrap_or_default()),
                others.join(", ")
            ));
        }
        if let Some(CountedShootdowns::Unknown(why)) = self.counted_shootdowns {
            warnings.push(format!(
                "the recording's counters of interrupts are compared with nothing: {}",
                why.words()
            ));
        }
        let unknown = self.events_named("(no format)");
        if unknown > 0 {
            warnings.push(format!(
                "{unknown} events have no format in the file and were not understood"
            ));
        }
        warnings
    }

    fn warn_of_tracepoints(&self, warnings: &mut Vec<String>) {
        warnings.push(format!(
            "no kprobe events: made from tracepoints, so counts are up to a tenth off (on recordings that have both); of {} \
             flushes it is unknown whether tables are freed, unless lazy CPUs tell",
            self.unknown_tables
        ));
        if self.unknown_tasks > 0 {
            warnings.push(format!(
                "{} switches to tasks of which nothing tells whether they have a space, taken for kernel threads: give \
                 the tasks that ran before by `--tasks FILE`",
                self.unknown_tasks
            ));
        }
        if self.flushes_of_unknown_spaces > 0 {
            warnings.push(format!(
                "{} flushes by kernel threads, of unknown spaces, are left out",
                self.flushes_of_unknown_spaces
            ));
        }
        for (name, without) in [
            (
                "task_newtask",
                "threads of one process are taken for several",
            ),
            ("sched_process_exec", "exec is taken for a temporary space"),
            ("sched_process_exit", "spaces never end"),
        ] {
            if self.events_named(name) == 0 {
                warnings.push(format!("no {name} event: {without}"));
            }
        }
        if self.chain_repairs > 0 {
            warnings.push(format!(
                "{} events contradict the latest sched_switch of their CPU: switches are missing",
                self.chain_repairs
            ));
        }
    }

    /// Counts an event.
    #[inline]
    pub(crate) fn count(&mut self, event: &Event, name: &[u8]) {
        let name = self.name_index(name);
        self.count_as(event, name);
    }

    /// Counts an event whose name was looked up before.
    #[inline]
    pub(crate) fn count_as(&mut self, event: &Event, name: NameIndex) {
        self.events += 1;
        self.first_time_ns.get_or_insert(event.time_ns);
        self.last_time_ns = Some(event.time_ns);
        let cpu = usize::from(event.cpu);
        if cpu >= self.cpu_events.len() {
            self.cpu_events.resize(cpu + 1, 0);
        }
        self.cpu_events[cpu] += 1;
        self.names.counts[name.0] += 1;
    }

    /// Looks up where events of this name are counted.
    #[inline]
    pub(crate) fn name_index(&mut self, name: &[u8]) -> NameIndex {
        self.names.index(name)
    }
}

/// Where the events of one name are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NameIndex(usize);

impl NameIndex {
    /// All names beyond the bound.
    const BEYOND: NameIndex = NameIndex(0);
}

/// Counts events by name in bounded memory.
#[derive(Clone, Debug)]
struct EventNames {
    known: HashMap<Box<[u8]>, NameIndex, FixedState>,
    counts: Vec<u64>,
}

impl Default for EventNames {
    fn default() -> Self {
        EventNames {
            known: HashMap::default(),
            counts: vec![0],
        }
    }
}

impl EventNames {
    #[inline]
    fn index(&mut self, name: &[u8]) -> NameIndex {
        if let Some(index) = self.known.get(name) {
            return *index;
        }
        if self.known.len() >= MAX_EVENT_NAMES {
            return NameIndex::BEYOND;
        }
        let index = NameIndex(self.counts.len());
        self.known.insert(name.into(), index);
        self.counts.push(0);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Context, Kind};

    fn event(cpu: u16) -> Event {
        Event {
            pid: 0,
            cpu,
            time_ns: 5,
            context: Context::Unknown,
            kind: Kind::Other,
        }
    }

    #[test]
    fn events_are_counted_by_name_and_cpu() {
        let mut summary = Summary::default();
        for (cpu, name) in [(3, "b"), (1, "a"), (3, "b")] {
            summary.count(&event(cpu), name.as_bytes());
        }
        assert_eq!(summary.cpus().collect::<Vec<_>>(), [(1, 1), (3, 2)]);
        assert_eq!(
            summary.events_by_name(),
            [("a".to_owned(), 1), ("b".to_owned(), 2)]
        );
        assert_eq!(
            (summary.events_named("b"), summary.events_named("c")),
            (2, 0)
        );
        assert_eq!(summary.warnings().len(), 3);
    }

    #[test]
    fn endless_new_names_do_not_cost_memory() {
        let mut summary = Summary::default();
        for number in 0..MAX_EVENT_NAMES + 5 {
            summary.count(&event(0), format!("e{number}").as_bytes());
        }
        let names = summary.events_by_name();
        assert_eq!(names.len(), MAX_EVENT_NAMES + 1);
        assert_eq!(names.last(), Some(&("(other)".to_owned(), 5)));
    }
}
