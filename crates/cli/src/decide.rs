//! `lazytlb decide`: which policy is safe on this CPU, and which safe one is cheapest on this workload.

use lazytlb::Policy;
use lazytlb_check::{Finding, Verdict};
use lazytlb_model::MemoryModel;
use lazytlb_price::{Cheapest, Costs, Replayed, cheapest, price};
use serde::Serialize;

use crate::arguments::Decide;
use crate::check::{
    self, Complete, checker, ending_of, memory, outcome, print_basis, print_unreached, unproved,
};
use crate::check_records::VerdictRecord;
use crate::every_cpu::{check_models, holds_for};
use crate::hardware::told;
use crate::price::{PriceRecord, describe, megacycles, sentence, what_decides};
use crate::report::{Ending, Report, grouped, table};
use crate::subject::Subject;
use crate::workload;

/// Proofs are about x86-TSO: sequential consistency would hide what real CPUs do.
const MEMORY: MemoryModel = MemoryModel::TSO;

/// Runs the command.
pub(crate) fn run(options: &Decide) -> anyhow::Result<Ending> {
    let costs = workload::costs(options.costs.as_deref())?;
    let mut report = Report::open(&options.output)?;
    let cpu = options.hardware.model()?;
    let workload = workload::replay(options.trace.as_deref(), &Policy::ALL, cpu.quirks)?;
    let models = options.hardware.models()?;
    let subject = Subject::Shipped(options.program.clone());
    let mut rows = Vec::new();
    for replayed in &workload.replayed {
        let verdict = check_models(&models, |cpu| {
            let checker = checker(cpu, MEMORY, &options.bounds);
            check::check(&checker, &subject, replayed.policy)
        })?;
        rows.push(Row { replayed, verdict });
    }
    let safe: Vec<Replayed> = rows
        .iter()
        .filter(|row| row.verdict.is_safe())
        .map(|row| *row.replayed)
        .collect();
    let cheapest = cheapest(&safe, &costs);
    if options.output.json {
        for row in &rows {
            report.json(&DecisionRecord::new(
                row,
                workload.summary.events,
                &costs,
                cheapest.as_ref(),
            ))?;
        }
        report.json(&Complete::new(rows.len()))?;
    } else {
        report.line(describe(&workload))?;
        report.line(format_args!(
            "Proof: program {}, CPU model {}, memory {}: every interleaving, interrupt and speculative walk",
            options.program,
            match options.hardware.is_every() {
                true => "every one".to_owned(),
                false => told(cpu),
            },
            memory(MEMORY)
        ))?;
        report.line(lines(&rows, &costs, cheapest.as_ref()))?;
        match &cheapest {
            Some(cheapest) => {
                report.line(format_args!(
                    "Cheapest safe policy: {}.",
                    sentence(cheapest)
                ))?;
                for line in what_decides(&safe, cheapest, &costs) {
                    report.line(line)?;
                }
            }
            None => report.line("No policy is proved safe here.")?,
        }
        report.line(holds_for(&options.hardware, cpu))?;
        footnotes(&mut report, options, &rows)?;
    }
    report.finish()?;
    // A violation is an answer here, too.
    let endings = rows.iter().map(|row| match ending_of(&row.verdict) {
        Ending::Violation => Ending::Good,
        ending => ending,
    });
    Ok(endings.max().unwrap_or(Ending::Good))
}

/// A policy's proof and price.
struct Row<'a> {
    replayed: &'a Replayed,
    verdict: Verdict,
}

/// How a policy stands in the comparison of the safe ones.
fn standing(policy: Policy, verdict: &Verdict, cheapest: Option<&Cheapest>) -> &'static str {
    match cheapest {
        _ if !verdict.is_safe() => "",
        Some(Cheapest::Policy(winner)) if *winner == policy => "cheapest",
        Some(Cheapest::Tie(winners)) if winners.contains(&policy) => "cheapest",
        Some(Cheapest::Undecided { between }) if between.contains(&policy) => "undecided",
        _ => "",
    }
}

fn lines(rows: &[Row<'_>], costs: &Costs, cheapest: Option<&Cheapest>) -> comfy_table::Table {
    let header = [
        "policy",
        "proof",
        "IPIs",
        "to lazy",
        "to idle",
        "CR3 loads",
        "flushes",
        "cost, Mcycles",
        "of the safe",
    ];
    let mut table = table(&header, 2..8);
    for Row { replayed, verdict } in rows {
        let counts = replayed.counts;
        table.add_row([
            replayed.policy.name().to_owned(),
            proof(verdict),
            grouped(counts.ipis),
            grouped(counts.ipis_to_lazy),
            grouped(counts.ipis_to_idle),
            grouped(counts.cr3_flush + counts.cr3_keep),
            grouped(counts.full_flushes),
            megacycles(price(&counts, costs)),
            standing(replayed.policy, verdict, cheapest).to_owned(),
        ]);
    }
    table
}

/// Says what was found, and how much was searched for it.
fn proof(verdict: &Verdict) -> String {
    match verdict.violation() {
        Some(_) => outcome(verdict),
        None => format!(
            "{}: {} states",
            verdict.name(),
            grouped(verdict.effort.states)
        ),
    }
}

fn footnotes(report: &mut Report, options: &Decide, rows: &[Row<'_>]) -> anyhow::Result<()> {
    report.line(
        "Cost: low / typical / high, with every figure of the cost file at that end of its range.",
    )?;
    for Row { replayed, verdict } in rows {
        let policy = replayed.policy;
        match &verdict.finding {
            Finding::Violation { timeline, .. } => report.line(format_args!(
                "{policy} is unsafe: {}\n  lazytlb check --policy {policy} --program {} {}",
                timeline.story[0],
                options.program,
                options.hardware.arguments_for(verdict.cpu_model)
            ))?,
            Finding::Incomplete { why } => {
                report.line(format_args!("{policy}: {}", unproved(verdict, why)))?;
            }
            Finding::Safe => {}
        }
    }
    let proofs: Vec<(Policy, &Verdict)> = rows
        .iter()
        .map(|row| (row.replayed.policy, &row.verdict))
        .collect();
    print_basis(report, &proofs)?;
    let verdicts: Vec<&Verdict> = rows.iter().map(|row| &row.verdict).collect();
    print_unreached(report, &verdicts)
}

/// A row as JSON.
#[derive(Serialize)]
struct DecisionRecord {
    policy: &'static str,
    verdict: &'static str,
    /// `cheapest`, `undecided`, or empty.
    among_the_safe: &'static str,
    proof: VerdictRecord,
    price: PriceRecord,
}

impl DecisionRecord {
    fn new(
        row: &Row<'_>,
        events: u64,
        costs: &Costs,
        cheapest: Option<&Cheapest>,
    ) -> DecisionRecord {
        let policy = row.replayed.policy;
        DecisionRecord {
            policy: policy.name(),
            verdict: row.verdict.name(),
            among_the_safe: standing(policy, &row.verdict, cheapest),
            proof: VerdictRecord::new(policy, &row.verdict),
            price: PriceRecord::new(row.replayed, events, costs),
        }
    }
}
