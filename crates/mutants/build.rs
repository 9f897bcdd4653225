//! Writes the mutated protocols, their registry and their tests, from `mutants.toml` and the
//! sources of `lazytlb`.
//!
//! A diff in the table must match its file at exactly one place, and change one line: else the
//! build fails, and says which mutant, file and lines. So the table cannot rot.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The modules that are copied, and may be mutated: the protocol.
const COPIED: [&str; 27] = [
    "generation",
    "global_id",
    "kernel",
    "mm",
    "slots",
    "requests",
    "per_cpu",
    "policy",
    "batches",
    "quarantine",
    "software_walks",
    "interrupts",
    "pinned",
    "tlb",
    "switch",
    "serve",
    "shootdown",
    "shootdown_broadcast",
    "transition",
    "targets",
    "retire",
    "kernel_ranges",
    "isolation",
    "ranges",
    "device",
    "gather",
    "changes",
];
/// The modules that every copy shares with the real crate, so that their types are the same: the
/// seam.
const SHARED: &str = "addr, broadcast, compare_exchange, cpu_set, hw, memory, pcids, words";
const SOURCES: &str = "../lazytlb/src";
/// What makes a protocol of `lazytlb`, and of each copy, in this folder: the line of each that names the protocol is replaced.
const ADAPTERS: [&str; 2] = ["sinks", "adapter"];
const ADAPTERS_IN: &str = "../check/src/protocol";
const NAMES_PROTOCOL: &str = "use lazytlb as protocol;";
const TABLE: &str = "mutants.toml";
/// The copy without a change.
const UNMUTATED: &str = "unmutated";
/// Names a folder with changes to compile in place of the table's: in it a folder for each, by its name, with the one file of the
/// protocol that it changes. `cargo xtask mutate-protocol` makes it.
const CHANGES: &str = "LAZYTLB_CHANGES";
const SAFE: &str = "safe";

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    menus: Vec<Menus>,
    mutant: Vec<Mutant>,
}

/// Sets of operations, one for each CPU, by a name.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Menus {
    name: String,
    #[serde(default)]
    pcids: bool,
    #[serde(default)]
    broadcasts: bool,
    #[serde(default)]
    isolated: bool,
    sets: String,
}

/// A row of the table: the meaning of each key is told at the table's top.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    history: Option<String>,
    about: String,
    harmless: Option<String>,
    file: String,
    diff: String,
    program: String,
    policy: String,
    cpu_model: Option<String>,
    slots: Option<u8>,
    global_ids: Option<u8>,
    #[serde(default)]
    isolated: bool,
    sc: String,
    tso: String,
    menus: Option<String>,
    menus_memory: Option<String>,
    menus_find: Option<String>,
    menus_lack: Option<String>,
    reached: Option<String>,
}

/// A source file of the protocol, as lines of code: without comments and unit tests.
struct Source {
    module: &'static str,
    lines: Vec<String>,
}

/// The protocol and what adapts it, as they are without a change.
struct Sources {
    protocol: Vec<Source>,
    adapters: Vec<Source>,
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={TABLE}");
    for module in ADAPTERS {
        println!("cargo::rerun-if-changed={ADAPTERS_IN}/{module}.rs");
    }
    println!("cargo::rerun-if-env-changed={CHANGES}");
    for module in COPIED {
        println!("cargo::rerun-if-changed={SOURCES}/{module}.rs");
    }
    if let Err(problem) = generate() {
        println!("cargo::error={}", problem.replace('\n', " ⏎ "));
        eprintln!("{problem}");
        std::process::exit(1);
    }
}

