//! What the program prints, where, and how it ends.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::arguments::Output;

/// Bad usage or bad input.
pub(crate) const EXIT_BAD_INPUT: u8 = 2;
const EXIT_VIOLATION: u8 = 1;
const EXIT_INCOMPLETE: u8 = 3;
const EXIT_NOTHING_PROVED: u8 = 4;

/// How a command ended that got to its end. The worst counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Ending {
    Good,
    /// All was searched, and it shows nothing.
    NothingProved,
    Incomplete,
    Violation,
    /// Some of the input could not be read; the rest was.
    BadInput,
}

impl Ending {
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Ending::Good => ExitCode::SUCCESS,
            Ending::NothingProved => ExitCode::from(EXIT_NOTHING_PROVED),
            Ending::Incomplete => ExitCode::from(EXIT_INCOMPLETE),
            Ending::Violation => ExitCode::from(EXIT_VIOLATION),
            Ending::BadInput => ExitCode::from(EXIT_BAD_INPUT),
        }
    }
}

/// Where the result goes: standard output, or a file that is replaced only by a whole result.
pub(crate) struct Report {
    to: Destination,
    name: String,
    /// Whoever read our output went away. That is no error; but the work goes on, for the exit code.
    reader_left: bool,
}

enum Destination {
    Stdout(io::StdoutLock<'static>),
    /// A device or a pipe, written to as it is.
    Special(File),
    /// A file that is replaced when the result is whole; until then the result is kept in memory, so that
    /// a run that is interrupted leaves nothing behind.
    Replacement(Vec<u8>, PathBuf),
}

impl Report {
    /// Opens the destination before the work begins, so that one that cannot be written is refused at once.
    pub(crate) fn open(output: &Output) -> anyhow::Result<Report> {
        let Some(path) = &output.output else {
            let to = Destination::Stdout(io::stdout().lock());
            return Ok(Report {
                to,
                name: "standard output".to_owned(),
                reader_left: false,
            });
        };
        Report::open_file(path, "--output")
    }

    /// Opens a file that an option names.
    pub(crate) fn open_file(path: &Path, option: &str) -> anyhow::Result<Report> {
        let name = path.display().to_string();
        let to = destination(path).with_context(|| {
            format!("{name} cannot be written: choose another {option}, or leave it out")
        })?;
        Ok(Report {
            to,
            name,
            reader_left: false,
        })
    }

    pub(crate) fn line(&mut self, line: impl std::fmt::Display) -> anyhow::Result<()> {
        if self.reader_left {
            return Ok(());
        }
        let to: &mut dyn Write = match &mut self.to {
            Destination::Stdout(stdout) => stdout,
            Destination::Special(file) => file,
            Destination::Replacement(result, _) => result,
        };
        match writeln!(to, "{line}").and_then(|()| to.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.reader_left = true,
            written => written.with_context(|| format!("writing {}", self.name))?,
        }
        Ok(())
    }

    pub(crate) fn json(&mut self, object: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string(object).context("making JSON of the result")?;
        self.line(text)
    }

    /// Puts the whole result where it belongs. Without this call, a file keeps what it held.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        if let Destination::Replacement(result, path) = self.to {
            let replaced = beside(&path).and_then(|mut file| {
                file.write_all(&result)?;
                file.persist(&path).map_err(io::Error::from)
            });
            replaced.with_context(|| format!("writing {}", self.name))?;
        }
        Ok(())
    }
}

fn destination(path: &Path) -> io::Result<Destination> {
    match path.metadata() {
        Ok(known) if !known.is_file() => Ok(Destination::Special(
            OpenOptions::new().write(true).open(path)?,
        )),
        Ok(known) if known.permissions().readonly() => {
            Err(io::Error::from(io::ErrorKind::PermissionDenied))
        }
        _ => {
            // Only to see whether it can be done; it is gone at once.
            drop(beside(path)?);
            Ok(Destination::Replacement(Vec::new(), path.to_owned()))
        }
    }
}

/// Makes a temporary file in the directory of another.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    // As any program's output: the umask takes away what the user does not want.
    let permissions = Permissions::from_mode(0o666);
    tempfile::Builder::new()
        .prefix(".lazytlb-")
        .permissions(permissions)
        .tempfile_in(parent.unwrap_or(Path::new(".")))
}

/// Prints a text as it is to standard output.
pub(crate) fn print(text: &str) -> anyhow::Result<Ending> {
    io::stdout()
        .write_all(text.as_bytes())
        .context("writing output")?;
    Ok(Ending::Good)
}

/// Tells an error with its causes, each once: some errors repeat their cause in their own words.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_ending_counts() {
        assert_eq!(
            Ending::Good.max(Ending::NothingProved),
            Ending::NothingProved
        );
        assert_eq!(
            Ending::NothingProved
                .max(Ending::Incomplete)
                .max(Ending::Violation),
            Ending::Violation
        );
    }
}
