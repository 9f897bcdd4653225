//! Compares the protocol that was checked with the protocol that boots, file by file.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A hash for each source file.
type Hashes = BTreeMap<String, String>;

/// Compares what `lazytlb check --json` printed with the kernel's lines; returns how many files there are.
///
/// # Errors
/// If either names no file, or a hash differs: the error names the file.
pub(crate) fn compare(checked: &str, kernel_lines: &[String]) -> Result<usize> {
    let checked = of_check(checked)?;
    let booted = of_kernel(kernel_lines);
    if checked.is_empty() || booted.is_empty() {
        bail!(
            "no source hashes: {} from check, {} from the kernel",
            checked.len(),
            booted.len()
        );
    }
    for name in checked.keys().chain(booted.keys()) {
        if checked.get(name) != booted.get(name) {
            bail!(
                "the protocol that boots is not the one that is checked: {name} is {:?} there and {:?} here",
                booted.get(name),
                checked.get(name)
            );
        }
    }
    Ok(checked.len())
}

fn of_check(json: &str) -> Result<Hashes> {
    let first = json
        .lines()
        .next()
        .context("`lazytlb check --json` printed nothing")?;
    let verdict: Value = serde_json::from_str(first).context("a verdict is no JSON")?;
    let sources = verdict["protocol"]["sources"].as_object();
    let sources = sources.context("the verdict has no `protocol.sources`")?;
    let hash = |(name, hash): (&String, &Value)| Some((name.clone(), hash.as_str()?.to_owned()));
    Ok(sources.iter().filter_map(hash).collect())
}

fn of_kernel(lines: &[String]) -> Hashes {
    let words = lines
        .iter()
        .filter_map(|line| line.strip_prefix("source ")?.split_once(' '));
    words
        .map(|(name, hash)| (name.to_owned(), hash.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"protocol":{"sources":{"a.rs":"01","b.rs":"02"}}}"#;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn equal_hashes_agree_and_are_counted() {
        let kernel = lines("hello\nsource a.rs 01\nsource b.rs 02\noutcome: passed");
        assert_eq!(compare(JSON, &kernel).expect("they are equal"), 2);
    }

    #[test]
    fn a_difference_a_missing_file_and_silence_are_errors() {
        for kernel in ["source a.rs 01\nsource b.rs 03", "source a.rs 01", ""] {
            assert!(compare(JSON, &lines(kernel)).is_err(), "{kernel}");
        }
        let more = lines("source a.rs 01\nsource b.rs 02\nsource c.rs 03");
        assert!(compare(JSON, &more).is_err());
    }
}
