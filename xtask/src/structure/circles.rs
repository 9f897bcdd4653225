//! Circles: files of one crate that use each other, at one remove or at several.
//!
//! Of two files in a circle none can be read, tested or replaced without the other. Only where two types
//! describe each other is that how things are: such pairs stand in `ARCHITECTURE.md`, as
//! `` `a.rs` ⇄ `b.rs` `` with their reason, and are left out here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use syn::visit::{self, Visit};

use super::finding::{Check, Finding};
use super::length::is_test;
use super::source::Source;

/// Where the circles that may be are named.
const NAMED_IN: &str = "ARCHITECTURE.md";
/// What stands between the two files of a pair.
const ARROW: &str = "⇄";

/// Finds circles.
///
/// # Errors
/// If `ARCHITECTURE.md` cannot be read.
pub(super) fn check(root: &Path, sources: &[Source]) -> Result<Vec<Finding>> {
    let text = fs::read_to_string(root.join(NAMED_IN))
        .with_context(|| format!("cannot read {NAMED_IN}"))?;
    let allowed = pairs(&text);
    let mut crates: BTreeMap<PathBuf, Vec<&Source>> = BTreeMap::new();
    for source in sources {
        if let Some(folder) = source_folder(&source.path) {
            crates.entry(folder).or_default().push(source);
        }
    }
    let mut used = BTreeSet::new();
    let mut findings = Vec::new();
    for (folder, sources) in &crates {
        let graph = Graph::new(folder, sources);
        findings.extend(graph.circles(&allowed, &mut used));
    }
    for (one, other) in allowed.difference(&used) {
        findings.push(Finding {
            check: Check::Circle,
            file: PathBuf::from(NAMED_IN),
            line: 1,
            name: one.display().to_string(),
            complaint: format!(
                "`{}` and `{}` do not use each other any more: take the pair out",
                one.display(),
                other.display()
            ),
        });
    }
    Ok(findings)
}

/// A pair of files, the lesser first.
type Pair = (PathBuf, PathBuf);

fn pair(one: &Path, other: &Path) -> Pair {
    let (one, other) = (one.to_owned(), other.to_owned());
    if one <= other {
        (one, other)
    } else {
        (other, one)
    }
}

/// Reads the pairs that a text allows.
fn pairs(text: &str) -> BTreeSet<Pair> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let mut parts = line.split(ARROW);
        let Some(mut before) = parts.next() else {
            continue;
        };
        for after in parts {
            let one = before.trim_end().trim_end_matches('`').rsplit('`').next();
            let other = after.trim_start().trim_start_matches('`').split('`').next();
            if let (Some(one), Some(other)) = (one, other) {
                found.insert(pair(Path::new(one), Path::new(other)));
            }
            before = after;
        }
    }
    found
}

/// Returns the folder `src` that a file lies below.
fn source_folder(path: &Path) -> Option<PathBuf> {
    let folder = path.ancestors().find(|folder| folder.ends_with("src"))?;
    Some(folder.to_owned())
}

/// A module's path in its crate: empty for the crate's root.
type Module = Vec<String>;

/// The files of a crate, and which uses which.
struct Graph<'a> {
    files: BTreeMap<Module, &'a Source>,
    /// For each module the names that it hands on from others.
    handed_on: BTreeMap<Module, BTreeMap<String, Vec<String>>>,
    uses: BTreeMap<Module, BTreeSet<Module>>,
}

