//! The keys of a test's header: which there are, and what is no key of this syntax.
//!
//! A key that changes the meaning must never be taken for a comment. So all that is not known is an error:
//! what herd's tools write, and read for themselves only, stands here in a list.

use lazytlb_litmus_syntax::{LitmusTest, Located, Metadata, Position, SyntaxError};

/// The keys that change what a test means or what is expected of it. Case counts.
const SETTINGS: [&str; 12] = [
    "Paging",
    "PCIDs",
    "Global",
    "Accessed",
    "User",
    "WC",
    "IPI",
    "KeepLoads",
    "MT",
    "MemoryType",
    "Expect",
    "CPU",
];

/// The keys that say why a test of the project's own is there. Case counts.
const REASONS: [&str; 2] = ["Rule", "Because"];

/// The keys that herdtools7 and those who collect tests write for themselves: nothing here hangs on them.
/// Case does not count, as in herd.
const HARMLESS: [&str; 31] = [
    "Align",
    "Author",
    "Com",
    "Comment",
    "Copyright",
    "Cycle",
    "Date",
    "Description",
    "Doc",
    "Generator",
    "Hash",
    "Kind",
    "Libdir",
    "License",
    "Name",
    "Note",
    "Orig",
    "Origin",
    "Prefetch",
    "Reference",
    "Relax",
    "Result",
    "Safe",
    "See",
    "Source",
    "Stable",
    "Status",
    "Test",
    "Title",
    "URL",
    "Version",
];

/// herd's keys that change the meaning of tests for other machines, and what says the same here.
const OF_OTHER_MACHINES: [(&str, &str); 3] =
    [("EL0", "User"), ("TTHM", "Accessed"), ("CacheType", "MT")];

/// herd's variants under which a test for x86 means what it means here.
const HARMLESS_VARIANTS: [&str; 2] = ["mixed", "telechat"];

/// The lines `Key=Value` of a test whose keys are all known, each that sets something at most once.
pub(crate) struct Keys<'t> {
    lines: Vec<Metadata<'t>>,
}

impl<'t> Keys<'t> {
    /// Reads the keys of a test.
    ///
    /// # Errors
    /// At the first key that is not known, stands twice, or is hidden in free text.
    pub(crate) fn of(test: &'t LitmusTest) -> Result<Keys<'t>, SyntaxError> {
        let mut lines: Vec<Metadata<'t>> = Vec::new();
        for line in test.metadata_lines() {
            check(line)?;
            let is_setting = SETTINGS.contains(&line.key) || line.key.contains('@');
            if is_setting && lines.iter().any(|known| known.key == line.key) {
                let found = format!("`{}=` for the second time", line.key);
                return Err(SyntaxError::new(
                    line.position,
                    found,
                    "each setting once",
                    "remove one of the two",
                ));
            }
            lines.push(line);
        }
        for text in &test.free_text {
            refuse_hidden_key(text)?;
        }
        Ok(Keys { lines })
    }

    /// Finds a line by its key.
    pub(crate) fn get(&self, key: &str) -> Option<Metadata<'t>> {
        self.lines.iter().copied().find(|line| line.key == key)
    }

    /// Lists the lines whose keys are one key with something behind an `@`, and that.
    pub(crate) fn of_variants(&self, key: &str) -> impl Iterator<Item = (&'t str, Metadata<'t>)> {
        self.lines.iter().filter_map(move |line| {
            let (base, variant) = line.key.split_once('@')?;
            (base == key).then_some((variant, *line))
        })
    }
}

/// Says that a key has a value that it cannot have.
pub(crate) fn bad_value(line: Metadata<'_>, value: &str, advice: &str) -> SyntaxError {
    let found = format!("`{}={value}`", line.key);
    SyntaxError::new(line.position, found, "another value", advice)
}

/// Refuses a key that is not known, with the nearest that is.
fn check(line: Metadata<'_>) -> Result<(), SyntaxError> {
    let Metadata { key, value, .. } = line;
    let is_harmless = HARMLESS.iter().any(|known| known.eq_ignore_ascii_case(key));
    let base = key.strip_prefix("Expect@").map_or(key, |_| "Expect");
    if is_harmless || SETTINGS.contains(&base) || REASONS.contains(&base) {
        return Ok(());
    }
    if key.eq_ignore_ascii_case("Variant") {
        return match HARMLESS_VARIANTS.contains(&value) {
            true => Ok(()),
            false => Err(bad_value(
                line,
                value,
                "this model has no variants of herd's; the lines of docs/litmus.md set the machine",
            )),
        };
    }
    let found = format!("`{key}={value}`");
    let advice = match nearest(key) {
        Some(nearest) => format!("the nearest is `{nearest}`: write `{nearest}=`; case counts"),
        None => format!(
            "those that set something are {}; put other text into a comment `(* *)`",
            SETTINGS.join(", ")
        ),
    };
    let expected = "a key of this syntax";
    Err(SyntaxError::new(line.position, found, expected, advice))
}