fn generate() -> Result<(), String> {
    let table = read(TABLE)?;
    let mut table: Table = toml::from_str(&table).map_err(|error| format!("{TABLE}: {error}"))?;
    let sources = Sources {
        protocol: COPIED
            .into_iter()
            .map(|module| read_source(module, &format!("{SOURCES}/{module}.rs")))
            .collect::<Result<_, _>>()?,
        adapters: ADAPTERS
            .into_iter()
            .map(read_adapter)
            .collect::<Result<_, _>>()?,
    };
    let changes = match env::var_os(CHANGES) {
        Some(folder) => {
            println!("cargo::rerun-if-changed={}", folder.display());
            table.mutant.clear();
            changes(Path::new(&folder))?
        }
        None => Vec::new(),
    };

    write("unmutated.rs", protocol(UNMUTATED, &sources, None))?;
    let mut protocols = module(UNMUTATED);
    let (mut registry, mut claims) = (String::new(), String::new());
    // A copy is linted where its sources stand. So one is enough to lint what is made of it.
    let copied = if cfg!(clippy) { 1 } else { table.mutant.len() };
    for (number, mutant) in table.mutant.iter().enumerate() {
        let complaint = |what: String| format!("{TABLE}: mutant `{}`: {what}", mutant.name);
        mutant.check_row().map_err(complaint)?;
        for (name, diff) in mutant.protocols() {
            let changed = mutant.change(diff, &sources.protocol).map_err(complaint)?;
            if number >= copied {
                continue;
            }
            write(
                &format!("{name}.rs"),
                protocol(&name, &sources, Some(changed)),
            )?;
            protocols += &module(&name);
        }
        if number < copied {
            registry += &mutant.row();
        }
        claims += &mutant.test();
    }
    let mut changed = String::new();
    for (name, source) in changes {
        write(
            &format!("{name}.rs"),
            protocol(&name, &sources, Some(source)),
        )?;
        protocols += &module(&name);
        changed += &change(&name);
    }
    let menus: String = table.menus.iter().map(Menus::row).collect();
    let registry = format!(
        "/// Every mutant of the table, in its order.\n\
         pub static MUTANTS: &[Mutant] = &[\n{registry}];\n\
         /// The menus of the table, in its order.\n\
         pub static MENUS: &[Menus] = &[\n{menus}];\n\
         /// Every change that was asked for in place of the table's mutants.\n\
         pub static CHANGES: &[Change] = &[\n{changed}];\n"
    );
    write("protocols.rs", protocols)?;
    write("registry.rs", registry)?;
    write("claims.rs", claims)
}

/// Writes a file among what this build makes.
fn write(file: &str, text: String) -> Result<(), String> {
    let out = env::var("OUT_DIR").map_err(|error| error.to_string())?;
    let path = Path::new(&out).join(file);
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
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
        changes.push((name, read_source(module, &file.to_string_lossy())?));
    }
    Ok(changes)
}

/// Returns a change as an expression of the registry.
fn change(name: &str) -> String {
    let build =
        |adapter: &str| format!("crate::build::<crate::protocols::{name}::adapter::{adapter}>");
    let adapters = [
        "LazyTlb",
        "WithPcids::<1>",
        "WithPcids::<2>",
        "WithBroadcast::<1, 1>",
        "WithBroadcast::<1, 2>",
    ];
    let builds = adapters.map(build).join(", ");
    format!("Change {{ name: {name:?}, builds: [{builds}] }},\n")
}

impl Menus {
    /// Returns the menus as an expression of the registry.
    fn row(&self) -> String {
        let Menus {
            name,
            pcids,
            broadcasts,
            isolated,
            sets,
        } = self;
        let program = match isolated {
            true => format!("any {sets} --isolation"),
            false => format!("any {sets}"),
        };
        format!(
            "Menus {{ name: {name:?}, pcids: {pcids}, broadcasts: {broadcasts}, isolated: {isolated}, program: {program:?} }},\n"
        )
    }
}

impl Mutant {
    /// Refuses a row whose parts contradict each other.
    fn check_row(&self) -> Result<(), String> {
        self.check_menus()?;
        let caught = self.sc != SAFE || self.tso != SAFE || self.menus_find.is_some();
        match (&self.harmless, caught) {
            (None, false) => {
                Err("is caught nowhere: say in `harmless` why it is no bug".to_owned())
            }
            (Some(_), true) => Err("is `harmless`, and yet caught".to_owned()),
            _ => Ok(()),
        }
    }

