//! What recording costs whoever is recorded: `cargo xtask bench --record-overhead`.
//!
//! The same work, with no recorder and with each: system-wide, the same events, buffers of the same size. Runs take turns, so that whatever
//! else the machine does meets all alike; the median counts. The load measures itself: a recorder's way in and out is not in it.

use std::process::Command;

use anyhow::{Context, Result};
use cargo_metadata::Metadata;

use super::process::{self, Output};
use super::programs::{Programs, Recorder, events_read};
use crate::record;

/// Rounds of the load: some seconds.
const ROUNDS: u32 = 300;

/// Measures each recorder.
///
/// # Errors
/// If one fails.
pub(super) fn measure(workspace: &Metadata, runs: u8) -> Result<()> {
    let programs = Programs::build(workspace)?;
    if record::tracefs()?.is_none() {
        println!(
            "NOT MEASURED: tracefs cannot be mounted (it takes root, and a kernel that traces)"
        );
        return Ok(());
    }
    let mut alone = Vec::new();
    let mut recorded: Vec<_> = Recorder::ALL.map(Recorded::new).into();
    for _ in 0..runs {
        alone.push(seconds_of_load(programs.load(ROUNDS))?);
        for one in &mut recorded {
            one.once_more(&programs)?;
        }
    }
    let alone = median(&mut alone).context("--runs is at least 1")?;
    println!("\n| recorder | load, median of {runs} (s) | longer | events | whole |");
    println!("| --- | ---: | ---: | ---: | --- |");
    println!("| none | {alone:.3} | | | |");
    for mut one in recorded {
        let Some(seconds) = median(&mut one.seconds) else {
            let why = one.refused.concat();
            println!(
                "| `{}` | NOT MEASURED, it fails here: {why} | | | |",
                one.recorder.name()
            );
            continue;
        };
        let longer = 100.0 * (seconds / alone - 1.0);
        println!(
            "| `{}` | {seconds:.3} | {longer:.1} % | {} | {} |",
            one.recorder.name(),
            median(&mut one.events).map_or_else(|| "—".to_owned(), |events| events.to_string()),
            match one.refused.as_slice() {
                [] => "yes".to_owned(),
                [first, ..] => format!("{} of {runs} are not: {first}", one.refused.len()),
            }
        );
    }
    println!();
    Ok(())
}

/// What became of the load under a recorder.
struct Recorded {
    recorder: Recorder,
    seconds: Vec<f64>,
    /// Events in each file that is whole.
    events: Vec<u64>,
    /// What our reader said of the others.
    refused: Vec<String>,
}

impl Recorded {
    fn new(recorder: Recorder) -> Recorded {
        Recorded {
            recorder,
            seconds: Vec::new(),
            events: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Runs the load under it, unless it failed before: some kernels refuse a recorder what another does without.
    fn once_more(&mut self, programs: &Programs) -> Result<()> {
        if self.seconds.is_empty() && !self.refused.is_empty() {
            return Ok(());
        }
        let file = programs.files.join("overhead");
        let command = programs.record(self.recorder, &file, &programs.load(ROUNDS))?;
        match seconds_of_load(command) {
            Ok(seconds) => self.seconds.push(seconds),
            // Ours has to work where there is tracefs.
            Err(error) if self.recorder == Recorder::Lazytlb || !self.seconds.is_empty() => {
                return Err(error);
            }
            Err(error) => {
                self.refused.push(last_line(&error.to_string()));
                return Ok(());
            }
        }
        match process::on_one_core(&programs.read(&file), Output::Kept) {
            Ok(read) => self.events.push(events_read(&read.output)?),
            Err(error) => self.refused.push(last_line(&error.to_string())),
        }
        std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))
    }
}

/// Runs the load, under a recorder or not; returns the seconds that it measured.
fn seconds_of_load(command: Command) -> Result<f64> {
    let shown = format!("{command:?}");
    // A recorder may print lines of its own around it.
    let printed = process::quietly(command)?;
    let seconds = printed
        .lines()
        .find_map(|line| line.strip_suffix(" s")?.parse().ok());
    seconds.with_context(|| format!("{shown} printed no seconds of the load:\n{printed}"))
}

/// The last line that says something.
fn last_line(text: &str) -> String {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.next_back().unwrap_or_default().to_owned()
}

/// The middle one; of an even number, the lower.
fn median<N: PartialOrd + Copy>(numbers: &mut [N]) -> Option<N> {
    numbers.sort_by(|one, other| one.partial_cmp(other).expect("no time is not a number"));
    numbers.get(numbers.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4, 1, 2, 3]), Some(2));
        assert_eq!(median::<u64>(&mut []), None);
    }
}
