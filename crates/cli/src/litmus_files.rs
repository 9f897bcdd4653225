//! Which litmus tests a command line names, and which verdicts a file of them expects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use lazytlb_litmus::LitmusVerdict;

/// Says whether a path may stand for several tests: a directory or a list.
pub(crate) fn is_collection(path: &Path) -> bool {
    is_list(path) || path.is_dir()
}

fn is_list(path: &Path) -> bool {
    let name = path.file_name();
    name.is_some_and(|name| name.to_string_lossy().starts_with('@'))
}

/// Lists the files to answer: those named, all `.litmus` files below a directory, and what a list names
/// (`@all`: a path a line, from the list's own directory).
pub(crate) fn files_of(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        if is_list(path) {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the list {}", path.display()))?;
            let folder = path.parent().unwrap_or(Path::new(""));
            let lines = text.lines().map(str::trim);
            let named = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            files.extend(files_of(
                &named.map(|line| folder.join(line)).collect::<Vec<_>>(),
            )?);
        } else if path.is_dir() {
            let below = litmus_files_below(path)?;
            if below.is_empty() {
                bail!("{} has no .litmus file", path.display());
            }
            files.extend(below);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn litmus_files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the directory {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            files.extend(litmus_files_below(&path)?);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "litmus")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a file of verdicts: a test's name and `Allow` or `Forbid` (`Allowed`, `Forbidden`) a line.
pub(crate) fn read_kinds(path: &Path) -> anyhow::Result<BTreeMap<String, LitmusVerdict>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut kinds = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(kind)) = (words.next(), words.next()) else {
            continue;
        };
        let verdict = match kind {
            "Allow" | "Allowed" => LitmusVerdict::Allowed,
            "Forbid" | "Forbidden" => LitmusVerdict::Forbidden,
            _ => bail!(
                "{}: line {}: `{kind}` is no verdict: write Allow or Forbid",
                path.display(),
                number + 1
            ),
        };
        kinds.insert(name.to_owned(), verdict);
    }
    Ok(kinds)
}
