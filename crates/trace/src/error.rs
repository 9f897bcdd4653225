//! What can be wrong with a recording: each error names the place, the fault and the way out.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::compression::Compression;
use crate::dat_problem::TraceDatProblem;
use crate::limits::{
    MAX_CPUS, MAX_LINE_BYTES, MAX_LIVE_MMS, XZ_MEMORY_LIMIT_MIB, ZSTD_MEMORY_LIMIT_MIB,
};
use crate::perf_problem::PerfDataProblem;
use crate::recording::HOW_TO_RECORD;
use crate::text_layout::TextLayout;

/// Says why a recording cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file cannot be opened.
    #[error("{file}: cannot be opened: {source}; check the path and its permissions")]
    Open {
        /// The file's name, as it was given.
        file: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The system failed to deliver bytes.
    #[error(
        "{file}: reading failed after byte {offset}: {source}; check the medium, then try again"
    )]
    Read {
        /// The file's name, as it was given.
        file: String,
        /// Bytes of the file (compressed ones, if it is compressed) that were used before.
        offset: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// A compressed file ends before its stream does.
    #[error(
        "{file}: the {format} stream is cut off at byte {offset}; copy the file again \
         (`{format} -t {file}` tests it)"
    )]
    Truncated {
        /// The file's name, as it was given.
        file: String,
        /// How it is compressed.
        format: Compression,
        /// Length of the compressed file in bytes.
        offset: u64,
    },
    /// A compressed file's stream is damaged.
    #[error(
        "{file}: the {format} stream is damaged near byte {offset}: {source}; copy the file again \
         (`{format} -t {file}` tests it)"
    )]
    Corrupt {
        /// The file's name, as it was given.
        file: String,
        /// How it is compressed.
        format: Compression,
        /// Compressed bytes that were used before the fault.
        offset: u64,
        /// The decompressor's reason.
        source: io::Error,
    },
    /// An xz stream asks for a dictionary that the reader does not grant.
    #[error(
        "{file}: the xz stream near byte {offset} needs more than {XZ_MEMORY_LIMIT_MIB} MiB of \
         memory; decompress it first (`xz -d`), or compress it with `xz -9` at most"
    )]
    XzMemory {
        /// The file's name, as it was given.
        file: String,
        /// Compressed bytes that were used before.
        offset: u64,
    },
    /// A zstd stream asks for a window that the reader does not grant.
    #[error(
        "{file}: the zstd stream near byte {offset} needs more than {ZSTD_MEMORY_LIMIT_MIB} MiB of \
         memory; decompress it first (`zstd -d`), or compress it with `--long=27` at most"
    )]
    ZstdMemory {
        /// The file's name, as it was given.
        file: String,
        /// Compressed bytes that were used before.
        offset: u64,
    },
    /// The content is no recording that is read.
    #[error("{file}: {found} at byte 0, and no recording: {}", found.advice())]
    Binary {
        /// The file's name, as it was given.
        file: String,
        /// What the first bytes look like.
        found: BinaryKind,
    },
    /// The file, or the content of the compressed file, has no bytes.
    #[error(
        "{file}: the file is empty (0 bytes of text); copy /sys/kernel/tracing/trace before the \
         buffer is cleared"
    )]
    Empty {
        /// The file's name, as it was given.
        file: String,
    },
    /// One line cannot be right.
    #[error("{at}: {problem}")]
    Line {
        /// The line.
        at: Place,
        /// What is wrong with it.
        problem: LineProblem,
    },
    /// A trace.dat file is not what it should be.
    #[error("{file}: trace.dat, at byte {offset}: {problem}")]
    TraceDat {
        /// The file's name, as it was given.
        file: String,
        /// Where in the (decompressed) file.
        offset: u64,
        /// What is wrong.
        problem: TraceDatProblem,
    },
    /// A perf.data file is not what it should be.
    #[error("{file}: perf.data, at byte {offset}: {problem}")]
    PerfData {
        /// The file's name, as it was given.
        file: String,
        /// Where in the (decompressed) file.
        offset: u64,
        /// What is wrong.
        problem: PerfDataProblem,
    },
    /// One event of a perf.data file cannot be right.
    #[error("{file}: CPU {cpu}, in the samples before byte {offset}: {problem}")]
    Sample {
        /// The file's name, as it was given.
        file: String,
        /// The CPU that recorded it.
        cpu: u16,
        /// How far the (decompressed) file was read: samples are sorted before they are looked at.
        offset: u64,
        /// What is wrong.
        problem: LineProblem,
    },
    /// One event of a trace.dat file cannot be right.
    #[error("{file}: CPU {cpu}, in the page at byte {offset}: {problem}")]
    Event {
        /// The file's name, as it was given.
        file: String,
        /// The CPU that recorded it.
        cpu: u16,
        /// Where its page, or the chunk that holds it, begins in the (decompressed) file.
        offset: u64,
        /// What is wrong.
        problem: LineProblem,
    },
    /// A recording that needs seeking cannot be decompressed into a temporary file.
    #[error(
        "{file}: the temporary file {} cannot be written: {source}; make room there, name another \
         directory in TMPDIR, or decompress the recording first",
        .path.display()
    )]
    Spool {
        /// The file's name, as it was given.
        file: String,
        /// The temporary file, or the directory where it cannot be made.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The whole file has none of the events that operations are made of.
    #[error(
        "{file}: {lines} lines and none of the events switch_mm, enter_lazy, flush_mm_range (kprobes), \
         nor sched_switch with tlb_flush (tracepoints).\n{HOW_TO_RECORD}"
    )]
    NoEvents {
        /// The file's name, as it was given.
        file: String,
        /// Lines read.
        lines: u64,
    },
    /// Some needed events are there, and others never occur: a replay of it would be wrong.
    #[error(
        "{file}: {lines} lines and not one of: {}; a replay without them would be wrong, so arm \
         these kprobes too, or record a workload that uses them.\n{HOW_TO_RECORD}",
        .missing.join(", ")
    )]
    MissingEvents {
        /// The file's name, as it was given.
        file: String,
        /// Lines read.
        lines: u64,
        /// Names of the needed events that never occur.
        missing: Vec<&'static str>,
    },
    /// The file has fewer events than its own header announces.
    #[error(
        "{file}: ends at line {lines} with {read} events, but its header announces {announced}; \
         the file was cut: copy it again, or delete the line `# entries-in-buffer` to read the part"
    )]
    EntriesMissing {
        /// The file's name, as it was given.
        file: String,
        /// Lines read.
        lines: u64,
        /// Events that the header announces.
        announced: u64,
        /// Events read.
        read: u64,
    },
    /// CPUs that the header announces have no event.
    #[error(
        "{file}: its header announces {announced} CPUs, and {seen} have events; a replay would miss what the others did: \
         record all CPUs (`tracing_cpumask`), or accept the part with `--partial`"
    )]
    MissingCpus {
        /// The file's name, as it was given.
        file: String,
        /// CPUs that were online.
        announced: u64,
        /// CPUs with events.
        seen: u64,
    },
    /// The reader was asked for more after it had reported an error.
    #[error("{file}: reading ended with an error before; open the file again to read it")]
    Ended {
        /// The file's name, as it was given.
        file: String,
    },
}

