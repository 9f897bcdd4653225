//! A recording compared with its kernel's rule, and a kind of decision of it.

use lazytlb_trace::{Step, TraceReader};
use lazytlb_validate::{Agreement, Decision, Validation};

/// Compares a recording of any format; the release is that of its kernel, if the recording does not tell. How many CPUs it may
/// have changes nothing.
pub(crate) fn compared(recording: &[u8], release: Option<&str>) -> Agreement {
    let mut reader = TraceReader::new(recording, "test").unwrap();
    let mut many = Validation::new().of_kernel(release);
    let mut few = Validation::of_cpus_below(Some(64)).of_kernel(release);
    let mut has_few = true;
    while let Some(step) = reader.next_step().unwrap() {
        many.step(step);
        if let Step::Event(event) = step {
            has_few &= event.cpu < 64;
        }
        if has_few {
            few.step(step);
        }
    }
    let agreement = many.finish();
    if has_few {
        assert_eq!(format!("{agreement:?}"), format!("{:?}", few.finish()));
    }
    agreement
}

/// Returns which part of the decisions of a kind came out alike, of 100.
pub(crate) fn percent(agreement: &Agreement, decision: Decision) -> f64 {
    let mut kinds = agreement.kinds.iter();
    let kind = kinds.find(|kind| kind.decision == decision).unwrap();
    assert!(kind.compared > 0, "{decision:?}");
    100.0 * kind.share()
}
