//! A round: changes compiled, and asked about.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, anyhow, bail, ensure};
use cargo_metadata::{Message, Metadata};

use super::changes::{Change, SOURCES};
use super::kept::Kept;
use crate::cargo;

/// Where the changed files lie, a folder for each change.
const FOLDER: &str = "target/mutate-protocol/changes";
/// Where they are built: the variable is seen by every other build in the same place.
const BUILT: &str = "target/mutate-protocol/built";
/// What tells the build of `lazytlb-mutants` where they are.
const VARIABLE: &str = "LAZYTLB_CHANGES";
/// Where the modules are listed that a protocol of its own has.
const BUILD: &str = "crates/mutants/build/sources.rs";

/// What a panic of the protocol is called.
const PANIC: &str = "panic";

/// What is compiled of a change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    /// The change.
    Changed,
    /// A panic in its place; asked of menus alone, whose programs are all there are over their operations.
    Reached,
}

/// What came of a change.
pub(super) enum Answer {
    /// By what it was found.
    Found(String),
    /// Whatever was asked is safe.
    Safe,
    /// Nothing was found, but a search did not come to its end: that is no proof.
    Incomplete,
}

/// A line of what the program prints that asks.
#[derive(serde::Deserialize)]
struct Line {
    change: String,
    found: Option<String>,
    program: Option<String>,
    policy: Option<String>,
    cpu_model: Option<String>,
    slots: Option<u8>,
    global_ids: Option<u8>,
    memory: Option<String>,
    proofs: u64,
    incomplete: u64,
    seconds: f64,
}

/// Lists the modules that a protocol of its own has, as the build of `lazytlb-mutants` has them.
///
/// # Errors
/// If they are not found there.
pub(super) fn modules(root: &Path) -> Result<Vec<String>> {
    let text =
        fs::read_to_string(root.join(BUILD)).with_context(|| format!("cannot read {BUILD}"))?;
    let tree = syn::parse_file(&text).with_context(|| format!("{BUILD} is not Rust"))?;
    let copied = tree.items.iter().find_map(|item| match item {
        syn::Item::Const(item) if item.ident == "COPIED" => match &*item.expr {
            syn::Expr::Array(array) => Some(array),
            _ => None,
        },
        _ => None,
    });
    let names = copied.with_context(|| format!("{BUILD} has no array `COPIED`"))?;
    let name = |element: &syn::Expr| match element {
        syn::Expr::Lit(syn::ExprLit {
            lit: syn::Lit::Str(name),
            ..
        }) => Ok(name.value()),
        _ => Err(anyhow!("{BUILD}: `COPIED` has more than names")),
    };
    names.elems.iter().map(name).collect()
}

/// Compiles the changes, and asks about each that compiles.
///
/// # Errors
/// If anything else than a change does not compile, or the program that asks fails.
pub(super) fn ask(
    workspace: &Metadata,
    changes: &[Change],
    variant: Variant,
) -> Result<HashMap<String, Answer>> {
    let root = workspace.workspace_root.as_std_path();
    let kept = Kept::read(root, variant.name())?;
    let mut answers = HashMap::new();
    let mut asked = Vec::new();
    for change in changes {
        match kept.lines.get(&change.name) {
            Some(line) => {
                let line = Line::read(line)?;
                println!("{} (by an earlier run)", line.text());
                answers.insert(line.change.clone(), line.answer(variant));
            }
            None => asked.push(change.clone()),
        }
    }
    if asked.is_empty() {
        return Ok(answers);
    }
    write(root, &asked, variant)?;
    while let Some(faulty) = faulty(workspace, &asked)? {
        println!("{} do not compile", faulty.len());
        for name in faulty {
            let folder = root.join(FOLDER).join(name);
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    run(workspace, variant, &kept, &mut answers)?;
    Ok(answers)
}

/// Writes the changed file of each change.
fn write(root: &Path, changes: &[Change], variant: Variant) -> Result<()> {
    let folder = root.join(FOLDER);
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    for change in changes {
        let file = format!("{}.rs", change.module);
        let text = fs::read_to_string(root.join(SOURCES).join(&file))
            .with_context(|| format!("cannot read {SOURCES}/{file}"))?;
        let text = match variant {
            Variant::Changed => change.apply(&text),
            Variant::Reached => change.reached(&text),
        };
        let folder = folder.join(&change.name);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join(&file), text))
            .with_context(|| format!("cannot write {}", folder.join(&file).display()))?;
    }
    Ok(())
}

