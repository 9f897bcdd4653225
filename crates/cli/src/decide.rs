//! `lazytlb decide`: which policy is safe on this CPU, and which safe one can lose least on this workload.

use lazytlb::{Policy, Quirks};
use lazytlb_check::{Finding, Verdict};
use lazytlb_price::{Costs, Counts, PcidsOn, Replays, price_replayed};
use lazytlb_trace::{Step, Summary};

use crate::arguments::Decide;
use crate::by_recording::choices_by_recording;
use crate::check::{Complete, print_basis, print_unreached};
use crate::decide_records::{ChoiceRecord, DecisionRecord, ProofRecord, WarningRecord};
use crate::decision::{Answer, Outcome, Row, standing};
use crate::every_cpu::holds_for;
use crate::hardware::told;
use crate::holding::{HELD, held_table};
use crate::html::{Decided, HtmlFile, LaneCollector, decide_page};
use crate::numbers::{counted, grouped, megacycles, millions};
use crate::pcids::what_pcids_bring;
use crate::policies::{self, named_here};
use crate::price::PriceRecord;
use crate::proof_words::{came_to, proof, repeat, under};
use crate::proofs::{MEMORY, Proof, Question, SMALLER_MENUS, search_all};
use crate::report::{Ending, Report, table};
use crate::verdict_words::{ending_of, memory, unproved};
use crate::workload::{Asked, Names, Workload};
use crate::workload_words::{describe, idle_lines};
use crate::workloads::Workloads;

/// Runs the command.
pub(crate) fn run(options: &Decide) -> anyhow::Result<Ending> {
    let costs = options.pricing.costs()?;
    let mut report = Report::open(&options.output)?;
    let page = HtmlFile::open(&options.html, &options.output)?;
    let mut lanes = page.as_ref().map(|_| LaneCollector::default());
    let cpu = options.hardware.model()?;
    let pcids = options.pcids.settings(cpu)?;
    let workloads = replayed(options, pcids, cpu.quirks, lanes.as_mut())?;
    let models = options.hardware.models()?;
    let questions = Question::all(options, pcids);
    let proofs = search_all(options, &questions, Policy::ALL, &models)?;
    let quirks: Vec<Quirks> = models.iter().map(|model| model.quirks).collect();
    let decider = Decider {
        options,
        costs: &costs,
        models: &quirks,
    };
    let (main, each) = decider.all(&workloads, &proofs)?;
    let decided = Decided {
        options,
        main: &main,
        each: &each,
        questions: &questions,
        workloads: &workloads,
        models: &quirks,
        costs: &costs,
    };
    match options.output.json {
        true => json(&mut report, &proofs, &decided)?,
        false => tell(&mut report, &decided)?,
    }
    report.finish()?;
    if let (Some(page), Some(lanes)) = (page, lanes) {
        let first = &workloads.each[0];
        let of = workloads.are_several().then_some(first.recording.as_str());
        page.write(&decide_page(&decided, lanes.finish(&first.replayed, of)))?;
    }
    Ok(ending(&main.rows))
}

/// What decisions are made with.
struct Decider<'a> {
    options: &'a Decide,
    costs: &'a Costs,
    models: &'a [Quirks],
}

impl<'a> Decider<'a> {
    /// Decides on all recordings together, and if there are several, on each.
    fn all(
        &self,
        workloads: &'a Workloads,
        proofs: &'a [Proof<'a>],
    ) -> anyhow::Result<(Outcome<'a>, Vec<Outcome<'a>>)> {
        let rows = Row::all(self.options, &workloads.sum, proofs)?;
        let first = &workloads.each[0];
        if !workloads.are_several() {
            return Ok((self.on(first, rows), Vec::new()));
        }
        let each = workloads.each.iter().map(|one| {
            let prices = one.replayed.iter().zip(&rows);
            let rows = prices.map(|(replayed, row)| row.with_price(replayed));
            self.on(one, rows.collect())
        });
        let each = each.collect();
        let main = self.decide(None, &workloads.summaries(), rows);
        Ok((main, each))
    }

    fn on(&self, workload: &'a Workload, rows: Vec<Row<'a>>) -> Outcome<'a> {
        self.decide(Some(&workload.recording), &[&workload.summary], rows)
    }

    fn decide(
        &self,
        recording: Option<&'a str>,
        summaries: &[&'a Summary],
        rows: Vec<Row<'a>>,
    ) -> Outcome<'a> {
        let yardstick = self.options.pricing.yardstick(summaries, self.costs);
        Outcome {
            recording,
            events: summaries.iter().map(|one| one.events).sum(),
            idle_states: recording.and(summaries[0].idle_states.as_ref()),
            answers: Answer::all(&rows, self.costs, yardstick, self.models),
            rows,
            yardstick,
        }
    }
}

