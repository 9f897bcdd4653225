//! Records on this machine, and lets Debian's trace-cmd read what came of it.
//!
//! Tracing needs root and a kernel with tracefs. Where either is missing nothing can be recorded here, and the step says so, loudly.
//! Guests have both.
//!
//! | file | what |
//! | --- | --- |
//! | `guest` | the same under Debian's kernels, which have kprobes |
//! | `told` | what was told of a recording, and what trace-cmd reads of it |

mod guest;
mod told;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use cargo_metadata::Metadata;

use crate::{cargo, packages};
use told::{events_told, read_by_trace_cmd, succeeded};

/// A workload: processes that begin and end, and share nothing.
const WORKLOAD: &str = "for n in 1 2 3 4 5 6 7 8 9; do ls / > /dev/null; (true) & done; wait";

/// Records by itself, by its own script, and until a signal.
pub(crate) fn test(workspace: &Metadata) -> Result<()> {
    packages::need(&["trace-cmd"], &["trace-cmd"])?;
    let build = [&["build", "--package", "lazytlb-cli"][..], &cargo::PROFILE].concat();
    cargo::run(workspace, &build)?;
    let directory = workspace.target_directory.as_std_path();
    let files = directory.join("record");
    std::fs::create_dir_all(&files)?;
    let on = On {
        lazytlb: directory.join("checks/lazytlb"),
        files,
    };
    match tracefs()? {
        Some(tracefs) => on.this_machine(&tracefs)?,
        None => println!(
            "    NOT TESTED on this machine's kernel: tracefs cannot be mounted (it takes root, and a kernel that traces)"
        ),
    }
    guest::test(&on.lazytlb, &on.files)
}

/// Returns where tracefs is, mounting it if need be and possible.
///
/// # Errors
/// If it is not known what is mounted.
pub(crate) fn tracefs() -> Result<Option<PathBuf>> {
    let mounted = || {
        let mounts = std::fs::read_to_string("/proc/mounts")?;
        let line = mounts
            .lines()
            .find(|line| line.split(' ').nth(2) == Some("tracefs"));
        anyhow::Ok(
            line.and_then(|line| line.split(' ').nth(1))
                .map(PathBuf::from),
        )
    };
    if let Some(place) = mounted()? {
        return Ok(Some(place));
    }
    let mount = ["-t", "tracefs", "nodev", "/sys/kernel/tracing"];
    // Where it is refused, nothing is mounted, which is what counts.
    let _ = Command::new("mount").args(mount).output();
    mounted()
}

struct On {
    lazytlb: PathBuf,
    files: PathBuf,
}

impl On {
    fn this_machine(&self, tracefs: &Path) -> Result<()> {
        self.a_command()?;
        is_clean(tracefs)?;
        self.until_a_signal()?;
        is_clean(tracefs)?;
        self.by_the_script()?;
        is_clean(tracefs)
    }

    /// A command is recorded whole: trace-cmd reads as many events as were told.
    fn a_command(&self) -> Result<()> {
        let file = self.files.join("command.dat");
        let output = self
            .record(&file)
            .args(["--", "sh", "-c", WORKLOAD])
            .output()?;
        let told = succeeded(&output)?;
        let events = events_told(&told)?;
        let read = read_by_trace_cmd(&file)?;
        ensure!(
            read == events && events > 100,
            "{events} events were recorded, and trace-cmd reads {read}"
        );
        println!("    {events} events, and trace-cmd reads as many");
        Ok(())
    }

    /// A signal ends a recording, and the file is whole.
    fn until_a_signal(&self) -> Result<()> {
        let file = self.files.join("signal.dat");
        let child = self
            .record(&file)
            .stderr(std::process::Stdio::piped())
            .spawn()?;
        sleep(Duration::from_secs(1));
        let pid = child.id().to_string();
        succeeded(&Command::new("kill").args(["-TERM", &pid]).output()?)?;
        let told = succeeded(&child.wait_with_output()?)?;
        let (events, read) = (events_told(&told)?, read_by_trace_cmd(&file)?);
        ensure!(
            read == events && events > 0,
            "{events} events until SIGTERM, and trace-cmd reads {read}"
        );
        Ok(())
    }

    /// The script of `--dry-run` records, too.
    fn by_the_script(&self) -> Result<()> {
        let text = self.files.join("script.txt");
        let mut script = Command::new(&self.lazytlb);
        let script = script.args(["record", "--dry-run", "-o"]).arg(&text);
        let script = script.args(["--", "sh", "-c", WORKLOAD]).output()?;
        let script = String::from_utf8(script.stdout)?;
        let path = self.files.join("script.sh");
        std::fs::write(&path, script)?;
        succeeded(&Command::new("sh").arg(&path).output()?)?;
        let events = std::fs::read_to_string(&text)?
            .matches("sched_switch:")
            .count();
        ensure!(events > 10, "the script recorded {events} switches");
        println!("    the script recorded {events} switches");
        Ok(())
    }

    fn record(&self, file: &Path) -> Command {
        let mut command = Command::new(&self.lazytlb);
        command.args(["record", "--force", "-o"]).arg(file);
        command
    }
}

/// Nothing is left behind.
fn is_clean(tracefs: &Path) -> Result<()> {
    for entry in std::fs::read_dir(tracefs.join("instances"))? {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with("lazytlb_") {
            bail!("the instance {} was left behind", name.display());
        }
    }
    Ok(())
}
