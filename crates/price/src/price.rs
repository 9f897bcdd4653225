//! What counts cost, and which policy is cheapest whatever the figures are within their ranges.
//!
//! A cost is linear in the figures, and each figure moves within its range independently of the
//! others. So the greatest value of `cost(A) - cost(B)` over all figures is reached where each
//! figure stands at the end of its range that the sign of its count's difference picks; comparing
//! two policies over the whole box takes one sum, not 2^16 corners. Comparing their ranges of cost
//! instead would forget that both run on the same machine.

use std::cmp::Ordering;

use lazytlb::Policy;
use serde::{Deserialize, Serialize};

use crate::costs::{Costs, Parameter};
use crate::counts::Counts;
use crate::replayed::Replayed;

/// Holds a cost in cycles of the reference clock.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// With every figure at its low end.
    pub low: f64,
    /// With every figure at its typical value.
    pub typical: f64,
    /// With every figure at its high end.
    pub high: f64,
}

/// Prices counts.
///
/// Sums are of 64-bit floats: they cannot overflow, and are exact as long as they are below 2^53
/// cycles (a month of 3 GHz) and the figures are whole numbers.
pub fn price(counts: &Counts, costs: &Costs) -> Cost {
    let mut cost = Cost {
        low: 0.0,
        typical: 0.0,
        high: 0.0,
    };
    for parameter in Parameter::ALL {
        let (times, figure) = (parameter.count(counts) as f64, costs.figure(parameter));
        cost.low += times * figure.low;
        cost.typical += times * figure.typical;
        cost.high += times * figure.high;
    }
    cost
}

/// Prices a replay, over all that is unknown of the recording; typical is as if flushes kept page tables of which it is unknown.
pub fn price_replayed(replayed: &Replayed, costs: &Costs) -> Cost {
    let (kept, freed) = (
        price(&replayed.counts, costs),
        price(&replayed.if_freed().counts, costs),
    );
    Cost {
        low: kept.low.min(freed.low),
        typical: kept.typical,
        high: kept.high.max(freed.high),
    }
}

/// How the cost of one policy differs from another's, over the whole range of all figures.
#[derive(Clone, PartialEq, Debug)]
pub struct Difference {
    /// The least of `a - b`, in cycles.
    pub low: f64,
    /// `a - b` with every figure at its typical value, in cycles.
    pub typical: f64,
    /// The greatest of `a - b`, in cycles.
    pub high: f64,
    /// The parameters that are paid more often under `a`, and how much more often.
    pub more: Vec<(Parameter, u128)>,
    /// The parameters that are paid more often under `b`, and how much more often.
    pub fewer: Vec<(Parameter, u128)>,
}

impl Difference {
    /// Compares two counts.
    pub fn between(a: &Counts, b: &Counts, costs: &Costs) -> Self {
        let mut difference = Difference {
            low: 0.0,
            typical: 0.0,
            high: 0.0,
            more: Vec::new(),
            fewer: Vec::new(),
        };
        for parameter in Parameter::ALL {
            let (of_a, of_b) = (parameter.count(a), parameter.count(b));
            let (times, figure) = (of_a.abs_diff(of_b), costs.figure(parameter));
            let weight = times as f64;
            match of_a.cmp(&of_b) {
                Ordering::Equal => {}
                Ordering::Greater => {
                    difference.low += weight * figure.low;
                    difference.typical += weight * figure.typical;
                    difference.high += weight * figure.high;
                    difference.more.push((parameter, times));
                }
                Ordering::Less => {
                    difference.low -= weight * figure.high;
                    difference.typical -= weight * figure.typical;
                    difference.high -= weight * figure.low;
                    difference.fewer.push((parameter, times));
                }
            }
        }
        difference
    }

