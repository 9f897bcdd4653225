//! What a reader returns.

use crate::event::Event;
use crate::operation::Operation;

/// What comes next in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An event, as it was recorded.
    Event(Event),
    /// What the event before asks of the protocol.
    Operation(Operation),
}
