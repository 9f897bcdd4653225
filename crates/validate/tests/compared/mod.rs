//! A recording compared with its kernel's rule, and a kind of decision of it.

use lazytlb_trace::TraceReader;
use lazytlb_validate::{Agreement, Decision, Validation};

/// Compares a recording of any format; the release is that of its kernel, if the recording does not tell.
pub(crate) fn compared(recording: &[u8], release: Option<&str>) -> Agreement {
    let mut reader = TraceReader::new(recording, "test").unwrap();
    let mut validation = Validation::new().of_kernel(release);
    while let Some(step) = reader.next_step().unwrap() {
        validation.step(step);
    }
    validation.finish()
}

/// Returns which part of the decisions of a kind came out alike, of 100.
pub(crate) fn percent(agreement: &Agreement, decision: Decision) -> f64 {
    let mut kinds = agreement.kinds.iter();
    let kind = kinds.find(|kind| kind.decision == decision).unwrap();
    assert!(kind.compared > 0, "{decision:?}");
    100.0 * kind.share()
}
