//! `lazytlb litmus`: small questions, in herd's syntax.

use std::path::Path;

use anyhow::Context;
use lazytlb_litmus::{
    Answer, Execution, LitmusVerdict, Options, hangs_on, read_bytes, run, run_with_executions,
};
use lazytlb_model::Assumption;

use crate::arguments::Litmus;
use crate::html::{HtmlFile, LitmusPage, witnesses};
use crate::litmus_files::{files_of, is_collection, read_kinds};
use crate::litmus_records::AnswerRecord;
use crate::litmus_summary::{Summary, SummaryRecord};
use crate::numbers::grouped;
use crate::progress::Display;
use crate::report::{Ending, Report, told};
use crate::verdict_words::memory;

/// Runs the command.
pub(crate) fn run_all(options: &Litmus) -> anyhow::Result<Ending> {
    let kinds = options.kinds.as_deref().map(read_kinds).transpose()?;
    let files = files_of(&options.files)?;
    let mut report = Report::open(&options.output)?;
    let html = HtmlFile::open(&options.html, &options.output)?;
    let mut page = html.as_ref().map(|_| LitmusPage::default());
    let machine = options.machine()?;
    let display = Display::new("litmus tests".to_owned());
    let (mut ending, mut summary) = (Ending::Good, Summary::default());
    for (number, file) in files.iter().enumerate() {
        display.count(number as u64, files.len() as u64);
        let Answered {
            answer,
            executions,
            hangs_on,
        } = match answer(file, &machine, options.witness || witnesses(page.as_ref())) {
            Ok(answered) => answered,
            Err(error) => {
                let error = told(&error);
                display.pause(|| eprintln!("error: {error}"));
                summary.count_unreadable(file, error);
                ending = ending.max(Ending::BadInput);
                continue;
            }
        };
        if answer.incomplete.is_some() {
            ending = ending.max(Ending::Incomplete);
        }
        let of_file = kinds.as_ref().and_then(|kinds| kinds.get(&answer.name));
        let comparison = Comparison::new(&answer, of_file.copied());
        let expected = (comparison.expected, comparison.as_expected);
        if comparison.as_expected == Some(false) {
            ending = ending.max(Ending::Violation);
        }
        summary.count(file, answer.verdict(), expected.0, expected.1);
        if let Some(page) = &mut page {
            page.add(file, &answer, &executions, expected);
        }
        let asked_for = executions.len() * usize::from(options.witness);
        let executions = &executions[..asked_for];
        match options.output.json {
            true => {
                let record = AnswerRecord::new(file, &answer, executions, expected);
                report.json(&record.hanging_on(hangs_on))?;
            }
            false => {
                print(&mut report, &answer, executions, &comparison)?;
                for assumption in hangs_on {
                    report.line(format_args!("Hangs on {assumption} (ASSUMED)\n"))?;
                }
            }
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
    if let (Some(html), Some(page)) = (html, page) {
        html.write(&page.finish(about(options, &machine, files.len())))?;
    }
    Ok(ending)
}

/// Says what is answered, and on what.
fn about(options: &Litmus, machine: &Options, tests: usize) -> String {
    let tests = match tests {
        1 => "1 test".to_owned(),
        tests => format!("{} tests", grouped(tests as u64)),
    };
    format!(
        "{tests} on CPU model {}, memory {}",
        machine.cpu_model.name,
        memory(options.memory.model())
    )
}

/// An answer, with the executions that were asked for, and the assumptions that it hangs on.
struct Answered {
    answer: Answer,
    executions: Vec<Execution>,
    hangs_on: Vec<Assumption>,
}

fn answer(file: &Path, options: &Options, with_executions: bool) -> anyhow::Result<Answered> {
    let name = || file.display().to_string();
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let test = read_bytes(&bytes).with_context(name)?;
    let (answer, executions) = match with_executions {
        true => run_with_executions(&test, options).with_context(name)?,
        false => (run(&test, options).with_context(name)?, Vec::new()),
    };
    let hangs_on = hangs_on(&test, options, &answer).with_context(name)?;
    Ok(Answered {
        answer,
        executions,
        hangs_on,
    })
}

/// A verdict, compared with what is expected.
struct Comparison {
    /// By the file of kinds or by the test's header; the one that differs, if one does.
    expected: Option<LitmusVerdict>,
    /// `None` if nothing is expected, or no verdict was found.
    as_expected: Option<bool>,
}

impl Comparison {
    fn new(answer: &Answer, of_file: Option<LitmusVerdict>) -> Comparison {
        let verdict = answer.verdict();
        let all = [of_file, answer.expected];
        let differing = all.iter().flatten().find(|expected| **expected != verdict);
        let expected = differing.copied().or(of_file).or(answer.expected);
        let is_known = verdict != LitmusVerdict::Incomplete && expected.is_some();
        Comparison {
            expected,
            as_expected: is_known.then_some(differing.is_none()),
        }
    }
}

fn print(
    report: &mut Report,
    answer: &Answer,
    executions: &[Execution],
    comparison: &Comparison,
) -> anyhow::Result<()> {
    report.line(answer)?;
    // What the header expects, the answer itself compares.
    if let (Some(false), Some(expected)) = (comparison.as_expected, comparison.expected)
        && !answer.differs()
    {
        report.line(format_args!("Expected: {}\n", expected.name()))?;
    }
    for execution in executions {
        let what = match execution.is_witness {
            true => "Witness, replayed, to",
            false => "Execution, replayed, to",
        };
        let (state, timeline) = (&execution.state.text, &execution.timeline);
        report.line(format_args!("{what} {state}\n\n{timeline}"))?;
    }
    Ok(())
}
