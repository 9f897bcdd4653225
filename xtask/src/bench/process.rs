//! What a program took: time on the processor, and memory.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// How a program ran.
pub(super) struct Ran {
    /// Seconds on a processor, its own and the kernel's for it: what else runs on the machine counts little.
    pub(super) seconds: f64,
    pub(super) peak_kib: u64,
    pub(super) output: String,
}

/// Where a program's output goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    Kept,
    Dropped,
}

/// Runs a program on one core, the last one, to its end.
///
/// # Errors
/// If it cannot be started, or fails.
pub(super) fn on_one_core(command: &Command, output: Output) -> Result<Ran> {
    let cores = thread::available_parallelism().context("how many cores are there?")?;
    let mut pinned = Command::new("taskset");
    pinned.args(["--cpu-list", &(cores.get() - 1).to_string()]);
    pinned.arg(command.get_program()).args(command.get_args());
    let shown = format!("{command:?}");
    // A file never fills up as a pipe would, and nobody has to read it meanwhile.
    let mut kept = tempfile::NamedTempFile::new().context("making a temporary file")?;
    let errors = tempfile::NamedTempFile::new().context("making a temporary file")?;
    pinned.stderr(errors.reopen()?).stdin(Stdio::null());
    pinned.stdout(match output {
        Output::Kept => Stdio::from(kept.reopen()?),
        Output::Dropped => Stdio::null(),
    });
    let before = seconds_of_children()?;
    let child = pinned.spawn();
    let mut child = child.context("cannot run `taskset` of the package `util-linux`")?;
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    let status = loop {
        peak_kib = peak_kib.max(peak_memory_kib(&status_file).unwrap_or(0));
        if let Some(status) = child.try_wait().with_context(|| shown.clone())? {
            break status;
        }
        thread::sleep(Duration::from_micros(500));
    };
    let seconds = seconds_of_children()? - before;
    let errors = fs::read(errors.path()).context("reading what was said")?;
    let errors = String::from_utf8_lossy(&errors);
    ensure!(status.success(), "{shown}: {status}\n{errors}");
    let mut output = String::new();
    std::io::Read::read_to_string(&mut kept, &mut output).context("reading what was printed")?;
    Ok(Ran {
        seconds,
        peak_kib,
        output,
    })
}

/// Runs a program several times; returns the run that took the least time.
///
/// # Errors
/// As [`on_one_core`].
pub(super) fn fastest(runs: u8, command: &Command, output: Output) -> Result<Ran> {
    let mut best = on_one_core(command, output)?;
    for _ in 1..runs {
        let ran = on_one_core(command, output)?;
        if ran.seconds < best.seconds {
            best = ran;
        }
    }
    Ok(best)
}

/// Seconds that all programs took that were started here and have ended.
fn seconds_of_children() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("what did programs take?")?;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

fn peak_memory_kib(status: &str) -> Option<u64> {
    let status = fs::read_to_string(status).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Runs a program to its end, and keeps to itself what it says unless it fails; returns what it wrote.
///
/// # Errors
/// If it cannot be started, or fails.
pub(super) fn quietly(mut command: Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{said}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_output_is_kept_and_its_failure_told() {
        let mut echo = Command::new("sh");
        echo.args(["-c", "echo out; echo err >&2"]);
        let ran = on_one_core(&echo, Output::Kept).unwrap();
        assert_eq!(ran.output, "out\n");
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo why >&2; exit 3"]);
        let error = on_one_core(&failing, Output::Dropped).err().unwrap();
        assert!(error.to_string().contains("why"), "{error}");
    }
}
