//! `perf.data`: what `perf record` writes. One stream of records, sorted by time only as far as perf's rounds go.
//!
//! ```text
//!  bytes ──► head ──► attributes, formats ──► types
//!    │                                          │
//!    └──► stream (zstd) ──► samples ──► rounds ─┴──► Event
//! ```
//!
//! Source: Linux `tools/perf/Documentation/perf.data-file-format.txt`, `include/uapi/linux/perf_event.h`.
//!
//! | file, in reading order | what |
//! | --- | --- |
//! | `head` | where what stands in the file |
//! | `attribute` | what was recorded, and how its samples are laid out |
//! | `stream` | the records one after the other, decompressed |
//! | `rounds` | samples in the order of time, in bounded memory |
//! | `fault` | what can go wrong |
//! | `events` | all of it together |
//!
//! A file cannot show that perf lost events without knowing it: some kernels never deliver the events that one CPU's idle task has in
//! interrupts. [`crate::Summary::cpus`] and the completeness of the tasks' chain tell.

mod attribute;
mod events;
mod fault;
mod head;
mod rounds;
mod stream;

pub(crate) use events::PerfDataEvents;
pub(crate) use head::{MAGIC, MAGIC_BIG_ENDIAN};
