//! Text: lines, as the kernel and its tools print them, become events.
//!
//! | file, in reading order | what |
//! | --- | --- |
//! | `lines` | bytes to lines, in a fixed buffer |
//! | `layout` | which of the layouts it is |
//! | `header` | `COMM-PID [CPU] FLAGS SECONDS: EVENT:`, the kernel's and trace-cmd's |
//! | `latency`, `perf_script`, `dead_tasks` | the other two |
//! | `fields` | `key=value` |
//! | `kinds` | what the fields of which event mean |
//! | `comments` | what stands before the events, and promises how many there are |
//! | `events` | lines to events, with what the header promises |

mod comments;
mod dead_tasks;
mod events;
mod fields;
mod header;
mod kinds;
mod latency;
mod layout;
mod lines;
mod perf_script;

pub(crate) use events::TextEvents;