impl<'a> Graph<'a> {
    fn new(folder: &Path, sources: &[&'a Source]) -> Graph<'a> {
        let files: BTreeMap<Module, &Source> = sources
            .iter()
            .map(|source| (module_of(folder, &source.path), *source))
            .collect();
        let mut paths = BTreeMap::new();
        let mut handed_on = BTreeMap::new();
        for (module, source) in &files {
            let mut visitor = Paths {
                files: &files,
                module: module.clone(),
                found: Vec::new(),
                handed_on: BTreeMap::new(),
            };
            visitor.visit_file(&source.tree);
            paths.insert(module.clone(), visitor.found);
            handed_on.insert(module.clone(), visitor.handed_on);
        }
        let mut graph = Graph {
            files,
            handed_on,
            uses: BTreeMap::new(),
        };
        for (module, paths) in paths {
            let used = paths.iter().map(|path| graph.file_of(path.clone()));
            let used = used.filter(|used| *used != module).collect();
            graph.uses.insert(module, used);
        }
        graph
    }

    /// Returns the module whose file a path leads into, through the names that others hand on.
    fn file_of(&self, mut path: Vec<String>) -> Module {
        // More hops than there are modules lead nowhere.
        for _ in 0..self.files.len() {
            let mut len = path.len();
            while !self.files.contains_key(&path[..len]) {
                len -= 1;
            }
            let next = path
                .get(len)
                .and_then(|name| self.handed_on[&path[..len]].get(name));
            match next {
                Some(target) => {
                    let rest = path.split_off(len + 1);
                    path = target.iter().cloned().chain(rest).collect();
                }
                None => {
                    path.truncate(len);
                    return path;
                }
            }
        }
        path.clear();
        path
    }

    /// Finds the shortest circle through each file, each circle once.
    fn circles(&self, allowed: &BTreeSet<Pair>, used: &mut BTreeSet<Pair>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut told: BTreeSet<BTreeSet<&Module>> = BTreeSet::new();
        let path_of = |module: &Module| self.files[module].path.clone();
        let is_allowed = |from: &Module, to: &Module, used: &mut BTreeSet<Pair>| {
            let pair = pair(&path_of(from), &path_of(to));
            let is_allowed = allowed.contains(&pair);
            if is_allowed && self.uses[to].contains(from) {
                used.insert(pair);
            }
            is_allowed
        };
        for start in self.files.keys() {
            let mut came_from: BTreeMap<&Module, &Module> = BTreeMap::new();
            let mut waiting = std::collections::VecDeque::from([start]);
            while let Some(module) = waiting.pop_front() {
                for next in &self.uses[module] {
                    if !came_from.contains_key(next) && !is_allowed(module, next, used) {
                        came_from.insert(next, module);
                        waiting.push_back(next);
                    }
                }
            }
            let Some(mut at) = came_from.get(start).copied() else {
                continue;
            };
            let mut circle = vec![start];
            while at != start {
                circle.push(at);
                at = came_from[at];
            }
            // From the start on, in the order of use.
            circle[1..].reverse();
            if told.insert(circle.iter().copied().collect()) {
                findings.push(self.finding(&circle));
            }
        }
        findings
    }

    fn finding(&self, circle: &[&Module]) -> Finding {
        let names: Vec<String> = circle
            .iter()
            .map(|module| self.files[*module].path.display().to_string())
            .collect();
        Finding {
            check: Check::Circle,
            file: self.files[circle[0]].path.clone(),
            line: 1,
            name: names.join(" "),
            complaint: format!(
                "a circle of files: {}, and round again. Move what both need below, or, where two types \
                 describe each other, name the pair in {NAMED_IN}",
                names.join(" uses ")
            ),
        }
    }
}

/// Returns the module that a file is.
fn module_of(folder: &Path, file: &Path) -> Module {
    let inside = file.strip_prefix(folder).unwrap_or(file).with_extension("");
    let mut module: Module = inside
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    let is_folders_own = matches!(module.last().map(String::as_str), Some("mod"));
    let is_root = module.len() == 1 && ["lib", "main"].contains(&module[0].as_str());
    if is_folders_own || is_root {
        module.pop();
    }
    module
}

/// Collects the paths of a file that lead to modules of its crate, from the crate's root on.
struct Paths<'a> {
    files: &'a BTreeMap<Module, &'a Source>,
    /// The module that is being read: the file's, or one written out in it.
    module: Module,
    found: Vec<Vec<String>>,
    handed_on: BTreeMap<String, Vec<String>>,
}

impl Paths<'_> {
    /// Returns a path from the root on, if it is the crate's own.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let mut rest = path;
        let mut absolute = match path.first()?.as_str() {
            "crate" => {
                rest = &path[1..];
                Vec::new()
            }
            "self" => {
                rest = &path[1..];
                self.module.clone()
            }
            "super" => self.module.clone(),
            first => {
                let child: Module = self
                    .module
                    .iter()
                    .cloned()
                    .chain([first.to_owned()])
                    .collect();
                if !self.files.contains_key(&child) {
                    return None;
                }
                self.module.clone()
            }
        };
        while rest.first().is_some_and(|word| word == "super") {
            absolute.pop();
            rest = &rest[1..];
        }
        absolute.extend(rest.iter().cloned());
        Some(absolute)
    }

    fn visit_tree(&mut self, before: &[String], tree: &syn::UseTree, is_handed_on: bool) {
        let with = |word: &syn::Ident| {
            let mut path = before.to_vec();
            path.push(word.to_string());
            path
        };
        let (path, name) = match tree {
            syn::UseTree::Path(path) => {
                return self.visit_tree(&with(&path.ident), &path.tree, is_handed_on);
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.visit_tree(before, tree, is_handed_on);
                }
                return;
            }
            syn::UseTree::Name(name) if name.ident == "self" => {
                (before.to_vec(), before.last().cloned())
            }
            syn::UseTree::Name(name) => (with(&name.ident), Some(name.ident.to_string())),
            syn::UseTree::Rename(rename) => (with(&rename.ident), Some(rename.rename.to_string())),
            syn::UseTree::Glob(_) => (before.to_vec(), None),
        };
        if let Some(absolute) = self.absolute(&path) {
            if let Some(name) = name.filter(|_| is_handed_on) {
                self.handed_on.insert(name, absolute.clone());
            }
            self.found.push(absolute);
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_handed_on = !matches!(item.vis, syn::Visibility::Inherited);
        if !is_test(&item.attrs) {
            self.visit_tree(&[], &item.tree, is_handed_on);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        let words: Vec<String> = words.collect();
        if words.len() > 1
            && let Some(absolute) = self.absolute(&words)
        {
            self.found.push(absolute);
        }
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_test(&item.attrs) {
            return;
        }
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)], named: &str) -> Vec<String> {
        let sources: Vec<Source> = files
            .iter()
            .map(|(name, text)| Source::parse(&Path::new("crates/a/src").join(name), text).unwrap())
            .collect();
        let sources: Vec<&Source> = sources.iter().collect();
        let graph = Graph::new(Path::new("crates/a/src"), &sources);
        let findings = graph.circles(&pairs(named), &mut BTreeSet::new());
        findings.into_iter().map(|finding| finding.name).collect()
    }

    const LIB: (&str, &str) = ("lib.rs", "mod a;\nmod b;\npub use a::A;\npub use b::B;\n");

    #[test]
    fn two_files_that_use_each_other_are_found_once() {
        let a = ("a.rs", "use crate::b::B;\npub struct A(B);\n");
        let b = (
            "b.rs",
            "pub struct B;\nimpl B { fn f(_: &super::a::A) {} }\n",
        );
        let name = "crates/a/src/a.rs crates/a/src/b.rs";
        assert_eq!(circles(&[LIB, a, b], ""), [name]);
        let named = "- `crates/a/src/b.rs` ⇄ `crates/a/src/a.rs`: they describe each other.";
        assert!(circles(&[LIB, a, b], named).is_empty());
    }

    #[test]
    fn a_circle_through_a_name_that_the_root_hands_on_is_found() {
        let a = ("a.rs", "use crate::B;\npub struct A(B);\n");
        let b = ("b.rs", "pub struct B;\nfn f(_: &crate::A) {}\n");
        assert_eq!(circles(&[LIB, a, b], "").len(), 1);
        let b = (
            "b.rs",
            "pub struct B;\n#[cfg(test)]\nmod tests { use crate::A; }\n",
        );
        assert!(circles(&[LIB, a, b], "").is_empty(), "tests do not count");
    }

    #[test]
    fn a_file_and_its_folder_are_a_circle_if_each_uses_the_other() {
        let lib = ("lib.rs", "mod a;\n");
        let a = ("a.rs", "mod b;\nuse b::B;\npub struct A(B);\n");
        let b = ("a/b.rs", "use super::A;\npub struct B;\n");
        assert_eq!(circles(&[lib, a, b], "").len(), 1);
        let b = ("a/b.rs", "pub struct B;\n");
        assert!(circles(&[lib, a, b], "").is_empty());
    }
}
