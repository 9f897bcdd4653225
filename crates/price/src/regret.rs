//! Decides by regret: which policy can lose least against the best one, whatever the costs are within their ranges?
//!
//! A policy's *regret* is the most that it costs beyond the best policy, over all costs within their ranges. A cost is
//! linear in the figures, so against each other policy the most is [`Difference::high`], which stands at a corner of the
//! box of figures; the regret is the greatest of these. It is exact, and no end of one range decides alone.
//!
//! Where facts of a recording are unknown, it is replayed under each assumption: a *scenario*. Within one, all policies
//! are compared on the same facts; a regret is the worst over the scenarios.

use lazytlb::Policy;

use crate::costs::Costs;
use crate::measure_first::{MeasureFirst, measure_first};
use crate::price::Difference;
use crate::replayed::Replayed;

/// Says how a policy stands among those that it is compared with.
#[derive(Clone, PartialEq, Debug)]
pub struct Standing {
    /// The policy.
    pub policy: Policy,
    /// The most that it loses against the best one, in cycles; not below 0.
    pub regret: f64,
    /// What it loses against the best one with every figure at its typical value, in cycles; not below 0.
    pub loss_typical: f64,
    /// The others that cost the same whatever the figures are: all that is paid for is counted alike.
    pub equal_to: Vec<Policy>,
}

/// A choice between policies.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision {
    /// The policy of the least regret; of several, the one that loses least with typical figures.
    pub choice: Standing,
    /// The policy that loses least with typical figures: the choice, if that is one of them.
    pub at_typical: Standing,
    /// Every policy, in the order of the input.
    pub standings: Vec<Standing>,
    /// What to measure before anything else; `None` if no figure's knowledge would help.
    pub measure_first: Option<MeasureFirst>,
}

impl Decision {
    /// Chooses among policies, or returns `None` among none. Each scenario is one table of all of them. Leave out those that
    /// are not safe, and compare replays on CPUs of one kind: PCIDs are no choice of a kernel's.
    ///
    /// # Panics
    /// If two scenarios are not of the same policies in the same order.
    pub fn among(scenarios: &[&[Replayed]], costs: &Costs) -> Option<Decision> {
        let (&first, rest) = scenarios.split_first()?;
        let policies = |table: &[Replayed]| table.iter().map(|one| one.policy).collect::<Vec<_>>();
        assert!(
            rest.iter().all(|table| policies(table) == policies(first)),
            "every scenario is about the same policies, in the same order"
        );
        let places = 0..first.len();
        let standings = places.map(|place| standing(place, scenarios, costs));
        let standings: Vec<Standing> = standings.collect();
        let least = |key: fn(&Standing) -> (f64, f64)| {
            let by = |a: &&Standing, b: &&Standing| {
                let (a, b) = (key(a), key(b));
                a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
            };
            standings.iter().min_by(by).cloned()
        };
        let choice = least(|one| (one.regret, one.loss_typical))?;
        let at_typical = least(|one| (one.loss_typical, one.regret))?;
        let at_typical = match choice.loss_typical <= at_typical.loss_typical {
            true => choice.clone(),
            false => at_typical,
        };
        let measure_first = measure_first(scenarios, costs, choice.regret);
        Some(Decision {
            choice,
            at_typical,
            standings,
            measure_first,
        })
    }

    /// Says whether the choice is another with typical figures than by regret.
    pub fn differs_at_typical(&self) -> bool {
        self.choice.policy != self.at_typical.policy
    }

    /// Returns how a policy stands, if it is among those compared.
    pub fn standing(&self, policy: Policy) -> Option<&Standing> {
        self.standings.iter().find(|one| one.policy == policy)
    }
}

