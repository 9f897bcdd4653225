//! The page of `decide`.

use lazytlb::Quirks;
use lazytlb_check::Verdict;
use lazytlb_price::{Costs, Counts, Parameter, PcidsOn, price_replayed};
use lazytlb_report::{Block, Cell, Fact, Lanes, Mark, Page, Section};

use super::check::{counterexample, mark, statement};
use super::made_by::made_by;
use super::recording;
use crate::arguments::Decide;
use crate::by_recording::{Choices, HEADER, cells};
use crate::choice::Choice;
use crate::decision::{Answer, Outcome, Row, standing};
use crate::holding::{COLUMNS as HELD_COLUMNS, HELD, held_rows};
use crate::measure::how_to_measure;
use crate::numbers::{counted, cycles, grouped, megacycles, millions};
use crate::pcids::what_pcids_bring;
use crate::policies::{self, named_here};
use crate::proof_words::{came_to, proof, repeat, under};
use crate::proofs::{Question, SMALLER_MENUS};
use crate::workload_words::idle_lines;
use crate::workloads::Workloads;

/// What a decision is made of.
pub(crate) struct Decided<'a> {
    pub(crate) options: &'a Decide,
    /// On the recording, or on all together if there are several.
    pub(crate) main: &'a Outcome<'a>,
    /// On each of several; none if there is one alone.
    pub(crate) each: &'a [Outcome<'a>],
    pub(crate) questions: &'a [Question],
    pub(crate) workloads: &'a Workloads,
    pub(crate) models: &'a [Quirks],
    pub(crate) costs: &'a Costs,
}

impl<'a> Decided<'a> {
    /// The choices on each of several recordings, under their names.
    pub(crate) fn choices_of_each(&self) -> Vec<(String, Choices<'_, 'a>)> {
        let labels = self.workloads.labels().into_iter();
        labels.zip(self.each.iter().map(Outcome::choices)).collect()
    }
}

/// Makes the page.
pub(crate) fn decide_page(decided: &Decided<'_>, lanes: Lanes) -> Page {
    let (main, costs) = (decided.main, decided.costs);
    let answers = &main.answers;
    let chosen = answers.iter().find_map(|answer| {
        let policy = answer.choice.as_ref()?.decision.choice.policy;
        let is_chosen =
            |row: &Row<'_>| (row.replayed.policy, row.replayed.pcids) == (policy, answer.pcids);
        main.rows.iter().position(is_chosen)
    });
    let lanes = lanes.showing(chosen.unwrap_or(0));
    let choices = answers.iter().map(|one| answer(one, decided));
    let mut sections = vec![
        Section::new("Decision", choices.chain(by_recording(decided)).collect()),
        Section::new("Policies side by side", policies_side_by_side(decided)),
        Section::new(
            "What each policy does",
            vec![what_each_does(decided.models)],
        ),
        Section::new("Timeline", vec![Block::Lanes(lanes)]),
    ];
    sections.extend(counterexamples(decided));
    sections.extend([
        Section::new("Proofs", proofs(decided)),
        Section::new("Costs", vec![figures(costs)]),
    ]);
    sections.extend(recordings(decided));
    Page {
        title: "lazytlb decide".to_owned(),
        about: format!(
            "Which lazy TLB policy is safe, and which safe one can lose least? Workload: {}",
            told(decided.workloads)
        ),
        made_by: made_by(),
        sections,
    }
}

/// Says what the page is about: a recording, or several.
fn told(workloads: &Workloads) -> String {
    let names = workloads.each.iter().map(|one| one.name.as_str());
    let names = names.collect::<Vec<_>>().join(", ");
    match workloads.are_several() {
        true => format!("the sum of {} recordings: {names}", workloads.each.len()),
        false => names,
    }
}

/// The table of each recording's choice, if there are several.
fn by_recording(decided: &Decided<'_>) -> Option<Block> {
    let each = decided.choices_of_each();
    let rows = cells(&decided.main.choices(), &each).into_iter();
    let rows: Vec<Vec<Cell>> = rows.map(|row| row.map(Cell::text).into()).collect();
    let caption = "The choice on each recording; the answers above are for their sum";
    (!each.is_empty()).then(|| Block::table(caption, &HEADER, rows))
}

/// A section for each recording, with what its own losses are measured by.
fn recordings(decided: &Decided<'_>) -> Vec<Section> {
    let ghz = decided.costs.reference_ghz();
    let outcomes = match decided.each {
        [] => std::slice::from_ref(decided.main),
        each => each,
    };
    let each = decided.workloads.each.iter().zip(outcomes);
    let sections = each
        .map(|(workload, outcome)| recording::section(workload, outcome.yardstick.sentence(ghz)));
    sections.collect()
}

