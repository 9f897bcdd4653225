//! How verdicts are told: in a word, in a sentence, as the end of a command.

use lazytlb_check::{Finding, Verdict};
use lazytlb_model::MemoryModel;

use crate::report::Ending;

/// Returns how a command ends that printed this verdict.
pub(crate) fn ending_of(verdict: &Verdict) -> Ending {
    match verdict.finding {
        Finding::Safe => Ending::Good,
        Finding::Violation { .. } => Ending::Violation,
        Finding::Incomplete { .. } if verdict.nothing_proved() => Ending::NothingProved,
        Finding::Incomplete { .. } => Ending::Incomplete,
    }
}

/// Says why a verdict is no proof, in a sentence.
pub(crate) fn unproved(verdict: &Verdict, why: &str) -> String {
    match verdict.nothing_proved() {
        true => why.to_owned(),
        false => format!("incomplete: {why}; nothing is proved"),
    }
}

/// Says what was found: the verdict, and the property if one is violated.
pub(crate) fn outcome(verdict: &Verdict) -> String {
    match verdict.violation() {
        Some(violation) => format!("UNSAFE: {}", violation.property),
        None => verdict.name().to_owned(),
    }
}

/// Describes the memory model with its bound.
pub(crate) fn memory(memory: MemoryModel) -> String {
    match memory {
        MemoryModel::Sc => "sc".to_owned(),
        MemoryModel::Tso { buffer_depth } => format!("tso (store buffers of {buffer_depth})"),
    }
}