/// Finds the known key that is most like another, if at least half of it is.
fn nearest(key: &str) -> Option<&'static str> {
    let lower = key.to_ascii_lowercase();
    let others = OF_OTHER_MACHINES.iter();
    let mut others = others.filter(|(of_others, _)| of_others.eq_ignore_ascii_case(key));
    if let Some((_, here)) = others.next() {
        return Some(here);
    }
    let known = SETTINGS.iter().chain(&REASONS).chain(&HARMLESS);
    let by_distance = known.map(|known| {
        let distance = strsim::osa_distance(&lower, &known.to_ascii_lowercase());
        (distance, *known)
    });
    // Of several, the first: settings stand first.
    let (distance, nearest) = by_distance.min_by_key(|(distance, _)| *distance)?;
    (2 * distance <= nearest.len().max(key.len())).then_some(nearest)
}

/// Refuses free text in which a key stands that a slip keeps from being one: `set PCIDs=on;`, `Expect: Forbidden`.
fn refuse_hidden_key(text: &Located<String>) -> Result<(), SyntaxError> {
    let line = text.value.as_str();
    let mut rest = line;
    while let Some(start) = rest.find(|character: char| character.is_ascii_alphanumeric()) {
        let from = rest.split_at(start).1;
        let (word, behind) = split_word(from);
        let (variant, behind) = split_variant(behind);
        if let Some(key) = key_meant(word, from.len() == line.len())
            && behind.trim_start().starts_with(['=', ':'])
        {
            let before = line.len() - from.len();
            let column = text.position.column + line.split_at(before).0.chars().count();
            let at = Position {
                column,
                ..text.position
            };
            let found = format!("`{word}` in free text, as if it set something");
            let advice =
                format!("write `{key}{variant}=` at the start of the line, or a comment `(* *)`");
            return Err(SyntaxError::new(at, found, "a line of its own", advice));
        }
        rest = behind;
    }
    Ok(())
}

/// Splits a text behind the word that it starts with.
fn split_word(text: &str) -> (&str, &str) {
    let end = text.find(|character: char| !character.is_ascii_alphanumeric());
    text.split_at(end.unwrap_or(text.len()))
}

/// Splits a text behind the CPU model of a key: `@amd-k10`.
fn split_variant(text: &str) -> (&str, &str) {
    let is_of_variant = |c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '-' | '.' | '_');
    match text.starts_with('@') {
        true => text.split_at(text.find(|c| !is_of_variant(c)).unwrap_or(text.len())),
        false => ("", text),
    }
}

/// Returns the key that a word before `=` or `:` is meant for, if one of those that something hangs on. At the
/// start of a line it may be misspelt.
fn key_meant(word: &str, starts_line: bool) -> Option<&'static str> {
    let keys = || SETTINGS.iter().chain(&REASONS).copied();
    let known = keys().find(|key| key.eq_ignore_ascii_case(word));
    let is_word = starts_line && word.len() > 2;
    known.or_else(|| nearest(word).filter(|key| is_word && keys().any(|known| known == *key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found_by_its_letters() {
        for (written, expected) in [
            ("PCID", Some("PCIDs")),
            ("PCIDS", Some("PCIDs")),
            ("pcids", Some("PCIDs")),
            ("PCIDE", Some("PCIDs")),
            ("Users", Some("User")),
            ("user", Some("User")),
            ("Usr", Some("User")),
            ("paging", Some("Paging")),
            ("Acessed", Some("Accessed")),
            ("Access", Some("Accessed")),
            ("Globals", Some("Global")),
            ("Expected", Some("Expect")),
            ("MemType", Some("MemoryType")),
            ("EL0", Some("User")),
            ("TTHM", Some("Accessed")),
            ("Cyle", Some("Cycle")),
            ("Frobnication", None),
        ] {
            assert_eq!(nearest(written), expected, "{written}");
        }
    }

    #[test]
    fn no_key_is_harmless_and_a_setting() {
        for key in SETTINGS {
            let mut harmless = HARMLESS.iter();
            assert!(
                harmless.all(|known| !known.eq_ignore_ascii_case(key)),
                "{key}"
            );
        }
    }
}