    /// Refuses a row that does not say, in one way, what the menus make of it.
    fn check_menus(&self) -> Result<(), String> {
        let names_menus = self.menus.is_some();
        let Mutant {
            harmless,
            reached,
            menus_find,
            menus_lack,
            ..
        } = self;
        if self.global_ids.is_some() && self.slots.is_none() {
            return Err("has `global_ids` without `slots`: they are PCIDs".to_owned());
        }
        match (harmless, names_menus, menus_find, menus_lack, reached) {
            (Some(_), true, None, None, Some(_))
            | (None, true, Some(_), None, None)
            | (None, false, None, Some(_), None) => Ok(()),
            _ => Err("says neither which menus find it (`menus`, `menus_find`) nor what they lack (`menus_lack`), or, \
                      being harmless, under which it is proved so (`menus`, `reached`)"
                .to_owned()),
        }
    }

    /// Lists the protocols that are made for the row, each with its diff.
    fn protocols(&self) -> Vec<(String, &str)> {
        let mut all = vec![(self.name.clone(), self.diff.as_str())];
        let reached = self.reached.as_deref();
        all.extend(reached.map(|reached| (format!("{}_reached", self.name), reached)));
        all
    }

    /// Returns the file that a diff is for, with the diff applied.
    fn change(&self, diff: &str, sources: &[Source]) -> Result<Source, String> {
        let source = sources
            .iter()
            .find(|source| format!("{}.rs", source.module) == self.file)
            .ok_or_else(|| format!("`{}` is not a file of the protocol", self.file))?;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for line in diff.lines() {
            let text = line.get(1..).unwrap_or_default().trim();
            match line.as_bytes().first() {
                Some(b' ') => {
                    before.push(text);
                    after.push(text);
                }
                Some(b'-') => before.push(text),
                Some(b'+') => after.push(text),
                _ => return Err(format!("`{line}` starts with none of ` `, `-`, `+`")),
            }
        }
        let marked = |mark| diff.lines().filter(|line| line.starts_with(mark)).count();
        let (removed, added) = (marked('-'), marked('+'));
        if removed > 1 || added > 1 || removed + added == 0 {
            return Err(format!(
                "removes {removed} lines and adds {added}: change one"
            ));
        }
        let matches = |at: &usize| {
            let lines = source.lines[*at..].iter().map(|line| line.trim());
            lines.take(before.len()).eq(before.iter().copied())
        };
        let mut places = (0..source.lines.len()).filter(matches);
        let (Some(at), None) = (places.next(), places.next()) else {
            let found = (0..source.lines.len()).filter(matches).count();
            let lines = before.join("\n    ");
            return Err(format!(
                "{} has {found} places, not one, with:\n    {lines}",
                self.file
            ));
        };
        let mut lines = source.lines.clone();
        let after = after.into_iter().map(str::to_owned);
        lines.splice(at..at + before.len(), after);
        Ok(Source {
            module: source.module,
            lines,
        })
    }

    /// Returns the row as an expression of the registry.
    fn row(&self) -> String {
        let Mutant {
            name,
            history,
            about,
            harmless,
            file,
            diff,
            program,
            policy,
            sc,
            tso,
            menus,
            menus_memory,
            menus_find,
            menus_lack,
            reached,
            slots,
            global_ids,
            isolated,
            ..
        } = self;
        let (slots, global_ids) = (slots.unwrap_or(0), global_ids.unwrap_or(0));
        let adapter = match (slots, global_ids) {
            (0, _) => "LazyTlb".to_owned(),
            (slots, 0) => format!("WithPcids::<{slots}>"),
            (slots, ids) => format!("WithBroadcast::<{slots}, {ids}>"),
        };
        let cpu_model = self.cpu_model.as_deref().unwrap_or("weakest");
        let reached = match reached {
            Some(_) => {
                format!(
                    "Some(crate::build::<crate::protocols::{name}_reached::adapter::{adapter}>)"
                )
            }
            None => "None".to_owned(),
        };
        format!(
            "Mutant {{ name: {name:?}, history: {history:?}, about: {about:?}, \
             harmless: {harmless:?}, file: {file:?}, diff: {diff:?}, program: {program:?}, \
             policy: {policy:?}, cpu_model: {cpu_model:?}, sc: {sc:?}, tso: {tso:?}, \
             menus: {menus:?}, menus_memory: {menus_memory:?}, menus_find: {menus_find:?}, \
             menus_lack: {menus_lack:?}, reached: {reached}, \
             slots: {slots}, global_ids: {global_ids}, isolated: {isolated}, build: crate::build::<crate::protocols::{name}::adapter::{adapter}> }},\n"
        )
    }

