//! Splits the IPIs that CPUs were sent by whose time they take: that of what ran there.
//!
//! [`Split`](crate::Split) tells who asks for interrupts, and this who is interrupted.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use crate::pass::Replays;
use crate::replayed::Replayed;

/// The IPIs of every replay, split by a key of the CPUs that they were sent to.
#[derive(Clone, Debug)]
pub struct SplitReceived<K> {
    kept: Side<K>,
    freed: Side<K>,
}

/// What somebody received under one policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Received {
    /// IPIs, as if flushes kept page tables of which it is unknown.
    pub kept: u64,
    /// The same, as if they freed them; `None` where the recording leaves nothing unknown.
    pub freed: Option<u64>,
}

impl AddAssign for Received {
    fn add_assign(&mut self, other: Received) {
        self.kept += other.kept;
        let freed = self.freed.zip(other.freed);
        self.freed = freed.map(|(own, others)| own + others);
    }
}

/// The replays of one end of what is unknown.
#[derive(Clone, Debug)]
struct Side<K> {
    /// Of each replay: what each of its CPUs had received at the last call, and the sums by key.
    replays: Vec<(Vec<u64>, BTreeMap<K, u64>)>,
}

impl<K: Ord> Side<K> {
    /// Adds what the CPUs of each replay, from CPU 0 on, have received since the last call.
    fn add(
        &mut self,
        replays: impl ExactSizeIterator<Item: Iterator<Item = u64>>,
        whose: &impl Fn(u16) -> K,
    ) {
        self.replays
            .resize_with(replays.len(), || (Vec::new(), BTreeMap::new()));
        for (received, (before, sums)) in replays.zip(&mut self.replays) {
            for (cpu, now) in (0_u16..).zip(received) {
                let index = usize::from(cpu);
                if index == before.len() {
                    before.push(0);
                }
                let since = now - std::mem::replace(&mut before[index], now);
                if since > 0 {
                    *sums.entry(whose(cpu)).or_default() += since;
                }
            }
        }
    }
}

impl<K> Default for SplitReceived<K> {
    fn default() -> Self {
        let nothing = || Side {
            replays: Vec::new(),
        };
        SplitReceived {
            kept: nothing(),
            freed: nothing(),
        }
    }
}

impl<K: Ord> SplitReceived<K> {
    /// Adds what each CPU was sent since the last call to the part that `whose` names for it. Called after each operation.
    pub fn add(&mut self, replays: &Replays<'_>, whose: impl Fn(u16) -> K) {
        self.kept.add(replays.kept_received(), &whose);
        self.freed.add(replays.freed_received(), &whose);
    }

    /// Returns the parts: of each key that received anything, one for each row of `whole`, in its order. They add up to
    /// its IPIs.
    pub fn into_parts(self, whole: &[Replayed]) -> BTreeMap<K, Vec<Received>> {
        // What is known of the whole is known of its parts.
        let nothing = whole.iter().map(|one| Received {
            kept: 0,
            freed: one.counts_if_freed.map(|_| 0),
        });
        let nothing: Vec<_> = nothing.collect();
        let mut parts: BTreeMap<K, Vec<Received>> = BTreeMap::new();
        let mut set = |side: Side<K>, put: fn(&mut Received, u64)| {
            for (place, (_, sums)) in side.replays.into_iter().enumerate() {
                for (key, sum) in sums {
                    let part = parts.entry(key).or_insert_with(|| nothing.clone());
                    part.get_mut(place)
                        .into_iter()
                        .for_each(|received| put(received, sum));
                }
            }
        };
        set(self.kept, |received, sum| received.kept = sum);
        set(self.freed, |received, sum| {
            received.freed = received.freed.map(|_| sum);
        });
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcids_on::PcidsOn;
    use crate::replay::Replay;
    use lazytlb::Policy;
    use lazytlb_trace::{MmId, Onto, Operation, OperationKind, Range, Tables};

    #[test]
    fn what_a_cpu_is_sent_is_of_the_key_that_it_has_then() {
        let unknown = [lazytlb::Tables::Kept, lazytlb::Tables::Freed];
        let mut both =
            unknown.map(|tables| [Replay::new(Policy::IpiOnTableFree).with_unknown_tables(tables)]);
        let mut split = SplitReceived::default();
        let mm = MmId(7);
        let flush = OperationKind::Flush {
            mm,
            range: Range::All,
            tables: Tables::Unknown,
        };
        let idle = OperationKind::GoLazy { onto: Onto::Idle };
        let switch = OperationKind::Switch { mm };
        for (cpu, kind, ran_on_1) in [
            (0, switch, "nobody"),
            (1, switch, "task"),
            (0, flush, "task"),
            (1, idle, "idle"),
            (0, flush, "idle"),
        ] {
            let operation = Operation {
                cpu,
                time_ns: 0,
                kind,
                initial: None,
            };
            let [kept, freed] = &mut both;
            for replay in kept.iter_mut().chain(freed.iter_mut()) {
                replay.apply(&operation).unwrap();
            }
            let whose = |cpu| ["flusher", ran_on_1][usize::from(cpu)];
            split
                .kept
                .add(kept.iter().map(Replay::ipis_received), &whose);
            split
                .freed
                .add(freed.iter().map(Replay::ipis_received), &whose);
        }
        let [kept, freed] = both.map(|[replay]| replay.finish());
        let whole = Replayed {
            policy: Policy::IpiOnTableFree,
            pcids: PcidsOn::No,
            counts: kept,
            counts_if_freed: Some(freed),
        };
        let parts: Vec<_> = split.into_parts(&[whole]).into_iter().collect();
        let of = |kept, freed| {
            vec![Received {
                kept,
                freed: Some(freed),
            }]
        };
        // The idle CPU is interrupted only if tables are freed.
        assert_eq!(parts, [("idle", of(0, 1)), ("task", of(1, 1))]);
    }
}
