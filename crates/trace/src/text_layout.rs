//! The layouts of text, for people.

use std::fmt;

/// Says how the lines of a text are laid out. One file has one layout; the first lines tell which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextLayout {
    /// The kernel's own file `trace`.
    Kernel,
    /// The same with the option `latency-format`, or `trace-cmd report -l`.
    Latency,
    /// `trace-cmd report`.
    TraceCmd,
    /// `perf script`.
    PerfScript,
}

impl TextLayout {
    /// The form of a line.
    fn pattern(self) -> &'static str {
        match self {
            TextLayout::Kernel => "COMM-PID [CPU] FLAGS SECONDS: EVENT: ...",
            TextLayout::Latency => "COMM-PID CPU-AND-FLAGS MICROSECONDSus: EVENT: ...",
            TextLayout::TraceCmd => "COMM-PID [CPU] SECONDS: EVENT: ...",
            TextLayout::PerfScript => "COMM TID [CPU] SECONDS: GROUP:EVENT: ...",
        }
    }

    /// What to do about a line that does not fit.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            TextLayout::Kernel => {
                "use the file /sys/kernel/tracing/trace itself, with trace_clock global or mono, current_tracer nop and no stack \
                 traces; a line cut in the middle means a bad copy"
            }
            TextLayout::Latency => {
                "switch the options latency-format and verbose off (`echo 0 > options/latency-format`), with trace_clock global or \
                 mono, and copy the file trace again"
            }
            TextLayout::TraceCmd => {
                "read the file trace.dat itself, or print it with `trace-cmd report -R -N`, one recording at a time"
            }
            TextLayout::PerfScript => {
                "read the file perf.data itself, or print it with `perf script --ns -F comm,tid,cpu,time,event,trace`"
            }
        }
    }
}

impl fmt::Display for TextLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            TextLayout::Kernel => "the kernel's text trace",
            TextLayout::Latency => "the layout of options/latency-format",
            TextLayout::TraceCmd => "trace-cmd report",
            TextLayout::PerfScript => "perf script",
        };
        write!(f, "{name}, `{}`", self.pattern())
    }
}