/// Prepares a call of cargo with the changes beside the table's.
fn command(workspace: &Metadata, args: &[&str]) -> std::process::Command {
    let root = workspace.workspace_root.as_std_path();
    let mut command = cargo::command(workspace, args);
    command
        .args(["--profile", "checks", "-p", "lazytlb-mutants"])
        .args(["--target-dir", BUILT])
        .env(VARIABLE, root.join(FOLDER));
    command
}

/// Names the changes that do not compile; `None` if all do.
fn faulty(workspace: &Metadata, changes: &[Change]) -> Result<Option<BTreeSet<String>>> {
    let output = command(workspace, &["check", "--message-format=json", "--quiet"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if output.status.success() {
        return Ok(None);
    }
    let mut faulty = BTreeSet::new();
    let messages = Message::parse_stream(output.stdout.as_slice()).filter_map(Result::ok);
    for message in messages {
        let Message::CompilerMessage(message) = message else {
            continue;
        };
        let files = message.message.spans.iter().map(|span| &span.file_name);
        let names = files.filter_map(|file| Path::new(file).file_stem()?.to_str());
        let ours = |name: &&str| changes.iter().any(|change| change.name == **name);
        if message.message.level == cargo_metadata::diagnostic::DiagnosticLevel::Error {
            faulty.extend(names.filter(ours).map(str::to_owned));
        }
    }
    ensure!(
        !faulty.is_empty(),
        "something else than a change does not compile; see `cargo check -p lazytlb-mutants`"
    );
    Ok(Some(faulty))
}

/// Runs the program that asks, and reads what it prints.
fn run(
    workspace: &Metadata,
    variant: Variant,
    kept: &Kept,
    answers: &mut HashMap<String, Answer>,
) -> Result<()> {
    let mut command = command(workspace, &["run", "--quiet", "--example", "changes"]);
    if variant == Variant::Reached {
        command.args(["--", "menus"]);
    }
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read what the changes come to")?;
        kept.keep(&line)?;
        let line = Line::read(&line)?;
        println!("{}", line.text());
        answers.insert(line.change.clone(), line.answer(variant));
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() {
        bail!("the program that asks about changes failed ({status})");
    }
    Ok(())
}

impl Variant {
    /// What its answers are kept under.
    fn name(self) -> &'static str {
        match self {
            Variant::Changed => "changed",
            Variant::Reached => "reached",
        }
    }
}

impl Line {
    /// Reads one.
    fn read(line: &str) -> Result<Line> {
        serde_json::from_str(line).with_context(|| format!("no line of ours: {line}"))
    }

    fn text(&self) -> String {
        let Line {
            change,
            proofs,
            incomplete,
            seconds,
            ..
        } = self;
        let found = match self.by() {
            Some((found, by)) => format!("{found} by {by}"),
            None => "NOTHING".to_owned(),
        };
        format!(
            "{change:<32} {found} after {proofs} proofs, {incomplete} incomplete, {seconds:.1} s"
        )
    }

    /// What was found, and where.
    fn by(&self) -> Option<(&str, String)> {
        let found = self.found.as_deref()?;
        let by = format!(
            "`{}`, {}, {}, {} slots, {} global ids, {}",
            self.program.as_deref()?,
            self.policy.as_deref()?,
            self.cpu_model.as_deref()?,
            self.slots?,
            self.global_ids?,
            self.memory.as_deref()?
        );
        Some((found, by))
    }

    fn answer(&self, variant: Variant) -> Answer {
        match self.by() {
            // In place of a change, nothing else than its panic says that it was reached.
            Some((found, by)) if variant == Variant::Changed || found == PANIC => Answer::Found(by),
            None if self.incomplete == 0 => Answer::Safe,
            Some(_) | None => Answer::Incomplete,
        }
    }
}
