//! `lazytlb decide`: which policy is safe on this CPU, and which safe one is cheapest on this workload.

use lazytlb::Policy;
use lazytlb_check::{Finding, Verdict};
use lazytlb_price::{Cheapest, Costs, Replayed, cheapest, price};

use crate::arguments::Decide;
use crate::check::{Complete, ending_of, memory, outcome, print_basis, print_unreached, unproved};
use crate::decide_records::{DecisionRecord, ProofRecord};
use crate::every_cpu::holds_for;
use crate::hardware::told;
use crate::price::{PriceRecord, describe, megacycles, sentence, what_decides};
use crate::proofs::{self, MEMORY, Proof, Question, search_all};
use crate::report::{Ending, Report, grouped, table};
use crate::subject::Subject;
use crate::workload;

/// Runs the command.
pub(crate) fn run(options: &Decide) -> anyhow::Result<Ending> {
    let costs = workload::costs(options.costs.as_deref())?;
    let mut report = Report::open(&options.output)?;
    let cpu = options.hardware.model()?;
    let workload = workload::replay(options.trace.as_deref(), &Policy::ALL, cpu.quirks)?;
    let models = options.hardware.models()?;
    let questions = Question::all(options);
    let proofs = search_all(options, &questions, &Policy::ALL, &models)?;
    let rows = workload.replayed.iter().map(|replayed| {
        let own = proofs
            .iter()
            .filter(|proof| proof.policy == replayed.policy);
        Row::new(options, replayed, own.collect())
    });
    let rows: Vec<Row<'_>> = rows.collect::<anyhow::Result<_>>()?;
    let safe: Vec<Replayed> = rows
        .iter()
        .filter(|row| row.verdict().is_safe())
        .map(|row| *row.replayed)
        .collect();
    let cheapest = cheapest(&safe, &costs);
    if options.output.json {
        for proof in &proofs {
            report.json(&ProofRecord::new(proof))?;
        }
        for row in &rows {
            let standing = standing(row, cheapest.as_ref());
            let events = workload.summary.events;
            let price = PriceRecord::new(row.replayed, events, &costs);
            let policy = row.replayed.policy;
            report.json(&DecisionRecord::new(policy, row.verdict(), standing, price))?;
        }
        report.json(&Complete::new(proofs.len() + rows.len()))?;
    } else {
        report.line(describe(&workload))?;
        print_questions(&mut report, options, &questions, &rows)?;
        report.line(lines(&rows, &costs, cheapest.as_ref()))?;
        match &cheapest {
            Some(cheapest) => {
                let among = among(&rows);
                report.line(format_args!("{among}: {}.", sentence(cheapest)))?;
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
    let endings = rows.iter().map(|row| match ending_of(row.verdict()) {
        Ending::Violation => Ending::Good,
        ending => ending,
    });
    Ok(endings.max().unwrap_or(Ending::Good))
}

/// Says among which policies one is the cheapest: among all that are safe, if it is known of each whether it is.
fn among(rows: &[Row<'_>]) -> &'static str {
    let is_known = |row: &Row<'_>| row.verdict().is_safe() || row.verdict().violation().is_some();
    match rows.iter().all(is_known) {
        true => "Cheapest safe policy",
        false => "Cheapest of the policies that are proved safe, others being incomplete",
    }
}

/// A policy's proofs and price.
struct Row<'a> {
    replayed: &'a Replayed,
    proofs: Vec<&'a Proof<'a>>,
    /// What tells best why the policy is unsafe, and what it is a verdict on.
    story: Option<(Subject, Verdict)>,
}

impl<'a> Row<'a> {
    fn new(
        options: &Decide,
        replayed: &'a Replayed,
        proofs: Vec<&'a Proof<'a>>,
    ) -> anyhow::Result<Row<'a>> {
        let violations = proofs
            .iter()
            .filter(|proof| proof.verdict.violation().is_some());
        let shortest = violations.min_by_key(|proof| proof.verdict.effort.depth);
        let story = match shortest {
            None => None,
            Some(shortest) => Some(match proofs::story(options, shortest)? {
                Some(told) => told,
                None => (shortest.question.subject.clone(), shortest.verdict.clone()),
            }),
        };
        Ok(Row {
            replayed,
            proofs,
            story,
        })
    }

    /// The verdict on the policy: the shortest story if it is unsafe, else the worst of the proofs.
    fn verdict(&self) -> &Verdict {
        let verdicts = self.proofs.iter().map(|proof| &proof.verdict);
        match &self.story {
            Some((_, verdict)) => verdict,
            None => proofs::worst(verdicts).expect("something is asked of every policy"),
        }
    }

    fn verdicts_on(&self, question: &Question) -> Vec<&Verdict> {
        let on = self
            .proofs
            .iter()
            .filter(|proof| proof.question.name == question.name);
        on.map(|proof| &proof.verdict).collect()
    }
}

/// Says what every policy was asked; where these are menus, with what each came to.
fn print_questions(
    report: &mut Report,
    options: &Decide,
    questions: &[Question],
    rows: &[Row<'_>],
) -> anyhow::Result<()> {
    let what = match &options.program {
        Some(program) => format!("program {program}"),
        None => "every program, of any length, over each of three menus".to_owned(),
    };
    report.line(format_args!(
        "Proof: {what}, CPU model {}, memory {}: every interleaving, interrupt and speculative walk",
        match options.hardware.is_every() {
            true => "every one".to_owned(),
            false => told(options.hardware.model()?),
        },
        memory(MEMORY)
    ))?;
    if options.program.is_some() {
        return Ok(());
    }
    for Question { name, subject } in questions {
        report.line(format_args!("  {name}: {}", subject.arguments()))?;
    }
    let names = questions.iter().map(|question| question.name.as_str());
    let header: Vec<&str> = ["states"].into_iter().chain(names).collect();
    let mut table = table(&header, 1..header.len());
    for row in rows {
        let cells = questions
            .iter()
            .map(|question| came_to(&row.verdicts_on(question)));
        let policy = row.replayed.policy.name().to_owned();
        table.add_row([policy].into_iter().chain(cells));
    }
    report.line(table)
}

/// Says in a word or a number what verdicts came to: the states of proofs, or what they are instead.
fn came_to(verdicts: &[&Verdict]) -> String {
    let worst = proofs::worst(verdicts.iter().copied());
    match worst {
        Some(worst) if worst.violation().is_some() => "unsafe".to_owned(),
        Some(worst) if !worst.is_safe() => worst.name().to_owned(),
        _ => grouped(states(verdicts.iter().copied())),
    }
}

fn states<'v>(verdicts: impl Iterator<Item = &'v Verdict>) -> u64 {
    verdicts.map(|verdict| verdict.effort.states).sum()
}

/// How a policy stands in the comparison of the safe ones.
fn standing(row: &Row<'_>, cheapest: Option<&Cheapest>) -> &'static str {
    let policy = row.replayed.policy;
    match cheapest {
        _ if !row.verdict().is_safe() => "",
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
    for row in rows {
        let replayed = row.replayed;
        let counts = replayed.counts;
        table.add_row([
            replayed.policy.name().to_owned(),
            proof(row),
            grouped(counts.ipis),
            grouped(counts.ipis_to_lazy),
            grouped(counts.ipis_to_idle),
            grouped(counts.cr3_flush + counts.cr3_keep),
            grouped(counts.full_flushes),
            megacycles(price(&counts, costs)),
            standing(row, cheapest).to_owned(),
        ]);
    }
    table
}

/// Says what was found, and how much was searched for it.
fn proof(row: &Row<'_>) -> String {
    match row.verdict() {
        verdict if verdict.is_safe() => {
            let verdicts = row.proofs.iter().map(|proof| &proof.verdict);
            format!("safe: {} states", grouped(states(verdicts)))
        }
        verdict => outcome(verdict),
    }
}

fn footnotes(report: &mut Report, options: &Decide, rows: &[Row<'_>]) -> anyhow::Result<()> {
    report.line(
        "Cost: low / typical / high, with every figure of the cost file at that end of its range.",
    )?;
    for row in rows {
        let policy = row.replayed.policy;
        match &row.story {
            Some((subject, verdict)) => {
                if let Finding::Violation { timeline, .. } = &verdict.finding {
                    report.line(format_args!("{policy} is unsafe: {}", timeline.story[0]))?;
                }
                report.line(repeat(options, policy, subject, verdict))?;
            }
            None => print_unproved(report, options, row)?,
        }
    }
    let safe = rows.iter().filter(|row| row.verdict().is_safe());
    let proofs = safe.map(|row| {
        let verdicts = row.proofs.iter().map(|proof| &proof.verdict);
        (row.replayed.policy, verdicts.collect())
    });
    let proofs: Vec<(Policy, Vec<&Verdict>)> = proofs.collect();
    print_basis(report, &proofs)?;
    let verdicts: Vec<&Verdict> = proofs.into_iter().flat_map(|(_, all)| all).collect();
    print_unreached(report, &verdicts)
}

/// Says of a policy that is neither safe nor unsafe under which questions it is proved, why not under the others, and
/// how to let each search run to its end.
fn print_unproved(report: &mut Report, options: &Decide, row: &Row<'_>) -> anyhow::Result<()> {
    let policy = row.replayed.policy;
    let (proved, open): (Vec<&Proof<'_>>, Vec<&Proof<'_>>) =
        row.proofs.iter().partition(|proof| proof.verdict.is_safe());
    if !open.is_empty() && !proved.is_empty() {
        let names = proved.iter().map(|proof| under(options, proof));
        report.line(format_args!(
            "{policy} is not called safe: it is proved so under {} alone",
            names.collect::<Vec<_>>().join(", ")
        ))?;
    }
    for proof in open {
        if let Finding::Incomplete { why } = &proof.verdict.finding {
            let effort = proof.verdict.effort;
            report.line(format_args!(
                "{policy} under {}: {} ({} states in {:.1} s)",
                under(options, proof),
                unproved(&proof.verdict, why),
                grouped(effort.states),
                effort.seconds
            ))?;
            let subject = &proof.question.subject;
            report.line(repeat(options, policy, subject, &proof.verdict))?;
        }
    }
    Ok(())
}

fn under(options: &Decide, proof: &Proof<'_>) -> String {
    let name = &proof.question.name;
    match options.hardware.is_every() {
        true => format!("{name} on {}", proof.verdict.cpu_model.name),
        false => name.clone(),
    }
}

/// Returns the command that searches the same to the end.
fn repeat(options: &Decide, policy: Policy, subject: &Subject, verdict: &Verdict) -> String {
    format!(
        "  lazytlb check --policy {policy} {} {}",
        subject.arguments(),
        options.hardware.arguments_for(verdict.cpu_model)
    )
}
