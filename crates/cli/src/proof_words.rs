//! How the proofs of a decision are told: in a word, in a cell, as the command that repeats one.

use lazytlb::Policy;
use lazytlb_check::Verdict;

use crate::arguments::Decide;
use crate::decision::Row;
use crate::numbers::grouped;
use crate::proofs::{Proof, worst};
use crate::subject::Subject;
use crate::verdict_words::outcome;

/// Says in a word or a number what verdicts came to: the states of proofs, or what they are instead.
pub(crate) fn came_to(verdicts: &[&Verdict]) -> String {
    let worst = worst(verdicts.iter().copied());
    match worst {
        Some(worst) if worst.violation().is_some() => "unsafe".to_owned(),
        Some(worst) if !worst.is_safe() => worst.name().to_owned(),
        _ => grouped(states(verdicts.iter().copied())),
    }
}

fn states<'v>(verdicts: impl Iterator<Item = &'v Verdict>) -> u64 {
    verdicts.map(|verdict| verdict.effort.states).sum()
}

/// Says what was found, under which menus, and how much was searched for it.
pub(crate) fn proof(options: &Decide, row: &Row<'_>) -> String {
    match row.verdict() {
        verdict if verdict.is_safe() => {
            let states = grouped(states(row.verdicts()));
            let mut numbers: Vec<usize> = row
                .proofs
                .iter()
                .map(|proof| proof.question.number)
                .collect();
            numbers.dedup();
            let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
            match &options.program {
                Some(_) => format!("safe: {states} states"),
                None => format!("safe under {}: {states} states", numbers.join(", ")),
            }
        }
        verdict => outcome(verdict),
    }
}

/// Names what a proof is about.
pub(crate) fn under(options: &Decide, proof: &Proof<'_>) -> String {
    let name = &proof.question.name;
    match options.hardware.is_every() {
        true => format!("{name} on {}", proof.verdict.cpu_model.name),
        false => name.clone(),
    }
}

/// Returns the command that searches the same to the end.
pub(crate) fn repeat(
    options: &Decide,
    policy: Policy,
    subject: &Subject,
    verdict: &Verdict,
) -> String {
    format!(
        "lazytlb check --policy {policy} {} {}",
        subject.arguments(),
        options.hardware.arguments_for(verdict.cpu_model)
    )
}
