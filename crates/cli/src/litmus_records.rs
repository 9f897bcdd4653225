//! Answers to litmus tests as JSON.

use std::path::Path;

use lazytlb_litmus::{Answer, Execution, LitmusVerdict};
use lazytlb_model::Assumption;
use serde::Serialize;

use crate::check_records::EventRecord;
use crate::hanging::AssumptionRecord;

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
    /// An execution to a state in which the proposition holds, if one was asked for and found.
    witness: Option<ExecutionRecord>,
    incomplete: Option<String>,
    /// The rules that are ASSUMED and without which the verdict differs.
    hangs_on: Vec<AssumptionRecord>,
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
    /// An execution to it, if one was asked for.
    execution: Option<ExecutionRecord>,
}

#[derive(Serialize)]
struct ExecutionRecord {
    state: String,
    trace: Vec<EventRecord>,
    story: Vec<String>,
}

impl ExecutionRecord {
    fn new(execution: &Execution) -> ExecutionRecord {
        let timeline = &execution.timeline;
        ExecutionRecord {
            state: execution.state.text.clone(),
            trace: timeline.events.iter().map(EventRecord::new).collect(),
            story: timeline.story.clone(),
        }
    }
}

impl AnswerRecord {
    pub(crate) fn new(
        file: &Path,
        answer: &Answer,
        executions: &[Execution],
        (expected, as_expected): (Option<LitmusVerdict>, Option<bool>),
    ) -> AnswerRecord {
        let states = answer.states.iter().map(|state| StateRecord {
            state: state.text.clone(),
            holds: state.holds,
        });
        let violations = answer.violations.iter().map(|violated| {
            let property = violated.property;
            let mut executions = executions.iter();
            let to_it = executions.find(|execution| execution.violated == Some(property));
            ViolationRecord {
                property: property.name(),
                what: violated.what.clone(),
                execution: to_it.map(ExecutionRecord::new),
            }
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
            witness: executions
                .iter()
                .find(|execution| execution.is_witness)
                .map(ExecutionRecord::new),
            incomplete: answer.incomplete.clone(),
            hangs_on: Vec::new(),
            expected: expected.map(LitmusVerdict::name),
            as_expected,
            explored_states: answer.effort.states,
            seconds: answer.effort.seconds,
        }
    }

    /// Names the assumptions that the verdict hangs on.
    pub(crate) fn hanging_on(self, assumptions: Vec<Assumption>) -> AnswerRecord {
        AnswerRecord {
            hangs_on: assumptions.into_iter().map(Into::into).collect(),
            ..self
        }
    }
}
