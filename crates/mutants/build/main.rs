//! Writes the mutated protocols, their registry and their tests, from `mutants.toml` and the
//! sources of `lazytlb`.
//!
//! A diff in the table must match its file at exactly one place, and change one line: else the
//! build fails, and says which mutant, file and lines. So the table cannot rot.
//!
//! | file | what |
//! | --- | --- |
//! | `sources` | the sources of the protocol, and of what adapts it |
//! | `table` | the rows, and what is made of each |
//! | `copies` | the protocols that are compiled |
//! | `bodies` | changes that stay within a function: all in one copy |

mod bodies;
mod copies;
mod sources;
mod table;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use copies::{Copies, Place, write};
use sources::{COPIED, Source};
use table::{Menus, TABLE, Table};

/// Names a folder with changes to compile beside the table's: in it a folder for each, by its name, with the one file of the
/// protocol that it changes. `cargo xtask mutate-protocol` makes it.
const CHANGES: &str = "LAZYTLB_CHANGES";

fn main() {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-env-changed={CHANGES}");
    if let Err(problem) = generate() {
        println!("cargo::error={}", problem.replace('\n', " ⏎ "));
        eprintln!("{problem}");
        std::process::exit(1);
    }
}

fn generate() -> Result<(), String> {
    let table = Table::read()?;
    let changes = match env::var_os(CHANGES) {
        Some(folder) => {
            println!("cargo::rerun-if-changed={}", folder.display());
            changes(Path::new(&folder))?
        }
        None => Vec::new(),
    };

    let mut copies = Copies::new()?;
    let (mut mutants, mut claims, mut changed) = (String::new(), String::new(), String::new());
    // What is changed is linted where its sources stand. So one is enough to lint what is made of it.
    let linted = if cfg!(clippy) { 1 } else { table.mutant.len() };
    for (number, mutant) in table.mutant.iter().enumerate() {
        let complaint = |what: String| format!("{TABLE}: mutant `{}`: {what}", mutant.name);
        let mut places = Vec::new();
        for (name, diff) in mutant.protocols() {
            let changed = mutant.change(diff, &copies.sources.protocol);
            let changed = changed.map_err(complaint)?;
            if number < linted {
                places.push(copies.add(&name, &changed)?);
            }
        }
        if let Some(place) = places.first() {
            mutants += &mutant.row(place, places.get(1));
        }
        claims += &mutant.test();
    }
    for (name, source) in changes {
        let place = copies.add(&name, &source)?;
        changed += &change(&name, &place);
    }
    copies.finish()?;
    let menus: String = table.menus.iter().map(Menus::row).collect();
    let registry = format!(
        "/// Every mutant of the table, in its order.\n\
         pub static MUTANTS: &[Mutant] = &[\n{mutants}];\n\
         /// The menus of the table, in its order.\n\
         pub static MENUS: &[Menus] = &[\n{menus}];\n\
         /// Every change that was asked for beside the table's mutants.\n\
         pub static CHANGES: &[Change] = &[\n{changed}];\n"
    );
    write("registry.rs", registry)?;
    write("claims.rs", claims)
}

/// Reads a folder of changes: the name of each, and the file that it changes.
fn changes(folder: &Path) -> Result<Vec<(String, Source)>, String> {
    let list = |folder: &Path| -> Result<Vec<PathBuf>, String> {
        let problem = |error: std::io::Error| format!("{}: {error}", folder.display());
        let entries = fs::read_dir(folder).map_err(problem)?;
        let mut paths = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(problem)?;
        paths.sort();
        Ok(paths)
    };
    let stem = |path: &Path| {
        path.file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
    };
    let mut changes = Vec::new();
    for change in list(folder)? {
        let [file] = &list(&change)?[..] else {
            return Err(format!("{} has not one file", change.display()));
        };
        let module = COPIED
            .into_iter()
            .find(|it| stem(file).as_deref() == Some(it));
        let module =
            module.ok_or_else(|| format!("{} is no file of the protocol", file.display()))?;
        let name = stem(&change).unwrap_or_default();
        changes.push((name, Source::read(module, &file.to_string_lossy())?));
    }
    Ok(changes)
}

/// Returns a change as an expression of the registry.
fn change(name: &str, place: &Place) -> String {
    let adapters = [
        "LazyTlb",
        "WithPcids::<1>",
        "WithPcids::<2>",
        "WithBroadcast::<1, 1>",
        "WithBroadcast::<2, 1>",
        "WithBroadcast::<1, 2>",
    ];
    let builds = adapters.map(|adapter| place.build(adapter)).join(", ");
    format!("Change {{ name: {name:?}, builds: [{builds}] }},\n")
}
