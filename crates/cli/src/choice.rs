//! Tells a choice by regret: the policy, what it can lose, and which cost to measure first.

use lazytlb::{Policy, Quirks};
use lazytlb_price::{Cheapest, Costs, Decision, Difference, Replayed, Standing, cheapest};

use crate::measure::how_to_measure;
use crate::numbers::{cycles, grouped};
use crate::policies::named_here;
use crate::pricing::{Yardstick, as_percent};

/// A choice among policies on CPUs of one kind.
pub(crate) struct Choice<'a> {
    pub(crate) decision: Decision,
    /// Those that it is a choice between.
    pub(crate) among: Vec<Replayed>,
    pub(crate) costs: &'a Costs,
    pub(crate) yardstick: Yardstick,
    /// The errata of each CPU model that it is for.
    pub(crate) models: &'a [Quirks],
}

impl<'a> Choice<'a> {
    /// Chooses, or returns `None` among none.
    pub(crate) fn among(
        among: Vec<Replayed>,
        costs: &'a Costs,
        yardstick: Yardstick,
        models: &'a [Quirks],
    ) -> Option<Choice<'a>> {
        let freed: Vec<Replayed> = among.iter().map(|one| one.if_freed()).collect();
        let decision = match freed == among {
            true => Decision::among(&[&among], costs)?,
            false => Decision::among(&[&among, &freed], costs)?,
        };
        Some(Choice {
            decision,
            among,
            costs,
            yardstick,
            models,
        })
    }

    /// The share of the CPU time above which a loss matters, if the least regret does.
    pub(crate) fn undecided_above(&self) -> Option<f64> {
        self.yardstick.exceeded_by(self.decision.choice.regret)
    }

    /// Says how a policy stands: in a word or two, for a column.
    pub(crate) fn mark(&self, policy: Policy) -> &'static str {
        let chosen = &self.decision.choice;
        let is_chosen = policy == chosen.policy || chosen.equal_to.contains(&policy);
        let regret = self.decision.standing(policy).map(|one| one.regret);
        match (is_chosen, self.undecided_above()) {
            (true, Some(_)) => "undecided",
            (false, Some(_)) if self.unbeaten().contains(&policy) => "undecided",
            (true, None) if regret == Some(0.0) => "cheapest",
            (true, None) => "least regret",
            (false, _) => "",
        }
    }

    /// Those that no other policy beats whatever the costs are.
    fn unbeaten(&self) -> Vec<Policy> {
        match cheapest(&self.among, self.costs) {
            None => Vec::new(),
            Some(Cheapest::Policy(policy)) => vec![policy],
            Some(Cheapest::Tie(policies)) => policies,
            Some(Cheapest::Undecided { between }) => between,
        }
    }

    /// Tells the choice; `machine` says of which CPUs, and among whom.
    pub(crate) fn lines(&self, machine: &str) -> Vec<String> {
        let mut lines = vec![format!("{machine}: {}.", self.first_line())];
        let equal = &self.decision.choice.equal_to;
        if !equal.is_empty() {
            let names: Vec<String> = equal.iter().map(|policy| self.named(*policy)).collect();
            lines.push(format!(
                "  {} costs the same, whatever the costs: all that is paid for is counted alike",
                names.join(", ")
            ));
        }
        lines.extend(self.what_turns());
        lines.extend(self.what_to_measure());
        lines
    }

    fn named(&self, policy: Policy) -> String {
        named_here(policy, self.models)
    }

    fn first_line(&self) -> String {
        let decision = &self.decision;
        let (choice, at_typical) = (&decision.choice, &decision.at_typical);
        let name = self.named(choice.policy);
        if self.among.len() == 1 {
            return format!("{name}, as the only one");
        }
        if choice.regret == 0.0 {
            return format!(
                "{name}: no other one is cheaper, whatever the costs are within their ranges"
            );
        }
        let head = match (self.undecided_above(), decision.differs_at_typical()) {
            (Some(above), _) => format!(
                "undecided: even {name}, which can lose least, may lose {} % of the CPU time, more than {} %",
                as_percent(self.yardstick.share(choice.regret).unwrap_or(0.0)),
                as_percent(above)
            ),
            (None, true) => format!("{name}, which can lose least"),
            (None, false) => name,
        };
        match decision.differs_at_typical() {
            false => format!("{head}: it {}", self.losses(choice)),
            true => format!(
                "{head}; with typical costs it is {}: {}; {}",
                self.named(at_typical.policy),
                self.losses_of(choice),
                self.losses_of(at_typical)
            ),
        }
    }

    fn losses_of(&self, standing: &Standing) -> String {
        format!("{} {}", self.named(standing.policy), self.losses(standing))
    }

    fn losses(&self, standing: &Standing) -> String {
        format!(
            "loses at most {} against the best one, and {} with typical costs",
            self.yardstick.told(standing.regret),
            self.yardstick.told(standing.loss_typical)
        )
    }

    /// Says which single figure would make another policy than that with typical costs the cheapest, and where.
    fn what_turns(&self) -> Vec<String> {
        let unbeaten = self.unbeaten();
        let leader = &self.decision.at_typical;
        let mut lines = Vec::new();
        let mut told = vec![leader.policy];
        for standing in &self.decision.standings {
            let policies = [&[standing.policy], &standing.equal_to[..]].concat();
            let is_told = policies.iter().any(|policy| told.contains(policy));
            if is_told || !unbeaten.contains(&standing.policy) {
                continue;
            }
            let names = policies.iter().map(|policy| self.named(*policy));
            lines.push(format!(
                "  {} is cheaper than {} {}",
                names.collect::<Vec<_>>().join(" or "),
                self.named(leader.policy),
                self.turns(standing.policy, leader.policy)
            ));
            told.extend(policies);
        }
        lines
    }

    /// Says with which single figure one policy becomes cheaper than another, the rest being typical.
    fn turns(&self, other: Policy, leader: Policy) -> String {
        let counts = |policy| {
            let mut all = self.among.iter();
            let one = all.find(|one| one.policy == policy);
            one.map(|one| one.counts).unwrap_or_default()
        };
        let difference = Difference::between(&counts(other), &counts(leader), self.costs);
        let leader_pays = difference.fewer.iter().map(|(paid, _)| (*paid, "over"));
        let other_pays = difference.more.iter().map(|(paid, _)| (*paid, "under"));
        let turns = leader_pays
            .chain(other_pays)
            .filter_map(|(parameter, side)| {
                let at = difference.break_even(parameter, self.costs)?;
                let figure = self.costs.figure(parameter);
                let is_possible = (figure.low..=figure.high).contains(&at);
                is_possible.then(|| format!("{} {side} {}", parameter.name(), grouped(at as u64)))
            });
        let turns: Vec<String> = turns.collect();
        match turns.is_empty() {
            true => "with several costs away from typical together".to_owned(),
            false => format!("with {} cycles, the rest typical", turns.join(", or ")),
        }
    }

    fn what_to_measure(&self) -> Vec<String> {
        let Some(first) = self.decision.measure_first else {
            return Vec::new();
        };
        let (name, figure) = (first.parameter.name(), self.costs.figure(first.parameter));
        let ends = [figure.low, figure.typical, figure.high].map(|end| grouped(end.round() as u64));
        let now = cycles(self.decision.choice.regret);
        let left = match (cycles(first.regret_at_least), cycles(first.regret_at_most)) {
            (least, most) if least == most => format!("is {most}, not {now}"),
            (least, most) if most == now => format!("may fall to {least}, from {now}"),
            (least, most) => format!("is {least} to {most}, not {now}"),
        };
        vec![
            format!(
                "  Measure {name} first ({} cycles here): once it is known, the least that can be lost {left}",
                ends.join(" / "),
            ),
            format!(
                "    {}; then --cost {name}=VALUE",
                how_to_measure(first.parameter)
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::Machine;
    use lazytlb::GarbageWalksAccepted;
    use lazytlb_price::{Counts, Parameter, PcidsOn};

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

    fn lines(all: &[Replayed], costs: &Costs, undecided_above: f64) -> Vec<String> {
        let yardstick = Yardstick::CpuTime {
            cycles: 1e9,
            machine: Machine::default(),
            undecided_above,
        };
        let choice = Choice::among(all.to_vec(), costs, yardstick, &[Quirks::NONE]);
        choice.expect("there are some").lines("Here")
    }

    /// 100,000 IPIs lose at most 100,000 * 1000 - 100,000 * 1 against as many loads; these 100,000 * 300 against them.
    fn both() -> [Replayed; 2] {
        [
            replayed(Policy::Ipi, 100_000, 0),
            replayed(Policy::InitMm, 0, 100_000),
        ]
    }

    #[test]
    fn the_first_line_names_both_where_typical_costs_choose_otherwise() {
        let costs = costs("0,22,1000", "1,100,300");
        let told = lines(&both(), &costs, 0.05);
        assert_eq!(
            told[0],
            "Here: init-mm, which can lose least; with typical costs it is ipi: init-mm loses at most 30 Mcycles (3.00 % of \
             the CPU time) against the best one, and 7.80 Mcycles (0.78 % of the CPU time) with typical costs; ipi loses at \
             most 100 Mcycles (9.99 % of the CPU time) against the best one, and nothing with typical costs."
        );
        assert!(
            told[1].starts_with("  init-mm is cheaper than ipi with "),
            "{told:?}"
        );
        assert!(told[2].starts_with("  Measure ipi_handler first (0 / 22 / 1,000 cycles here)"));
        let undecided = lines(&both(), &costs, 0.005);
        let words = "Here: undecided: even init-mm, which can lose least, may lose 3.00 % of the CPU time, more than 0.50 %; \
                     with typical costs it is ipi: init-mm loses";
        assert!(undecided[0].starts_with(words), "{undecided:?}");
    }

    #[test]
    fn where_they_agree_or_nothing_can_be_lost_the_first_line_says_so() {
        let agreed = lines(&both(), &costs("0,220,1000", "1,100,300"), 0.05);
        let words = "Here: init-mm: it loses at most 30 Mcycles (3.00 % of the CPU time) against the best one, and nothing";
        assert!(agreed[0].starts_with(words), "{agreed:?}");
        let sure = lines(&both(), &costs("0", "1,100,300"), 0.0);
        let words =
            "Here: ipi: no other one is cheaper, whatever the costs are within their ranges.";
        assert_eq!(sure, [words]);
        let alone = lines(&both()[..1], &costs("0", "1"), 0.0);
        assert_eq!(alone, ["Here: ipi, as the only one."]);
    }

    #[test]
    fn equal_ones_are_told_once() {
        let equal = [
            replayed(Policy::Defer(GarbageWalksAccepted), 5, 5),
            replayed(Policy::DeferUnlessQuirk, 5, 5),
        ];
        let told = lines(&equal, &costs("0,1,2", "0,1,2"), 0.0);
        assert!(
            told[1].starts_with("  defer-unless-quirk (here: defer) costs the same"),
            "{told:?}"
        );
        let against = [&equal[..], &[replayed(Policy::InitMm, 0, 9)]].concat();
        let told = lines(&against, &costs("1,2,30", "1,2,3"), 1.0);
        let turns = told.iter().filter(|line| line.contains("is cheaper than"));
        let turns: Vec<&String> = turns.collect();
        assert!(
            matches!(turns[..], [one] if one.starts_with("  defer or defer-unless-quirk (here: defer) is cheaper than init-mm")),
            "{told:?}"
        );
    }
}
