//! What a verdict hangs on: rules that are ASSUMED, and without which it differs.

use lazytlb::Policy;
use lazytlb_check::Verdict;
use lazytlb_model::assumption::{self, Assumption};
use lazytlb_model::{CpuModel, Property};
use serde::Serialize;

use crate::report::Report;

/// Lists the assumptions that a verdict hangs on: it is asked for once more on its CPU model without any, and if
/// that differs, once without each.
///
/// # Errors
/// Those of asking.
pub(crate) fn hangs_on(
    verdict: &Verdict,
    mut ask: impl FnMut(CpuModel) -> anyhow::Result<Verdict>,
) -> anyhow::Result<Vec<Assumption>> {
    let ask = |cpu| ask(cpu).map(|verdict| essence(&verdict));
    assumption::hangs_on(verdict.cpu_model, &essence(verdict), ask)
}

/// What counts of a verdict: its name, and the property that is violated.
fn essence(verdict: &Verdict) -> (&'static str, Option<Property>) {
    let property = verdict.violation().map(|violation| violation.property);
    (verdict.name(), property)
}

/// What a verdict hangs on, as JSON.
#[derive(Serialize)]
struct Record {
    policy: &'static str,
    cpu: &'static str,
    hangs_on: Vec<AssumptionRecord>,
}

/// An assumption as JSON.
#[derive(Serialize)]
pub(crate) struct AssumptionRecord {
    pub(crate) name: &'static str,
    rule: &'static str,
    assumes: &'static str,
}

impl From<Assumption> for AssumptionRecord {
    fn from(assumption: Assumption) -> AssumptionRecord {
        AssumptionRecord {
            name: assumption.name,
            rule: assumption.rule,
            assumes: assumption.about,
        }
    }
}

/// Tells what the verdict on a policy hangs on, of all that its CPU model assumes.
pub(crate) fn tell(
    report: &mut Report,
    json: bool,
    (cpu, policy): (CpuModel, Policy),
    hangs_on: Vec<Assumption>,
) -> anyhow::Result<()> {
    if json {
        return report.json(&Record {
            policy: policy.name(),
            cpu: cpu.name,
            hangs_on: hangs_on.into_iter().map(Into::into).collect(),
        });
    }
    if hangs_on.is_empty() {
        let cpu = cpu.name;
        return report.line(format_args!(
            "{policy} on {cpu} hangs on no rule that is ASSUMED"
        ));
    }
    for assumption in hangs_on {
        let cpu = cpu.name;
        report.line(format_args!(
            "{policy} on {cpu} hangs on {assumption} (ASSUMED)"
        ))?;
    }
    Ok(())
}
