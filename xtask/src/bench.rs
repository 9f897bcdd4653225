//! Measures the checker beside its peers, the reader with the replay, and the protocol's instructions:
//! `cargo xtask bench`.
//!
//! The peers are hand-written models of the same protocol and scenario, in `benches/peers`: a second opinion
//! as much as a yardstick, so a verdict that differs is an error. Everything runs on one core, one after
//! the other; compare numbers of one run only.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cargo_metadata::Metadata;
use serde_json::Value;

use crate::{cargo, instructions, packages};

/// Measures everything, or the parts that are named.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the checker and its peers
    #[arg(long, group = "part")]
    peers: bool,
    /// Only the reader and the replay
    #[arg(long, group = "part")]
    replay: bool,
    /// Only the protocol's instructions
    #[arg(long, group = "part")]
    instructions: bool,
    /// Runs of each, of which the fastest counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    runs: u8,
}

/// The policy whose proof is timed; the others' verdicts are compared.
const TIMED_POLICY: &str = "ipi";
const COMPARED_POLICIES: [&str; 3] = ["init-mm", "ipi-on-table-free", "defer"];
const PROGRAM: &str = "reference-3";
const VARIANTS: [&str; 2] = ["equal", "best"];
/// How often the recording is repeated for the long one.
const REPETITIONS: u64 = 10;
const RECORDING: &str = "traces/linux61-smp8-threads.trace.txt.xz";

/// Runs the benchmarks.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = cargo::metadata()?;
    let all = !(args.peers || args.replay || args.instructions);
    if all || args.instructions {
        instructions::count(&workspace)?;
    }
    if args.instructions {
        return Ok(());
    }
    cargo::run(&workspace, &["build", "--release", "--bin", "lazytlb"])?;
    let bench = Bench {
        root: workspace.workspace_root.clone().into_std_path_buf(),
        target: workspace.target_directory.clone().into_std_path_buf(),
        runs: args.runs,
    };
    if all || args.peers {
        bench.peers(&workspace)?;
    }
    if all || args.replay {
        bench.replay()?;
    }
    Ok(())
}

/// Where things are, and how often each is run.
struct Bench {
    root: PathBuf,
    target: PathBuf,
    runs: u8,
}

/// A checker that can check the scenario.
#[derive(Clone, Copy, PartialEq)]
enum Tool {
    Lazytlb,
    Spin,
    Stateright,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Tool::Lazytlb => "lazytlb",
            Tool::Spin => "SPIN",
            Tool::Stateright => "Stateright",
        }
    }
}

impl Bench {
    fn peers(&self, workspace: &Metadata) -> Result<()> {
        packages::need(&["spin", "gcc"], &["spin", "gcc"])?;
        let manifest = self.root.join("benches/peers/stateright/Cargo.toml");
        let manifest = manifest
            .to_str()
            .context("the workspace's path is not UTF-8")?;
        let target = self.target.join("peers");
        let target = target
            .to_str()
            .context("the target directory's path is not UTF-8")?;
        cargo::run(
            workspace,
            &[
                "build",
                "--release",
                "--manifest-path",
                manifest,
                "--target-dir",
                target,
            ],
        )?;
        let tools = [Tool::Lazytlb, Tool::Spin, Tool::Stateright];
        for policy in COMPARED_POLICIES {
            let expected = self.check(Tool::Lazytlb, "best", policy)?;
            for tool in [Tool::Spin, Tool::Stateright] {
                let found = self.check(tool, "best", policy)?;
                agree(policy, &expected, tool, &found)?;
            }
            let property = expected["property"].as_str().unwrap_or("no property");
            println!(
                "    {policy}: all three say {} ({property})",
                expected["verdict"]
            );
        }
        println!(
            "\n| {PROGRAM}, `{TIMED_POLICY}`, sc | grain | states | s | states/s | bytes/state |"
        );
        println!("| --- | --- | ---: | ---: | ---: | ---: |");
        for variant in VARIANTS {
            for tool in tools {
                let found = self.fastest(tool, variant)?;
                ensure!(
                    found["verdict"] == "safe",
                    "{} says {} of `{TIMED_POLICY}`, which is safe",
                    tool.name(),
                    found["verdict"]
                );
                println!("{}", row(tool, variant, &found));
            }
        }
        println!();
        Ok(())
    }

