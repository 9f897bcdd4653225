//! Tells how many IPIs to idle CPUs were priced by the idle state that each was in, and by which.

use lazytlb_price::{Counts, Replayed};
use lazytlb_trace::{IdleState, IdleStateIndex, IdleStates, MAX_IDLE_STATES};
use serde::Serialize;

use crate::numbers::counted;

/// Tells it of each replay that has such IPIs; nothing, if none has, or the machine's idle states are not known.
pub(crate) fn idle_ipis(replayed: &[Replayed], states: Option<&IdleStates>) -> Option<String> {
    let states = states?;
    let concerns = |counts: &Counts| counts.ipis_to_idle + counts.left_before_sleep > 0;
    let lines = replayed
        .iter()
        .filter(|one| concerns(&one.counts) || concerns(&one.if_freed().counts))
        .map(|one| line(one, states));
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        return None;
    }
    let mut text = "IPIs to idle CPUs, by the idle state that each was in:".to_owned();
    for line in lines {
        text.push_str("\n  ");
        text.push_str(&line);
    }
    Some(text)
}

fn line(replayed: &Replayed, states: &IdleStates) -> String {
    let count = |of: &dyn Fn(&Counts) -> u64| counted(replayed, of);
    let mut parts = Vec::new();
    for index in indices() {
        let ipis = count(&|counts| counts.ipis_by_idle_state[index.as_usize()]);
        if ipis != "0" {
            parts.push(format!("{ipis} {}", named(states, index)));
        }
    }
    parts.push(format!("{} in none, awake", count(&awake)));
    let unknown = count(&|counts| counts.ipis_to_idle - counts.ipis_to_known_sleep);
    parts.push(format!(
        "{unknown} unknown (priced by idle_wait and idle_wake)"
    ));
    format!(
        "{}, PCIDs {}: {}; {} times a CPU left its space before a state that flushes TLBs",
        replayed.policy,
        replayed.pcids.name(),
        parts.join(", "),
        count(&|counts| counts.left_before_sleep)
    )
}

/// IPIs to idle CPUs that were in no idle state.
fn awake(counts: &Counts) -> u64 {
    counts.ipis_to_known_sleep - counts.ipis_by_idle_state.iter().sum::<u64>()
}

fn indices() -> impl Iterator<Item = IdleStateIndex> {
    (0..MAX_IDLE_STATES as u32).filter_map(IdleStateIndex::new)
}

/// Names a state: `C1 (2 us)`; where CPUs differ, `C6 (170 us) or C6S (130 us)`.
fn named(states: &IdleStates, index: IdleStateIndex) -> String {
    let told = |state: &IdleState| match state.exit_latency_us {
        Some(us) => format!("{} ({us} us)", state.name),
        None => state.name.clone(),
    };
    let all: Vec<String> = states.numbered(index).into_iter().map(told).collect();
    all.join(" or ")
}

/// IPIs to CPUs in one idle state, as JSON.
#[derive(Serialize)]
pub(crate) struct IdleRecord {
    /// The state's number, as `cpu_idle` events have it.
    state: usize,
    /// Its name and exit latency.
    name: String,
    ipis: u64,
    /// At the other end of what is unknown, as `counts_if_freed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    ipis_if_freed: Option<u64>,
}

impl IdleRecord {
    /// Makes one for each state that IPIs met; none, if the machine's idle states are not known.
    pub(crate) fn all(replayed: &Replayed, states: Option<&IdleStates>) -> Vec<IdleRecord> {
        let Some(states) = states else {
            return Vec::new();
        };
        let record = |index: IdleStateIndex| {
            let of = |counts: &Counts| counts.ipis_by_idle_state[index.as_usize()];
            IdleRecord {
                state: index.as_usize(),
                name: named(states, index),
                ipis: of(&replayed.counts),
                ipis_if_freed: replayed.counts_if_freed.as_ref().map(of),
            }
        };
        let is_met = |one: &IdleRecord| one.ipis + one.ipis_if_freed.unwrap_or(0) > 0;
        indices().map(record).filter(is_met).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lazytlb::Policy;
    use lazytlb_price::PcidsOn;

    fn replayed(counts: Counts) -> Replayed {
        Replayed {
            policy: Policy::Ipi,
            pcids: PcidsOn::No,
            counts,
            counts_if_freed: None,
        }
    }

    fn met() -> Replayed {
        let mut ipis_by_idle_state = [0; MAX_IDLE_STATES];
        ipis_by_idle_state[1] = 1200;
        replayed(Counts {
            ipis_to_idle: 1300,
            ipis_to_known_sleep: 1250,
            ipis_by_idle_state,
            left_before_sleep: 7,
            ..Counts::default()
        })
    }

    #[test]
    fn each_state_is_named_and_what_is_unknown_is_told() {
        let states = IdleStates::parse("idle-state 1 C1 2\nidle-state 2 C6 133", "f").unwrap();
        let told = idle_ipis(&[met(), replayed(Counts::default())], Some(&states)).unwrap();
        let expected = "IPIs to idle CPUs, by the idle state that each was in:\n  ipi, PCIDs off: 1,200 C1 (2 us), 50 in none, \
                        awake, 50 unknown (priced by idle_wait and idle_wake); 7 times a CPU left its space before a state that \
                        flushes TLBs";
        assert_eq!(told, expected);
        let records = IdleRecord::all(&met(), Some(&states));
        let json = serde_json::to_value(records).unwrap();
        let expected = serde_json::json!([{"state": 1, "name": "C1 (2 us)", "ipis": 1200}]);
        assert_eq!(json, expected);
    }

    #[test]
    fn states_of_one_number_are_told_apart() {
        let text = "idle-state 1 C6 170 cpus=0-3\nidle-state 1 C6S 130 cpus=4-7\n";
        let states = IdleStates::parse(text, "f").unwrap();
        let index = IdleStateIndex::new(1).unwrap();
        assert_eq!(named(&states, index), "C6 (170 us) or C6S (130 us)");
    }

    #[test]
    fn without_idle_states_nothing_is_told() {
        assert_eq!(idle_ipis(&[met()], None), None);
        let states = IdleStates::parse("idle-state 1 C1 2", "f").unwrap();
        assert_eq!(
            idle_ipis(&[replayed(Counts::default())], Some(&states)),
            None
        );
        assert!(IdleRecord::all(&met(), None).is_empty());
    }
}
