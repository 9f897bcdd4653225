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
//! | `bytes` | positioned reads of a plain file, or of a temporary one |
//! | `cursor` | numbers and strings of the file's head |
//! | `head`, `version6`, `version7`, `layout` | where what stands in the file |
//! | `options`, `buffer` | what the recorder noted; which buffer is read |
//! | `codec` | zstd and zlib, section by section |
//! | `header_page` | how the ring buffer's pages are laid out |
//! | `formats`, `fields` | what an event's `format` file says; how a field is read |
//! | `decoders`, `types` | what which event means |
//! | `chunks` | a window on one CPU's pages, in bounded memory |
//! | `pages` | the records of one CPU |
//! | `merge` | all CPUs in the order of time |
//! | `clock` | which clocks order events of different CPUs |
//! | `events` | all of it together |

mod buffer;
mod bytes;
mod chunks;
mod clock;
mod codec;
mod cursor;
mod decoders;
mod events;
mod fields;
mod formats;
mod head;
mod header_page;
mod layout;
mod merge;
mod options;
mod pages;
mod types;
mod version6;
mod version7;

pub(crate) use bytes::{Bytes, MAGIC};
pub(crate) use events::TraceDatEvents;
