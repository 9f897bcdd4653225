//! Breaks the model's rules one at a time, and asks whether any test notices: `cargo xtask mutate-model`. With
//! `--renumbering`, breaks how proofs of any length come to an end.
//!
//! Each broken rule is a diff in `crates/model/mutants.toml`, or in `crates/check/mutants.toml`. It is applied to a copy of the crates below
//! `target/`, where the tests that may notice are built anew and run, until one fails. The protocol is never
//! touched. A diff must match the model's source exactly where it says: a unit test holds the table to that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::Message;

use crate::cargo;

/// Holds the arguments of `cargo xtask mutate-model`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Break only rules that have this in their name, such as `h13`
    filter: Option<String>,
    /// Ask the random simulator alone, about the rules that a mutant makes too strong
    #[arg(long)]
    simulator: bool,
    /// Break the renumbering of programs whose operations start for ever, in place of the model's rules
    #[arg(long, conflicts_with = "simulator")]
    renumbering: bool,
}

/// What is broken, and who may notice.
struct Subject {
    table: &'static str,
    /// The folder that the rows' files are in.
    sources: &'static str,
    /// The tests that may notice, in the order in which they are asked: fast ones first.
    tests: &'static [Test],
}

/// A crate, and one of its tests; [`UNITS`] for those in its sources.
type Test = (&'static str, &'static str);

const UNITS: &str = "unit tests";

/// How many random programs the test `hardware` takes: more than where nothing is changed.
const HARDWARE_PROGRAMS: (&str, &str) = ("LAZYTLB_HARDWARE_PROGRAMS", "10000");

const MODEL: Subject = Subject {
    table: "crates/model/mutants.toml",
    sources: "crates/model/src",
    tests: &[
        ("lazytlb-litmus", "suite"),
        ("lazytlb-check", "walks"),
        ("lazytlb-check", "promises"),
        ("lazytlb-check", "proofs"),
        ("lazytlb-check", "hardware"),
        ("lazytlb-check", "closure"),
    ],
};
/// As [`MODEL`], for the test that is asked alone with `--simulator`: it can notice what a mutant forbids, and nothing
/// else.
const BY_SIMULATOR: Subject = Subject {
    tests: &[("lazytlb-litmus", "simulator")],
    ..MODEL
};
const RENUMBERING: Subject = Subject {
    table: "crates/check/mutants.toml",
    sources: "crates",
    tests: &[
        ("lazytlb-check", "renumbering"),
        ("lazytlb-check", "any_length"),
        ("lazytlb-check", UNITS),
    ],
};
/// Where the copy lies, with what is built of it.
const COPY: &str = "target/mutants/workspace";
const BUILT: &str = "target/mutants/built";
/// What the copy has: everything that a manifest or a test of a crate reads.
const COPIED: [&str; 4] = ["Cargo.toml", "Cargo.lock", "crates", "xtask"];
/// How the copy is built: most of a mutant's time is compiling, so what makes that slow is left out.
const PROFILE: [(&str, &str); 4] = [
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_INCREMENTAL", "true"),
];

/// Runs the tests once for each broken rule, and prints which test noticed.
///
/// # Errors
/// If the tests fail with no rule broken, a diff does not apply, or a broken rule goes unnoticed; of those that
/// the simulator is asked about, more than a quarter.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = cargo::metadata()?;
    let root = workspace.workspace_root.as_std_path();
    let subject = match (args.simulator, args.renumbering) {
        (true, _) => BY_SIMULATOR,
        (false, true) => RENUMBERING,
        (false, false) => MODEL,
    };
    let mut mutants = subject.read_table(root)?;
    if let Some(wanted) = &args.filter {
        mutants.retain(|mutant| mutant.name.contains(wanted.as_str()));
    }
    if args.simulator {
        mutants.retain(|mutant| mutant.forbids);
    }
    ensure!(
        !mutants.is_empty(),
        "no row of {} has that in its name",
        subject.table
    );
    let unnoticed = subject.break_each(root, &mutants)?;
    println!(
        "{} rules broken, {} noticed",
        mutants.len(),
        mutants.len() - unnoticed.len()
    );
    let enough = match args.simulator {
        true => unnoticed.len() * 4 <= mutants.len(),
        false => unnoticed.is_empty(),
    };
    ensure!(enough, "no test notices: {}", unnoticed.join(", "));
    Ok(())
}

