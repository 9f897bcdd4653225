//! The Rust files of the project, parsed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use proc_macro2::{TokenStream, TokenTree};

/// Folders with sources, relative to the workspace's root; workspaces of their own are among them.
const FOLDERS: [&str; 5] = ["crates", "xtask", "testkernel", "fuzz", "benches"];

/// One file.
pub(super) struct Source {
    /// Relative to the workspace's root.
    pub(super) path: PathBuf,
    /// The syntax tree.
    pub(super) tree: syn::File,
    /// Lines that hold code: no blank ones, no comments.
    pub(super) code_lines: usize,
}

impl Source {
    /// Parses a text.
    ///
    /// # Errors
    /// If it is not Rust.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Source> {
        let not_rust = |error: &dyn std::fmt::Display| {
            anyhow!(
                "{} is not Rust ({error}); make it build first",
                path.display()
            )
        };
        let tree = syn::parse_file(text).map_err(|error| not_rust(&error))?;
        let tokens: TokenStream = text.parse().map_err(|error| not_rust(&error))?;
        let mut lines = Vec::new();
        collect_lines(tokens, &mut lines);
        lines.sort_unstable();
        lines.dedup();
        Ok(Source {
            path: path.to_owned(),
            tree,
            code_lines: lines.len(),
        })
    }

    /// Says whether the whole file is a test, an example or a benchmark.
    pub(super) fn is_test(&self) -> bool {
        let folders = ["tests", "examples", "benches"];
        self.path
            .iter()
            .any(|part| folders.iter().any(|folder| part == *folder))
    }
}

/// Adds the lines of all tokens that are no doc comments.
fn collect_lines(tokens: TokenStream, lines: &mut Vec<usize>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut rest = &tokens[..];
    while let Some((first, mut tail)) = rest.split_first() {
        if let Some(after) = skip_doc_comment(rest) {
            rest = after;
            continue;
        }
        match first {
            TokenTree::Group(group) => {
                lines.push(group.span_open().start().line);
                lines.push(group.span_close().end().line);
                collect_lines(group.stream(), lines);
            }
            token => lines.extend(token.span().start().line..=token.span().end().line),
        }
        rest = std::mem::take(&mut tail);
    }
}

/// Returns what follows, if the tokens begin with a doc comment, which is an attribute `doc`.
fn skip_doc_comment(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    let is = |token: &TokenTree, sign| matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign);
    let after_hash = tokens.split_first().filter(|(first, _)| is(first, '#'))?.1;
    let after_bang = match after_hash.split_first() {
        Some((bang, after)) if is(bang, '!') => after,
        _ => after_hash,
    };
    let (TokenTree::Group(group), after) = after_bang.split_first()? else {
        return None;
    };
    let first = group.stream().into_iter().next()?;
    matches!(first, TokenTree::Ident(word) if word == "doc").then_some(after)
}

/// Reads and parses every file.
///
/// # Errors
/// If a file cannot be read, or is not Rust.
pub(super) fn all(root: &Path) -> Result<Vec<Source>> {
    let mut paths = Vec::new();
    for folder in FOLDERS {
        list(root, Path::new(folder), &mut paths)?;
    }
    paths.sort();
    let mut sources = Vec::new();
    for path in paths {
        let text = fs::read_to_string(root.join(&path))
            .with_context(|| format!("cannot read {}", path.display()))?;
        sources.push(Source::parse(&path, &text)?);
    }
    Ok(sources)
}

/// Appends the Rust files below a folder; what is built there is left out.
fn list(root: &Path, folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(root.join(folder))
        .with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "target" {
                list(root, &path, paths)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_are_no_code() {
        let text = "//! About.\n\n/// Does.\n// Why.\nfn f() {\n    /* so */\n    g(\n        1,\n    );\n}\n";
        let source = Source::parse(Path::new("a.rs"), text).unwrap();
        assert_eq!(source.code_lines, 5);
    }
}
