//! Breaks the model's rules one at a time, and asks whether any test notices: `cargo xtask mutate-model`.
//!
//! The rules to break are named switches of the model's feature `mutants` (`crates/model/src/mutant.rs`); the
//! protocol is never touched. The tests are built once, and run once for each switch.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cargo_metadata::Message;

use crate::cargo;

/// Holds the arguments of `cargo xtask mutate-model`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Break only rules whose switch has this in its name, such as `h13`
    filter: Option<String>,
}

/// The variable that the model reads.
const VARIABLE: &str = "LAZYTLB_MODEL_MUTANT";
const SWITCHES: &str = "crates/model/src/mutant.rs";
/// The tests that may notice, in the order in which they are asked: fast ones first.
const TESTS: [(&str, &str); 4] = [
    ("lazytlb-litmus", "suite"),
    ("lazytlb-check", "proofs"),
    ("lazytlb-check", "hardware"),
    ("lazytlb-check", "closure"),
];

/// Runs the tests once for each broken rule, and prints which test noticed.
///
/// # Errors
/// If the tests fail with no rule broken, or a broken rule goes unnoticed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = cargo::metadata()?;
    let root = workspace.workspace_root.as_std_path();
    let mutants: Vec<String> = switches(root)?
        .into_iter()
        .filter(|name| {
            args.filter
                .as_ref()
                .is_none_or(|wanted| name.contains(wanted))
        })
        .collect();
    if mutants.is_empty() {
        bail!("no switch of {SWITCHES} has that in its name");
    }
    let tests = build(root)?;
    if let Some(test) = first_to_fail(&tests, None)? {
        bail!("`{test}` fails with no rule broken: mend that first");
    }
    let mut unnoticed = Vec::new();
    for mutant in &mutants {
        let started = Instant::now();
        let noticed = first_to_fail(&tests, Some(mutant))?;
        let by = noticed.unwrap_or("NOTHING");
        println!(
            "{mutant:<48} noticed by {by:<10} {:>5.1} s",
            started.elapsed().as_secs_f64()
        );
        if noticed.is_none() {
            unnoticed.push(mutant.as_str());
        }
    }
    println!(
        "{} rules broken, {} noticed",
        mutants.len(),
        mutants.len() - unnoticed.len()
    );
    if !unnoticed.is_empty() {
        bail!("no test notices: {}", unnoticed.join(", "));
    }
    Ok(())
}

/// Reads the switches' names from the model's source.
fn switches(root: &Path) -> Result<Vec<String>> {
    let file = root.join(SWITCHES);
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().map(str::trim);
    let names = lines.filter_map(|line| line.split_once(" = \"")?.1.strip_suffix("\","));
    Ok(names.map(str::to_owned).collect())
}

struct TestProgram {
    name: &'static str,
    program: PathBuf,
    folder: PathBuf,
}

/// Builds the tests with the model's switches in it.
fn build(root: &Path) -> Result<Vec<TestProgram>> {
    let mut built = Vec::new();
    for (package, name) in TESTS {
        println!("building {package}, test {name}, with the switches");
        let output = Command::new(env!("CARGO"))
            .current_dir(root)
            .args([
                "test",
                "--release",
                "--no-run",
                "--message-format=json",
                "-p",
                package,
            ])
            .args(["--test", name, "--features", "lazytlb-model/mutants"])
            .args(["--target-dir", "target/mutants"])
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("the tests of {package} do not build with the switches");
        }
        let messages = Message::parse_stream(output.stdout.as_slice());
        let program = messages
            .filter_map(Result::ok)
            .find_map(|message| match message {
                Message::CompilerArtifact(artifact) if artifact.target.name == name => {
                    artifact.executable
                }
                _ => None,
            });
        let program =
            program.with_context(|| format!("cargo built no program for the test {name}"))?;
        let folder = package.strip_prefix("lazytlb-").unwrap_or(package);
        built.push(TestProgram {
            name,
            program: program.into_std_path_buf(),
            folder: root.join("crates").join(folder),
        });
    }
    Ok(built)
}

/// Returns the first test that fails while a rule is broken.
fn first_to_fail(tests: &[TestProgram], mutant: Option<&str>) -> Result<Option<&'static str>> {
    for test in tests {
        let mut command = Command::new(&test.program);
        command
            .current_dir(&test.folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        match mutant {
            Some(mutant) => command.env(VARIABLE, mutant),
            None => command.env_remove(VARIABLE),
        };
        let status = command
            .status()
            .with_context(|| format!("cannot run {}", test.program.display()))?;
        if !status.success() {
            return Ok(Some(test.name));
        }
    }
    Ok(None)
}
