//! How exhibits are told: as a table, and one by one.

use std::fmt::Write;

use comfy_table::{ContentArrangement, Table};
use lazytlb_check::{Finding, Verdict};
use lazytlb_zoo::{Case, Exhibit, Expected, Role, length};

use crate::numbers::grouped;
use crate::report::{Report, table};
use crate::verdict_words::{memory, outcome};

/// Characters in a line of text.
const WIDTH: usize = 100;

/// An exhibit, and what its cases came to.
pub(crate) struct Shown<'a> {
    pub(crate) exhibit: &'a Exhibit,
    pub(crate) verdicts: Vec<(Role, Case, Verdict)>,
}

impl Shown<'_> {
    fn of(&self, wanted: Role) -> impl Iterator<Item = (&Case, &Verdict)> {
        let all = self.verdicts.iter();
        all.filter(move |(role, ..)| *role == wanted)
            .map(|(_, case, verdict)| (case, verdict))
    }

    /// Says of each case that came to something else what it should have come to.
    pub(crate) fn unexpected(&self) -> impl Iterator<Item = String> {
        let all = self.verdicts.iter();
        let wrong = all.filter(|(_, case, verdict)| !case.is_as_expected(verdict));
        wrong.map(|(_, case, verdict)| {
            format!(
                "{}, \"{}\": expected {}, found {}",
                self.exhibit.name,
                case.name,
                expected(case.expected),
                outcome(verdict)
            )
        })
    }
}

fn expected(expected: Expected) -> String {
    match expected {
        Expected::Safe => "safe".to_owned(),
        Expected::Violation { property, .. } => format!("UNSAFE: {property}"),
    }
}

fn told_length(verdict: &Verdict) -> String {
    length(verdict).map_or_else(String::new, |events| events.to_string())
}

/// Makes the table of all exhibits.
pub(crate) fn table_of(all: &[Shown]) -> Table {
    let header = [
        "name",
        "kernel",
        "bug",
        "found",
        "length",
        "proof: states",
        "seconds",
    ];
    let mut rows = table(&header, 4..7);
    // On a terminal that is too narrow, cells take several lines.
    rows.set_content_arrangement(ContentArrangement::Dynamic);
    for shown in all {
        let bug = shown.of(Role::Bug).next();
        let proofs: Vec<String> = shown
            .of(Role::Proof)
            .map(|(_, verdict)| proof(verdict))
            .collect();
        let all = shown.verdicts.iter();
        let seconds: f64 = all.map(|(.., verdict)| verdict.effort.seconds).sum();
        rows.add_row([
            shown.exhibit.name.to_owned(),
            shown.exhibit.kernel.to_owned(),
            bug.map_or("none found", |(case, _)| case.name).to_owned(),
            bug.map_or_else(String::new, |(_, verdict)| found(verdict)),
            bug.map_or_else(String::new, |(_, verdict)| told_length(verdict)),
            proofs.join(" / "),
            format!("{seconds:.2}"),
        ]);
    }
    rows
}

fn found(verdict: &Verdict) -> String {
    match verdict.violation() {
        Some(violation) => violation.property.to_string(),
        None => format!("NOT FOUND: {}", verdict.name()),
    }
}

fn proof(verdict: &Verdict) -> String {
    match verdict.is_safe() {
        true => grouped(verdict.effort.states),
        false => format!("NOT PROVED: {}", outcome(verdict)),
    }
}

/// Tells one exhibit: what happened, the counterexample, what the fix changes, and what else was asked.
pub(crate) fn show(report: &mut Report, shown: &Shown) -> anyhow::Result<()> {
    let exhibit = shown.exhibit;
    let head = format!("{} ({}): {}", exhibit.name, exhibit.kernel, exhibit.about);
    report.line(wrapped(&head, 0))?;
    report.line(wrapped(&format!("Source: {}", exhibit.source), 2))?;
    report.line(wrapped(&format!("Left out: {}", exhibit.left_out), 2))?;
    report.line(format_args!("\n{}", wrapped(exhibit.story, 0)))?;
    for (case, verdict) in shown.of(Role::Bug) {
        report.line(format_args!(
            "\n\"{}\" on CPU model {}, memory {}: {}",
            case.name,
            case.cpu.name,
            memory(case.memory),
            outcome(verdict)
        ))?;
        if let Finding::Violation { timeline, .. } = &verdict.finding {
            report.line(format_args!(
                "Shortest counterexample, replayed:\n\n{timeline}"
            ))?;
        }
    }
    let fix = match exhibit.bug {
        Some(_) => "The fix: ",
        None => "Why it holds: ",
    };
    report.line(wrapped(&format!("{fix}{}", exhibit.fix), 0))?;
    report.line(format_args!("\n{}", cases_of(shown)))?;
    for unexpected in shown.unexpected() {
        report.line(unexpected)?;
    }
    Ok(())
}

/// Makes the table of an exhibit's cases.
fn cases_of(shown: &Shown) -> Table {
    let header = ["", "case", "cpu", "memory", "verdict", "length", "states"];
    let mut rows = table(&header, 5..7);
    rows.set_content_arrangement(ContentArrangement::Dynamic);
    for (role, case, verdict) in &shown.verdicts {
        rows.add_row([
            role.name().to_owned(),
            case.name.to_owned(),
            case.cpu.name.to_owned(),
            case.memory.name().to_owned(),
            outcome(verdict),
            told_length(verdict),
            grouped(verdict.effort.states),
        ]);
    }
    rows
}

/// Breaks a text into lines; all but the first are indented.
fn wrapped(text: &str, indent: usize) -> String {
    let (mut lines, mut used) = (String::new(), 0);
    for word in text.split_whitespace() {
        let len = word.chars().count();
        if used > indent && used + 1 + len > WIDTH {
            let _ = write!(lines, "\n{:indent$}", "");
            used = indent;
        } else if used > 0 {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += len;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_broken_between_words_and_loses_none() {
        let text = "word ".repeat(100);
        let lines = wrapped(&text, 2);
        assert!(lines.lines().all(|line| line.chars().count() <= WIDTH));
        assert!(lines.lines().skip(1).all(|line| line.starts_with("  word")));
        assert_eq!(lines.split_whitespace().count(), 100);
    }
}