fn answer(answer: &Answer<'_>, decided: &Decided<'_>) -> Block {
    let heading = match answer.pcids {
        PcidsOn::No => "CPUs without PCIDs",
        PcidsOn::Yes => "CPUs with PCIDs",
    };
    let mut lines = answer.lines().into_iter();
    let text = lines.next().unwrap_or_default();
    let mut facts = Vec::new();
    let (name, mark) = match &answer.choice {
        None => ("none".to_owned(), Mark::Bad),
        Some(choice) => {
            facts = facts_of(choice, decided.costs);
            let name = named_here(choice.decision.choice.policy, decided.models);
            match choice.undecided_above() {
                Some(_) => (format!("undecided; {name} can lose least"), Mark::Open),
                None => (name, Mark::Chosen),
            }
        }
    };
    // What to measure is among the facts.
    let notes = lines.filter(|line| !line.starts_with("  Measure") && !line.starts_with("    "));
    Block::Answer {
        heading: heading.to_owned(),
        answer: name,
        mark,
        text,
        facts,
        notes: notes.map(|line| line.trim().to_owned()).collect(),
    }
}

fn facts_of(choice: &Choice<'_>, costs: &Costs) -> Vec<Fact> {
    let chosen = &choice.decision.choice;
    let mut facts = vec![
        ("Regret", choice.yardstick.told(chosen.regret)),
        (
            "Loss with typical costs",
            choice.yardstick.told(chosen.loss_typical),
        ),
    ];
    if let Some(first) = choice.decision.measure_first {
        let figure = costs.figure(first.parameter);
        facts.extend([
            (
                "Measure first",
                format!(
                    "{}: {} cycles here",
                    first.parameter.name(),
                    ends([figure.low, figure.typical, figure.high])
                ),
            ),
            ("How", how_to_measure(first.parameter).to_owned()),
            (
                "Regret once it is known",
                format!(
                    "{} to {}",
                    cycles(first.regret_at_least),
                    cycles(first.regret_at_most)
                ),
            ),
        ]);
    }
    let facts = facts.into_iter();
    let facts = facts.map(|(name, value)| Fact {
        name: name.to_owned(),
        value,
    });
    facts.collect()
}

fn ends(ends: [f64; 3]) -> String {
    ends.map(|end| grouped(end.round() as u64)).join(" / ")
}

fn policies_side_by_side(decided: &Decided<'_>) -> Vec<Block> {
    let columns = [
        "policy",
        "PCIDs",
        "verdict",
        "of the safe",
        "#cost, Mcycles: low / typical / high",
        "#regret, Mcycles",
        "#typical loss, Mcycles",
        "#IPIs",
        "#to idle CPUs",
        "#to CPUs elsewhere",
        "#CR3 loads",
        "#of them kept",
        "#flushes",
        "#refills",
        "proof",
    ];
    let rows = decided
        .main
        .rows
        .iter()
        .map(|row| side_by_side(row, decided));
    let mut blocks = vec![Block::table(
        "Verdict, price and counts of each policy",
        &columns,
        rows.collect(),
    )];
    let legend = "Regret: the most that a policy is dearer than the best safe one on such CPUs, over all costs within their \
                  ranges. Typical loss: how much dearer with typical costs. IPIs elsewhere went to CPUs that had another \
                  space loaded; CR3 loads that are kept flush nothing; flushes reload the same space.";
    blocks.push(Block::text(legend));
    blocks.extend(held_back(decided));
    blocks.extend(idle_lines(decided.workloads).into_iter().map(Block::text));
    let bring = what_pcids_bring(&decided.workloads.sum, decided.costs);
    blocks.extend(bring.map(Block::text));
    blocks
}

/// What was held back under `quarantine`.
fn held_back(decided: &Decided<'_>) -> [Block; 2] {
    let columns = HELD_COLUMNS.map(|column| match column {
        "policy" | "PCIDs" => column.to_owned(),
        number => format!("#{number}"),
    });
    let columns = columns.each_ref().map(String::as_str);
    let rows = held_rows(decided.main.replayed());
    let rows = rows.map(|row| row.map(Cell::text).into());
    let caption = "Page tables that are held back, not flushed, for lazy CPUs";
    [
        Block::table(caption, &columns, rows.collect()),
        Block::text(HELD),
    ]
}