/// Names a line of a file; it prints as `file:line`, which editors understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's name, as it was given.
    pub file: String,
    /// The line, counted from 1, of the uncompressed text.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Says what is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineProblem {
    /// The line does not have the form of an event.
    #[error(
        "not an event line of {layout}: {missing} in \"{excerpt}\"; {}", .layout.advice()
    )]
    Malformed {
        /// What the lines before are, or the likeliest for the first one.
        layout: TextLayout,
        /// The first part that does not fit.
        missing: LinePart,
        /// The beginning of the line, with unprintable bytes escaped.
        excerpt: String,
    },
    /// The file ends in the middle of a line.
    #[error(
        "the last line has no end: \"{excerpt}\"; the file was cut while it was copied: copy it \
         again, or delete this line"
    )]
    CutAtEnd {
        /// The beginning of the line, with unprintable bytes escaped.
        excerpt: String,
    },
    /// The line is longer than any event.
    #[error(
        "longer than {MAX_LINE_BYTES} bytes; no event line is: this is not the text of a recording"
    )]
    TooLong,
    /// The recorder says that a CPU lost events.
    #[error(
        "CPU {cpu} lost {}, so the recording is incomplete and a replay would be wrong; record \
         again with a larger buffer_size_kb",
        lost_count(.count)
    )]
    LostEvents {
        /// The CPU.
        cpu: u64,
        /// How many, if the recorder knew.
        count: Option<u64>,
    },
    /// The header says that the ring buffer was too small.
    #[error(
        "the buffer holds {in_buffer} of {written} written events, so the recording is incomplete \
         and a replay would be wrong; record again with a larger buffer_size_kb"
    )]
    Overrun {
        /// Events that are still in the buffer.
        in_buffer: u64,
        /// Events that were written.
        written: u64,
    },
    /// There are more events than the header announces.
    #[error(
        "more events than the {announced} that the header announces: text that user space wrote (a trace marker, a file's name) may \
         hold whole lines, and look like events; read such a recording as trace.dat. Or the recording still ran while it was copied: \
         `echo 0 > tracing_on` first"
    )]
    MoreThanAnnounced {
        /// Events that the header announces.
        announced: u64,
    },
    /// A line with `#` stands where no header can.
    #[error(
        "a comment between events: \"{excerpt}\"; no recorder writes any there, but a name with a line feed can make one: read such a \
         recording as trace.dat, and several recordings one at a time"
    )]
    CommentBetweenEvents {
        /// The beginning of the line, with unprintable bytes escaped.
        excerpt: String,
    },
    /// The line is older than the one before.
    #[error(
        "time runs backwards, from {before_ns} ns to {now_ns} ns; record with trace_clock global \
         or mono, and read one recording at a time"
    )]
    TimeBackwards {
        /// Time of the line before, in nanoseconds.
        before_ns: u64,
        /// Time of this line, in nanoseconds.
        now_ns: u64,
    },
    /// The line names a CPU that no machine has.
    #[error("CPU {cpu} is out of range (at most {}); the line is damaged", MAX_CPUS - 1)]
    CpuOutOfRange {
        /// The number in the line.
        cpu: u64,
    },
    /// An event lacks a field.
    #[error(
        "{event} has no field `{field}=`: either the line was cut (copy the file again), or the \
         kprobe was defined without it.\n{HOW_TO_RECORD}"
    )]
    MissingField {
        /// The event's name.
        event: &'static str,
        /// The field's name.
        field: &'static str,
    },
    /// A field is no number, too large, or not one of its possible values.
    #[error("{event} has {field}={text}, expected {expected}; the line is damaged")]
    BadField {
        /// The event's name.
        event: &'static str,
        /// The field's name.
        field: &'static str,
        /// The value, with unprintable bytes escaped.
        text: String,
        /// What would be right.
        expected: &'static str,
    },
    /// More address spaces are alive than a machine can have.
    #[error(
        "more than {MAX_LIVE_MMS} address spaces are alive at once; record the mmdrop kprobe as \
         well, or the trace is not real"
    )]
    TooManyMms,
}