    /// Returns the value of one figure at which `a` and `b` cost the same while every other figure
    /// is typical, in cycles; `None` if it does not matter, or would have to be negative.
    pub fn break_even(&self, parameter: Parameter, costs: &Costs) -> Option<f64> {
        let times = |side: &[(Parameter, u128)]| {
            let entry = side.iter().find(|(here, _)| *here == parameter);
            entry.map(|(_, times)| *times as f64)
        };
        let weight = times(&self.more).or_else(|| times(&self.fewer).map(|times| -times))?;
        let figure = costs.figure(parameter).typical - self.typical / weight;
        (figure >= 0.0).then_some(figure)
    }

    /// Says whether `a` is cheaper than `b` whatever the figures are.
    pub fn is_always_cheaper(&self) -> bool {
        self.high < 0.0
    }

    /// Says whether `a` and `b` cost the same whatever the figures are.
    pub fn is_always_equal(&self) -> bool {
        self.more.is_empty() && self.fewer.is_empty()
    }
}

/// Which policy is cheapest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cheapest {
    /// This one, over the whole range of all figures.
    Policy(Policy),
    /// These: they cost the same whatever the figures are, and less than every other.
    Tie(Vec<Policy>),
    /// The figures decide: none of these is beaten by another policy over the whole range.
    Undecided {
        /// In the order of the input; two of them may be a tie.
        between: Vec<Policy>,
    },
}

