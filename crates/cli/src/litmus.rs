//! `lazytlb litmus`: small questions, in herd's syntax.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use lazytlb_litmus::{Answer, LitmusVerdict, Options, hangs_on, read_bytes, run};
use lazytlb_model::Assumption;
use serde::Serialize;

use crate::arguments::{Litmus, Memory};
use crate::hanging::AssumptionRecord;
use crate::progress::Display;
use crate::report::{Ending, Report};

/// Runs the command.
pub(crate) fn run_all(options: &Litmus) -> anyhow::Result<Ending> {
    let kinds = options.kinds.as_deref().map(read_kinds).transpose()?;
    let files = files_of(&options.files)?;
    let mut report = Report::open(&options.output)?;
    let machine = Options {
        cpu_model: options.hardware.model()?,
        sequentially_consistent: matches!(options.memory, Memory::Sc),
        max_states: options.max_states.unwrap_or(Options::default().max_states),
    };
    let display = Display::new("litmus tests".to_owned());
    let mut ending = Ending::Good;
    for (number, file) in files.iter().enumerate() {
        display.count(number as u64, files.len() as u64);
        let (answer, hangs_on) = match answer(file, &machine) {
            Ok(answered) => answered,
            Err(error) => {
                display.pause(|| eprintln!("error: {error:#}"));
                ending = ending.max(Ending::BadInput);
                continue;
            }
        };
        if answer.incomplete.is_some() {
            ending = ending.max(Ending::Incomplete);
        }
        let expected = kinds.as_ref().and_then(|kinds| kinds.get(&answer.name));
        let as_expected = expected.map(|expected| *expected == answer.verdict());
        if as_expected == Some(false) {
            ending = ending.max(Ending::Violation);
        }
        match options.output.json {
            true => report.json(&AnswerRecord::new(file, &answer, as_expected, hangs_on))?,
            false => {
                report.line(&answer)?;
                for assumption in hangs_on {
                    report.line(format_args!("Hangs on {assumption} (ASSUMED)\n"))?;
                }
                if let (Some(false), Some(expected)) = (as_expected, expected) {
                    report.line(format_args!("Expected: {}\n", expected.name()))?;
                }
            }
        }
    }
    drop(display);
    report.finish()?;
    Ok(ending)
}

fn answer(file: &Path, options: &Options) -> anyhow::Result<(Answer, Vec<Assumption>)> {
    let name = || file.display().to_string();
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let test = read_bytes(&bytes).with_context(name)?;
    let answer = run(&test, options).with_context(name)?;
    let hangs_on = hangs_on(&test, options, &answer).with_context(name)?;
    Ok((answer, hangs_on))
}

/// Lists the files to answer: those named, all `.litmus` files below a directory, and what a list names
/// (`@all`: a path a line, from the list's own directory).
pub(crate) fn files_of(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        let is_list = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('@'));
        if is_list {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the list {}", path.display()))?;
            let folder = path.parent().unwrap_or(Path::new(""));
            let lines = text.lines().map(str::trim);
            let named = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            files.extend(files_of(
                &named.map(|line| folder.join(line)).collect::<Vec<_>>(),
            )?);
        } else if path.is_dir() {
            files.extend(litmus_files_below(path)?);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn litmus_files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the directory {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            files.extend(litmus_files_below(&path)?);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "litmus")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a file of verdicts: a test's name and `Allow` or `Forbid` (`Allowed`, `Forbidden`) a line.
fn read_kinds(path: &Path) -> anyhow::Result<BTreeMap<String, LitmusVerdict>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut kinds = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(kind)) = (words.next(), words.next()) else {
            continue;
        };
        let verdict = match kind {
            "Allow" | "Allowed" => LitmusVerdict::Allowed,
            "Forbid" | "Forbidden" => LitmusVerdict::Forbidden,
            _ => bail!(
                "{}: line {}: `{kind}` is no verdict: write Allow or Forbid",
                path.display(),
                number + 1
            ),
        };
        kinds.insert(name.to_owned(), verdict);
    }
    Ok(kinds)
}

/// An answer as JSON.
#[derive(Serialize)]
struct AnswerRecord {
    file: String,
    name: String,
    verdict: &'static str,
    ok: Option<bool>,
    observation: &'static str,
    positive: usize,
    negative: usize,
    condition: String,
    states: Vec<StateRecord>,
    incomplete: Option<String>,
    /// The rules that are ASSUMED and without which the verdict differs.
    hangs_on: Vec<AssumptionRecord>,
    as_expected: Option<bool>,
    explored_states: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct StateRecord {
    state: String,
    holds: bool,
}

impl AnswerRecord {
    fn new(
        file: &Path,
        answer: &Answer,
        as_expected: Option<bool>,
        hangs_on: Vec<Assumption>,
    ) -> AnswerRecord {
        let states = answer.states.iter().map(|state| StateRecord {
            state: state.text.clone(),
            holds: state.holds,
        });
        AnswerRecord {
            file: file.display().to_string(),
            name: answer.name.clone(),
            verdict: answer.verdict().name(),
            ok: answer.is_ok(),
            observation: answer.observation(),
            positive: answer.positive(),
            negative: answer.negative(),
            condition: answer.condition.clone(),
            states: states.collect(),
            incomplete: answer.incomplete.clone(),
            hangs_on: hangs_on.into_iter().map(Into::into).collect(),
            as_expected,
            explored_states: answer.effort.states,
            seconds: answer.effort.seconds,
        }
    }
}
