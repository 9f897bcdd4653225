//! Counts add up: over several recordings, and over the operations of one. Costs are linear in them, so prices, regrets
//! and choices of a sum are as exact as those of its parts.

use std::ops::{Add, AddAssign, Sub};

use crate::counts::Counts;
use crate::replayed::Replayed;

impl Counts {
    /// Joins two counts, one by one. All fields are named: one that is new has to be here as well.
    fn joined(self, other: Counts, join: impl Fn(u64, u64) -> u64) -> Counts {
        let (a, b) = (self, other);
        Counts {
            operations: join(a.operations, b.operations),
            shootdowns: join(a.shootdowns, b.shootdowns),
            shootdowns_to_idle: join(a.shootdowns_to_idle, b.shootdowns_to_idle),
            shootdowns_to_known_sleep: join(
                a.shootdowns_to_known_sleep,
                b.shootdowns_to_known_sleep,
            ),
            idle_wait_us: join(a.idle_wait_us, b.idle_wait_us),
            ipis: join(a.ipis, b.ipis),
            ipis_to_running: join(a.ipis_to_running, b.ipis_to_running),
            ipis_to_lazy: join(a.ipis_to_lazy, b.ipis_to_lazy),
            ipis_to_idle: join(a.ipis_to_idle, b.ipis_to_idle),
            ipis_to_known_sleep: join(a.ipis_to_known_sleep, b.ipis_to_known_sleep),
            ipis_by_idle_state: std::array::from_fn(|state| {
                join(a.ipis_by_idle_state[state], b.ipis_by_idle_state[state])
            }),
            idle_wake_us: join(a.idle_wake_us, b.idle_wake_us),
            left_before_sleep: join(a.left_before_sleep, b.left_before_sleep),
            ipis_at_retire: join(a.ipis_at_retire, b.ipis_at_retire),
            ipis_elsewhere: join(a.ipis_elsewhere, b.ipis_elsewhere),
            lazy_skipped: join(a.lazy_skipped, b.lazy_skipped),
            cr3_flush: join(a.cr3_flush, b.cr3_flush),
            cr3_keep: join(a.cr3_keep, b.cr3_keep),
            full_flushes: join(a.full_flushes, b.full_flushes),
            invlpg: join(a.invlpg, b.invlpg),
            invlpgb: join(a.invlpgb, b.invlpgb),
            tlbsync: join(a.tlbsync, b.tlbsync),
            refills_after_load: join(a.refills_after_load, b.refills_after_load),
            refills_after_flush: join(a.refills_after_flush, b.refills_after_flush),
            locked: join(a.locked, b.locked),
            fences: join(a.fences, b.fences),
            remote_reads: join(a.remote_reads, b.remote_reads),
            tables_held: join(a.tables_held, b.tables_held),
            tables_held_peak: join(a.tables_held_peak, b.tables_held_peak),
            tables_held_peak_of_a_space: join(
                a.tables_held_peak_of_a_space,
                b.tables_held_peak_of_a_space,
            ),
            batches_released: join(a.batches_released, b.batches_released),
            hold_fallbacks: join(a.hold_fallbacks, b.hold_fallbacks),
            repairs: join(a.repairs, b.repairs),
        }
    }
}

impl Add for Counts {
    type Output = Counts;

    /// Adds each count; one past 2^64 stays there, which no recording reaches.
    fn add(self, other: Counts) -> Counts {
        self.joined(other, u64::saturating_add)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        *self = *self + other;
    }
}

impl Sub for Counts {
    type Output = Counts;

    /// Returns what was counted since `before`.
    ///
    /// # Panics
    /// If `before` is not an earlier state of the same counts: something of it is greater.
    fn sub(self, before: Counts) -> Counts {
        self.joined(before, |now, before| {
            let since = now.checked_sub(before);
            since.expect("counts only grow, and these are of one replay")
        })
    }
}

