//! Text: lines, as the kernel and its tools print them, become events.
//!
//! | file, in reading order | what |
//! | --- | --- |
//! | `lines` | bytes to lines, in a fixed buffer |
//! | `header` | `COMM-PID [CPU] FLAGS SECONDS: EVENT:` |
//! | `fields` | `key=value` |
//! | `kinds` | what the fields of which event mean |
//! | `events` | lines to events, with what the header promises |

mod events;
mod fields;
mod header;
mod kinds;
mod lines;

pub(crate) use events::TextEvents;
