//! `lazytlb validate`: does a replay of the recorded kernel's own rule do what that kernel did?

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};
use lazytlb_trace::{Step, Summary, TraceReader};
use lazytlb_validate::{Agreement, Decision, KindOfDecision, Shootdowns, Validation};
use serde::Serialize;

use crate::arguments::Validate;
use crate::numbers::grouped;
use crate::progress::Display;
use crate::report::{Ending, Report, table};
use crate::workload::{counted_shootdowns, is_standard_input, named, opened};
use crate::workloads::{require_distinct, which};

/// Operations between two reports of progress.
const PROGRESS_INTERVAL: u64 = 4096;

/// Runs the command.
pub(crate) fn run(options: &Validate) -> anyhow::Result<Ending> {
    let traces = &options.traces;
    require_distinct(traces, &options.recording)?;
    ensure!(
        options.recording.idle_states.is_none(),
        "--idle-states changes prices, and nothing that is compared here: leave it out, or give it to `price` or `decide`"
    );
    ensure!(
        options.counters.is_none() || traces.len() == 1,
        "--counters tells the interrupts of one recording, and {} are named: take that one in a call of its own",
        traces.len()
    );
    let given = options.counters.as_deref().map(counted).transpose()?;
    let mut report = Report::open(&options.output)?;
    // All are read before anything is told: an answer on some would look like one on all.
    let all = traces.iter().enumerate();
    let all = all.map(|(place, _)| Compared::read(options, place, given));
    let all = all.collect::<anyhow::Result<Vec<Compared>>>()?;
    for (place, compared) in all.iter().enumerate() {
        if options.output.json {
            report.json(&Record::new(compared))?;
            continue;
        }
        if all.len() > 1 {
            let heading = format!("{}:", compared.recording);
            report.line(if place == 0 {
                heading
            } else {
                format!("\n{heading}")
            })?;
        }
        tell(&mut report, compared)?;
    }
    if all.len() > 1 && !options.output.json {
        report.line(format_args!("\n{}", together(&all)))?;
    }
    report.finish()?;
    let agree = all.iter().all(|one| one.contradictions.is_empty());
    Ok(match agree || options.recording.unvalidated {
        true => Ending::Good,
        false => Ending::Violation,
    })
}

/// A recording, compared with a replay of its kernel's rule.
struct Compared {
    /// The file's name, as it was given.
    recording: String,
    agreement: Agreement,
    contradictions: Vec<String>,
    warnings: Vec<String>,
}

impl Compared {
    /// Reads one of the recordings.
    fn read(options: &Validate, place: usize, given: Option<u64>) -> anyhow::Result<Compared> {
        let path = &options.traces[place];
        let (recording, which) = (named(path), which(&options.traces, place));
        let (mut agreement, summary) = match is_standard_input(path) {
            true => {
                let reader = TraceReader::new(std::io::stdin().lock(), recording.clone())?;
                compare(opened(reader, &options.recording)?, &which)?
            }
            false => {
                let reader = TraceReader::open(path)?;
                compare(opened(reader, &options.recording)?, &which)?
            }
        };
        if let Some(counted) = given.or(counted_shootdowns(&summary)) {
            agreement.count(counted);
        }
        let warnings = [summary.warnings(), agreement.doubts()].concat();
        Ok(Compared {
            recording,
            contradictions: agreement.contradictions(),
            agreement,
            warnings,
        })
    }
}

/// Says of several recordings how many agree, and how their decisions came out together.
fn together(all: &[Compared]) -> String {
    let agree = all.iter().filter(|one| one.contradictions.is_empty());
    let kinds = all.iter().flat_map(|one| &one.agreement.kinds);
    let (compared, alike) = kinds.fold((0, 0), |(compared, alike), kind| {
        (compared + kind.compared, alike + kind.agreed)
    });
    format!(
        "All together: {} of {} recordings agree with their kernels' rules; of {} decisions that were compared, {} came out \
         alike.",
        agree.count(),
        all.len(),
        grouped(compared),
        grouped(alike)
    )
}

fn compare<R: Read>(
    mut reader: TraceReader<R>,
    which: &str,
) -> anyhow::Result<(Agreement, Summary)> {
    let display = Display::new(format!("comparing{which}"));
    let mut validation = Validation::of_cpus_below(reader.summary().cpus_below)
        .of_kernel(reader.summary().kernel.as_deref());
    let mut operations: u64 = 0;
    while let Some(step) = reader.next_step()? {
        validation.step(step);
        if let Step::Operation(_) = step {
            operations += 1;
            if operations.is_multiple_of(PROGRESS_INTERVAL) {
                display.say(format!("{} operations", grouped(operations)));
            }
        }
    }
    Ok((validation.finish(), reader.summary().clone()))
}