impl Replayed {
    /// Adds up what the same policies did on several recordings. Of flushes of which it is unknown whether they free
    /// page tables, all are taken to keep them, or all to free them, in every recording alike.
    ///
    /// # Panics
    /// If two recordings were not replayed under the same policies, on the same kinds of CPUs, in the same order.
    pub fn sum(recordings: &[&[Replayed]]) -> Vec<Replayed> {
        let Some((&first, rest)) = recordings.split_first() else {
            return Vec::new();
        };
        let mut sum = first.to_vec();
        for recording in rest {
            assert_eq!(
                recording.len(),
                sum.len(),
                "every recording is replayed under the same policies"
            );
            for (sum, one) in sum.iter_mut().zip(*recording) {
                assert_eq!(
                    (sum.policy, sum.pcids),
                    (one.policy, one.pcids),
                    "every recording is replayed under the same policies, in the same order"
                );
                let freed = sum.if_freed().counts + one.if_freed().counts;
                let is_unknown = sum.counts_if_freed.is_some() || one.counts_if_freed.is_some();
                sum.counts += one.counts;
                sum.counts_if_freed = is_unknown.then_some(freed);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcids_on::PcidsOn;
    use lazytlb::Policy;

    /// Each number has a value of its own, those in lists too.
    fn numbered() -> Counts {
        let mut value = serde_json::to_value(Counts::default()).unwrap();
        for (number, place) in (1_u64..).zip(numbers(&mut value)) {
            *place = number.into();
        }
        serde_json::from_value(value).unwrap()
    }

    /// Lists the numbers in counts, in an order that is always the same.
    fn numbers(value: &mut serde_json::Value) -> Vec<&mut serde_json::Value> {
        let mut numbers = Vec::new();
        for field in value.as_object_mut().unwrap().values_mut() {
            match field {
                serde_json::Value::Array(list) => numbers.extend(list),
                number => numbers.push(number),
            }
        }
        numbers
    }

    #[test]
    fn each_count_is_added_to_itself_and_taken_away_again() {
        let one = numbered();
        let two = one + one;
        let [mut once, mut twice] = [one, two].map(|counts| serde_json::to_value(counts).unwrap());
        let pairs = numbers(&mut once).into_iter().zip(numbers(&mut twice));
        for (number, (once, twice)) in (1_u64..).zip(pairs) {
            assert_eq!(
                (once.as_u64(), twice.as_u64()),
                (Some(number), Some(2 * number))
            );
        }
        assert_eq!(two - one, one);
        assert_eq!(one - one, Counts::default());
    }

    #[test]
    #[should_panic(expected = "counts only grow")]
    fn less_than_before_is_refused() {
        let _ = Counts::default() - numbered();
    }

    fn replayed(ipis: u64, ipis_if_freed: Option<u64>) -> Replayed {
        let counts = |ipis| Counts {
            ipis,
            ..Counts::default()
        };
        Replayed {
            policy: Policy::Ipi,
            pcids: PcidsOn::No,
            counts: counts(ipis),
            counts_if_freed: ipis_if_freed.map(counts),
        }
    }

    #[test]
    fn a_recording_that_leaves_nothing_unknown_counts_alike_in_both_scenarios() {
        let (known, unknown) = ([replayed(5, None)], [replayed(1, Some(7))]);
        assert_eq!(Replayed::sum(&[&known, &unknown]), [replayed(6, Some(12))]);
        assert_eq!(Replayed::sum(&[&unknown, &known]), [replayed(6, Some(12))]);
        assert_eq!(Replayed::sum(&[&known, &known]), [replayed(10, None)]);
        assert_eq!(Replayed::sum(&[&unknown]), unknown);
        assert_eq!(Replayed::sum(&[]), []);
    }

    #[test]
    #[should_panic(expected = "the same policies")]
    fn recordings_of_different_policies_are_refused() {
        let other = [Replayed {
            policy: Policy::InitMm,
            ..replayed(0, None)
        }];
        Replayed::sum(&[&[replayed(0, None)], &other]);
    }
}
