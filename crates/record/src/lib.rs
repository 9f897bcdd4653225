//! Records what a Linux kernel does about its TLBs, as a `trace.dat` that trace-cmd and KernelShark open.
//!
//! ```text
//!  Btf, kallsyms ─► Probes ─┐
//!  tracefs ─► events there ─┴─► Plan ─┬─► Script: what a shell would do   (--dry-run)
//!                                     └─► Recording: an instance of its own, drained as it fills
//!                                              │ pages of each CPU
//!  /proc, /sys ─► snapshot, before and after ──┴─► trace.dat
//! ```
//!
//! | file, in reading order | what |
//! | --- | --- |
//! | `recording` | [`Recording`]: begin, drain, end; it cleans up however it ends |
//! | `plan` | what is written into which file of tracefs: [`Plan`] |
//! | `events`, `probes` | which tracepoints and kprobes |
//! | `offsets` | where fields lie in the kernel's structures, by its own BTF |
//! | `script` | the plan as a shell script |
//! | `tracefs` | files of tracefs, with errors that say what to do |
//! | `drain` | the pages of each CPU, as they fill |
//! | `snapshot`, `idle_states` | tasks and interrupt counters; each CPU's idle states |
//! | `trace_dat` | the file |
//! | `error` | what can go wrong |
#![forbid(unsafe_code)]

mod drain;
mod error;
mod events;
mod idle_states;
mod offsets;
mod plan;
mod probes;
mod recording;
mod script;
mod snapshot;
mod trace_dat;
mod tracefs;

pub use error::RecordError;
pub use plan::{Options, Plan};
pub use recording::{Finished, Progress, Recording};
pub use tracefs::Tracefs;