    fn fastest(&self, tool: Tool, variant: &str) -> Result<Value> {
        let mut fastest: Option<Value> = None;
        for _ in 0..self.runs {
            let found = self.check(tool, variant, TIMED_POLICY)?;
            let seconds = |found: &Value| found["seconds"].as_f64().unwrap_or(f64::INFINITY);
            if fastest
                .as_ref()
                .is_none_or(|best| seconds(&found) < seconds(best))
            {
                fastest = Some(found);
            }
        }
        fastest.context("--runs is at least 1")
    }

    /// Checks a policy with a tool; returns its report.
    fn check(&self, tool: Tool, variant: &str, policy: &str) -> Result<Value> {
        let mut command = match tool {
            Tool::Lazytlb => {
                let mut command = Command::new(self.target.join("release/lazytlb"));
                command.args(["check", "--json", "--memory", "sc", "--program", PROGRAM]);
                command.args(["--policy", policy]);
                if variant == "equal" {
                    command.arg("--no-reduction");
                }
                command
            }
            Tool::Spin => {
                let out = self.target.join("peers/promela").join(variant).join(policy);
                let mut command = Command::new("bash");
                command.arg(self.root.join("benches/peers/promela/run.sh"));
                command.args([policy, variant]).arg(out);
                command
            }
            Tool::Stateright => {
                let mut command =
                    Command::new(self.target.join("peers/release/lazytlb-peer-stateright"));
                command.args(["--policy", policy, "--variant", variant]);
                command
            }
        };
        let output = command.stderr(Stdio::piped()).output();
        let output = output.with_context(|| format!("cannot run {}", tool.name()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut reports = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        reports
            .rfind(|report| report.get("verdict").is_some())
            .with_context(|| {
                let errors = String::from_utf8_lossy(&output.stderr);
                format!(
                    "{} printed no report of {policy}, {variant}:\n{text}{errors}",
                    tool.name()
                )
            })
    }

    /// Replays the recording, plain, once and many times over: speed, and memory that does not grow.
    fn replay(&self) -> Result<()> {
        let text = decompressed(&self.root.join(RECORDING))?;
        let dir = self.target.join("bench");
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        println!("| recording | policy | events | s | M events/s | peak memory |");
        println!("| --- | --- | ---: | ---: | ---: | ---: |");
        for repetitions in [1, REPETITIONS] {
            let path = dir.join(format!("repeated-{repetitions}.trace.txt"));
            write_repeated(&text, repetitions, &path)?;
            let mut best: Option<Replayed> = None;
            for _ in 0..self.runs {
                let replayed = self.price(&path)?;
                if best
                    .as_ref()
                    .is_none_or(|best| replayed.seconds < best.seconds)
                {
                    best = Some(replayed);
                }
            }
            let best = best.context("--runs is at least 1")?;
            println!(
                "| plain text, × {repetitions} | ipi-on-table-free | {} | {:.2} | {:.1} | {:.1} MiB |",
                best.events,
                best.seconds,
                best.events as f64 / best.seconds / 1e6,
                best.peak_kib as f64 / 1024.0,
            );
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    fn price(&self, trace: &Path) -> Result<Replayed> {
        let started = Instant::now();
        let child = Command::new(self.target.join("release/lazytlb"))
            .arg("price")
            .arg(trace)
            .args(["--policy", "ipi-on-table-free", "--pcids", "off", "--json"])
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.context("cannot run lazytlb")?;
        let status = PathBuf::from(format!("/proc/{}/status", child.id()));
        let mut peak_kib = 0;
        while child.try_wait().context("waiting for lazytlb")?.is_none() {
            peak_kib = peak_kib.max(peak_memory_kib(&status).unwrap_or(0));
            thread::sleep(Duration::from_micros(500));
        }
        let seconds = started.elapsed().as_secs_f64();
        let output = child
            .wait_with_output()
            .context("reading what lazytlb printed")?;
        let report: Value = serde_json::from_slice(&output.stdout)
            .context("lazytlb price printed no report: run it on the file by hand")?;
        let events = report["events"]
            .as_u64()
            .context("the report has no events")?;
        Ok(Replayed {
            events,
            seconds,
            peak_kib,
        })
    }
}

/// How a replay went.
struct Replayed {
    events: u64,
    seconds: f64,
    peak_kib: u64,
}

/// Fails unless two tools came to the same verdict, by the same property.
fn agree(policy: &str, expected: &Value, tool: Tool, found: &Value) -> Result<()> {
    for key in ["verdict", "property"] {
        ensure!(
            expected[key] == found[key],
            "{policy}: lazytlb says {key} {}, {} says {}: one of the models is wrong",
            expected[key],
            tool.name(),
            found[key]
        );
    }
    Ok(())
}

fn row(tool: Tool, variant: &str, found: &Value) -> String {
    let states = found["states"].as_f64().unwrap_or(f64::NAN);
    let seconds = found["seconds"].as_f64().unwrap_or(f64::NAN);
    let bytes = found["bytes_per_state"].as_f64();
    format!(
        "| {} | {} | {states} | {seconds:.3} | {:.2} M | {} |",
        tool.name(),
        if variant == "equal" {
            "every seam call a step"
        } else {
            "everyone at his best"
        },
        states / seconds / 1e6,
        bytes.map_or_else(|| "—".to_owned(), |bytes| format!("{bytes:.0}")),
    )
}

fn decompressed(recording: &Path) -> Result<String> {
    let output = Command::new("xz").arg("-dc").arg(recording).output();
    let output = output.context("cannot run `xz`: install the package `xz-utils`")?;
    ensure!(
        output.status.success(),
        "xz cannot read {}",
        recording.display()
    );
    String::from_utf8(output.stdout).context("the shipped recording is not UTF-8")
}

/// Writes a recording several times over, each time later on the clock than the time before.
fn write_repeated(text: &str, repetitions: u64, path: &Path) -> Result<()> {
    let file =
        fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut out = BufWriter::new(file);
    for repetition in 0..repetitions {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (before, at, after) = split_at_time(line).context("a line without a time")?;
            // The recording spans less than a hundred seconds.
            let seconds = at.parse::<u64>().context("a time that is no number")? + 100 * repetition;
            writeln!(out, "{before}{seconds}{after}").context("writing the repeated recording")?;
        }
    }
    out.flush().context("writing the repeated recording")
}

/// Splits a line around the whole seconds of its time, which stand before `.micros: event:`.
fn split_at_time(line: &str) -> Option<(&str, &str, &str)> {
    let cpu_end = line.find("] ")? + 2;
    let dot = cpu_end + line[cpu_end..].find(": ")?;
    let dot = line[..dot].rfind('.')?;
    let start = line[..dot].rfind(' ')? + 1;
    Some((&line[..start], &line[start..dot], &line[dot..]))
}

fn peak_memory_kib(status: &Path) -> Option<u64> {
    let status = fs::read_to_string(status).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_around_its_seconds() {
        let line = "          <idle>-0       [005] d.h1.     7.896689: tlb_flush: pages:-1";
        let (before, at, after) = split_at_time(line).unwrap();
        assert_eq!((at, after), ("7", ".896689: tlb_flush: pages:-1"));
        assert_eq!(format!("{before}{at}{after}"), line);
    }

    #[test]
    fn tools_that_differ_are_an_error() {
        let safe: Value = serde_json::json!({"verdict": "safe", "property": null});
        let unsafe_: Value = serde_json::json!({"verdict": "violation", "property": "deadlock"});
        assert!(agree("ipi", &safe, Tool::Spin, &safe).is_ok());
        assert!(agree("ipi", &safe, Tool::Spin, &unsafe_).is_err());
    }
}
