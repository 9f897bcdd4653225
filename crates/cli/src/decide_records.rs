//! What `lazytlb decide` writes as JSON: a record for each search, then one for each policy.

use lazytlb::Policy;
use lazytlb_check::Verdict;
use serde::Serialize;

use crate::check_records::VerdictRecord;
use crate::price::PriceRecord;
use crate::proofs::Proof;

/// What a search came to.
#[derive(Serialize)]
pub(crate) struct ProofRecord<'a> {
    /// The name of the menus, or of the program.
    menu: &'a str,
    /// Whether the search came to its end.
    search_ended: bool,
    #[serde(flatten)]
    verdict: VerdictRecord,
}

impl<'a> ProofRecord<'a> {
    pub(crate) fn new(proof: &'a Proof<'_>) -> ProofRecord<'a> {
        ProofRecord {
            menu: &proof.question.name,
            search_ended: proof.ended(),
            verdict: VerdictRecord::new(proof.policy, &proof.verdict),
        }
    }
}

/// A policy, with its verdict over all searches.
#[derive(Serialize)]
pub(crate) struct DecisionRecord {
    policy: &'static str,
    verdict: &'static str,
    /// `cheapest`, `undecided`, or empty.
    among_the_safe: &'static str,
    /// The verdict that decides: of an unsafe policy its story, else the worst of the searches.
    proof: VerdictRecord,
    price: PriceRecord,
}

impl DecisionRecord {
    pub(crate) fn new(
        policy: Policy,
        verdict: &Verdict,
        among_the_safe: &'static str,
        price: PriceRecord,
    ) -> DecisionRecord {
        DecisionRecord {
            policy: policy.name(),
            verdict: verdict.name(),
            among_the_safe,
            proof: VerdictRecord::new(policy, verdict),
            price,
        }
    }
}