impl Subject {
    fn read_table(&self, root: &Path) -> Result<Vec<Mutant>> {
        let table: Table = toml::from_str(&read(&root.join(self.table))?)
            .with_context(|| format!("cannot understand {}", self.table))?;
        Ok(table.mutant)
    }

    /// Returns the text of a mutant's file with its diff applied.
    fn applied(&self, mutant: &Mutant, root: &Path) -> Result<String> {
        let mut text = read(&root.join(self.sources).join(&mutant.file))?;
        for hunk in mutant.diff.split("@@\n") {
            text = apply(&text, hunk)
                .with_context(|| format!("{}: `{}`, {}", self.table, mutant.name, mutant.file))?;
        }
        Ok(text)
    }

    /// Runs tests in a copy, with no rule broken and then with each; returns the mutants that none noticed.
    fn break_each<'m>(&self, root: &Path, mutants: &'m [Mutant]) -> Result<Vec<&'m str>> {
        let broken: Vec<String> = mutants
            .iter()
            .map(|mutant| self.applied(mutant, root))
            .collect::<Result<_>>()?;
        let copy = root.join(COPY);
        fs::create_dir_all(&copy).with_context(|| format!("cannot make {}", copy.display()))?;
        for name in COPIED {
            copy_changed(&root.join(name), &copy.join(name))?;
        }
        println!("building the tests, and running them with no rule broken");
        if let Some(test) = first_to_fail(root, self.tests)? {
            bail!("`{test}` fails with no rule broken: mend that first");
        }
        let mut unnoticed = Vec::new();
        for (mutant, broken) in mutants.iter().zip(&broken) {
            let started = Instant::now();
            let file = copy.join(self.sources).join(&mutant.file);
            let whole = read(&file)?;
            write(&file, broken)?;
            let noticed = first_to_fail(root, self.tests)?;
            write(&file, &whole)?;
            let by = noticed.unwrap_or("NOTHING");
            println!(
                "{:<48} noticed by {by:<10} {:>5.1} s",
                mutant.name,
                started.elapsed().as_secs_f64()
            );
            if noticed.is_none() {
                unnoticed.push(mutant.name.as_str());
            }
        }
        Ok(unnoticed)
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    mutant: Vec<Mutant>,
}

/// A row of the table: the meaning of each key is told at the table's top.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    #[serde(rename = "about")]
    _about: String,
    file: String,
    /// It forbids what the rules allow, which only a second opinion can notice without asking for it.
    #[serde(default)]
    forbids: bool,
    diff: String,
}

/// Applies one place of a diff to a text.
///
/// # Errors
/// If it matches nowhere, or at several places.
fn apply(text: &str, hunk: &str) -> Result<String> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for line in hunk.lines() {
        let rest = line.get(1..).unwrap_or_default();
        match line.as_bytes().first() {
            Some(b' ') => {
                before.push(rest.trim());
                after.push(rest);
            }
            Some(b'-') => before.push(rest.trim()),
            Some(b'+') => after.push(rest),
            _ => bail!("`{line}` starts with none of ` `, `-`, `+`"),
        }
    }
    ensure!(!before.is_empty(), "it says nowhere where it belongs");
    let lines: Vec<&str> = text.lines().collect();
    let is_code = |line: &str| !line.is_empty() && !line.starts_with("//");
    let code: Vec<(usize, &str)> = lines
        .iter()
        .map(|line| line.trim())
        .enumerate()
        .filter(|(_, line)| is_code(line))
        .collect();
    let places: Vec<&[(usize, &str)]> = code
        .windows(before.len())
        .filter(|window| window.iter().map(|(_, line)| line).eq(&before))
        .collect();
    let [place] = places[..] else {
        let lines = before.join("\n    ");
        bail!("{} places match, not one:\n    {lines}", places.len());
    };
    let (first, last) = (place[0].0, place[place.len() - 1].0);
    let changed = [&lines[..first], &after, &lines[last + 1..]].concat();
    Ok(changed.join("\n") + "\n")
}