fn side_by_side(row: &Row<'_>, decided: &Decided<'_>) -> Vec<Cell> {
    let replayed = row.replayed;
    let count = |of: fn(&Counts) -> u64| Cell::text(counted(replayed, of));
    let cost = price_replayed(replayed, decided.costs);
    let standing = standing(&decided.main.answers, row);
    let (place, standing) = standing.map_or(("", None), |(place, one)| (place, Some(one)));
    let loss = |loss: Option<f64>| Cell::text(loss.map_or_else(String::new, millions));
    let verdict = match mark(row.verdict()) {
        Mark::Bad => "unsafe",
        _ => row.verdict().name(),
    };
    vec![
        Cell::text(named_here(replayed.policy, decided.models)),
        Cell::text(replayed.pcids.name()),
        Cell::marked(mark(row.verdict()), verdict),
        match place {
            "" => Cell::text(""),
            "undecided" => Cell::marked(Mark::Open, place),
            _ => Cell::marked(Mark::Chosen, place),
        },
        Cell::Range {
            text: megacycles(cost),
            low: cost.low,
            typical: cost.typical,
            high: cost.high,
        },
        loss(standing.map(|one| one.regret)),
        loss(standing.map(|one| one.loss_typical)),
        count(|counts| counts.ipis),
        count(|counts| counts.ipis_to_idle),
        count(|counts| counts.ipis_elsewhere),
        count(|counts| counts.cr3_flush + counts.cr3_keep),
        count(|counts| counts.cr3_keep),
        count(|counts| counts.full_flushes),
        count(|counts| counts.refills_after_load + counts.refills_after_flush),
        Cell::text(proof(decided.options, row)),
    ]
}

fn what_each_does(models: &[Quirks]) -> Block {
    let rows = policies::all().map(|(policy, about)| {
        vec![
            Cell::text(named_here(policy, models)),
            Cell::text(about.replace('`', "")),
        ]
    });
    Block::table("The policies", &["policy", "what it does"], rows.collect())
}

/// One section for each counterexample: policies that fail in the same way share one.
fn counterexamples(decided: &Decided<'_>) -> Vec<Section> {
    let mut told: Vec<(Vec<String>, Vec<Block>)> = Vec::new();
    for row in &decided.main.rows {
        let Some((subject, verdict)) = &row.story else {
            continue;
        };
        let command = repeat(decided.options, row.replayed.policy, subject, verdict);
        let Some(blocks) = counterexample(verdict, &command) else {
            continue;
        };
        let same = told
            .iter_mut()
            .find(|(_, other)| other.last() == blocks.last());
        match same {
            Some((names, _)) => names.push(row.name()),
            None => told.push((vec![row.name()], blocks)),
        }
    }
    let sections = told.into_iter();
    let sections = sections.map(|(names, blocks)| {
        Section::new(format!("Counterexample: {}", names.join(", ")), blocks)
    });
    sections.collect()
}

fn proofs(decided: &Decided<'_>) -> Vec<Block> {
    let mut blocks = Vec::new();
    for questions in Question::tables(decided.questions) {
        let rows = decided
            .main
            .rows
            .iter()
            .filter(|row| row.is_asked(&questions));
        let rows: Vec<&Row<'_>> = rows.collect();
        if rows.is_empty() {
            continue;
        }
        let pcids = questions[0].pcids();
        let columns: Vec<String> =
            ["policy".to_owned()]
                .into_iter()
                .chain(questions.iter().map(|one| {
                    format!("#{} {}: {}", one.number, one.name, one.subject.arguments())
                }))
                .collect();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let rows = rows.into_iter().map(|row| {
            let cells = questions.iter().map(|question| states_on(row, question));
            [Cell::text(row.replayed.policy.name())]
                .into_iter()
                .chain(cells)
                .collect()
        });
        let caption = format!("States that each search explored, PCIDs {}", pcids.name());
        blocks.push(Block::table(caption, &columns, rows.collect()));
    }
    if decided.questions.iter().any(Question::is_of_one) {
        blocks.push(Block::text(SMALLER_MENUS));
    }
    for row in &decided.main.rows {
        for proof in &row.proofs {
            let name = format!("{} under {}", row.name(), under(decided.options, proof));
            blocks.extend(statement(&name, &proof.verdict));
        }
    }
    blocks
}

fn states_on(row: &Row<'_>, question: &Question) -> Cell {
    let verdicts: Vec<&Verdict> = row.verdicts_on(question);
    let worst = crate::proofs::worst(verdicts.iter().copied());
    Cell::marked(worst.map_or(Mark::Open, mark), came_to(&verdicts))
}

fn figures(costs: &Costs) -> Block {
    let rows = Parameter::ALL.into_iter().map(|parameter| {
        let figure = costs.figure(parameter);
        vec![
            Cell::text(parameter.name()),
            Cell::Range {
                text: ends([figure.low, figure.typical, figure.high]),
                low: figure.low,
                typical: figure.typical,
                high: figure.high,
            },
            Cell::text(&figure.origin),
        ]
    });
    let columns = ["cost", "#cycles: low / typical / high", "origin"];
    Block::table(
        format!("What is paid for, at {} GHz", costs.reference_ghz()),
        &columns,
        rows.collect(),
    )
}
