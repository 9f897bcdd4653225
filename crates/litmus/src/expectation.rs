//! The verdict that a test's header expects: `Expect=Allowed`, `Expect@amd-k10=Forbidden`, `CPU=amd-k10`.

use lazytlb_litmus_syntax::SyntaxError;
use lazytlb_model::CpuModel;

use crate::answer::LitmusVerdict;
use crate::keys::{Keys, bad_value};

/// Finds the verdict that a header expects on a CPU model; `None` if it expects none, or names other models
/// as those that the test is for.
///
/// # Errors
/// If a line names no verdict, or no CPU model.
pub(crate) fn of(keys: &Keys<'_>, model: CpuModel) -> Result<Option<LitmusVerdict>, SyntaxError> {
    let mut expected = match keys.get("Expect") {
        None => None,
        Some(line) => Some(verdict(line.value).ok_or_else(|| bad_value(line, line.value, ADVICE))?),
    };
    for (name, line) in keys.of_variants("Expect") {
        let of_model = verdict(line.value).ok_or_else(|| bad_value(line, line.value, ADVICE))?;
        if CpuModel::by_name(name).is_none() {
            let found = format!("`{}=`", line.key);
            return Err(no_model(line.position, found));
        }
        if name == model.name {
            expected = Some(of_model);
        }
    }
    let Some(line) = keys.get("CPU") else {
        return Ok(expected);
    };
    let names = line.value.split(',').map(str::trim);
    let mut is_for_it = false;
    for name in names {
        if CpuModel::by_name(name).is_none() {
            return Err(no_model(line.position, format!("`CPU={name}`")));
        }
        is_for_it |= name == model.name;
    }
    Ok(expected.filter(|_| is_for_it))
}

const ADVICE: &str = "write `Allowed` or `Forbidden`";

fn verdict(name: &str) -> Option<LitmusVerdict> {
    match name {
        "Allowed" => Some(LitmusVerdict::Allowed),
        "Forbidden" => Some(LitmusVerdict::Forbidden),
        _ => None,
    }
}

fn no_model(at: lazytlb_litmus_syntax::Position, found: String) -> SyntaxError {
    let names = CpuModel::ALL.map(|model| model.name).join(", ");
    let advice = format!("write one of {names}");
    SyntaxError::new(at, found, "a CPU model", advice)
}
