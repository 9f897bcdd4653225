//! Checks that the protocol's sources are the same code on every machine, and safe code.
//!
//! A `cfg` would let the code that is checked differ from the code that boots; a macro hides the
//! steps that a reader must see; `unsafe` and `alloc` or `std` belong to the machines. Modules
//! marked `#[cfg(test)]` are exempt, since no machine ever runs them. The check works on tokens,
//! so comments and strings may say anything. It cannot see what a dependency's macro expands to,
//! but [`crate::arrows`] leaves the protocol no dependency but `core`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One forbidden thing in a source file, or one required thing that `lib.rs` lacks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The file, relative to the workspace's root where it was found by [`check`].
    pub(crate) file: PathBuf,
    /// The line, counted from 1.
    pub(crate) line: usize,
    /// What is wrong, and what to do instead.
    pub(crate) complaint: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}",
            self.file.display(),
            self.line,
            self.complaint
        )
    }
}

/// Complains of conditional compilation.
const CFG: &str = "no `cfg` but `#[cfg(test)] mod` may stand in the protocol: what is checked must \
                   be what boots; ask the seam's capabilities at run time instead";
/// Complains of `unsafe`.
const UNSAFE: &str = "`unsafe` has no place in the protocol: put it behind the seam, in a machine";
/// Complains of macros.
const MACRO: &str = "the protocol defines no macros: write the code out, or make it a function";
/// Complains of `alloc` and `std`.
const EXTERN_CRATE: &str = "the protocol uses `core` only: remove this `extern crate`";
/// Complains of an inner attribute that `lib.rs` lacks.
const NO_STD: &str = "the protocol's lib.rs must say `#![no_std]`; add it";
/// Complains of an inner attribute that `lib.rs` lacks.
const FORBID: &str = "the protocol's lib.rs must say `#![forbid(unsafe_code)]`; add it";

