//! Answers to litmus tests as JSON.

use std::path::Path;

use lazytlb_litmus::{Answer, LitmusVerdict};
use serde::Serialize;

/// An answer as JSON.
#[derive(Serialize)]
pub(crate) struct AnswerRecord {
    file: String,
    name: String,
    verdict: &'static str,
    ok: Option<bool>,
    observation: &'static str,
    positive: usize,
    negative: usize,
    condition: String,
    states: Vec<StateRecord>,
    violations: Vec<ViolationRecord>,
    /// What the verdict hides: that no execution comes to its end, or none passes the filter.
    vacuous: Option<String>,
    incomplete: Option<String>,
    expected: Option<&'static str>,
    as_expected: Option<bool>,
    explored_states: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct StateRecord {
    state: String,
    holds: bool,
}

#[derive(Serialize)]
struct ViolationRecord {
    property: &'static str,
    what: String,
}

impl AnswerRecord {
    pub(crate) fn new(
        file: &Path,
        answer: &Answer,
        expected: Option<LitmusVerdict>,
        as_expected: Option<bool>,
    ) -> AnswerRecord {
        let states = answer.states.iter().map(|state| StateRecord {
            state: state.text.clone(),
            holds: state.holds,
        });
        let violations = answer.violations.iter().map(|violated| ViolationRecord {
            property: violated.property.name(),
            what: violated.what.clone(),
        });
        let (positive, negative) = answer.witnesses();
        AnswerRecord {
            file: file.display().to_string(),
            name: answer.name.clone(),
            verdict: answer.verdict().name(),
            ok: answer.is_ok(),
            observation: answer.observation(),
            positive,
            negative,
            condition: answer.condition.clone(),
            states: states.collect(),
            violations: violations.collect(),
            vacuous: answer.vacuity(),
            incomplete: answer.incomplete.clone(),
            expected: expected.map(LitmusVerdict::name),
            as_expected,
            explored_states: answer.effort.states,
            seconds: answer.effort.seconds,
        }
    }
}