fn lost_count(count: &Option<u64>) -> String {
    match count {
        Some(count) => format!("{count} events"),
        None => "events".to_owned(),
    }
}

/// Names a part of an event line, from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LinePart {
    /// Anything: the line fits no layout that is known.
    Layout,
    /// `[CPU]`
    Cpu,
    /// The pid before it, in the layout of `perf script`.
    Tid,
    /// `COMM-PID` before it.
    Pid,
    /// `SECONDS.MICROSECONDS:` after it.
    Time,
    /// `EVENT:` at last.
    Event,
}

impl fmt::Display for LinePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LinePart::Layout => {
                "nor of trace-cmd report, perf script or options/latency-format: none of their layouts fits"
            }
            LinePart::Cpu => "no `[CPU]`",
            LinePart::Tid => "no pid before `[CPU]`",
            LinePart::Pid => "no `COMM-PID` before `[CPU]`",
            LinePart::Time => "no time stamp `SECONDS.MICROSECONDS:` after `[CPU]`",
            LinePart::Event => "no `EVENT:` after the time stamp",
        })
    }
}

/// Names what a file that is not text looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BinaryKind {
    /// perf's `perf.data` in its first version, which no perf has written since 2010.
    PerfData,
    /// An executable.
    Elf,
    /// A compression that this reader does not know, or one inside another.
    Compressed,
    /// Bytes that no text has.
    Other,
}

impl BinaryKind {
    fn advice(self) -> &'static str {
        match self {
            BinaryKind::PerfData => "record again with perf of Linux 2.6.36 or later",
            BinaryKind::Elf => "name the recording, not a program",
            BinaryKind::Compressed => {
                "decompress it first: only gz, xz and zstd around a recording are read"
            }
            BinaryKind::Other => {
                "trace.dat, perf.data and text are read (/sys/kernel/tracing/trace, or what trace-cmd report or perf script prints)"
            }
        }
    }
}

impl fmt::Display for BinaryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BinaryKind::PerfData => "a perf.data file of the first version",
            BinaryKind::Elf => "an ELF file",
            BinaryKind::Compressed => "compressed data of another kind",
            BinaryKind::Other => "binary data",
        })
    }
}

/// Makes the beginning of a line printable on any terminal: a trace may hold any bytes.
pub(crate) fn excerpt(line: &[u8]) -> String {
    const EXCERPT_BYTES: usize = 120;
    match line.get(..EXCERPT_BYTES) {
        Some(head) if line.len() > EXCERPT_BYTES => format!("{}...", head.escape_ascii()),
        _ => line.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_printable() {
        assert_eq!(excerpt(b"a\x1b[31m\xff"), "a\\x1b[31m\\xff");
        assert_eq!(excerpt(&[b'x'; 500]).len(), 123);
    }

    #[test]
    fn a_place_prints_as_editors_expect_it() {
        let place = Place {
            file: "a.txt".to_owned(),
            line: 7,
        };
        assert_eq!(place.to_string(), "a.txt:7");
    }
}
