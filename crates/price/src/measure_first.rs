//! Which figure to measure first: the one whose knowledge leaves the least to lose.
//!
//! With one figure known, and every other anywhere in its range, what a policy can lose against another is a line in
//! that figure's value; what it can lose at all is the highest of its lines, and the least regret the lowest of these
//! over all policies. That curve bends only where two lines cross, so its extremes over the figure's range stand at
//! the range's ends or at a crossing.

use crate::costs::{Costs, Parameter};
use crate::counts::Counts;
use crate::replayed::Replayed;

/// Two regrets that differ by less than this share are one: sums of floats are not closer.
const ROUNDING: f64 = 1e-9;

/// Says what a figure's knowledge is worth.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MeasureFirst {
    /// The figure.
    pub parameter: Parameter,
    /// The least regret once the figure is known, at the value that leaves most of it, in cycles.
    pub regret_at_most: f64,
    /// The least regret once the figure is known, at the value that leaves least of it, in cycles.
    pub regret_at_least: f64,
}

/// Finds the figure whose knowledge leaves the least regret at worst, and of those that leave the same, at best; `None`
/// if no figure's knowledge can leave less than `regret_today`.
pub(crate) fn measure_first(
    scenarios: &[&[Replayed]],
    costs: &Costs,
    regret_today: f64,
) -> Option<MeasureFirst> {
    let has_range = |parameter: &Parameter| {
        let figure = costs.figure(*parameter);
        figure.low < figure.high
    };
    let known = Parameter::ALL.into_iter().filter(has_range);
    let known = known.map(|parameter| once_known(parameter, scenarios, costs));
    let (mut best, mut least): (Option<MeasureFirst>, _) = (None, (regret_today, regret_today));
    for one in known {
        let is_less = |a: f64, b: f64| a < b - regret_today * ROUNDING;
        let leaves = (one.regret_at_most, one.regret_at_least);
        if is_less(leaves.0, least.0) || !is_less(least.0, leaves.0) && is_less(leaves.1, least.1) {
            (best, least) = (Some(one), leaves);
        }
    }
    best
}

/// What `a` can lose against `b`, in cycles, as a function of one figure's value.
#[derive(Clone, Copy)]
struct Line {
    at_zero: f64,
    slope: f64,
}

impl Line {
    /// What no policy loses against itself.
    const NOTHING: Line = Line {
        at_zero: 0.0,
        slope: 0.0,
    };

    fn between(a: &Counts, b: &Counts, costs: &Costs, known: Parameter) -> Line {
        let mut line = Line::NOTHING;
        for parameter in Parameter::ALL {
            let (of_a, of_b) = (parameter.count(a), parameter.count(b));
            let (times, figure) = (of_a.abs_diff(of_b) as f64, costs.figure(parameter));
            let a_pays_more = of_a > of_b;
            if parameter == known {
                line.slope = if a_pays_more { times } else { -times };
            } else if a_pays_more {
                line.at_zero += times * figure.high;
            } else {
                line.at_zero -= times * figure.low;
            }
        }
        line
    }

    fn at(self, value: f64) -> f64 {
        self.at_zero + self.slope * value
    }

    /// Where two lines meet, if they do so at one value.
    fn meets(self, other: Line) -> Option<f64> {
        let value = (other.at_zero - self.at_zero) / (self.slope - other.slope);
        value.is_finite().then_some(value)
    }
}

