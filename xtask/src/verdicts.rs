//! Every verdict of one version in one table, to hold another version's to it: `cargo xtask verdicts`.
//!
//! A change that must not change any answer is shown by two runs, one with `--binary` for the version before.
//! A row of the table adds up every CPU model and every policy; `--lines` writes what was added up, so that
//! `diff` finds what differs. Nothing that depends on the machine (seconds, memory) is in either.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;

/// Holds the arguments of `cargo xtask verdicts`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Ask this program instead of building `lazytlb` here
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Write every single answer to this file, a line each
    #[arg(long, value_name = "FILE")]
    lines: Option<PathBuf>,
    /// Give up on a check after so many states
    #[arg(long, value_name = "N", default_value_t = 3_500_000)]
    max_states: u64,
    /// Give up on a check of four CPUs after so many: they end incomplete anyway
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    max_states_of_four_cpus: u64,
}

/// The memory models, and the ways of searching.
const MEMORIES: [&str; 2] = ["sc", "tso"];
const REDUCTIONS: [&[&str]; 2] = [&[], &["--no-reduction"]];
/// The program of four CPUs.
const FOUR_CPUS: &str = "reference-4";
/// Where the suite lies.
const SUITE: &str = "crates/model/litmus";
/// What depends on the machine, or on the sources and not on what they do.
const LEFT_OUT: [&str; 4] = ["seconds", "bytes_per_state", "protocol", "file"];

/// The fields of records that are no answers: one sums the answers before it up, one says that they are all.
const NO_ANSWERS: [&str; 2] = ["summary", "complete"];

/// Prints the table.
///
/// # Errors
/// If the program cannot be built or run, or prints something else than answers.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = cargo::metadata()?;
    let root = workspace.workspace_root.as_std_path();
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => {
            cargo::run(
                &workspace,
                &["build", "--release", "--package", "lazytlb-cli"],
            )?;
            let built = workspace.target_directory.join("release/lazytlb");
            built.into_std_path_buf()
        }
    };
    let asked = Asked { binary, root };
    let mut lines = Vec::new();
    programs(&asked, args, &mut lines)?;
    suite(&asked, &mut lines)?;
    if let Some(file) = &args.lines {
        std::fs::write(file, lines.join("\n") + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// The program that is asked.
struct Asked<'a> {
    binary: PathBuf,
    root: &'a Path,
}

impl Asked<'_> {
    fn output(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.binary)
            .current_dir(self.root)
            .args(arguments)
            .output()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Returns the answers of a command, without what depends on the machine.
    fn answers(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let mut answers = Vec::new();
        for line in self.output(arguments)?.lines() {
            let mut answer: Value = serde_json::from_str(line)
                .with_context(|| format!("`lazytlb {}` prints no JSON", arguments.join(" ")))?;
            if NO_ANSWERS.iter().any(|field| answer.get(field).is_some()) {
                continue;
            }
            if let Some(fields) = answer.as_object_mut() {
                fields.retain(|name, _| !LEFT_OUT.contains(&name.as_str()));
            }
            answers.push(answer);
        }
        if answers.is_empty() {
            bail!("`lazytlb {}` answers nothing", arguments.join(" "));
        }
        Ok(answers)
    }

    fn cpu_models(&self) -> Result<Vec<String>> {
        let models = self.answers(&["cpus", "--json"])?;
        let names = models.iter().filter_map(|model| model["name"].as_str());
        Ok(names.map(str::to_owned).collect())
    }

    /// Reads the names of the shipped programs out of the help, which lists them.
    fn program_names(&self) -> Result<Vec<String>> {
        let help = self.output(&["check", "--help"])?;
        let (_, below) = help
            .split_once("--program")
            .context("the help of `lazytlb check` does not have --program")?;
        let list = below.split("[default").next().unwrap_or_default();
        let names = list.lines().filter_map(|line| {
            let (name, _) = line.trim_start().strip_prefix("- ")?.split_once(':')?;
            Some(name.to_owned())
        });
        Ok(names.collect())
    }
}

/// What the checks of a row add up to.
#[derive(Default)]
struct Sum {
    verdicts: BTreeMap<String, u64>,
    states: u64,
    transitions: u64,
    depth: u64,
    timeline_steps: usize,
}

impl Sum {
    fn add(&mut self, answer: &Value) {
        let verdict = answer["property"].as_str().or(answer["verdict"].as_str());
        let count = self.verdicts.entry(verdict.unwrap_or("?").to_owned());
        *count.or_default() += 1;
        let number = |field: &str| answer[field].as_u64().unwrap_or_default();
        self.states += number("states");
        self.transitions += number("transitions");
        self.depth += number("depth");
        self.timeline_steps += answer["trace"].as_array().map_or(0, Vec::len);
    }

    fn verdicts(&self) -> String {
        let counts = self.verdicts.iter();
        let counts: Vec<String> = counts
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        counts.join(", ")
    }
}

/// Checks every shipped program on every CPU model, under every policy.
fn programs(asked: &Asked<'_>, args: &Args, lines: &mut Vec<String>) -> Result<()> {
    let models = asked.cpu_models()?;
    println!(
        "| program | memory | reduced | verdicts | states | transitions | depth | timelines |"
    );
    println!("| --- | --- | --- | --- | ---: | ---: | ---: | ---: |");
    for program in asked.program_names()? {
        let max_states = match program == FOUR_CPUS {
            true => args.max_states_of_four_cpus,
            false => args.max_states,
        };
        let max_states = max_states.to_string();
        for memory in MEMORIES {
            for reduction in REDUCTIONS {
                let mut sum = Sum::default();
                for model in &models {
                    let fixed = ["check", "--policy", "all", "--json", "--program", &program];
                    let varied = [
                        "--cpu",
                        model,
                        "--memory",
                        memory,
                        "--max-states",
                        &max_states,
                    ];
                    let arguments = [&fixed[..], &varied[..], reduction].concat();
                    for answer in asked.answers(&arguments)? {
                        sum.add(&answer);
                        lines.push(answer.to_string());
                    }
                }
                println!(
                    "| {program} | {memory} | {} | {} | {} | {} | {} | {} |",
                    if reduction.is_empty() { "yes" } else { "no" },
                    sum.verdicts(),
                    sum.states,
                    sum.transitions,
                    sum.depth,
                    sum.timeline_steps
                );
            }
        }
    }
    Ok(())
}

/// Asks every litmus test of the suite on every CPU model.
fn suite(asked: &Asked<'_>, lines: &mut Vec<String>) -> Result<()> {
    println!();
    println!("| suite on | tests | verdicts | final states | explored states |");
    println!("| --- | ---: | --- | ---: | ---: |");
    for model in asked.cpu_models()? {
        let answers = asked.answers(&["litmus", SUITE, "--json", "--cpu", &model])?;
        let mut verdicts: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut ends, mut explored) = (0, 0);
        for answer in &answers {
            *verdicts
                .entry(answer["verdict"].as_str().unwrap_or("?"))
                .or_default() += 1;
            ends += answer["states"].as_array().map_or(0, Vec::len);
            explored += answer["explored_states"].as_u64().unwrap_or_default();
            lines.push(format!("{model} {answer}"));
        }
        let verdicts: Vec<String> = verdicts
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        println!(
            "| {model} | {} | {} | {ends} | {explored} |",
            answers.len(),
            verdicts.join(", ")
        );
    }
    Ok(())
}