fn standing(place: usize, scenarios: &[&[Replayed]], costs: &Costs) -> Standing {
    let (mut regret, mut loss_typical) = (0.0_f64, 0.0_f64);
    let mut equal = vec![true; scenarios[0].len()];
    for scenario in scenarios {
        for (other, equal) in scenario.iter().zip(&mut equal) {
            let difference = Difference::between(&scenario[place].counts, &other.counts, costs);
            regret = regret.max(difference.high);
            loss_typical = loss_typical.max(difference.typical);
            *equal &= difference.is_always_equal();
        }
    }
    let others = scenarios[0].iter().zip(equal).enumerate();
    let equal_to = others.filter(|(other, (_, equal))| *other != place && *equal);
    Standing {
        policy: scenarios[0][place].policy,
        regret,
        loss_typical,
        equal_to: equal_to.map(|(_, (one, _))| one.policy).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::costs::Parameter;
    use crate::counts::Counts;
    use crate::pcids_on::PcidsOn;
    use crate::price::{Cheapest, cheapest};
    use lazytlb::GarbageWalksAccepted;
    use proptest::prelude::*;

    fn replayed(policy: Policy, ipis: u64, loads: u64) -> Replayed {
        let counts = Counts {
            ipis_to_running: ipis,
            cr3_flush: loads,
            ..Counts::default()
        };
        Replayed {
            policy,
            pcids: PcidsOn::No,
            counts,
            counts_if_freed: None,
        }
    }

    /// Figures of nothing but IPIs (handler) and CR3 loads.
    fn costs(handler: &str, load: &str) -> Costs {
        let mut costs = Costs::shipped();
        for parameter in Parameter::ALL {
            let range = match parameter {
                Parameter::IpiHandler => handler,
                Parameter::Cr3LoadFlush => load,
                _ => "0",
            };
            costs.set(&format!("{}={range}", parameter.name())).unwrap();
        }
        costs
    }

    #[test]
    fn the_policy_that_can_lose_least_is_chosen_and_told_apart_from_the_typical_one() {
        // 10 IPIs against 100 loads: at most 10 * 1000 - 100 * 1, or 100 * 3 - 10 * 20.
        let both = [
            replayed(Policy::Ipi, 10, 0),
            replayed(Policy::InitMm, 0, 100),
        ];
        let decision = Decision::among(&[&both], &costs("20,22,1000", "1,3,3")).unwrap();
        assert_eq!(decision.choice.policy, Policy::InitMm);
        assert_eq!(
            (decision.choice.regret, decision.choice.loss_typical),
            (100.0, 80.0)
        );
        assert!(decision.differs_at_typical());
        let typical = &decision.at_typical;
        assert_eq!((typical.policy, typical.regret), (Policy::Ipi, 9900.0));
        assert_eq!(typical.loss_typical, 0.0);
    }

    #[test]
    fn equal_policies_are_told_and_who_wins_a_tie_loses_least_at_typical_figures() {
        let defer = Policy::Defer(GarbageWalksAccepted);
        let all = [
            replayed(defer, 4, 0),
            replayed(Policy::DeferUnlessQuirk, 4, 0),
            replayed(Policy::InitMm, 0, 4),
        ];
        let decision = Decision::among(&[&all], &costs("0,9,10", "0,1,10")).unwrap();
        assert_eq!(decision.choice.policy, Policy::InitMm);
        assert_eq!(decision.choice.equal_to, []);
        let deferred = decision.standing(defer).unwrap();
        assert_eq!(deferred.equal_to, [Policy::DeferUnlessQuirk]);
        assert_eq!((deferred.regret, decision.choice.regret), (40.0, 40.0));
    }

    #[test]
    fn nobody_is_chosen_among_none_and_nothing_is_lost_alone_or_without_a_price() {
        let some = costs("1,2,3", "1,2,3");
        assert_eq!(Decision::among(&[], &some), None);
        assert_eq!(Decision::among(&[&[]], &some), None);
        let alone = Decision::among(&[&[replayed(Policy::Ipi, 9, 9)]], &some).unwrap();
        assert_eq!((alone.choice.regret, alone.measure_first), (0.0, None));
        let both = [
            replayed(Policy::Ipi, u64::MAX, 0),
            replayed(Policy::InitMm, 0, 1),
        ];
        let free = Decision::among(&[&both], &costs("0", "0")).unwrap();
        assert_eq!((free.choice.regret, free.standings[1].regret), (0.0, 0.0));
        assert_eq!(free.choice.equal_to, [], "their counts differ");
    }

    #[test]
    fn the_greatest_counts_and_figures_choose_as_small_ones_do() {
        let both = [
            replayed(Policy::Ipi, u64::MAX, u64::MAX),
            replayed(Policy::InitMm, u64::MAX, u64::MAX - 1),
        ];
        let decision = Decision::among(&[&both], &costs("0,1,1e12", "1,1,1e12")).unwrap();
        assert_eq!(
            (decision.choice.policy, decision.choice.regret),
            (Policy::InitMm, 0.0)
        );
        assert_eq!(decision.standings[0].regret, 1e12, "the rest cancels out");
    }

    #[test]
    fn a_regret_is_the_worst_over_scenarios_in_each_of_which_facts_are_alike() {
        // If tables were freed, IPIs win by 30 at least; if not, loads win by 5 at most. Mixed up, loads could lose more.
        let freed = [replayed(Policy::Ipi, 0, 0), replayed(Policy::InitMm, 0, 30)];
        let kept = [replayed(Policy::Ipi, 5, 0), replayed(Policy::InitMm, 0, 0)];
        let costs = costs("1", "1");
        let decision = Decision::among(&[&freed, &kept], &costs).unwrap();
        assert_eq!(
            (decision.choice.policy, decision.choice.regret),
            (Policy::Ipi, 5.0)
        );
        assert_eq!(decision.choice.loss_typical, 5.0);
        assert_eq!(decision.standings[1].regret, 30.0);
    }

    #[test]
    fn equal_policies_are_so_in_every_scenario() {
        let apart = [replayed(Policy::Ipi, 0, 0), replayed(Policy::InitMm, 0, 1)];
        let alike = [replayed(Policy::Ipi, 2, 0), replayed(Policy::InitMm, 2, 0)];
        let costs = costs("1", "1");
        for scenarios in [[&apart[..], &alike], [&alike, &apart]] {
            let decision = Decision::among(&scenarios, &costs).unwrap();
            assert_eq!(decision.choice.equal_to, []);
        }
        let decision = Decision::among(&[&alike, &alike], &costs).unwrap();
        assert_eq!(decision.choice.equal_to, [Policy::InitMm]);
    }

    #[test]
    #[should_panic(expected = "the same policies")]
    fn scenarios_of_different_policies_are_refused() {
        let (one, other) = (
            [replayed(Policy::Ipi, 0, 0)],
            [replayed(Policy::InitMm, 0, 0)],
        );
        Decision::among(&[&one, &other], &costs("1", "1"));
    }

    proptest! {
        /// Whoever is cheapest whatever the costs are, is chosen, and can lose nothing.
        #[test]
        fn who_is_always_cheapest_is_chosen(
            counts in proptest::collection::vec((0..20_u64, 0..20_u64), 1..6),
            mut ends in proptest::array::uniform6(0..9_u32),
        ) {
            ends[..3].sort_unstable();
            ends[3..].sort_unstable();
            let told = ends.map(|end| end.to_string());
            let costs = costs(&told[..3].join(","), &told[3..].join(","));
            let rows = Policy::ALL.iter().zip(counts);
            let all: Vec<Replayed> = rows.map(|(&policy, (ipis, loads))| replayed(policy, ipis, loads)).collect();
            let decision = Decision::among(&[&all], &costs).unwrap();
            match cheapest(&all, &costs).unwrap() {
                Cheapest::Policy(policy) => {
                    prop_assert_eq!(decision.choice.policy, policy);
                    prop_assert_eq!(decision.choice.regret, 0.0);
                }
                Cheapest::Tie(tied) => prop_assert!(tied.contains(&decision.choice.policy)),
                Cheapest::Undecided { between } => prop_assert!(between.contains(&decision.choice.policy)),
            }
            let known = decision.measure_first.map_or(0.0, |first| first.regret_at_most);
            prop_assert!(known <= decision.choice.regret);
            prop_assert!(decision.choice.regret > 0.0 || decision.measure_first.is_none());
        }
    }
}