/// Reads the increase of the rows `TLB:` from the first to the last.
fn counted(path: &Path) -> anyhow::Result<u64> {
    let name = path.display();
    let text = fs::read(path).with_context(|| format!("reading {name}"))?;
    let text = String::from_utf8_lossy(&text);
    let rows: Vec<u64> = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("TLB:"))
        .map(|row| {
            row.split_ascii_whitespace()
                .map_while(|count| count.parse::<u64>().ok())
                .sum()
        })
        .collect();
    ensure!(
        rows.len() >= 2,
        "{name}: {} rows `TLB:`, and two are needed: append /proc/interrupts before and after the recording",
        rows.len()
    );
    Ok(rows[rows.len() - 1].saturating_sub(rows[0]))
}

fn tell(report: &mut Report, compared: &Compared) -> anyhow::Result<()> {
    let Compared {
        agreement,
        contradictions,
        warnings,
        ..
    } = compared;
    report.line(format_args!(
        "Replayed open loop: {}, told by {}; PCIDs {}",
        agreement.rule,
        agreement.chosen_by,
        if agreement.pcids { "on" } else { "off" }
    ))?;
    for warning in warnings {
        report.line(format_args!("  warning: {warning}"))?;
    }
    report.line(kinds(agreement))?;
    report.line(shootdowns(&agreement.shootdowns))?;
    for kind in &agreement.kinds {
        for one in &kind.first {
            report.line(format_args!(
                "  {}.{:06} CPU {}: {}: replayed: {}, recorded: {} ({})",
                one.time_ns / 1_000_000_000,
                one.time_ns / 1000 % 1_000_000,
                one.cpu,
                short(one.decision),
                one.replayed,
                one.recorded,
                one.class.name(),
            ))?;
        }
    }
    match &contradictions[..] {
        [] => report.line("They agree: nothing is off by more than the greater of 5 % and 20."),
        some => report.line(format_args!("They do not agree:\n  {}", some.join("\n  "))),
    }
}

fn short(decision: Decision) -> &'static str {
    let name = decision.name();
    name.split_once(':').map_or(name, |(before, _)| before)
}

fn kinds(agreement: &Agreement) -> comfy_table::Table {
    let mut rows = table(
        &[
            "decision",
            "compared",
            "alike",
            "%",
            "apart",
            "otherwise, by class",
        ],
        1..5,
    );
    for kind in &agreement.kinds {
        let classes = kind.classes.iter();
        let classes: Vec<String> = classes
            .map(|(class, count)| format!("{} {}", grouped(*count), class.name()))
            .collect();
        let share = match kind.compared {
            0 => "-".to_owned(),
            _ => format!("{:.2}", 100.0 * kind.share()),
        };
        rows.add_row([
            kind.decision.name().to_owned(),
            grouped(kind.compared),
            grouped(kind.agreed),
            share,
            grouped(kind.apart),
            classes.join(", "),
        ]);
    }
    rows
}

fn shootdowns(all: &Shootdowns) -> String {
    let mut text = format!(
        "Shootdowns: {}{} recorded; {} replayed, {} to {} with races and what is unknown",
        if all.recorded_all { "" } else { "at least " },
        grouped(all.recorded),
        grouped(all.replayed),
        grouped(all.lowest),
        grouped(all.highest),
    );
    if all.told > 0 {
        text.push_str(&format!(
            "; {} of them by flushes that the reactions alone tell to free tables",
            grouped(all.told)
        ));
    }
    if let Some(counted) = all.counted {
        text.push_str(&format!("; {} by the interrupt counters", grouped(counted)));
    }
    text
}

/// The comparison as JSON.
#[derive(Serialize)]
struct Record<'a> {
    /// The file's name.
    recording: &'a str,
    rule: String,
    chosen_by: &'a str,
    /// `on` or `off`.
    pcids: &'static str,
    agree: bool,
    summary: String,
    contradictions: &'a [String],
    warnings: &'a [String],
    shootdowns: Shootdowns,
    decisions: &'a [KindOfDecision],
}

impl<'a> Record<'a> {
    fn new(compared: &'a Compared) -> Self {
        let Compared {
            recording,
            agreement,
            contradictions,
            warnings,
        } = compared;
        Record {
            recording,
            rule: agreement.rule.to_string(),
            chosen_by: &agreement.chosen_by,
            pcids: if agreement.pcids { "on" } else { "off" },
            agree: contradictions.is_empty(),
            summary: agreement.summary(),
            contradictions,
            warnings,
            shootdowns: agreement.shootdowns,
            decisions: &agreement.kinds,
        }
    }
}
