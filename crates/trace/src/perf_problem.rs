//! What can be wrong with a perf.data file.

use crate::dat_problem::TraceDatProblem;

/// Says what is wrong with a perf.data file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PerfDataProblem {
    /// What both kinds of binary recordings can have: a cut or damaged part, clocks that were not in step.
    #[error(transparent)]
    Content(#[from] TraceDatProblem),
    /// A stream instead of a file.
    #[error(
        "written to a pipe (`perf record -o -`), which has no table of its parts; record with `perf record -o FILE`"
    )]
    Pipe,
    /// perf did not end by itself.
    #[error(
        "perf was killed before it finished the file: record again, and end perf by Ctrl-C or SIGTERM"
    )]
    Unfinished,
    /// Another machine's byte order.
    #[error("recorded on a big-endian machine; only recordings of 64-bit x86 are read")]
    BigEndian,
    /// The records are in other files.
    #[error(
        "a part of a directory (`perf record --threads`), whose records are in other files; record without --threads"
    )]
    Directory,
    /// No tracepoint's format is in the file.
    #[error(
        "holds no tracepoints; record them: `perf record -a -e tlb:tlb_flush,sched:sched_switch,...`"
    )]
    NoTracepoints,
    /// Samples do not tell what is needed.
    #[error(
        "the samples of tracepoints have no {0}; record all CPUs with raw samples: `perf record -a -R -e ...`"
    )]
    NoField(&'static str),
    /// Only some events were recorded.
    #[error(
        "one of {0} was sampled of each tracepoint's events, not all; record without -c, -F and --count"
    )]
    Sampled(u64),
    /// Only some events of a tracepoint were recorded.
    #[error("tracepoints were sampled at a frequency, not all their events; record without -F")]
    Frequency,
    /// Samples cannot be told apart.
    #[error(
        "several kinds of samples without an identifier; record with a newer perf, or tracepoints alone"
    )]
    NoIdentifier,
    /// Only one task was recorded.
    #[error(
        "only some tasks were recorded (without -a), so who ran between them is unknown; record all CPUs: `perf record -a`"
    )]
    SomeTasks,
    /// Samples were lost.
    #[error(
        "{} lost {count} samples, so the recording is incomplete and a replay would be wrong; record again with a larger buffer \
         (`perf record -m 16M`)",
        .cpu.map_or_else(|| "the recording".to_owned(), |cpu| format!("CPU {cpu}"))
    )]
    Lost {
        /// The CPU, if the file says which.
        cpu: Option<u16>,
        /// How many.
        count: u64,
    },
    /// The kernel stopped a tracepoint for a while.
    #[error(
        "a tracepoint was throttled, so the recording is incomplete; record fewer events, or raise kernel.perf_event_max_sample_rate"
    )]
    Throttled,
    /// A compressed record cannot be decompressed.
    #[error(
        "a compressed record cannot be decompressed: {0}; copy the file again, or record without -z (at most -z19 is read)"
    )]
    Decompress(String),
    /// Too many records between two places where they can be sorted.
    #[error(
        "more than {limit} MiB of records, or {records} of them, in one round of perf's buffers; record with smaller ones \
         (`perf record -m 512K`)"
    )]
    LongRound {
        /// What is kept in memory.
        limit: usize,
        /// How many records.
        records: usize,
    },
}
