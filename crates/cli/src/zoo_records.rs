//! What `lazytlb zoo` writes as JSON.

use lazytlb_check::{Finding, Verdict};
use lazytlb_model::Property;
use lazytlb_zoo::{Case, Expected, Role, length};
use serde::Serialize;

use crate::check_records::EventRecord;
use crate::zoo_words::Shown;

/// An exhibit as JSON.
#[derive(Serialize)]
pub(crate) struct ExhibitRecord {
    name: &'static str,
    kernel: &'static str,
    about: &'static str,
    source: &'static str,
    story: &'static str,
    fix: &'static str,
    left_out: &'static str,
    as_expected: bool,
    cases: Vec<CaseRecord>,
}

/// One of its cases.
#[derive(Serialize)]
struct CaseRecord {
    role: &'static str,
    case: &'static str,
    cpu: &'static str,
    memory: &'static str,
    /// `safe`, or the property that a counterexample must violate.
    expected: &'static str,
    as_expected: bool,
    verdict: &'static str,
    property: Option<&'static str>,
    /// Events of the counterexample.
    length: Option<usize>,
    trace: Option<Vec<EventRecord>>,
    states: u64,
    transitions: u64,
    seconds: f64,
}

impl ExhibitRecord {
    pub(crate) fn new(shown: &Shown) -> ExhibitRecord {
        let exhibit = shown.exhibit;
        let cases = shown.verdicts.iter();
        let cases: Vec<CaseRecord> = cases
            .map(|(role, case, verdict)| CaseRecord::new(*role, case, verdict))
            .collect();
        ExhibitRecord {
            name: exhibit.name,
            kernel: exhibit.kernel,
            about: exhibit.about,
            source: exhibit.source,
            story: exhibit.story,
            fix: exhibit.fix,
            left_out: exhibit.left_out,
            as_expected: cases.iter().all(|case| case.as_expected),
            cases,
        }
    }
}

impl CaseRecord {
    fn new(role: Role, case: &Case, verdict: &Verdict) -> CaseRecord {
        let trace = match &verdict.finding {
            Finding::Violation { timeline, .. } => {
                Some(timeline.events.iter().map(EventRecord::new).collect())
            }
            Finding::Safe | Finding::Incomplete { .. } => None,
        };
        CaseRecord {
            role: role.name(),
            case: case.name,
            cpu: case.cpu.name,
            memory: case.memory.name(),
            expected: match case.expected {
                Expected::Safe => "safe",
                Expected::Violation { property, .. } => property.name(),
            },
            as_expected: case.is_as_expected(verdict),
            verdict: verdict.name(),
            property: verdict
                .violation()
                .map(|violation| violation.property)
                .map(Property::name),
            length: length(verdict),
            trace,
            states: verdict.effort.states,
            transitions: verdict.effort.transitions,
            seconds: verdict.effort.seconds,
        }
    }
}
