//! `lazytlb decide`: which policy is safe on this CPU, and which safe one can lose least on this workload.

use lazytlb::{Policy, Quirks};
use lazytlb_check::{Finding, Verdict};
use lazytlb_price::{Costs, Counts, PcidsOn, Replay, price_replayed};
use lazytlb_trace::Operation;

use crate::arguments::Decide;
use crate::check::{Complete, print_basis, print_unreached};
use crate::decide_records::{ChoiceRecord, DecisionRecord, ProofRecord, WarningRecord};
use crate::decision::{Answer, Row, standing};
use crate::every_cpu::holds_for;
use crate::hardware::told;
use crate::html::{Decided, HtmlFile, LaneCollector, decide_page};
use crate::idle::idle_ipis;
use crate::numbers::{counted, grouped, megacycles, millions};
use crate::pcids::what_pcids_bring;
use crate::policies::{self, named_here};
use crate::price::{PriceRecord, describe};
use crate::proof_words::{came_to, proof, repeat, under};
use crate::proofs::{MEMORY, Proof, Question, search_all};
use crate::report::{Ending, Report, table};
use crate::verdict_words::{ending_of, memory, unproved};
use crate::workload::{self, Workload};

/// Runs the command.
pub(crate) fn run(options: &Decide) -> anyhow::Result<Ending> {
    let costs = options.pricing.costs()?;
    let mut report = Report::open(&options.output)?;
    let page = HtmlFile::open(&options.html, &options.output)?;
    let mut lanes = page.as_ref().map(|_| LaneCollector::default());
    let cpu = options.hardware.model()?;
    let pcids = options.pcids.settings(cpu)?;
    let workload = replayed(options, pcids, cpu.quirks, lanes.as_mut())?;
    let models = options.hardware.models()?;
    let questions = Question::all(options, pcids);
    let proofs = search_all(options, &questions, Policy::ALL, &models)?;
    let rows = Row::all(options, &workload.replayed, &proofs)?;
    let quirks: Vec<Quirks> = models.iter().map(|model| model.quirks).collect();
    let yardstick = options.pricing.yardstick(&workload.summary, &costs);
    let answers = Answer::all(&rows, &costs, yardstick, &quirks);
    if options.output.json {
        json(
            &mut report,
            (&proofs, &rows, &answers),
            &workload,
            &quirks,
            &costs,
        )?;
    } else {
        for line in answers.iter().flat_map(Answer::lines) {
            report.line(line)?;
        }
        report.line(yardstick.sentence(costs.reference_ghz()))?;
        report.line(describe(&workload))?;
        print_questions(&mut report, options, &questions, &rows)?;
        report.line(lines(options, (&rows, &answers), &quirks, &costs))?;
        if let Some(lines) = idle_ipis(&workload.replayed, workload.summary.idle_states.as_ref()) {
            report.line(lines)?;
        }
        if let Some(line) = what_pcids_bring(&workload.replayed, &costs) {
            report.line(line)?;
        }
        report.line(holds_for(&options.hardware, cpu))?;
        footnotes(&mut report, options, &rows)?;
    }
    report.finish()?;
    if let (Some(page), Some(lanes)) = (page, lanes) {
        let decided = Decided {
            options,
            rows: &rows,
            answers: &answers,
            questions: &questions,
            workload: &workload,
            models: &quirks,
            costs: &costs,
            yardstick,
        };
        page.write(&decide_page(&decided, lanes.finish(&workload.replayed)))?;
    }
    Ok(ending(&rows))
}

