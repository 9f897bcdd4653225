//! What a verdict hangs on: rules that are ASSUMED, and without which it differs.

use lazytlb::Policy;
use lazytlb_check::Verdict;
use lazytlb_model::assumption::{self, Assumption};
use lazytlb_model::{CpuModel, Property};

use crate::arguments::Check;
use crate::check::{check, checker_of};

/// Lists the assumptions that a verdict on a policy hangs on: the search runs once more without any, and if that
/// differs, once without each.
///
/// # Errors
/// As the check itself.
pub(crate) fn hangs_on(
    options: &Check,
    cpu: CpuModel,
    policy: Policy,
    verdict: &Verdict,
) -> anyhow::Result<Vec<Assumption>> {
    let ask = |cpu| {
        let verdict = check(&checker_of(options, cpu), &options.program, policy)?;
        Ok::<_, anyhow::Error>(essence(&verdict))
    };
    assumption::hangs_on(cpu, &essence(verdict), ask)
}

/// What counts of a verdict: its name, and the property that is violated.
fn essence(verdict: &Verdict) -> (&'static str, Option<Property>) {
    let property = verdict.violation().map(|violation| violation.property);
    (verdict.name(), property)
}

/// Says what a verdict hangs on, a line for each; one line if on nothing.
pub(crate) fn told(hangs_on: &[Assumption]) -> Vec<String> {
    match hangs_on {
        [] => vec!["hangs on nothing that is ASSUMED".to_owned()],
        all => all.iter().map(|one| format!("hangs on {one}")).collect(),
    }
}
