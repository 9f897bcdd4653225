//! What `lazytlb decide` writes as JSON: a record for each search, then one for each policy, without and with PCIDs, then
//! the choices, and what the reader of the recording has doubts about. Of several recordings, each has its policies and
//! choices, and then all of them together.

use lazytlb::Quirks;
use lazytlb_price::Standing;
use serde::Serialize;

use crate::check_records::VerdictRecord;
use crate::choice::Choice;
use crate::decision::{Answer, Row};
use crate::measure::how_to_measure;
use crate::policies::is_here;
use crate::price::PriceRecord;
use crate::proofs::Proof;

/// What a search came to.
#[derive(Serialize)]
pub(crate) struct ProofRecord<'a> {
    /// The name of the menus, or of the program.
    menu: &'a str,
    /// `on` or `off`.
    pcids: &'static str,
    /// Whether the search came to its end.
    search_ended: bool,
    #[serde(flatten)]
    verdict: VerdictRecord,
}

impl<'a> ProofRecord<'a> {
    pub(crate) fn new(proof: &'a Proof<'_>) -> ProofRecord<'a> {
        ProofRecord {
            menu: &proof.question.name,
            pcids: proof.question.pcids().name(),
            search_ended: proof.ended(),
            verdict: VerdictRecord::new(proof.policy, proof.question.subject.slots, &proof.verdict),
        }
    }
}

/// A policy, with or without PCIDs, with its verdict over all searches.
#[derive(Serialize)]
pub(crate) struct DecisionRecord<'a> {
    policy: &'static str,
    /// The policy that it is on this CPU, if it is one that asks for errata.
    is_here: Option<String>,
    /// `on` or `off`.
    pcids: &'static str,
    /// The file's name; null in the rows of all recordings together.
    recording: Option<&'a str>,
    verdict: &'static str,
    /// The names of the menus, or of the program, that the verdict is of.
    menus: Vec<&'a str>,
    /// Among those with PCIDs as here: `cheapest` (it can lose nothing), `least regret`, `undecided`, or empty.
    among_the_safe: &'static str,
    /// What it can lose against the best safe one, and loses with typical costs; null if it is not safe.
    regret_cycles: Option<f64>,
    loss_typical: Option<f64>,
    /// The verdict that decides: of an unsafe policy its story, else the worst of the searches.
    proof: VerdictRecord,
    price: PriceRecord,
}

impl<'a> DecisionRecord<'a> {
    pub(crate) fn new(
        recording: Option<&'a str>,
        row: &Row<'a>,
        standing: Option<(&'static str, &Standing)>,
        models: &[Quirks],
        price: PriceRecord,
    ) -> DecisionRecord<'a> {
        let (policy, verdict) = (row.replayed.policy, row.verdict());
        let menus = row.proofs.iter().map(|proof| proof.question.name.as_str());
        DecisionRecord {
            recording,
            policy: policy.name(),
            is_here: is_here(policy, models),
            pcids: row.replayed.pcids.name(),
            verdict: verdict.name(),
            menus: menus.collect(),
            among_the_safe: standing.map_or("", |(mark, _)| mark),
            regret_cycles: standing.map(|(_, standing)| standing.regret),
            loss_typical: standing.map(|(_, standing)| standing.loss_typical),
            proof: VerdictRecord::new(policy, row.slots(), verdict),
            price,
        }
    }
}

/// A choice among the safe policies, with or without PCIDs.
#[derive(Serialize)]
pub(crate) struct ChoiceRecord<'a> {
    /// The file's name; null in the choices for all recordings together.
    recording: Option<&'a str>,
    /// `on` or `off`.
    pcids: &'static str,
    /// The policy of the least regret; null if none is proved safe.
    choice: Option<&'static str>,
    /// Others whose counts are the same.
    equal_to: Vec<&'static str>,
    /// Whether that of some policy is not known if it is safe.
    others_are_incomplete: bool,
    #[serde(flatten)]
    losses: Option<LossesRecord>,
    /// The cost to measure first, how, and the least regret in cycles once it is known, at least and at most; null if no
    /// cost's knowledge helps.
    measure_first: Option<&'static str>,
    measure_how: Option<&'static str>,
    measured_regret_cycles_low: Option<f64>,
    measured_regret_cycles_high: Option<f64>,
    /// Whether the least regret is a greater share of the CPU time than `--undecided-above` says.
    undecided: bool,
}

/// What the choice can lose, in cycles, and the same of the best one with typical costs.
#[derive(Serialize)]
struct LossesRecord {
    regret_cycles: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    regret_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    regret_per_1000_operations: Option<f64>,
    loss_typical: f64,
    choice_at_typical: &'static str,
    choice_at_typical_regret_cycles: f64,
    choice_at_typical_loss_typical: f64,
}

impl<'a> ChoiceRecord<'a> {
    pub(crate) fn new(recording: Option<&'a str>, answer: &Answer<'_>) -> ChoiceRecord<'a> {
        let choice = answer.choice.as_ref();
        let decision = choice.map(|choice| &choice.decision);
        let equal = decision.map_or(&[][..], |decision| &decision.choice.equal_to);
        let measure = decision.and_then(|decision| decision.measure_first);
        ChoiceRecord {
            recording,
            pcids: answer.pcids.name(),
            choice: decision.map(|decision| decision.choice.policy.name()),
            equal_to: equal.iter().map(|policy| policy.name()).collect(),
            others_are_incomplete: !answer.is_complete,
            losses: choice.map(LossesRecord::new),
            measure_first: measure.map(|first| first.parameter.name()),
            measure_how: measure.map(|first| how_to_measure(first.parameter)),
            measured_regret_cycles_low: measure.map(|first| first.regret_at_least),
            measured_regret_cycles_high: measure.map(|first| first.regret_at_most),
            undecided: choice.is_some_and(|choice| choice.undecided_above().is_some()),
        }
    }
}

impl LossesRecord {
    fn new(choice: &Choice<'_>) -> LossesRecord {
        let (chosen, at_typical) = (&choice.decision.choice, &choice.decision.at_typical);
        LossesRecord {
            regret_cycles: chosen.regret,
            regret_share: choice.yardstick.share(chosen.regret),
            regret_per_1000_operations: choice.yardstick.per_1000_operations(chosen.regret),
            loss_typical: chosen.loss_typical,
            choice_at_typical: at_typical.policy.name(),
            choice_at_typical_regret_cycles: at_typical.regret,
            choice_at_typical_loss_typical: at_typical.loss_typical,
        }
    }
}

/// A doubt of the reader's about a recording.
#[derive(Serialize)]
pub(crate) struct WarningRecord<'a> {
    pub(crate) recording: &'a str,
    pub(crate) warning: String,
}
