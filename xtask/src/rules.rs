//! The hardware rules H1 to H43: which files of the model name each, and which tests.
//!
//! What is looked for is a rule's *name*: in a comment of the model's code, in the line `Rule=` of a litmus
//! test, in a test of a crate above. A rule that no code names, or without a litmus test that expects
//! `Allowed` and one that expects `Forbidden`, is an error. Whether the code that names it is right, this
//! cannot see: the suite runs the litmus tests, and `cargo xtask mutate-model` breaks the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::Metadata;

use crate::cargo;

/// Holds the arguments of `cargo xtask rules`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name every litmus test, besides how many there are
    #[arg(long)]
    tests: bool,
}

/// Rules that the model leaves out, and why.
const OUTSIDE: [(&str, &str); 2] = [
    ("H35", "remote action requests: out of scope"),
    (
        "H39",
        "the contract of the seam, not of the hardware: crates/lazytlb/src/hw.rs",
    ),
];

/// Files that name rules without encoding them: the table of contents, the properties that rest on them.
const NO_CODE: [&str; 2] = ["lib", "violation"];

/// Where the rules are encoded, listed with their sources, tested.
const CODE: &str = "crates/model/src";
const SOURCES: &str = "SOURCES.md";
const LITMUS: &str = "crates/model/litmus";
const TESTS: [&str; 3] = [
    "crates/check/tests",
    "crates/litmus/tests",
    "crates/check/src/programs",
];

/// Prints the table.
///
/// # Errors
/// If a rule has no code, or no litmus test on one of its two sides, or a test names a rule that has no
/// row.
pub(crate) fn run(args: &Args) -> Result<()> {
    check(&cargo::metadata()?, args.tests)
}

/// The step of `cargo xtask test`.
pub(crate) fn test(workspace: &Metadata) -> Result<()> {
    check(workspace, false)
}

fn check(workspace: &Metadata, name_tests: bool) -> Result<()> {
    let root = workspace.workspace_root.as_std_path();
    let rules = rules_with_a_row(&root.join(SOURCES))?;
    let mut code_files = files_below(&root.join(CODE), "rs")?;
    code_files.retain(|file| !NO_CODE.contains(&short(file).as_str()));
    let code = mentions(&code_files)?;
    let mut test_files = Vec::new();
    for folder in TESTS {
        test_files.extend(files_below(&root.join(folder), "rs")?);
    }
    let tests = mentions(&test_files)?;
    let litmus = litmus_tests(&files_below(&root.join(LITMUS), "litmus")?)?;
    let mut missing = Vec::new();
    println!("rule {CODE:<58} {:<29} other tests", "litmus tests");
    for rule in &rules {
        if let Some((_, why)) = OUTSIDE.iter().find(|(outside, _)| outside == rule) {
            println!("{rule:<5}{why}");
            continue;
        }
        let list = |of: &BTreeMap<String, BTreeSet<String>>| {
            let files = of.get(rule).into_iter().flatten();
            files.cloned().collect::<Vec<_>>()
        };
        let (code, tests) = (list(&code), list(&tests));
        let litmus = litmus.get(rule).cloned().unwrap_or_default();
        if code.is_empty() {
            missing.push(format!("{rule} is encoded nowhere in {CODE}"));
        }
        for side in SIDES {
            if !litmus.values().any(|sides| sides.contains(side)) {
                missing.push(format!("{rule} has no litmus test that is {side}"));
            }
        }
        let of_side = |side| litmus.values().filter(move |sides| sides.contains(side));
        let [allowed, forbidden] = SIDES.map(|side| of_side(side).count());
        println!(
            "{rule:<5}{:<58} {allowed:>3} allowed {forbidden:>3} forbidden   {}",
            code.join(" "),
            tests.join(" ")
        );
        if name_tests {
            for test in litmus.keys() {
                println!("       {test}");
            }
        }
    }
    for rule in litmus.keys().filter(|rule| !rules.contains(rule)) {
        missing.push(format!(
            "a litmus test names {rule}, which {SOURCES} does not have"
        ));
    }
    if !missing.is_empty() {
        bail!("{}", missing.join("\n"));
    }
    Ok(())
}

/// Returns the rules that have a row in the table of sources, in its order.
fn rules_with_a_row(sources: &Path) -> Result<Vec<String>> {
    let text = read(sources)?;
    let rows = text.lines().filter_map(|line| line.strip_prefix("| H"));
    let names = rows.filter_map(|row| row.split_once(' ').map(|(name, _)| format!("H{name}")));
    let rules: Vec<String> = names.collect();
    if rules.len() < 39 {
        bail!(
            "{} has rows for only {} rules",
            sources.display(),
            rules.len()
        );
    }
    Ok(rules)
}

/// Returns which files name which rule.
fn mentions(files: &[PathBuf]) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut by_rule: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        for rule in rules_in(&read(file)?) {
            by_rule.entry(rule).or_default().insert(short(file));
        }
    }
    Ok(by_rule)
}

/// The two sides of a rule: what it lets hardware do, and what not.
const SIDES: [&str; 2] = ["Allowed", "Forbidden"];

/// Litmus tests by name, each with the verdicts that it expects of some CPU model.
type LitmusTests = BTreeMap<String, BTreeSet<String>>;

/// Returns which litmus tests say that they are about which rule.
fn litmus_tests(files: &[PathBuf]) -> Result<BTreeMap<String, LitmusTests>> {
    let mut by_rule: BTreeMap<String, LitmusTests> = BTreeMap::new();
    for file in files {
        let text = read(file)?;
        let values = |wanted: &str| {
            let lines = text.lines().filter_map(|line| line.split_once('='));
            let of_key = lines.filter(|(key, _)| key.split('@').next() == Some(wanted));
            of_key.map(|(_, value)| value).collect::<Vec<_>>()
        };
        let sides: BTreeSet<String> = values("Expect").into_iter().map(str::to_owned).collect();
        for rule in values("Rule").iter().flat_map(|names| names.split(',')) {
            let tests = by_rule.entry(rule.trim().to_owned()).or_default();
            tests.insert(short(file), sides.clone());
        }
    }
    Ok(by_rule)
}

/// Finds the names of rules in a text: `H12a` in `(H12a, H13)`. A range, `H3 to H5`, names its ends and
/// what lies between.
fn rules_in(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words: Vec<&str> = text
        .split(|c| !is_part(c))
        .filter(|word| !word.is_empty())
        .collect();
    let mut rules = BTreeSet::new();
    for (index, word) in words.iter().enumerate() {
        let Some(number) = rule_number(word) else {
            continue;
        };
        rules.insert((*word).to_owned());
        let range = [words.get(index + 1), words.get(index + 2)];
        if let [Some(&"to"), Some(last)] = range
            && let Some(last) = rule_number(last)
        {
            rules.extend((number..=last).map(|number| format!("H{number}")));
        }
    }
    rules
}

fn rule_number(word: &str) -> Option<u32> {
    let digits = word.strip_prefix('H')?;
    digits.strip_suffix('a').unwrap_or(digits).parse().ok()
}

fn files_below(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path, extension)?);
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn short(file: &Path) -> String {
    file.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rules_are_read_out_of_a_text_ranges_included() {
        let found = rules_in("//! Rules: H3 to H5 (H12a); not WH1, H, nor H2O.");
        let expected = ["H12a", "H3", "H4", "H5"].map(str::to_owned);
        assert_eq!(found, BTreeSet::from(expected));
    }
}
