//! `trace.dat`: what `trace-cmd` and `lazytlb record` write. Per CPU the kernel's own ring buffer pages, and the formats to read them by.
//!
//! ```text
//!  bytes ──► layout ──► formats ──► types: one decoder for each event that matters
//!    │         │ where each CPU's pages are                │
//!    └──► chunks ──► pages ──► merge by time ──► record ───┴──► Event
//! ```
//!
//! | file, in reading order | what |
//! | --- | --- |
//! | `head`, `version6`, `version7`, `layout` | where what stands in the file |
//! | `tracing_data` | the part of it that perf.data holds, too |
//! | `options`, `buffer` | what the recorder noted; which buffer is read |
//! | `codec` | zstd and zlib, section by section |
//! | `header_page` | how the ring buffer's pages are laid out |
//! | `chunks` | a window on one CPU's pages, in bounded memory |
//! | `pages` | the records of one CPU |
//! | `merge` | all CPUs in the order of time |
//! | `clock` | which clocks order events of different CPUs |
//! | `events` | all of it together |

mod buffer;
mod chunks;
mod clock;
mod codec;
mod events;
mod head;
mod header_page;
mod layout;
mod merge;
mod options;
mod pages;
mod tracing_data;
mod version6;
mod version7;

pub(crate) use clock::Clock;
pub(crate) use events::TraceDatEvents;
pub(crate) use head::MAGIC;
pub(crate) use tracing_data::read_tracing_data;
