//! Changes the protocol, one place at a time, and asks whether the checker finds it: `cargo xtask mutate-protocol`.
//!
//! The table of `lazytlb-mutants` has bugs that a reviewer would think of. Nobody thinks of these: each statement of the protocol
//! removed, each condition decided, each operator replaced, as the syntax has them. A change is asked of menus and shipped programs, cheap ones
//! first, until one finds it. Of those that none finds, a second round tells in which menus the changed place was reached, all of whose
//! programs are safe: there it is harmless, proved. What is left must be argued, in `crates/mutants/argued.toml`.
//!
//! | file | what |
//! | --- | --- |
//! | `changes` | the changes, made from the syntax |
//! | `rounds` | a round: the changes compiled, and asked about |
//! | `kept` | what an earlier run over the same sources was answered |
//! | `argued` | why changes that nothing finds and no menus reach are none |

mod argued;
mod changes;
mod kept;
mod rounds;

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::cargo;
use argued::Argued;
use changes::{Change, SOURCES};
use rounds::{Answer, Variant};

/// Holds the arguments of `cargo xtask mutate-protocol`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Make only changes that have this in their name, such as `switch` or `gather_120`
    filter: Option<String>,
    /// List the changes, and ask about none
    #[arg(long)]
    list: bool,
    /// Take one change of so many, evenly
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    one_of: u16,
}

/// The part of the changes that are no proved or argued equivalents that must be found, in percent.
const FOUND: usize = 97;
/// The part of all changes that may be left without an explanation, in percent.
const UNEXPLAINED: usize = 5;

/// What is known of a change in the end.
enum End {
    /// Programs or menus find it.
    Found,
    /// All programs over menus in which the place was reached are safe.
    Harmless,
    /// Nothing reached it, or what did was not proved; the table says why it is none.
    Argued,
    Unexplained,
}

/// Makes the changes, asks about each, and prints what came of them.
///
/// # Errors
/// If a change cannot be made or asked about, too few are found, or too many are left unexplained.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = cargo::metadata()?;
    let root = workspace.workspace_root.as_std_path();
    let mut changes = all(root)?;
    let argued = argued::read(root, &changes)?;
    if let Some(wanted) = &args.filter {
        changes.retain(|change| change.name.contains(wanted.as_str()));
    }
    let changes: Vec<Change> = changes
        .into_iter()
        .step_by(usize::from(args.one_of))
        .collect();
    ensure!(
        !changes.is_empty(),
        "no change has that in its name: `cargo xtask mutate-protocol --list` lists them"
    );
    if args.list {
        for change in &changes {
            println!("{:<24} {}", change.name, line(change));
        }
        println!("{} changes", changes.len());
        return Ok(());
    }
    let first = rounds::ask(&workspace, &changes, Variant::Changed)?;
    let survivors: Vec<Change> = changes
        .iter()
        .filter(|change| matches!(first.get(&change.name), Some(Answer::Safe)))
        .cloned()
        .collect();
    let reached = match survivors.is_empty() {
        true => Default::default(),
        false => rounds::ask(&workspace, &survivors, Variant::Reached)?,
    };
    let mut ends = Vec::new();
    for change in &changes {
        let end = match (first.get(&change.name), reached.get(&change.name)) {
            (None, _) => continue,
            (Some(Answer::Found(_)), _) => End::Found,
            (Some(Answer::Safe), Some(Answer::Found(by))) => {
                println!(
                    "harmless     {}\n             reached in {by}",
                    line(change)
                );
                End::Harmless
            }
            // A search that has no end proves nothing, wherever the place is reached.
            (Some(Answer::Safe | Answer::Incomplete), _) => not_shown(change, &argued),
        };
        ends.push(end);
    }
    judge(changes.len(), &ends)
}

/// Lists all changes of the protocol's files.
fn all(root: &Path) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for module in rounds::modules(root)? {
        let file = root.join(SOURCES).join(format!("{module}.rs"));
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        changes.extend(changes::of_file(&module, &text)?);
    }
    Ok(changes)
}

/// Says what is to be said of a change that nothing found, and that is not proved where it is reached.
fn not_shown(change: &Change, argued: &[Argued]) -> End {
    match argued.iter().find(|argued| argued.is_about(change)) {
        Some(argued) => {
            println!(
                "argued       {}\n             {}",
                line(change),
                argued.because
            );
            End::Argued
        }
        None => {
            println!("unexplained  {}", line(change));
            End::Unexplained
        }
    }
}

/// Prints the sums, and says whether they suffice.
fn judge(made: usize, ends: &[End]) -> Result<()> {
    let count = |wanted: fn(&End) -> bool| ends.iter().filter(|end| wanted(end)).count();
    let found = count(|end| matches!(end, End::Found));
    let harmless = count(|end| matches!(end, End::Harmless));
    let argued = count(|end| matches!(end, End::Argued));
    let unexplained = count(|end| matches!(end, End::Unexplained));
    let no_equivalents = found + unexplained;
    println!(
        "{made} changes made, {} of them do not compile; {} asked about: {found} found, {harmless} proved harmless where they are reached, \
         {argued} argued, {unexplained} unexplained",
        made - ends.len(),
        ends.len()
    );
    ensure!(
        found * 100 >= no_equivalents * FOUND,
        "of {no_equivalents} that are not shown to be equivalent, {found} were found: less than {FOUND} %"
    );
    ensure!(
        unexplained * 100 <= ends.len() * UNEXPLAINED,
        "{unexplained} of {} are unexplained: more than {UNEXPLAINED} %",
        ends.len()
    );
    Ok(())
}

/// Tells of a change in a line.
fn line(change: &Change) -> String {
    format!(
        "{}:{} {}: `{}` {}",
        change.module,
        change.line,
        change.function,
        shortened(&change.code),
        change.what.text()
    )
}

/// So many characters of code are shown.
const SHOWN: usize = 90;

fn shortened(code: &str) -> String {
    match code.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &code[..end]),
        None => code.to_owned(),
    }
}