/// Finds the cheapest policy, or `None` among none. Leave out those that are not safe, and compare replays on CPUs of one
/// kind: PCIDs are no choice of a kernel's.
pub fn cheapest(replayed: &[Replayed], costs: &Costs) -> Option<Cheapest> {
    let beats = |a: &Replayed, b: &Replayed| {
        Difference::between(&a.counts, &b.counts, costs).is_always_cheaper()
    };
    let unbeaten: Vec<&Replayed> = replayed
        .iter()
        .filter(|one| !replayed.iter().any(|other| beats(other, one)))
        .collect();
    let policies: Vec<Policy> = unbeaten.iter().map(|one| one.policy).collect();
    let (first, rest) = unbeaten.split_first()?;
    let equal = |other: &&Replayed| {
        Difference::between(&first.counts, &other.counts, costs).is_always_equal()
    };
    Some(match rest {
        [] => Cheapest::Policy(first.policy),
        _ if rest.iter().all(equal) => Cheapest::Tie(policies),
        _ => Cheapest::Undecided { between: policies },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::costs::Figure;
    use crate::pcids_on::PcidsOn;
    use lazytlb::GarbageWalksAccepted;
    use proptest::prelude::*;

    /// Figures of nothing but IPIs (handler) and CR3 loads.
    fn costs(handler: [f64; 3], cr3: [f64; 3]) -> Costs {
        let figures = Parameter::ALL.map(|parameter| {
            let [low, typical, high] = match parameter {
                Parameter::IpiHandler => handler,
                Parameter::Cr3LoadFlush => cr3,
                _ => [0.0; 3],
            };
            figure(low, typical, high)
        });
        Costs::new(3.0, figures)
    }

    fn figure(low: f64, typical: f64, high: f64) -> Figure {
        let origin = "a test".to_owned();
        Figure {
            low,
            typical,
            high,
            origin,
        }
    }

    fn replayed(policy: Policy, ipis: u64, loads: u64) -> Replayed {
        let counts = Counts {
            ipis,
            ipis_to_running: ipis,
            cr3_flush: loads,
            ..Counts::default()
        };
        let pcids = PcidsOn::No;
        Replayed {
            policy,
            pcids,
            counts,
            counts_if_freed: None,
        }
    }

    #[test]
    fn a_price_is_the_sum_of_counts_times_figures() {
        let one = replayed(Policy::Ipi, 10, 3).counts;
        let cost = price(&one, &costs([100.0, 200.0, 1000.0], [1.0, 2.0, 3.0]));
        let expected = Cost {
            low: 1003.0,
            typical: 2006.0,
            high: 10_009.0,
        };
        assert_eq!(cost, expected);
    }

    #[test]
    fn overlapping_ranges_of_cost_can_still_be_decided() {
        // 10 IPIs and 4 loads against 10 IPIs and 3 loads: 1004..10012 and 1003..10009 cycles.
        let costs = costs([100.0, 200.0, 1000.0], [1.0, 2.0, 3.0]);
        let both = [
            replayed(Policy::Ipi, 10, 4),
            replayed(Policy::InitMm, 10, 3),
        ];
        let expected = Some(Cheapest::Policy(Policy::InitMm));
        assert_eq!(cheapest(&both, &costs), expected);
    }

    #[test]
    fn the_figures_decide_between_ipis_and_loads() {
        // 10 IPIs, or 100 loads: IPIs are cheaper iff one costs less than 10 loads.
        let both = [
            replayed(Policy::Ipi, 10, 0),
            replayed(Policy::InitMm, 0, 100),
        ];
        let answer = |handler, cr3| cheapest(&both, &costs(handler, cr3));
        assert_eq!(
            answer([20.0, 25.0, 29.0], [3.0, 4.0, 5.0]),
            Some(Cheapest::Policy(Policy::Ipi))
        );
        assert_eq!(
            answer([51.0, 60.0, 70.0], [3.0, 4.0, 5.0]),
            Some(Cheapest::Policy(Policy::InitMm))
        );
        let between = vec![Policy::Ipi, Policy::InitMm];
        assert_eq!(
            answer([31.0, 40.0, 45.0], [3.0, 4.0, 5.0]),
            Some(Cheapest::Undecided { between })
        );
    }

    #[test]
    fn equal_counts_are_a_tie_and_what_is_beaten_drops_out() {
        let defer = Policy::Defer(GarbageWalksAccepted);
        let costs = costs([20.0, 25.0, 29.0], [3.0, 4.0, 5.0]);
        let mut all = vec![
            replayed(defer, 1, 5),
            replayed(Policy::DeferUnlessQuirk, 1, 5),
            replayed(Policy::Ipi, 2, 6),
        ];
        let tie = vec![defer, Policy::DeferUnlessQuirk];
        assert_eq!(cheapest(&all, &costs), Some(Cheapest::Tie(tie.clone())));
        all.push(replayed(Policy::InitMm, 0, 10));
        let between = [tie, vec![Policy::InitMm]].concat();
        assert_eq!(
            cheapest(&all, &costs),
            Some(Cheapest::Undecided { between })
        );
        assert_eq!(cheapest(&[], &costs), None);
    }

    #[test]
    fn a_difference_names_what_is_paid_more_often_on_either_side() {
        let costs = costs([20.0, 25.0, 29.0], [3.0, 4.0, 5.0]);
        let (a, b) = (replayed(Policy::Ipi, 7, 1), replayed(Policy::InitMm, 5, 9));
        let difference = Difference::between(&a.counts, &b.counts, &costs);
        let more = [(Parameter::IpiTarget, 2), (Parameter::IpiHandler, 2)];
        assert_eq!(difference.more, more);
        assert_eq!(difference.fewer, [(Parameter::Cr3LoadFlush, 8)]);
        assert_eq!((difference.low, difference.high), (0.0, 34.0));
        assert_eq!(difference.typical, 18.0);
    }

    #[test]
    fn at_the_break_even_both_cost_the_same() {
        let costs = costs([20.0, 25.0, 29.0], [3.0, 4.0, 5.0]);
        let (a, b) = (replayed(Policy::Ipi, 7, 1), replayed(Policy::InitMm, 5, 9));
        let difference = Difference::between(&a.counts, &b.counts, &costs);
        // 2 handlers more against 8 loads fewer: 16 cycles = 4 * 8 / 2, or 6.25 = 25 * 2 / 8.
        let at = |parameter| difference.break_even(parameter, &costs);
        assert_eq!(at(Parameter::IpiHandler), Some(16.0));
        assert_eq!(at(Parameter::Cr3LoadFlush), Some(6.25));
        assert_eq!(at(Parameter::Invlpg), None);
        // 18 cycles dearer than b without it: no figure makes up for that.
        assert_eq!(at(Parameter::IpiTarget), None);
    }

    #[test]
    fn the_greatest_counts_and_figures_stay_finite() {
        let greatest = crate::costs::MAX_FIGURE_CYCLES;
        let figures = Parameter::ALL.map(|_| figure(0.0, 1.0, greatest));
        let costs = Costs::new(3.0, figures);
        let most = Counts {
            shootdowns: u64::MAX,
            ipis: u64::MAX,
            cr3_flush: u64::MAX,
            full_flushes: u64::MAX,
            ..Counts::default()
        };
        assert!(price(&most, &costs).high.is_finite());
        let difference = Difference::between(&Counts::default(), &most, &costs);
        assert!(difference.low.is_finite() && difference.high == 0.0);
    }

    /// A policy's counts: whole numbers so small that sums of floats are exact.
    fn any_counts() -> impl Strategy<Value = Counts> {
        proptest::array::uniform8(0..50_u64).prop_map(|n| Counts {
            shootdowns: n[0],
            ipis: n[1],
            ipis_to_running: n[2],
            ipis_to_idle: n[3],
            cr3_flush: n[4],
            full_flushes: n[5],
            invlpg: n[6],
            locked: n[7],
            ..Counts::default()
        })
    }

    fn any_costs() -> impl Strategy<Value = Costs> {
        let range = proptest::array::uniform3(0..40_u32).prop_map(|mut ends| {
            ends.sort_unstable();
            let [low, typical, high] = ends.map(f64::from);
            figure(low, typical, high)
        });
        proptest::collection::vec(range, Parameter::ALL.len())
            .prop_map(|figures| Costs::new(3.0, figures.try_into().unwrap()))
    }

    /// The cost at one corner of the box: bit `n` says at which end the n-th figure stands.
    fn at_corner(counts: &Counts, costs: &Costs, corner: u32) -> f64 {
        let terms = Parameter::ALL
            .into_iter()
            .enumerate()
            .map(|(n, parameter)| {
                let figure = costs.figure(parameter);
                let cycles = if corner >> n & 1 == 1 {
                    figure.high
                } else {
                    figure.low
                };
                parameter.count(counts) as f64 * cycles
            });
        terms.sum()
    }

    proptest! {
        /// All 2^16 corners: a linear function takes its extremes there.
        #[test]
        fn a_difference_spans_exactly_what_the_corners_of_the_box_show(
            a in any_counts(), b in any_counts(), costs in any_costs()
        ) {
            let difference = Difference::between(&a, &b, &costs);
            let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
            for corner in 0..1 << Parameter::ALL.len() {
                let here = at_corner(&a, &costs, corner) - at_corner(&b, &costs, corner);
                (low, high) = (low.min(here), high.max(here));
            }
            prop_assert_eq!((difference.low, difference.high), (low, high));
        }

        #[test]
        fn whoever_is_called_cheapest_is_so_at_every_corner(
            counts in proptest::collection::vec(any_counts(), 1..6),
            costs in any_costs(),
            corners in proptest::collection::vec(0_u32..1 << Parameter::ALL.len(), 32),
        ) {
            let all: Vec<Replayed> = Policy::ALL
                .iter()
                .copied()
                .zip(counts)
                .map(|(policy, counts)| Replayed { policy, pcids: PcidsOn::No, counts, counts_if_freed: None })
                .collect();
            let (unbeaten, strictly) = match cheapest(&all, &costs).unwrap() {
                Cheapest::Policy(policy) => (vec![policy], true),
                Cheapest::Tie(policies) => (policies, true),
                Cheapest::Undecided { between } => (between, false),
            };
            let (winners, losers): (Vec<_>, Vec<_>) =
                all.iter().partition(|one| unbeaten.contains(&one.policy));
            for corner in corners {
                let cost = |one: &&Replayed| at_corner(&one.counts, &costs, corner);
                let best = winners.iter().map(cost).fold(f64::INFINITY, f64::min);
                prop_assert!(losers.iter().all(|loser| cost(loser) > best));
                prop_assert!(!strictly || winners.iter().all(|winner| cost(winner) == best));
            }
        }
    }
}
