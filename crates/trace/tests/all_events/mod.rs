//! All events of a recording, whatever operations they are enough for.

use lazytlb_trace::{Event, Step, TraceError, TraceReader};

/// Reads a recording to its end, or to an error.
pub(crate) fn events(bytes: &[u8]) -> Result<Vec<Event>, TraceError> {
    let mut reader = TraceReader::new(bytes, "t")?;
    let mut events = Vec::new();
    loop {
        match reader.next_step() {
            Ok(Some(Step::Event(event))) => events.push(*event),
            Ok(Some(Step::Operation(_))) => {}
            Ok(None) | Err(TraceError::NoEvents { .. } | TraceError::MissingEvents { .. }) => {
                return Ok(events);
            }
            Err(error) => return Err(error),
        }
    }
}