/// Returns the first test that fails in the copy.
fn first_to_fail(root: &Path, tests: &[Test]) -> Result<Option<&'static str>> {
    for &(package, name) in tests {
        let program = build(root, package, name)?;
        let folder = package.strip_prefix("lazytlb-").unwrap_or(package);
        let status = Command::new(&program)
            .current_dir(root.join(COPY).join("crates").join(folder))
            .env(HARDWARE_PROGRAMS.0, HARDWARE_PROGRAMS.1)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .with_context(|| format!("cannot run {}", program.display()))?;
        if !status.success() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Builds a test of the copy; returns its program.
fn build(root: &Path, package: &str, name: &str) -> Result<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root.join(COPY))
        .args(["test", "--release", "--no-run", "--quiet"])
        .args(["--message-format=json", "-p", package])
        .args(match name {
            UNITS => vec!["--lib"],
            name => vec!["--test", name],
        })
        .arg("--target-dir")
        .arg(root.join(BUILT))
        .envs(PROFILE)
        .stderr(Stdio::piped())
        .output()
        .context("cannot start cargo")?;
    let mut messages = Message::parse_stream(output.stdout.as_slice()).filter_map(Result::ok);
    let program = messages.find_map(|message| match message {
        Message::CompilerArtifact(artifact) if artifact.target.name == name || name == UNITS => {
            artifact.executable
        }
        _ => None,
    });
    match program {
        Some(program) if output.status.success() => Ok(program.into_std_path_buf()),
        _ => {
            let messages = String::from_utf8_lossy(&output.stdout);
            let rendered = Message::parse_stream(messages.as_bytes()).filter_map(Result::ok);
            let errors: Vec<String> = rendered
                .filter_map(|message| match message {
                    Message::CompilerMessage(message) => message.message.rendered,
                    _ => None,
                })
                .collect();
            let cargo = String::from_utf8_lossy(&output.stderr);
            bail!(
                "test {name} of {package} does not build:\n{}{cargo}",
                errors.concat()
            )
        }
    }
}

/// Makes a file, or each file of a folder, the same in the copy, and leaves those alone that are: cargo builds
/// again what was written.
fn copy_changed(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        if fs::read(to).is_ok_and(|same| same == bytes) {
            return Ok(());
        }
        return fs::write(to, bytes).with_context(|| format!("cannot write {}", to.display()));
    }
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let names = |folder: &Path| -> Result<Vec<_>> {
        let entries =
            fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        entries
            .map(|entry| Ok(entry?.file_name()))
            .collect::<Result<Vec<_>>>()
    };
    for name in names(from)?.into_iter().filter(|name| name != "target") {
        copy_changed(&from.join(&name), &to.join(&name))?;
    }
    for gone in names(to)?
        .into_iter()
        .filter(|name| !from.join(name).exists())
    {
        let gone = to.join(gone);
        let removed = match gone.is_dir() {
            true => fs::remove_dir_all(&gone),
            false => fs::remove_file(&gone),
        };
        removed.with_context(|| format!("cannot remove {}", gone.display()))?;
    }
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_diff_applies_where_it_says() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (subject, least) in [(MODEL, 62), (RENUMBERING, 8)] {
            let mutants = subject.read_table(&root).unwrap();
            let names: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.name.as_str()).collect();
            assert_eq!(names.len(), mutants.len(), "each name stands once");
            assert!(mutants.len() >= least, "no mutant got lost");
            let problems: Vec<String> = mutants
                .iter()
                .filter_map(|mutant| subject.applied(mutant, &root).err())
                .map(|problem| format!("{problem:#}"))
                .collect();
            assert!(problems.is_empty(), "{}", problems.join("\n"));
        }
    }

    #[test]
    fn a_diff_that_matches_twice_is_refused() {
        let text = "let a = 1;\n// Why.\nlet b = 2;\n\nlet a = 1;\n";
        assert!(apply(text, "-let a = 1;\n").is_err());
        assert!(apply(text, "+let c = 3;\n").is_err(), "it has no place");
        let changed = apply(text, "-let a = 1;\n+let a = 3;\n let b = 2;\n").unwrap();
        assert_eq!(changed, "let a = 3;\nlet b = 2;\n\nlet a = 1;\n");
    }
}
