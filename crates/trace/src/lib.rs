//! Reads what a Linux kernel recorded about its TLB flushing, and rebuilds what it was asked to do.
//!
//! A replay of the lazy TLB protocol needs the *requests* of a real machine: which address space
//! runs where, who goes idle, who flushes what. A trace mixes them with the recorded kernel's own
//! *reactions* (shootdown IPIs, lazy CPUs that leave for `init_mm`). This crate separates the two:
//! requests become [`Operation`]s; reactions steer nothing and are counted in the [`Summary`], so
//! that a replay can be compared with the kernel that was recorded.
//!
//! ```text
//!  file ──► source ──► text ───────┐
//!           plain,     lines       ├──► Event ──► reconstruct ──► Operation
//!           gz, xz,                │              per CPU: task,     │
//!           zstd  ──► trace_dat ───┤              initial state      └► Summary (counts, reactions)
//!           by magic   pages of    │              live mms only
//!                      each CPU    │
//!                 ──► perf_data ───┘
//!                      rounds
//! ```
//!
//! The input is the kernel's own text file, `/sys/kernel/tracing/trace` (with the option `latency-format`, too), the text of
//! `trace-cmd report` or `perf script`, a trace.dat of trace-cmd (versions 6 and 7), or a perf.data, with the kprobe events of [`HOW_TO_RECORD`]. It is read in one pass. Memory is bounded by the number of CPUs and of live
//! address spaces, never by the length of the recording; hostile input ends in a [`TraceError`] that names the file, the
//! place in it and what to do.
//!
//! ```
//! use lazytlb_trace::{OperationKind, TraceReader};
//!
//! let text: &[u8] = b"\
//!   <idle>-0 [001] d.Z1. 1.000001: switch_mm: (f+0x35/0x470) next=0xf0 tsk=0xe0 nctx=7\n\
//!       sh-9 [001] d.Z1. 1.000002: enter_lazy: (f+0xd/0x30) mm=0xf0 tsk=0xe8 loaded=0xf0\n\
//!       sh-9 [001] d.Z.. 1.000003: flush_mm_range: (f+0x5/0x170) mm=0xf0 start=0x1000 \
//! end=0x3000 stride=12 freed=0 ctx=7\n";
//! let mut reader = TraceReader::new(text, "example")?;
//! let mut switches = 0;
//! while let Some(operation) = reader.next_operation()? {
//!     if let OperationKind::Switch { .. } = operation.kind {
//!         switches += 1;
//!     }
//! }
//! assert_eq!(switches, 1);
//! assert_eq!(reader.summary().events, 3);
//! # Ok::<(), lazytlb_trace::TraceError>(())
//! ```
//!
//! | file, in reading order | what |
//! | --- | --- |
//! | `operation` | [`Operation`]: what comes out |
//! | `reader`, `summary` | [`TraceReader`]; counts, and the recorded kernel's reactions |
//! | `step`, `steps` | [`Step`]: an event or an operation; steps that wait for what is not known yet |
//! | `reconstruct` | what operations are made from |
//! | `kprobes` | how a kprobe event becomes an operation |
//! | `tracepoints` | how operations are made without kprobes |
//! | `snapshot` | the tasks that ran before |
//! | `interrupts` | the shootdowns that the kernel counted meanwhile |
//! | `idle_states`, `idle_evidence` | [`IdleStates`]: names, latencies, and whether the kernel leaves the user space before; what a recording shows of that |
//! | `task_chain`, `task_names`, `mm_pointers` | who runs on a CPU; what tasks are called; which space a pointer means now |
//! | `format` | which format a recording has |
//! | `event` | [`Event`]: what every reader makes |
//! | `text`, `text_layout` | text in all its layouts |
//! | `trace_dat` | trace.dat |
//! | `perf_data` | perf.data |
//! | `records`, `known_events` | what binary recordings share: fields by the recorded formats; which events matter |
//! | `bytes`, `cursor`, `temporary` | positioned reads of a file, or of a temporary one, which is removed however the program ends |
//! | `source`, `compression` | the bytes of a stream, decompressed |
//! | `limits`, `error`, `dat_problem`, `perf_problem` | what a recording may ask for, and what can be wrong with one |
//! | `recording` | how to record |
//!
//! What a recording cannot show: TLB fills, page-table writes, and the order of two events of
//! different CPUs beyond their time stamps.
#![forbid(unsafe_code)]

mod bytes;
mod compression;
mod cursor;
mod dat_problem;
mod error;
mod event;
mod format;
mod idle_evidence;
mod idle_states;
mod interrupts;
mod known_events;
mod kprobes;
mod limits;
mod mm_pointers;
mod operation;
mod perf_data;
mod perf_problem;
mod reader;
mod reconstruct;
mod recording;
mod records;
mod snapshot;
mod source;
mod step;
mod steps;
mod summary;
mod task_chain;
mod task_names;
mod temporary;
mod text;
mod text_layout;
mod trace_dat;
mod tracepoints;

pub use compression::Compression;
pub use dat_problem::TraceDatProblem;
pub use error::{BinaryKind, LinePart, LineProblem, Place, TraceError};
pub use event::{Context, Event, FlushFunc, FlushMmRange, FlushMulti, Interrupt, Kind, SwitchMm};
pub use idle_states::{
    IdleState, IdleStateIndex, IdleStates, IdleStatesError, MAX_IDLE_STATES, TlbInIdle,
};
pub use interrupts::{CountedShootdowns, WhyUnknown};
pub use limits::{
    MAX_CPUS, MAX_LINE_BYTES, MAX_LIVE_MMS, XZ_MEMORY_LIMIT_MIB, ZSTD_MEMORY_LIMIT_MIB,
};
pub use operation::{InitialState, Laziness, MmId, Onto, Operation, OperationKind, Range, Tables};
pub use perf_problem::PerfDataProblem;
pub use reader::TraceReader;
pub use recording::HOW_TO_RECORD;
pub use snapshot::{Snapshot, SnapshotError, SnapshotTask};
pub use step::Step;
pub use summary::{Header, MadeFrom, OperationCounts, RemoteShootdowns, Summary};
pub use temporary::remove_temporary_files;
pub use text_layout::TextLayout;