    /// Returns the mutant's tests, whose names are the claims.
    fn test(&self) -> String {
        let Mutant { name, sc, tso, .. } = self;
        let is_safe = sc == SAFE && tso == SAFE;
        let by_program = match (sc.as_str(), tso.as_str()) {
            _ if is_safe && self.harmless.is_none() => "is_found_by_no_shipped_program".to_owned(),
            (sc, tso) if sc == tso => format!("is_{sc}"),
            (SAFE, tso) => format!("is_{tso} under tso only"),
            (sc, SAFE) => format!("is_{sc} under sc only"),
            (sc, tso) => format!("is_{sc} under sc and {tso} under tso"),
        };
        let by_program = by_program.replace([' ', '-'], "_");
        // What no menus find is asked of all of them by `every_mutant_is_found_first_where_its_row_says`.
        let by_menus = match (&self.harmless, &self.menus) {
            (Some(_), _) => Some(("is_harmless_under_its_menus", "check_harmless")),
            (None, Some(_)) => Some(("is_found_by_its_menus", "check_found")),
            (None, None) => None,
        };
        let test = |claim: &str, check: &str| {
            format!("#[test]\nfn {name}_{claim}() {{\n    {check}({name:?});\n}}\n\n")
        };
        let check_program = match is_safe && self.harmless.is_none() {
            true => "check_missed",
            false => "check_claim",
        };
        let by_menus = by_menus.map(|(claim, check)| test(claim, check));
        test(&by_program, check_program) + &by_menus.unwrap_or_default()
    }
}

/// Returns a whole protocol: the sources, one of them changed, as modules of a module `name`, and what
/// adapts them.
fn protocol(name: &str, sources: &Sources, changed: Option<Source>) -> String {
    let mut text = format!("pub use lazytlb::{{{SHARED}}};\n");
    for source in &sources.protocol {
        let source = changed
            .as_ref()
            .filter(|changed| changed.module == source.module)
            .unwrap_or(source);
        let lines = source.lines.join("\n");
        let lines = lines.replace("crate::", &format!("crate::protocols::{name}::"));
        let _ = writeln!(text, "pub mod {} {{\n{lines}\n}}", source.module);
    }
    let names_this = format!("use crate::protocols::{name} as protocol;");
    for adapter in &sources.adapters {
        let lines = adapter.lines.join("\n");
        let lines = lines.replace(NAMES_PROTOCOL, &names_this);
        let _ = writeln!(text, "pub mod {} {{\n{lines}\n}}", adapter.module);
    }
    text
}

/// Returns the module of a protocol.
fn module(name: &str) -> String {
    let file = format!("include!(concat!(env!(\"OUT_DIR\"), \"/{name}.rs\"));");
    format!(
        "#[allow(missing_docs, unreachable_pub, unused, clippy::all)]\n\
         pub mod {name} {{ {file} }}\n"
    )
}

fn read_source(module: &'static str, file: &str) -> Result<Source, String> {
    let text = read(file)?;
    let lines = text
        .lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .filter(|line| !line.trim_start().starts_with("//") && !line.trim().is_empty())
        .map(str::to_owned)
        .collect();
    Ok(Source { module, lines })
}

/// Reads a file that adapts the protocol, and refuses one that names it in no line, or in two.
fn read_adapter(module: &'static str) -> Result<Source, String> {
    let file = format!("{ADAPTERS_IN}/{module}.rs");
    let source = read_source(module, &file)?;
    let lines = source.lines.iter();
    match lines.filter(|line| *line == NAMES_PROTOCOL).count() {
        1 => Ok(source),
        found => Err(format!(
            "{file} has {found} lines, not one, with: {NAMES_PROTOCOL}"
        )),
    }
}

fn read(file: &str) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))
}
