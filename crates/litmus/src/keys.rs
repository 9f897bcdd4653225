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
            refuse_hidden_setting(text)?;
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

/// Refuses free text in which a setting stands that a slip keeps from being one: `set PCIDs=on;`, `User: P0`.
fn refuse_hidden_setting(text: &Located<String>) -> Result<(), SyntaxError> {
    let line = text.value.as_str();
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '@';
    let mut rest = line;
    while let Some(start) = rest.find(is_word) {
        let from = rest.split_at(start).1;
        let end = from.find(|character| !is_word(character));
        let (word, behind) = from.split_at(end.unwrap_or(from.len()));
        let known = SETTINGS.iter().find(|key| key.eq_ignore_ascii_case(word));
        if let Some(key) = known
            && sets_something(behind.trim_start())
        {
            let before = line.len() - from.len();
            let column = text.position.column + line.split_at(before).0.chars().count();
            let at = Position {
                column,
                ..text.position
            };
            let found = format!("`{word}` in free text, as if it set something");
            let advice = format!("write `{key}=` at the start of the line, or a comment `(* *)`");
            return Err(SyntaxError::new(at, found, "a line of its own", advice));
        }
        rest = behind;
    }
    Ok(())
}

/// Says whether what follows a key makes it a setting, in somebody's eyes.
fn sets_something(behind: &str) -> bool {
    if behind.starts_with('=') {
        return true;
    }
    let Some(value) = behind.strip_prefix(':') else {
        return false;
    };
    let value = value.trim_start().split([' ', ',', ';']).next();
    let value = value.unwrap_or_default();
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    matches!(value, "on" | "off")
        || is_number(value)
        || value.strip_prefix('P').is_some_and(is_number)
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
