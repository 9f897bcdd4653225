//! What was told of a recording, and what trace-cmd reads of it.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

/// Returns what a command said beside its output, if it succeeded.
pub(super) fn succeeded(output: &Output) -> Result<String> {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{}: {told}", output.status);
    Ok(told)
}

/// Reads `FILE: 6,933 events of 2 CPUs`.
pub(super) fn events_told(told: &str) -> Result<usize> {
    let before = told.split(" events of ").next();
    let number = before.and_then(|before| before.rsplit(' ').next());
    let number = number.map(|number| number.replace(',', ""));
    let number = number.and_then(|number| number.parse().ok());
    number.with_context(|| format!("how many events? {told}"))
}

/// Counts the events that trace-cmd reads.
pub(super) fn read_by_trace_cmd(file: &Path) -> Result<usize> {
    let output = Command::new("trace-cmd")
        .arg("report")
        .arg("-i")
        .arg(file)
        .output()?;
    succeeded(&output)?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter(|line| !line.starts_with("cpus="))
        .count())
}
