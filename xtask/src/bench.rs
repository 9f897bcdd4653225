//! Measures the checker beside its peers, the reader with the replay, recorders, and the protocol's instructions: `cargo xtask bench`.
//!
//! The peers are hand-written models of the same protocol and scenario, in `benches/peers`: a second opinion
//! as much as a yardstick, so a verdict that differs is an error. Everything runs on one core, one after
//! the other; compare numbers of one run only.
//!
//! | file | what |
//! | --- | --- |
//! | `recordings` | reading and pricing, beside trace-cmd and perf |
//! | `overhead` | what a recorder costs |
//! | `replay` | the shipped recording, repeated: memory does not grow |
//! | `repeated` | long recordings out of short ones |
//! | `programs` | what is built and installed, and how each recorder is called |
//! | `process` | what a program took |

mod overhead;
mod process;
mod programs;
mod recordings;
mod repeated;
mod replay;

use std::path::PathBuf;
use std::process::{Command, Stdio};

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
    /// Only reading and pricing, beside `trace-cmd report` and `perf script`; takes root
    #[arg(long, group = "part")]
    recordings: bool,
    /// With --recordings: a trace.dat to measure beside the one that is made here; may be repeated
    #[arg(long, value_name = "FILE", requires = "recordings")]
    recording: Vec<PathBuf>,
    /// Only what recording costs, beside `perf record` and `trace-cmd record`; takes root
    #[arg(long, group = "part")]
    record_overhead: bool,
    /// Only the protocol's instructions
    #[arg(long, group = "part")]
    instructions: bool,
    /// Runs of each, of which the fastest counts; of what recording costs, the median
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    runs: u8,
}

/// The policy whose proof is timed; the others' verdicts are compared.
const TIMED_POLICY: &str = "ipi";
const COMPARED_POLICIES: [&str; 3] = ["init-mm", "ipi-on-table-free", "defer"];
const PROGRAM: &str = "reference-3";
const VARIANTS: [&str; 2] = ["equal", "best"];

/// Runs the benchmarks.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = cargo::metadata()?;
    let parts = [
        args.peers,
        args.replay,
        args.recordings,
        args.record_overhead,
        args.instructions,
    ];
    let all = !parts.contains(&true);
    if all || args.instructions {
        instructions::count(&workspace)?;
    }
    if all || args.peers {
        peers(&workspace, args.runs)?;
    }
    if all || args.replay {
        replay::measure(&workspace, args.runs)?;
    }
    if all || args.recordings {
        recordings::measure(&workspace, &args.recording, args.runs)?;
    }
    if all || args.record_overhead {
        overhead::measure(&workspace, args.runs)?;
    }
    Ok(())
}

/// Measures the checker beside its peers.
fn peers(workspace: &Metadata, runs: u8) -> Result<()> {
    cargo::run(workspace, &["build", "--release", "--bin", "lazytlb"])?;
    let bench = Bench {
        root: workspace.workspace_root.clone().into_std_path_buf(),
        target: workspace.target_directory.clone().into_std_path_buf(),
        runs,
    };
    bench.peers(workspace)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_that_differ_are_an_error() {
        let safe: Value = serde_json::json!({"verdict": "safe", "property": null});
        let unsafe_: Value = serde_json::json!({"verdict": "violation", "property": "deadlock"});
        assert!(agree("ipi", &safe, Tool::Spin, &safe).is_ok());
        assert!(agree("ipi", &safe, Tool::Spin, &unsafe_).is_err());
    }
}
