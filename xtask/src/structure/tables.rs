//! The tables of files: each crate's root says what each of its files is for.
//!
//! A newcomer finds the place to change from that table, so a file that it leaves out is lost. A file's name has to stand in backticks in the doc comment of its crate's root,
//! or, for one in a folder, in that of the folder's own file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::finding::{Check, Finding};
use super::source::Source;

/// Finds files that no table lists.
pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut of_folder: BTreeMap<PathBuf, Vec<&Source>> = BTreeMap::new();
    for source in sources {
        if source
            .path
            .components()
            .any(|part| part.as_os_str() == "src")
        {
            let folder = source.path.parent().unwrap_or(Path::new(""));
            of_folder.entry(folder.to_owned()).or_default().push(source);
        }
    }
    let mut findings = Vec::new();
    for (folder, files) in &of_folder {
        let Some(parent) = parent_of(folder, sources) else {
            continue;
        };
        let docs = docs(&parent.tree);
        let named = names_in(&docs);
        for file in files.iter().filter(|file| file.path != parent.path) {
            let name = file.path.file_stem().unwrap_or_default().to_string_lossy();
            if !named.contains(&*name) {
                let complaint = format!(
                    "the table of files in {} does not name `{name}`",
                    parent.path.display()
                );
                findings.push(Finding {
                    check: Check::Table,
                    file: file.path.clone(),
                    line: 1,
                    name: name.into_owned(),
                    complaint,
                });
            }
        }
    }
    findings
}

/// Returns the file whose doc comment lists a folder's: the crate's root, or the folder's own.
fn parent_of<'a>(folder: &Path, sources: &'a [Source]) -> Option<&'a Source> {
    let candidates = [
        folder.join("lib.rs"),
        folder.join("main.rs"),
        folder.join("mod.rs"),
        folder.with_extension("rs"),
    ];
    candidates
        .iter()
        .find_map(|path| sources.iter().find(|source| source.path == *path))
}

/// Returns the text of a file's doc comment.
fn docs(tree: &syn::File) -> String {
    let mut text = String::new();
    for attribute in &tree.attrs {
        if let syn::Meta::NameValue(pair) = &attribute.meta
            && let syn::Expr::Lit(literal) = &pair.value
            && let syn::Lit::Str(line) = &literal.lit
            && pair.path.is_ident("doc")
        {
            text.push_str(&line.value());
            text.push('\n');
        }
    }
    text
}

/// Returns the words of all that stands between backticks: of `programs/setup` both.
fn names_in(text: &str) -> BTreeSet<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .flat_map(|words| words.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .filter(|word| !word.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::parse(Path::new(path), text).unwrap()
    }

    #[test]
    fn a_file_that_no_table_names_is_found() {
        let root =
            "//! | file | what |\n//! | --- | --- |\n//! | [`one`], `two/deep` | a |\nmod one;\n";
        let mut sources = vec![
            source("crates/a/src/lib.rs", root),
            source("crates/a/src/one.rs", "//! One.\n"),
            source("crates/a/src/two.rs", "//! Two: `three`.\n"),
            source("crates/a/src/two/three.rs", "//! Three.\n"),
        ];
        assert!(check(&sources).is_empty());
        sources.push(source("crates/a/src/two/four.rs", "//! Four.\n"));
        let found = check(&sources);
        let names: Vec<&str> = found.iter().map(|finding| &*finding.name).collect();
        assert_eq!(names, ["four"]);
    }
}
