//! What can be wrong with a trace.dat file as a whole.

/// Says what is wrong with a trace.dat file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceDatProblem {
    /// The file is shorter than it says.
    #[error(
        "{what} should end at byte {needed}, but the file has {length}: it was cut; copy it again"
    )]
    Cut {
        /// What is not all there.
        what: &'static str,
        /// Where it should end.
        needed: u64,
        /// The file's length.
        length: u64,
    },
    /// Something cannot be right.
    #[error("damaged: {0}; copy the file again, or record again")]
    Damaged(&'static str),
    /// A line of what `lazytlb record` noted beside the events cannot be right.
    #[error(
        "damaged: line {line} of the snapshot is no counter of interrupts, `interrupts start|end NAME COUNT...`: {text:?}; \
         copy the file again, or record again"
    )]
    Interrupts {
        /// The line, counted from 1.
        line: usize,
        /// Its beginning.
        text: String,
    },
    /// A version that this reader does not know.
    #[error(
        "version {0:?} of the format; versions 6 and 7 are read: record again with trace-cmd 2.6 or later"
    )]
    Version(String),
    /// A machine that this reader does not know.
    #[error("recorded on {0}; only recordings of 64-bit x86 are read")]
    Machine(&'static str),
    /// A compression that this reader does not know.
    #[error(
        "compressed by {0:?}; zstd and zlib are read: `trace-cmd convert -i FILE -o PLAIN --compression none` makes a plain file"
    )]
    Compression(String),
    /// A section or chunk cannot be decompressed.
    #[error("cannot be decompressed: {0}; copy the file again (`trace-cmd dump` tests it)")]
    Decompress(String),
    /// The file holds text instead of events.
    #[error(
        "holds a latency tracer's text instead of events; record with `trace-cmd record -e ...`, without a tracer"
    )]
    Latency,
    /// The file holds no events at all.
    #[error("has no buffer of events: recording ended early; record again")]
    NoBuffer,
    /// Something is larger than this reader grants.
    #[error("{what} has {size}, more than the {limit} that are read; it is damaged or not real")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size.
        size: u64,
        /// What is granted.
        limit: u64,
    },
    /// The clock does not order the events of different CPUs.
    #[error(
        "trace clock `{clock}`: {why}; record again with the clock mono (`trace-cmd record -C mono`)"
    )]
    Clock {
        /// The clock's name.
        clock: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The CPUs' clocks were not in step.
    #[error(
        "trace clock `{clock}` was not in step between CPUs: {apart} of {switches} task switches go to a task that still runs elsewhere; \
         record again with the clock mono (`trace-cmd record -C mono`, `perf record -k CLOCK_MONOTONIC`)"
    )]
    ClocksApart {
        /// The clock's name.
        clock: String,
        /// Task switches that contradict another CPU.
        apart: u64,
        /// All task switches.
        switches: u64,
    },
    /// A CPU's statistics tell of lost events.
    #[error(
        "CPU {cpu} has {count} events lost ({what}), so the recording is incomplete and a replay would be wrong; record again with a \
         larger buffer (`trace-cmd record -b 20000`)"
    )]
    Lost {
        /// The CPU.
        cpu: u64,
        /// The kernel's word for it.
        what: String,
        /// How many.
        count: u64,
    },
    /// Two kinds of events have the same meaning.
    #[error(
        "events named {name} come from two groups, {one} and {other}: each would count twice; record only one of them"
    )]
    TwoGroups {
        /// The events' name.
        name: String,
        /// One group.
        one: String,
        /// The other.
        other: String,
    },
}
