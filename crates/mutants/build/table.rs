//! The table of the mutants, `mutants.toml`: its rows, and what is made of each.

use super::copies::Place;
use super::sources::{Source, read};

pub(super) const TABLE: &str = "mutants.toml";
const SAFE: &str = "safe";

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    pub(super) menus: Vec<Menus>,
    pub(super) mutant: Vec<Mutant>,
}

/// Sets of operations, one for each CPU, by a name.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Menus {
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
pub(super) struct Mutant {
    pub(super) name: String,
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

impl Table {
    /// Reads it.
    ///
    /// # Errors
    /// If it is no such table, or parts of a row contradict each other.
    pub(super) fn read() -> Result<Table, String> {
        println!("cargo::rerun-if-changed={TABLE}");
        let table: Table =
            toml::from_str(&read(TABLE)?).map_err(|error| format!("{TABLE}: {error}"))?;
        for mutant in &table.mutant {
            let complaint = |what: String| format!("{TABLE}: mutant `{}`: {what}", mutant.name);
            mutant.check_row().map_err(complaint)?;
        }
        Ok(table)
    }
}

impl Menus {
    /// Returns the menus as an expression of the registry.
    pub(super) fn row(&self) -> String {
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
    pub(super) fn protocols(&self) -> Vec<(String, &str)> {
        let mut all = vec![(self.name.clone(), self.diff.as_str())];
        let reached = self.reached.as_deref();
        all.extend(reached.map(|reached| (format!("{}_reached", self.name), reached)));
        all
    }

    /// Returns the file that a diff is for, with the diff applied.
    pub(super) fn change(&self, diff: &str, sources: &[Source]) -> Result<Source, String> {
        let source = sources
            .iter()
            .find(|source| format!("{}.rs", source.module) == self.file)
            .ok_or_else(|| format!("`{}` is not a file of the protocol", self.file))?;
        let mut before = Vec::new();
        for line in diff.lines() {
            match line.as_bytes().first() {
                Some(b' ' | b'-') => before.push(line[1..].trim()),
                Some(b'+') => {}
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
        let lines: Vec<&str> = source.text.split('\n').collect();
        let matches = |at: &usize| {
            let lines = lines[*at..].iter().map(|line| line.trim());
            lines.take(before.len()).eq(before.iter().copied())
        };
        let mut places = (0..lines.len()).filter(matches);
        let (Some(at), None) = (places.next(), places.next()) else {
            let found = (0..lines.len()).filter(matches).count();
            let lines = before.join("\n    ");
            return Err(format!(
                "{} has {found} places, not one, with:\n    {lines}",
                self.file
            ));
        };
        // What a diff shows beside its line stays as it is.
        let mut left = &lines[at..at + before.len()];
        let mut changed = lines[..at].to_vec();
        for line in diff.lines() {
            if let Some(added) = line.strip_prefix('+') {
                changed.push(added.trim());
                continue;
            }
            let (first, rest) = left.split_first().expect("as many as are looked for");
            left = rest;
            if line.starts_with(' ') {
                changed.push(first);
            }
        }
        changed.extend(&lines[at + before.len()..]);
        Ok(Source {
            module: source.module,
            text: changed.join("\n"),
        })
    }

    /// Returns the row as an expression of the registry.
    pub(super) fn row(&self, place: &Place, reached: Option<&Place>) -> String {
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
        let build = place.build(&adapter);
        let reached = match reached {
            Some(reached) => format!("Some({})", reached.build(&adapter)),
            None => "None".to_owned(),
        };
        format!(
            "Mutant {{ name: {name:?}, history: {history:?}, about: {about:?}, \
             harmless: {harmless:?}, file: {file:?}, diff: {diff:?}, program: {program:?}, \
             policy: {policy:?}, cpu_model: {cpu_model:?}, sc: {sc:?}, tso: {tso:?}, \
             menus: {menus:?}, menus_memory: {menus_memory:?}, menus_find: {menus_find:?}, \
             menus_lack: {menus_lack:?}, reached: {reached}, \
             slots: {slots}, global_ids: {global_ids}, isolated: {isolated}, build: {build} }},\n"
        )
    }

    /// Returns the mutant's tests, whose names are the claims.
    pub(super) fn test(&self) -> String {
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