fn tell(report: &mut Report, decided: &Decided<'_>) -> anyhow::Result<()> {
    let Decided {
        options,
        main,
        questions,
        workloads,
        costs,
        ..
    } = *decided;
    if workloads.are_several() {
        let number = workloads.each.len();
        report.line(format_args!("The sum of {number} recordings:"))?;
    }
    for line in main.answers.iter().flat_map(Answer::lines) {
        report.line(line)?;
    }
    if workloads.are_several() {
        let choices = decided.choices_of_each();
        report.line(choices_by_recording(&main.choices(), &choices))?;
    }
    report.line(main.yardstick.sentence(costs.reference_ghz()))?;
    for workload in &workloads.each {
        report.line(describe(workload))?;
    }
    print_questions(report, options, questions, &main.rows)?;
    report.line(lines(decided))?;
    report.line(held_table([("", main.replayed())]))?;
    report.line(HELD)?;
    for lines in idle_lines(workloads) {
        report.line(lines)?;
    }
    if let Some(line) = what_pcids_bring(&workloads.sum, costs) {
        report.line(line)?;
    }
    report.line(holds_for(&options.hardware, options.hardware.model()?))?;
    footnotes(report, options, &main.rows)
}

/// How the program ends: a violation is an answer here, too.
fn ending(rows: &[Row<'_>]) -> Ending {
    let endings = rows.iter().map(|row| match ending_of(row.verdict()) {
        Ending::Violation => Ending::Good,
        ending => ending,
    });
    endings.max().unwrap_or(Ending::Good)
}

/// Replays the workloads; a timeline of the first is collected in the same pass.
fn replayed(
    options: &Decide,
    pcids: &[PcidsOn],
    quirks: Quirks,
    lanes: Option<&mut LaneCollector>,
) -> anyhow::Result<Workloads> {
    let asked = Asked {
        policies: Policy::ALL,
        pcids,
        quirks,
        recording: &options.recording,
        names: Names::NotKept,
    };
    let Some(lanes) = lanes else {
        return Workloads::replay(&options.traces, &asked, None);
    };
    let mut watch = |step: Step<'_>, replays: &Replays<'_>| {
        if let Step::Operation(operation) = step {
            lanes.sees(operation, replays.kept());
        }
    };
    Workloads::replay(&options.traces, &asked, Some(&mut watch))
}

fn json(report: &mut Report, proofs: &[Proof<'_>], decided: &Decided<'_>) -> anyhow::Result<()> {
    for proof in proofs {
        report.json(&ProofRecord::new(proof))?;
    }
    let mut records = proofs.len();
    for outcome in decided.each.iter().chain([decided.main]) {
        for row in &outcome.rows {
            let states = outcome.idle_states;
            let price = PriceRecord::new(row.replayed, outcome.events, states, decided.costs);
            let (recording, standing) = (outcome.recording, standing(&outcome.answers, row));
            let record = DecisionRecord::new(recording, row, standing, decided.models, price);
            report.json(&record)?;
        }
        for answer in &outcome.answers {
            report.json(&ChoiceRecord::new(outcome.recording, answer))?;
        }
        records += outcome.rows.len() + outcome.answers.len();
    }
    for workload in &decided.workloads.each {
        for warning in workload.warnings() {
            let recording = &workload.recording;
            report.json(&WarningRecord { recording, warning })?;
            records += 1;
        }
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
        ..
    } in questions
    {
        report.line(format_args!("  {number} {name}: {}", subject.arguments()))?;
    }
    if questions.iter().any(Question::is_of_one) {
        report.line(format_args!("  {SMALLER_MENUS}"))?;
    }
    for table in Question::tables(questions) {
        report.line(states_of(&table, rows))?;
    }
    Ok(())
}

/// Makes the table of what each search came to, of questions that stand in one.
fn states_of(questions: &[&Question], rows: &[Row<'_>]) -> comfy_table::Table {
    let pcids = questions[0].pcids();
    let corner = format!("states, PCIDs {}", pcids.name());
    let names = questions
        .iter()
        .map(|question| format!("{} {}", question.number, question.name));
    let header: Vec<String> = [corner].into_iter().chain(names).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = table(&header, 1..header.len());
    for row in rows.iter().filter(|row| row.is_asked(questions)) {
        let cells = questions
            .iter()
            .map(|question| came_to(&row.verdicts_on(question)));
        let policy = row.replayed.policy.name().to_owned();
        table.add_row([policy].into_iter().chain(cells));
    }
    table
}

fn lines(decided: &Decided<'_>) -> comfy_table::Table {
    let Decided {
        options,
        main,
        models,
        costs,
        ..
    } = *decided;
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
    for row in &main.rows {
        let replayed = row.replayed;
        let count = |of: fn(&Counts) -> u64| counted(replayed, of);
        let standing = standing(&main.answers, row);
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
