//! What `lazytlb check` writes as JSON.

use std::collections::BTreeMap;

use lazytlb::Policy;
use lazytlb::sources::{self, SOURCES};
use lazytlb_check::{Finding, Reduction, RestsOn, Storage, TimelineEvent, Verdict};
use lazytlb_model::{CpuModel, GarbageWalkEnd, Property};
use serde::Serialize;

use crate::global_ids::GlobalIds;
use crate::hardware::assumed;
use crate::slots::Slots;

/// A verdict as JSON.
#[derive(Serialize)]
pub(crate) struct VerdictRecord {
    protocol: ProtocolRecord,
    policy: &'static str,
    program: String,
    cpu: &'static str,
    assumed: Vec<&'static str>,
    wc_readings: Option<BTreeMap<&'static str, &'static str>>,
    keep_load: Option<&'static str>,
    /// The slots for PCIDs of each CPU; null where PCIDs are off.
    pcid_slots: Option<u8>,
    /// The global ids that there are; null where nothing is broadcast.
    global_ids: Option<u8>,
    /// When a CPU answers a broadcast; null where nothing is broadcast.
    broadcast_answer: Option<&'static str>,
    memory: &'static str,
    store_buffer_depth: u8,
    storage: &'static str,
    reduction: &'static str,
    verdict: &'static str,
    property: Option<&'static str>,
    why_incomplete: Option<String>,
    story: Vec<String>,
    garbage_walk_ends: Vec<&'static str>,
    trace: Option<Vec<EventRecord>>,
    states: u64,
    transitions: u64,
    depth: u64,
    seconds: f64,
    bytes_per_state: f64,
    executions: u64,
    omission_probability: f64,
    rests_on: RestsOnRecord,
    statement: Option<String>,
    proves: Option<String>,
    unreached: Vec<String>,
    never_happened: Vec<String>,
}

/// What a verdict rests on as JSON: counts of places in the code.
#[derive(Serialize)]
struct RestsOnRecord {
    promises_kept: u64,
    interrupts_taken: u64,
    tables_freed: u64,
    stretched: Option<StretchedRecord>,
}

/// How it was tested that generations are only compared, as JSON.
#[derive(Serialize)]
struct StretchedRecord {
    places: u64,
    runs: u64,
}

impl From<RestsOn> for RestsOnRecord {
    fn from(rests_on: RestsOn) -> Self {
        RestsOnRecord {
            promises_kept: rests_on.promises_kept,
            interrupts_taken: rests_on.interrupts_taken,
            tables_freed: rests_on.tables_freed,
            stretched: rests_on.stretched.map(|of| StretchedRecord {
                places: of.places,
                runs: of.runs,
            }),
        }
    }
}

/// The protocol that was checked as JSON: its sources' hashes, to be compared with a kernel's.
#[derive(Serialize)]
struct ProtocolRecord {
    version: &'static str,
    hash: String,
    sources: BTreeMap<&'static str, String>,
}

impl ProtocolRecord {
    fn new() -> ProtocolRecord {
        let sources = SOURCES.map(|file| (file.name, file.hash.to_string()));
        ProtocolRecord {
            version: env!("CARGO_PKG_VERSION"),
            hash: sources::combined().to_string(),
            sources: BTreeMap::from(sources),
        }
    }
}

/// An event of a counterexample as JSON.
#[derive(Serialize)]
pub(crate) struct EventRecord {
    cpu: u8,
    operation: String,
    /// Whether the CPU has just started the operation, off its menu.
    starts: bool,
    what: String,
}

impl EventRecord {
    pub(crate) fn new(event: &TimelineEvent) -> EventRecord {
        EventRecord {
            cpu: event.cpu,
            operation: event.operation.clone(),
            starts: event.starts,
            what: event.what.clone(),
        }
    }
}

impl VerdictRecord {
    pub(crate) fn new(policy: Policy, slots: Option<Slots>, verdict: &Verdict) -> VerdictRecord {
        let effort = verdict.effort;
        let property = verdict.violation().map(|violation| violation.property);
        let ends = match property {
            Some(Property::TableUseAfterFree) => GarbageWalkEnd::possible_on(verdict.cpu_model),
            _ => Vec::new(),
        };
        let (story, trace, why_incomplete) = match &verdict.finding {
            Finding::Safe => (Vec::new(), None, None),
            Finding::Incomplete { why } => (Vec::new(), None, Some(why.clone())),
            Finding::Violation { timeline, .. } => {
                let events = timeline.events.iter().map(EventRecord::new);
                (timeline.story.clone(), Some(events.collect()), None)
            }
        };
        VerdictRecord {
            protocol: ProtocolRecord::new(),
            policy: policy.name(),
            program: verdict.program.clone(),
            cpu: verdict.cpu_model.name,
            assumed: assumed(verdict.cpu_model),
            wc_readings: verdict.uses_write_combining.then(|| {
                let each = verdict.cpu_model.write_combining.each().into_iter();
                each.map(|(event, reading)| (event, reading.name()))
                    .collect()
            }),
            keep_load: verdict
                .uses_pcids
                .then(|| verdict.cpu_model.keep_load.name()),
            pcid_slots: slots.map(Slots::number),
            global_ids: None,
            broadcast_answer: None,
            memory: verdict.memory.name(),
            store_buffer_depth: verdict.memory.buffer_depth(),
            storage: match verdict.storage {
                Storage::FullStates => "full-states",
                Storage::Fingerprints => "fingerprints",
            },
            reduction: match verdict.reduction {
                Reduction::CollapseLocal => "collapse-local",
                Reduction::None => "none",
            },
            verdict: verdict.name(),
            property: property.map(Property::name),
            why_incomplete,
            story,
            garbage_walk_ends: ends.into_iter().map(GarbageWalkEnd::name).collect(),
            trace,
            states: effort.states,
            transitions: effort.transitions,
            depth: effort.depth,
            seconds: effort.seconds,
            bytes_per_state: effort.bytes_per_state(),
            executions: effort.executions,
            omission_probability: verdict.omission_probability(),
            rests_on: verdict.rests_on.into(),
            statement: verdict.statement.clone(),
            proves: verdict.proves.clone(),
            unreached: verdict.unreached.clone(),
            never_happened: verdict.never_happened.clone(),
        }
    }

    /// Says how many global ids there were, and when CPUs of the model answer broadcasts.
    pub(crate) fn with_global_ids(self, ids: Option<GlobalIds>, model: CpuModel) -> VerdictRecord {
        VerdictRecord {
            global_ids: ids.map(GlobalIds::number),
            broadcast_answer: ids.map(|_| model.broadcast_answer.name()),
            ..self
        }
    }
}