fn once_known(parameter: Parameter, scenarios: &[&[Replayed]], costs: &Costs) -> MeasureFirst {
    let policies = scenarios.first().map_or(0, |scenario| scenario.len());
    let lines_of = |place: usize| {
        let against = scenarios.iter().flat_map(move |scenario| {
            let own = &scenario[place].counts;
            let others = scenario.iter();
            others.map(move |other| Line::between(own, &other.counts, costs, parameter))
        });
        against.chain([Line::NOTHING]).collect::<Vec<Line>>()
    };
    let lines: Vec<Vec<Line>> = (0..policies).map(lines_of).collect();
    let least_regret = |value: f64| {
        let of_one = |lines: &Vec<Line>| {
            let losses = lines.iter().map(|line| line.at(value));
            losses.fold(0.0, f64::max)
        };
        lines.iter().map(of_one).fold(f64::INFINITY, f64::min)
    };
    let figure = costs.figure(parameter);
    let range = figure.low..=figure.high;
    let (mut most, mut least) = (0.0, f64::INFINITY);
    let mut look_at = |value: f64| {
        let regret = least_regret(value);
        (most, least) = (f64::max(most, regret), f64::min(least, regret));
    };
    look_at(figure.low);
    look_at(figure.high);
    let all: Vec<Line> = lines.iter().flatten().copied().collect();
    for (n, one) in all.iter().enumerate() {
        let crossings = all[..n].iter().filter_map(|other| one.meets(*other));
        crossings
            .filter(|value| range.contains(value))
            .for_each(&mut look_at);
    }
    MeasureFirst {
        parameter,
        regret_at_most: most,
        regret_at_least: least,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcids_on::PcidsOn;
    use lazytlb::Policy;
    use proptest::prelude::*;

    fn replayed(policy: Policy, loads: u64, invlpg: u64, locked: u64) -> Replayed {
        let counts = Counts {
            cr3_flush: loads,
            invlpg,
            locked,
            ..Counts::default()
        };
        Replayed {
            policy,
            pcids: PcidsOn::No,
            counts,
            counts_if_freed: None,
        }
    }

    /// All figures known to be nothing, but these.
    fn costs(ranges: &[(Parameter, u32, u32)]) -> Costs {
        let mut costs = Costs::shipped();
        for parameter in Parameter::ALL {
            costs.set(&format!("{}=0", parameter.name())).unwrap();
        }
        for (parameter, low, high) in ranges {
            let range = format!("{}={low},{low},{high}", parameter.name());
            costs.set(&range).unwrap();
        }
        costs
    }

    #[test]
    fn the_figure_that_settles_most_is_measured_first() {
        // Ten loads, or ten INVLPGs; with loads known, 5 at worst: 10 * (10 - 0) halved.
        let costs = costs(&[
            (Parameter::Cr3LoadFlush, 0, 100),
            (Parameter::Invlpg, 0, 10),
        ]);
        let both = [
            replayed(Policy::InitMm, 10, 0, 0),
            replayed(Policy::Ipi, 0, 10, 0),
        ];
        let first = measure_first(&[&both], &costs, 100.0).expect("it helps to know loads");
        assert_eq!(first.parameter, Parameter::Cr3LoadFlush);
        assert_eq!((first.regret_at_most, first.regret_at_least), (50.0, 0.0));
    }

    #[test]
    fn nothing_is_to_be_measured_where_nothing_is_to_be_lost_or_known() {
        let ranges = [(Parameter::Cr3LoadFlush, 5, 100)];
        let both = [
            replayed(Policy::InitMm, 10, 0, 0),
            replayed(Policy::Ipi, 9, 0, 0),
        ];
        assert_eq!(measure_first(&[&both], &costs(&ranges), 0.0), None);
        assert_eq!(measure_first(&[&both], &costs(&[]), 0.0), None);
        assert_eq!(measure_first(&[], &costs(&ranges), 0.0), None);
        assert_eq!(measure_first(&[&[]], &costs(&ranges), 0.0), None);
    }

    const THREE: [Parameter; 3] = [
        Parameter::Cr3LoadFlush,
        Parameter::Invlpg,
        Parameter::Locked,
    ];

    /// The least regret from nothing but the definition, at every corner of what is not known.
    fn by_corners(
        scenarios: &[&[Replayed]],
        costs: &Costs,
        known: Option<(Parameter, f64)>,
    ) -> f64 {
        let corner = |bits: usize| {
            let ends = THREE.iter().enumerate().map(|(n, &parameter)| {
                let figure = costs.figure(parameter);
                match (known, bits >> n & 1) {
                    (Some((known, value)), _) if parameter == known => value,
                    (_, 0) => figure.low,
                    _ => figure.high,
                }
            });
            ends.collect::<Vec<f64>>()
        };
        let cost = |one: &Replayed, at: &[f64]| {
            let terms = THREE.iter().zip(at);
            let terms =
                terms.map(|(parameter, cycles)| parameter.count(&one.counts) as f64 * cycles);
            terms.sum::<f64>()
        };
        let everywhere = || {
            scenarios
                .iter()
                .flat_map(|one| (0..8).map(move |bits| (one, corner(bits))))
        };
        let regret = |place: usize| {
            let losses = everywhere().map(|(scenario, at)| {
                let costs = scenario.iter().map(|one| cost(one, &at));
                cost(&scenario[place], &at) - costs.fold(f64::INFINITY, f64::min)
            });
            losses.fold(0.0, f64::max)
        };
        (0..scenarios[0].len())
            .map(regret)
            .fold(f64::INFINITY, f64::min)
    }

    fn any_table() -> impl Strategy<Value = Vec<Replayed>> {
        proptest::collection::vec(proptest::array::uniform3(0..12_u64), 4).prop_map(|counts| {
            let rows = Policy::ALL.iter().zip(counts);
            rows.map(|(&policy, [a, b, c])| replayed(policy, a, b, c))
                .collect()
        })
    }

    fn any_range() -> impl Strategy<Value = (u32, u32)> {
        (0..8_u32, 0..8_u32).prop_map(|(low, width)| (low, low + width))
    }

    proptest! {
        /// On a grid so fine that the curve, whose slope is known, can hide little between two of its points.
        #[test]
        fn what_a_figures_knowledge_leaves_is_what_a_fine_grid_shows(
            tables in proptest::collection::vec(any_table(), 1..3),
            ranges in proptest::array::uniform3(any_range()),
        ) {
            let named = |n: usize| (THREE[n], ranges[n].0, ranges[n].1);
            let costs = costs(&[named(0), named(1), named(2)]);
            let scenarios: Vec<&[Replayed]> = tables.iter().map(Vec::as_slice).collect();
            let today = by_corners(&scenarios, &costs, None);
            let (mut most_left, mut least_left) = (today, today);
            for (parameter, (low, high)) in THREE.into_iter().zip(ranges) {
                let exact = once_known(parameter, &scenarios, &costs);
                let (mut most, mut least) = (0.0_f64, f64::INFINITY);
                for step in 0..=64 {
                    let value = f64::from(low) + f64::from(high - low) * f64::from(step) / 64.0;
                    let regret = by_corners(&scenarios, &costs, Some((parameter, value)));
                    (most, least) = (most.max(regret), least.min(regret));
                }
                // No line is steeper than 11 cycles a cycle.
                let hidden = 11.0 * f64::from(high - low) / 128.0 + 1e-9;
                let (at_most, at_least) = (exact.regret_at_most, exact.regret_at_least);
                prop_assert!((most - 1e-9..=most + hidden).contains(&at_most), "{at_most} {most}");
                prop_assert!((least - hidden..=least + 1e-9).contains(&at_least), "{at_least} {least}");
                most_left = most_left.min(at_most);
                least_left = least_left.min(at_least);
            }
            match measure_first(&scenarios, &costs, today) {
                Some(first) => prop_assert!(first.regret_at_most <= most_left + 1e-6),
                None => prop_assert!(most_left.min(least_left) >= today - 1e-6),
            }
        }
    }
}
