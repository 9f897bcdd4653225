//! What the program prints, where, and how it ends.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::Context;
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;

use crate::arguments::Output;

/// Bad usage or bad input.
pub(crate) const EXIT_BAD_INPUT: u8 = 2;
const EXIT_VIOLATION: u8 = 1;
const EXIT_INCOMPLETE: u8 = 3;

/// How a command ended that got to its end. The worst counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Ending {
    Good,
    Incomplete,
    Violation,
}

impl Ending {
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Ending::Good => ExitCode::SUCCESS,
            Ending::Incomplete => ExitCode::from(EXIT_INCOMPLETE),
            Ending::Violation => ExitCode::from(EXIT_VIOLATION),
        }
    }
}

/// Where the result goes: standard output or a file, opened before the work begins.
pub(crate) struct Report {
    to: Box<dyn Write>,
    name: String,
}

impl Report {
    pub(crate) fn open(output: &Output) -> anyhow::Result<Report> {
        let Some(path) = &output.output else {
            return Ok(Report {
                to: Box::new(io::stdout().lock()),
                name: "output".to_owned(),
            });
        };
        let name = path.display().to_string();
        let file = File::create(path).with_context(|| {
            format!("{name} cannot be written: choose another --output, or leave it out")
        })?;
        Ok(Report {
            to: Box::new(BufWriter::new(file)),
            name,
        })
    }

    pub(crate) fn line(&mut self, line: impl std::fmt::Display) -> anyhow::Result<()> {
        let written = writeln!(self.to, "{line}").and_then(|()| self.to.flush());
        written.with_context(|| format!("writing {}", self.name))
    }

    pub(crate) fn json(&mut self, object: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string(object).context("making JSON of the result")?;
        self.line(text)
    }
}

/// Prints a text as it is to standard output.
pub(crate) fn print(text: &str) -> anyhow::Result<Ending> {
    io::stdout()
        .write_all(text.as_bytes())
        .context("writing output")?;
    Ok(Ending::Good)
}

/// Says whether the reader of our output went away, which is no error.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes
        .into_iter()
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Makes a table whose first column is text and whose other columns are what they are.
pub(crate) fn table(header: &[&str], right_aligned: std::ops::Range<usize>) -> Table {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(rule));
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    for column in right_aligned {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Groups a number's digits: 1234567 becomes `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1234567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn the_worst_ending_counts() {
        assert_eq!(
            Ending::Good.max(Ending::Incomplete).max(Ending::Violation),
            Ending::Violation
        );
    }
}
