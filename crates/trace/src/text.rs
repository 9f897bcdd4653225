//! Text: lines, as the kernel and its tools print them, become events.
//!
//! | file, in reading order | what |
//! | --- | --- |
//! | `lines` | bytes to lines, in a fixed buffer |
//! | `header` | `COMM-PID [CPU] FLAGS SECONDS: EVENT:` |
//! | `fields` | `key=value` |
//! | `kinds` | what the fields of which event mean |

mod fields;
mod header;
mod kinds;
mod lines;

pub(crate) use header::Line;
pub(crate) use lines::{Lines, Next};
