//! What is measured, built; and what records the same events.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cargo_metadata::Metadata;

use super::process::{self, Output};
use crate::{cargo, packages};

/// The kernel's buffer of each CPU, for every recorder alike.
const BUFFER_KIB: &str = "8192";

/// Our programs, and a folder for files.
pub(super) struct Programs {
    pub(super) lazytlb: PathBuf,
    /// The example that only reads.
    speed: PathBuf,
    load: PathBuf,
    pub(super) files: PathBuf,
}

/// What records.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Recorder {
    Lazytlb,
    Perf,
    TraceCmd,
}

impl Recorder {
    pub(super) const ALL: [Recorder; 3] = [Recorder::Lazytlb, Recorder::Perf, Recorder::TraceCmd];

    pub(super) fn name(self) -> &'static str {
        match self {
            Recorder::Lazytlb => "lazytlb record --no-kprobes",
            Recorder::Perf => "perf record -a",
            Recorder::TraceCmd => "trace-cmd record",
        }
    }
}

impl Programs {
    /// Builds ours, and installs the others.
    ///
    /// # Errors
    /// If one cannot be built or installed.
    pub(super) fn build(workspace: &Metadata) -> Result<Programs> {
        packages::need(&["trace-cmd", "perf"], &["trace-cmd", "linux-perf"])?;
        for arguments in [
            ["--package=lazytlb-cli", "--bin=lazytlb"],
            ["--package=lazytlb-trace", "--example=speed"],
            ["--package=lazytlb-record", "--example=fork_and_unmap"],
        ] {
            cargo::run(
                workspace,
                &[&["build", "--release"][..], &arguments].concat(),
            )?;
        }
        let target = workspace.target_directory.as_std_path();
        let files = target.join("bench");
        std::fs::create_dir_all(&files)
            .with_context(|| format!("cannot make {}", files.display()))?;
        Ok(Programs {
            lazytlb: target.join("release/lazytlb"),
            speed: target.join("release/examples/speed"),
            load: target.join("release/examples/fork_and_unmap"),
            files,
        })
    }

    /// The load, of so many rounds.
    pub(super) fn load(&self, rounds: u32) -> Command {
        let mut load = Command::new(&self.load);
        load.arg(rounds.to_string());
        load
    }

    /// Reads a recording and makes operations of it.
    pub(super) fn read(&self, recording: &Path) -> Command {
        let mut read = Command::new(&self.speed);
        read.arg("--once").arg(recording);
        read
    }

    /// Records what runs meanwhile.
    ///
    /// # Errors
    /// If `lazytlb record` does not say which events it records.
    pub(super) fn record(
        &self,
        recorder: Recorder,
        file: &Path,
        meanwhile: &Command,
    ) -> Result<Command> {
        let mut command;
        match recorder {
            Recorder::Lazytlb => {
                command = Command::new(&self.lazytlb);
                command.args(["record", "--no-kprobes", "--force", "--buffer-kib"]);
                command.args([BUFFER_KIB, "-o"]).arg(file);
            }
            Recorder::Perf => {
                command = Command::new("perf");
                command.args(["record", "--quiet", "--all-cpus", "--no-buildid"]);
                command.args(["-m", &format!("{BUFFER_KIB}K"), "-o"]);
                command.arg(file);
                for event in self.events()? {
                    command.args(["-e", &event]);
                }
            }
            Recorder::TraceCmd => {
                command = Command::new("trace-cmd");
                command.args(["record", "-C", "mono", "-b", BUFFER_KIB, "-o"]);
                command.arg(file);
                for event in self.events()? {
                    command.args(["-e", &event]);
                }
            }
        }
        if recorder != Recorder::TraceCmd {
            command.arg("--");
        }
        command.arg(meanwhile.get_program());
        command.args(meanwhile.get_args());
        Ok(command)
    }

    /// The events that `lazytlb record` records by tracepoints, as `system:event`.
    fn events(&self) -> Result<Vec<String>> {
        let mut script = Command::new(&self.lazytlb);
        script.args(["record", "--no-kprobes", "--dry-run"]);
        let script = process::on_one_core(&script, Output::Kept)?.output;
        let events = script.lines().filter_map(|line| {
            let name = line.strip_prefix("setting events/")?;
            let (name, _) = name.split_once("/enable")?;
            Some(name.replace('/', ":"))
        });
        let events: Vec<String> = events.collect();
        ensure!(
            !events.is_empty(),
            "`lazytlb record --dry-run` names no event"
        );
        Ok(events)
    }
}

/// Reads `N events, …`.
///
/// # Errors
/// If it says something else.
pub(super) fn events_read(output: &str) -> Result<u64> {
    let number = output.split(" events").next();
    let number = number.and_then(|number| number.parse().ok());
    number.with_context(|| format!("how many events? {output}"))
}
