//! What `lazytlb decide` writes as JSON: a record for each search, then one for each policy, without and with PCIDs.

use serde::Serialize;

use crate::check_records::VerdictRecord;
use crate::decision::Row;
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
    /// `on` or `off`.
    pcids: &'static str,
    verdict: &'static str,
    /// The names of the menus, or of the program, that the verdict is of.
    menus: Vec<&'a str>,
    /// Among those with PCIDs as here: `cheapest`, `undecided`, or empty.
    among_the_safe: &'static str,
    /// The verdict that decides: of an unsafe policy its story, else the worst of the searches.
    proof: VerdictRecord,
    price: PriceRecord,
}

impl<'a> DecisionRecord<'a> {
    pub(crate) fn new(
        row: &Row<'a>,
        among_the_safe: &'static str,
        price: PriceRecord,
    ) -> DecisionRecord<'a> {
        let (policy, verdict) = (row.replayed.policy, row.verdict());
        let menus = row.proofs.iter().map(|proof| proof.question.name.as_str());
        DecisionRecord {
            policy: policy.name(),
            pcids: row.replayed.pcids.name(),
            verdict: verdict.name(),
            menus: menus.collect(),
            among_the_safe,
            proof: VerdictRecord::new(policy, row.slots(), verdict),
            price,
        }
    }
}