/// Checks every file under `src` of the protocol crate, whose directory is relative to `root`.
///
/// # Errors
/// If a file cannot be read, or is not Rust.
pub(crate) fn check(root: &Path, protocol: &Path) -> Result<Vec<Finding>> {
    let mut files = Vec::new();
    list_sources(root, &protocol.join("src"), &mut files)?;
    files.sort();

    let mut findings = Vec::new();
    for file in files {
        let text = fs::read_to_string(root.join(&file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        findings.extend(check_file(&file, &text)?);
    }
    Ok(findings)
}

/// Appends the Rust files under `directory`, relative to `root`.
fn list_sources(root: &Path, directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(root.join(directory))
        .with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
        let path = directory.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list_sources(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Checks one file; only a file named `lib.rs` needs the two inner attributes.
fn check_file(file: &Path, text: &str) -> Result<Vec<Finding>> {
    let tokens: TokenStream = text.parse().map_err(|error| {
        anyhow!(
            "{} is not Rust ({error}); make it build first",
            file.display()
        )
    })?;
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();

    let mut complaints = Vec::new();
    if file.ends_with("lib.rs") {
        complaints.extend(missing_attributes(&tokens).map(|complaint| (1, complaint)));
    }
    scan(&tokens, &mut complaints);
    Ok(complaints
        .into_iter()
        .map(|(line, complaint)| Finding {
            file: file.to_owned(),
            line,
            complaint,
        })
        .collect())
}

/// Returns a complaint for each inner attribute that a protocol's `lib.rs` needs and lacks.
fn missing_attributes(tokens: &[TokenTree]) -> impl Iterator<Item = &'static str> {
    let attributes: Vec<String> = tokens
        .windows(3)
        .filter(|window| is_punct(&window[0], '#') && is_punct(&window[1], '!'))
        .map(|window| without_spaces(&window[2]))
        .collect();
    [("[no_std]", NO_STD), ("[forbid(unsafe_code)]", FORBID)]
        .into_iter()
        .filter(move |(attribute, _)| !attributes.iter().any(|present| present == attribute))
        .map(|(_, complaint)| complaint)
}

/// Appends line and complaint for each forbidden token, in nested groups too.
fn scan(tokens: &[TokenTree], complaints: &mut Vec<(usize, &'static str)>) {
    let mut rest = tokens;
    while let [first, tail @ ..] = rest {
        if let Some(after) = skip_test_module(rest) {
            rest = after;
            continue;
        }
        let line = first.span().start().line;
        match first {
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                scan(&inner, complaints);
            }
            TokenTree::Ident(word) if word == "unsafe" => complaints.push((line, UNSAFE)),
            TokenTree::Ident(word) if word == "macro_rules" => complaints.push((line, MACRO)),
            TokenTree::Ident(word) if is_cfg(word, tail) => complaints.push((line, CFG)),
            TokenTree::Ident(word) if word == "extern" && is_alloc_or_std(tail) => {
                complaints.push((line, EXTERN_CRATE));
            }
            _ => {}
        }
        rest = tail;
    }
}

/// Returns what follows, if `tokens` begin with `#[cfg(test)] mod name { … }`.
///
/// Only a module is exempt: `#[cfg(test)]` on a statement or a function could make the tested code
/// differ from the code that boots.
fn skip_test_module(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    let [
        hash,
        attribute,
        keyword,
        TokenTree::Ident(_name),
        TokenTree::Group(body),
        after @ ..,
    ] = tokens
    else {
        return None;
    };
    let matches = is_punct(hash, '#')
        && without_spaces(attribute) == "[cfg(test)]"
        && is_ident(keyword, "mod")
        && body.delimiter() == Delimiter::Brace;
    matches.then_some(after)
}

/// Says whether `word`, followed by `tail`, compiles conditionally: `cfg(…)`, `cfg!(…)` and kin.
fn is_cfg(word: &proc_macro2::Ident, tail: &[TokenTree]) -> bool {
    let takes_arguments = match tail {
        [bang, TokenTree::Group(_), ..] if is_punct(bang, '!') => true,
        [TokenTree::Group(group), ..] => group.delimiter() == Delimiter::Parenthesis,
        _ => false,
    };
    takes_arguments
        && ["cfg", "cfg_attr", "cfg_select"]
            .iter()
            .any(|name| word == name)
}

/// Says whether `tail`, which follows `extern`, names `alloc` or `std`.
fn is_alloc_or_std(tail: &[TokenTree]) -> bool {
    matches!(tail, [keyword, name, ..] if is_ident(keyword, "crate")
        && (is_ident(name, "alloc") || is_ident(name, "std")))
}

/// Says whether `token` is the word `name`.
fn is_ident(token: &TokenTree, name: &str) -> bool {
    matches!(token, TokenTree::Ident(word) if word == name)
}

/// Says whether `token` is the character `punct`.
fn is_punct(token: &TokenTree, punct: char) -> bool {
    matches!(token, TokenTree::Punct(found) if found.as_char() == punct)
}

/// Writes `token` without the spaces whose places `proc_macro2` leaves open.
fn without_spaces(token: &TokenTree) -> String {
    token.to_string().split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(file: &str, text: &str) -> Vec<(usize, &'static str)> {
        let findings = check_file(Path::new(file), text).unwrap();
        findings
            .into_iter()
            .map(|finding| (finding.line, finding.complaint))
            .collect()
    }

    #[test]
    fn comments_strings_and_lint_names_are_not_code() {
        let text = "//! unsafe, cfg(feature)\n#![no_std]\n#![forbid(unsafe_code)]\n\
                    /// `macro_rules!` and `extern crate std`\nconst A: &str = \"unsafe cfg(x)\";";
        assert_eq!(complaints("lib.rs", text), []);
    }

    #[test]
    fn each_forbidden_word_is_found_on_its_line_however_deep() {
        let text = "fn f() {\n  if cfg!(a) {\n    unsafe { g() }\n  }\n}\n#[cfg(feature = \"a\")]\n\
                    mod m { #[cfg_attr(a, b)] fn g() {} }\nmacro_rules! m { () => {} }\n\
                    extern crate alloc;\nextern crate std as s;";
        let expected = [
            (2, CFG),
            (3, UNSAFE),
            (6, CFG),
            (7, CFG),
            (8, MACRO),
            (9, EXTERN_CRATE),
            (10, EXTERN_CRATE),
        ];
        assert_eq!(complaints("slot.rs", text), expected);
    }

    #[test]
    fn only_a_test_module_is_exempt() {
        let module = "#[cfg(test)]\nmod tests { extern crate std; macro_rules! m { () => {} } }";
        assert_eq!(complaints("slot.rs", module), []);
        assert_eq!(complaints("slot.rs", "#[cfg(test)] fn f() {}"), [(1, CFG)]);
        assert_eq!(
            complaints("slot.rs", "#[cfg(not(test))] mod m {}"),
            [(1, CFG)]
        );
    }

    #[test]
    fn a_lib_without_its_two_attributes_is_found() {
        assert_eq!(complaints("src/lib.rs", ""), [(1, NO_STD), (1, FORBID)]);
        assert_eq!(complaints("src/lib.rs", "#![no_std]"), [(1, FORBID)]);
        assert_eq!(complaints("src/slot.rs", ""), []);
    }

    #[test]
    fn a_file_that_is_not_rust_is_an_error_and_not_a_pass() {
        assert!(check_file(Path::new("slot.rs"), "fn f( {").is_err());
    }
}
