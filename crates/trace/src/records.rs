//! Records of a binary recording: each is read by the `format` file that was recorded with it, never by fixed offsets.
//!
//! | file, in reading order | what |
//! | --- | --- |
//! | `formats`, `fields` | what an event's `format` file says; how a field is read |
//! | `decoders`, `types` | what which event means |

mod decoders;
mod fields;
mod formats;
mod types;

pub(crate) use fields::SLACK_BYTES;
pub(crate) use formats::{FormatTexts, declared_fields};
pub(crate) use types::{EventType, Types};
