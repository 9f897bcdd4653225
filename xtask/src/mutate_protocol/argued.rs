//! Why changes that nothing finds are none: `crates/mutants/argued.toml`.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::changes::Change;

const TABLE: &str = "crates/mutants/argued.toml";

/// A reason, and what it is about.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Argued {
    /// The file, without its ending.
    file: String,
    /// The function.
    function: String,
    /// The changed code, as the list shows it; of all in the function, if it is left out.
    code: Option<String>,
    /// What was done, as the list says it; anything, if it is left out.
    change: Option<String>,
    /// Why the protocol is as safe with it.
    pub(super) because: String,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    argued: Vec<Argued>,
}

impl Argued {
    /// Says whether a reason is about a change.
    pub(super) fn is_about(&self, change: &Change) -> bool {
        let is =
            |wanted: &Option<String>, said: &str| wanted.as_deref().is_none_or(|it| it == said);
        self.file == change.module
            && self.function == change.function
            && is(&self.code, &change.code)
            && is(&self.change, &change.what.text())
    }
}

/// Reads the table.
///
/// # Errors
/// If it is no such table, or a row is about none of the changes: the code went on, and the reason stayed.
pub(super) fn read(root: &Path, changes: &[Change]) -> Result<Vec<Argued>> {
    let text = std::fs::read_to_string(root.join(TABLE))
        .with_context(|| format!("cannot read {TABLE}"))?;
    let table: Table =
        toml::from_str(&text).with_context(|| format!("cannot understand {TABLE}"))?;
    for argued in &table.argued {
        ensure!(
            changes.iter().any(|change| argued.is_about(change)),
            "{TABLE}: nothing in `{}` of {}.rs is changed like this any more: {}",
            argued.function,
            argued.file,
            argued.code.as_deref().unwrap_or("anything")
        );
    }
    Ok(table.argued)
}
