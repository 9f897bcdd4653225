//! `lazytlb litmus --cpu all`: each test on every CPU model, a row each.

use std::path::Path;

use anyhow::{Context, bail};
use lazytlb_litmus::{Answer, LitmusTest, LitmusVerdict, Options, hangs_on, read_bytes, run};
use lazytlb_model::CpuModel;
use serde::Serialize;

use crate::arguments::Litmus;
use crate::hanging::AssumptionRecord;
use crate::litmus_files::{files_of, is_collection};
use crate::litmus_summary::{Summary, SummaryRecord};
use crate::numbers::grouped;
use crate::progress::Display;
use crate::report::{Ending, Report, table, told};

/// Answers every test on every model. A test that sets what a model lacks has no answer there, which is no error.
pub(crate) fn run_every(options: &Litmus) -> anyhow::Result<Ending> {
    if options.witness || options.kinds.is_some() || options.html.html.is_some() {
        bail!(
            "--witness, --html and --kinds are about one CPU model: choose it with --cpu, `weakest` for example"
        );
    }
    let files = files_of(&options.files)?;
    let mut report = Report::open(&options.output)?;
    let models = options.hardware.models()?;
    let machine = options.machine()?;
    let display = Display::new("litmus tests".to_owned());
    let (mut ending, mut summary) = (Ending::Good, Summary::default());
    for (number, file) in files.iter().enumerate() {
        display.count(number as u64, files.len() as u64);
        let rows = match rows_of(file, &models, &machine) {
            Ok(rows) => rows,
            Err(error) => {
                let error = told(&error);
                display.pause(|| eprintln!("error: {error}"));
                summary.count_unreadable(file, error);
                ending = ending.max(Ending::BadInput);
                continue;
            }
        };
        for row in &rows {
            ending = ending.max(row.ending());
            if let Some(verdict) = row.known {
                summary.count(file, verdict, row.header, row.as_expected);
            }
        }
        match options.output.json {
            true => rows.iter().try_for_each(|row| report.json(row))?,
            false => print(&mut report, file, &rows)?,
        }
    }
    drop(display);
    if files.len() > 1 || options.files.iter().any(|path| is_collection(path)) {
        match options.output.json {
            true => report.json(&SummaryRecord { summary: &summary })?,
            false => report.line(&summary)?,
        }
    }
    report.finish()?;
    Ok(ending)
}

/// A test on a model: a row of the table, or a line of JSON.
#[derive(Serialize)]
struct Row {
    file: String,
    name: String,
    cpu: &'static str,
    /// `None` where the model lacks what the test sets.
    verdict: Option<&'static str>,
    #[serde(skip)]
    known: Option<LitmusVerdict>,
    /// The verdict that the test's header expects on this model.
    expected: Option<&'static str>,
    #[serde(skip)]
    header: Option<LitmusVerdict>,
    as_expected: Option<bool>,
    ok: Option<bool>,
    final_states: usize,
    incomplete: Option<String>,
    hangs_on: Vec<AssumptionRecord>,
    /// Why there is no verdict.
    not_for_this_cpu: Option<String>,
}

impl Row {
    fn ending(&self) -> Ending {
        match (self.as_expected, &self.incomplete) {
            (Some(false), _) => Ending::Violation,
            (_, Some(_)) => Ending::Incomplete,
            (_, None) => Ending::Good,
        }
    }
}

fn rows_of(file: &Path, models: &[CpuModel], machine: &Options) -> anyhow::Result<Vec<Row>> {
    let name = || file.display().to_string();
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let test = read_bytes(&bytes).with_context(name)?;
    let mut rows = Vec::new();
    let mut refused = None;
    for &cpu_model in models {
        let options = Options {
            cpu_model,
            ..machine.clone()
        };
        match run(&test, &options) {
            Ok(answer) => rows.push(answered(file, &test, &options, &answer)?),
            Err(error) => {
                rows.push(lacking(file, &test, cpu_model, error.to_string()));
                refused = Some(error);
            }
        }
    }
    match refused {
        // What no model can answer is the test's fault.
        Some(error) if rows.iter().all(|row| row.verdict.is_none()) => {
            Err(error).with_context(name)
        }
        _ => Ok(rows),
    }
}

fn answered(
    file: &Path,
    test: &LitmusTest,
    options: &Options,
    answer: &Answer,
) -> anyhow::Result<Row> {
    let hangs_on = match answer.verdict() {
        LitmusVerdict::Incomplete => Vec::new(),
        LitmusVerdict::Allowed | LitmusVerdict::Forbidden => hangs_on(test, options, answer)?,
    };
    Ok(Row {
        file: file.display().to_string(),
        name: answer.name.clone(),
        cpu: options.cpu_model.name,
        verdict: Some(answer.verdict().name()),
        known: Some(answer.verdict()),
        expected: answer.expected.map(LitmusVerdict::name),
        header: answer.expected,
        as_expected: (answer.expected.is_some() && answer.verdict() != LitmusVerdict::Incomplete)
            .then(|| !answer.differs()),
        ok: answer.is_ok(),
        final_states: answer.states.len(),
        incomplete: answer.incomplete.clone(),
        hangs_on: hangs_on.into_iter().map(Into::into).collect(),
        not_for_this_cpu: None,
    })
}

fn lacking(file: &Path, test: &LitmusTest, cpu: CpuModel, why: String) -> Row {
    Row {
        file: file.display().to_string(),
        name: test.name.clone(),
        cpu: cpu.name,
        verdict: None,
        known: None,
        expected: None,
        header: None,
        as_expected: None,
        ok: None,
        final_states: 0,
        incomplete: None,
        hangs_on: Vec::new(),
        not_for_this_cpu: Some(why),
    }
}

fn print(report: &mut Report, file: &Path, rows: &[Row]) -> anyhow::Result<()> {
    let name = rows.first().map_or("", |row| row.name.as_str());
    report.line(format_args!("Test {name} ({})", file.display()))?;
    let mut lines = table(&["CPU", "verdict", "final states", "hangs on"], 2..3);
    for row in rows {
        let hangs_on: Vec<&str> = row.hangs_on.iter().map(|one| one.name).collect();
        let verdict = row.verdict.unwrap_or("not for this CPU");
        lines.add_row([
            row.cpu.to_owned(),
            match (row.as_expected, row.expected) {
                (Some(false), Some(expected)) => format!("{verdict}, expected {expected}"),
                _ => verdict.to_owned(),
            },
            grouped(row.final_states as u64),
            hangs_on.join(", "),
        ]);
    }
    report.line(lines)?;
    report.line("")
}