/// How the program ends: a violation is an answer here, too.
fn ending(rows: &[Row<'_>]) -> Ending {
    let endings = rows.iter().map(|row| match ending_of(row.verdict()) {
        Ending::Violation => Ending::Good,
        ending => ending,
    });
    endings.max().unwrap_or(Ending::Good)
}

/// Replays the workload; a timeline is collected in the same pass.
fn replayed(
    options: &Decide,
    pcids: &[PcidsOn],
    quirks: Quirks,
    lanes: Option<&mut LaneCollector>,
) -> anyhow::Result<Workload> {
    let (trace, recording) = (options.trace.as_deref(), &options.recording);
    let Some(lanes) = lanes else {
        return workload::replay(trace, Policy::ALL, pcids, quirks, recording);
    };
    let mut watch = |operation: &Operation, replays: &[Replay]| lanes.sees(operation, replays);
    workload::replay_watched(trace, Policy::ALL, pcids, quirks, recording, &mut watch)
}

fn json(
    report: &mut Report,
    (proofs, rows, answers): (&[Proof<'_>], &[Row<'_>], &[Answer<'_>]),
    workload: &Workload,
    models: &[Quirks],
    costs: &Costs,
) -> anyhow::Result<()> {
    for proof in proofs {
        report.json(&ProofRecord::new(proof))?;
    }
    for row in rows {
        let price = PriceRecord::new(row.replayed, &workload.summary, costs);
        let standing = standing(answers, row);
        report.json(&DecisionRecord::new(row, standing, models, price))?;
    }
    for answer in answers {
        report.json(&ChoiceRecord::new(answer))?;
    }
    let warnings = workload.summary.warnings();
    let records = proofs.len() + rows.len() + answers.len() + warnings.len();
    for warning in warnings {
        report.json(&WarningRecord { warning })?;
    }
    report.json(&Complete::new(records))
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
        None => "every program, of any length, over each of these menus".to_owned(),
    };
    report.line(format_args!(
        "Proof: {what}, CPU model {}, memory {}: every interleaving, interrupt and speculative walk",
        match options.hardware.is_every() {
            true => "every one".to_owned(),
            false => told(options.hardware.model()?),
        },
        memory(MEMORY)
    ))?;
    let cpu = options.hardware.model()?;
    if !cpu.pcids {
        report.line(format_args!(
            "  {} has no PCIDs: every CR3 load flushes",
            cpu.name
        ))?;
    }
    if options.program.is_some() {
        return Ok(());
    }
    for Question {
        number,
        name,
        subject,
    } in questions
    {
        report.line(format_args!("  {number} {name}: {}", subject.arguments()))?;
    }
    for pcids in PcidsOn::ALL {
        let asked = questions
            .iter()
            .filter(|question| question.pcids() == pcids);
        let asked: Vec<&Question> = asked.collect();
        if !asked.is_empty() {
            report.line(states_of(asked, pcids, rows))?;
        }
    }
    Ok(())
}

/// Makes the table of what each search came to, of those without PCIDs, or with them.
fn states_of(questions: Vec<&Question>, pcids: PcidsOn, rows: &[Row<'_>]) -> comfy_table::Table {
    let corner = format!("states, PCIDs {}", pcids.name());
    let names = questions
        .iter()
        .map(|question| format!("{} {}", question.number, question.name));
    let header: Vec<String> = [corner].into_iter().chain(names).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = table(&header, 1..header.len());
    for row in rows.iter().filter(|row| row.replayed.pcids == pcids) {
        let cells = questions
            .iter()
            .map(|question| came_to(&row.verdicts_on(question)));
        let policy = row.replayed.policy.name().to_owned();
        table.add_row([policy].into_iter().chain(cells));
    }
    table
}

fn lines(
    options: &Decide,
    (rows, answers): (&[Row<'_>], &[Answer<'_>]),
    models: &[Quirks],
    costs: &Costs,
) -> comfy_table::Table {
    let header = [
        "policy",
        "PCIDs",
        "proof",
        "IPIs",
        "to idle",
        "elsewhere",
        "CR3 loads",
        "kept",
        "flushes",
        "refills",
        "cost, Mcycles",
        "regret",
        "typical loss",
        "of the safe",
    ];
    let mut table = table(&header, 3..13);
    for row in rows {
        let replayed = row.replayed;
        let count = |of: fn(&Counts) -> u64| counted(replayed, of);
        let standing = standing(answers, row);
        let (mark, standing) = standing.map_or(("", None), |(mark, one)| (mark, Some(one)));
        table.add_row([
            named_here(replayed.policy, models),
            replayed.pcids.name().to_owned(),
            proof(options, row),
            count(|counts| counts.ipis),
            count(|counts| counts.ipis_to_idle),
            count(|counts| counts.ipis_elsewhere),
            count(|counts| counts.cr3_flush + counts.cr3_keep),
            count(|counts| counts.cr3_keep),
            count(|counts| counts.full_flushes),
            count(|counts| counts.refills_after_load + counts.refills_after_flush),
            megacycles(price_replayed(replayed, costs)),
            standing.map_or_else(String::new, |one| millions(one.regret)),
            standing.map_or_else(String::new, |one| millions(one.loss_typical)),
            mark.to_owned(),
        ]);
    }
    table
}

fn footnotes(report: &mut Report, options: &Decide, rows: &[Row<'_>]) -> anyhow::Result<()> {
    report.line(
        "Cost: low / typical / high, with every figure of the cost file at that end of its range. Regret: the most that it \
         is dearer\nthan the best safe policy on such CPUs, over all costs within their ranges; typical loss: how much dearer \
         with typical costs;\nboth in Mcycles. IPIs elsewhere went to CPUs that had another space loaded; CR3 loads that are \
         kept flush nothing; flushes\nreload the same space.",
    )?;
    report.line(policies::lines())?;
    for row in rows {
        match &row.story {
            Some((subject, verdict)) => {
                if let Finding::Violation { timeline, .. } = &verdict.finding {
                    let name = row.name();
                    report.line(format_args!("{name} is unsafe: {}", timeline.story[0]))?;
                }
                report.line(format_args!(
                    "  {}",
                    repeat(options, row.replayed.policy, subject, verdict)
                ))?;
            }
            None => print_unproved(report, options, row)?,
        }
    }
    let safe = rows.iter().filter(|row| row.verdict().is_safe());
    let proofs = safe.map(|row| (row.name(), row.verdicts().collect()));
    let proofs: Vec<(String, Vec<&Verdict>)> = proofs.collect();
    print_basis(report, &proofs)?;
    let verdicts: Vec<&Verdict> = proofs.into_iter().flat_map(|(_, all)| all).collect();
    print_unreached(report, &verdicts)
}

/// Says of a policy that is neither safe nor unsafe under which questions it is proved, why not under the others, and
/// how to let each search run to its end.
fn print_unproved(report: &mut Report, options: &Decide, row: &Row<'_>) -> anyhow::Result<()> {
    let (policy, name) = (row.replayed.policy, row.name());
    let (proved, open): (Vec<&Proof<'_>>, Vec<&Proof<'_>>) =
        row.proofs.iter().partition(|proof| proof.verdict.is_safe());
    if !open.is_empty() && !proved.is_empty() {
        let names = proved.iter().map(|proof| under(options, proof));
        report.line(format_args!(
            "{name} is not called safe: it is proved so under {} alone",
            names.collect::<Vec<_>>().join(", ")
        ))?;
    }
    for proof in open {
        if let Finding::Incomplete { why } = &proof.verdict.finding {
            let effort = proof.verdict.effort;
            report.line(format_args!(
                "{name} under {}: {} ({} states in {:.1} s)",
                under(options, proof),
                unproved(&proof.verdict, why),
                grouped(effort.states),
                effort.seconds
            ))?;
            let subject = &proof.question.subject;
            report.line(format_args!(
                "  {}",
                repeat(options, policy, subject, &proof.verdict)
            ))?;
        }
    }
    Ok(())
}
