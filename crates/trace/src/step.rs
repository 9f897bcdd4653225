//! What a reader returns.

use crate::event::Event;
use crate::operation::Operation;

/// What comes next in a recording. It is the reader's own, until that goes on: copies of all events would cost as much as
/// reading them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// An event, as it was recorded.
    Event(&'a Event),
    /// What the event before asks of the protocol.
    Operation(&'a Operation),
}
