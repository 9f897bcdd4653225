//! `lazytlb check --cpu all`: every CPU model, a row each; and for which CPUs a proof holds.

use lazytlb::Policy;
use lazytlb_check::{Finding, Verdict};
use lazytlb_model::CpuModel;

use crate::arguments::Check;
use crate::check::{Complete, checker_of, print_statement, print_unreached, repeat};
use crate::check_records::VerdictRecord;
use crate::checking::check;
use crate::hanging;
use crate::hardware::{Hardware, told};
use crate::html::{Checked, HtmlFile, check_page};
use crate::numbers::grouped;
use crate::report::{Ending, Report, table};
use crate::subject::Subject;
use crate::verdict_words::{ending_of, memory, outcome, unproved};

/// Checks every model. The worst verdict decides how the command ends.
pub(crate) fn check_every(options: &Check) -> anyhow::Result<Ending> {
    let mut report = Report::open(&options.output)?;
    let page = HtmlFile::open(&options.html, &options.output)?;
    let subject = Subject::of(options)?;
    let mut ending = Ending::Good;
    let mut rows = Vec::new();
    let models = options.hardware.models()?.into_iter();
    let can = |cpu: &CpuModel| {
        (cpu.pcids || subject.slots.is_none()) && (cpu.broadcast || subject.global_ids.is_none())
    };
    for cpu in models.filter(can) {
        let checker = checker_of(options, cpu);
        for &policy in &options.policy.0 {
            let verdict = check(&checker, &subject, policy)?;
            ending = ending.max(ending_of(&verdict));
            if options.output.json {
                let record = VerdictRecord::new(policy, subject.slots, &verdict);
                report.json(&record.with_global_ids(subject.global_ids, cpu))?;
            }
            rows.push((cpu, policy, verdict));
        }
    }
    if !options.output.json {
        print(&mut report, (options, &subject), &rows)?;
    }
    if options.assumptions {
        for (cpu, policy, verdict) in &rows {
            let ask = |cpu| check(&checker_of(options, cpu), &subject, *policy);
            let hangs_on = hanging::hangs_on(verdict, ask)?;
            hanging::tell(&mut report, options.output.json, (*cpu, *policy), hangs_on)?;
        }
    }
    if options.output.json {
        report.json(&Complete::new(rows.len()))?;
    }
    report.finish()?;
    if let Some(page) = page {
        let checked = rows.iter().map(|(cpu, policy, verdict)| Checked {
            name: format!("{policy} on {}", cpu.name),
            verdict,
            command: format!("lazytlb {}", repeat((options, &subject), *policy, *cpu)),
        });
        let about = about(options, &subject);
        page.write(&check_page(about, &checked.collect::<Vec<_>>()))?;
    }
    Ok(ending)
}

/// Says what is checked, and on what.
fn about(options: &Check, subject: &Subject) -> String {
    format!(
        "{subject} on every CPU model{}, memory {}",
        match subject.slots {
            None => "",
            Some(_) => " that has PCIDs",
        },
        memory(options.memory.model())
    )
}

/// A verdict, on a model, of a policy.
type Row = (CpuModel, Policy, Verdict);

fn print(
    report: &mut Report,
    (options, subject): (&Check, &Subject),
    rows: &[Row],
) -> anyhow::Result<()> {
    report.line(about(options, subject))?;
    let mut lines = table(&["CPU", "policy", "verdict", "states", "seconds"], 3..5);
    for (cpu, policy, verdict) in rows {
        lines.add_row([
            told(*cpu),
            policy.name().to_owned(),
            outcome(verdict),
            grouped(verdict.effort.states),
            format!("{:.2}", verdict.effort.seconds),
        ]);
    }
    report.line(lines)?;
    if subject.global_ids.is_some() {
        let mut models: Vec<CpuModel> = rows.iter().map(|(cpu, ..)| *cpu).collect();
        models.dedup();
        for cpu in models {
            report.line(format_args!(
                "{}: a CPU answers a broadcast {}",
                cpu.name,
                cpu.broadcast_answer.about()
            ))?;
        }
    }
    for &policy in &options.policy.0 {
        let of_policy = rows.iter().filter(|(_, of, _)| *of == policy);
        let verdicts = of_policy.map(|(cpu, _, verdict)| (*cpu, verdict.is_safe()));
        report.line(format_args!("{policy}: {}", proved_for(verdicts)))?;
    }
    for (cpu, policy, verdict) in rows {
        match &verdict.finding {
            Finding::Violation { timeline, .. } => {
                report.line(format_args!(
                    "{policy} on {}: {}",
                    cpu.name, timeline.story[0]
                ))?;
                report.line(format_args!(
                    "  lazytlb {}",
                    repeat((options, subject), *policy, *cpu)
                ))?;
            }
            Finding::Incomplete { why } => report.line(format_args!(
                "{policy} on {}: {}",
                cpu.name,
                unproved(verdict, why)
            ))?,
            Finding::Safe => {
                print_statement(report, format_args!("{policy} on {}", cpu.name), verdict)?;
            }
        }
    }
    let verdicts: Vec<&Verdict> = rows.iter().map(|(.., verdict)| verdict).collect();
    print_unreached(report, &verdicts)
}

/// Says for which models something is proved.
pub(crate) fn proved_for(verdicts: impl Iterator<Item = (CpuModel, bool)>) -> String {
    let (proved, others): (Vec<_>, Vec<_>) = verdicts.partition(|(_, is_safe)| *is_safe);
    let names = |models: Vec<(CpuModel, bool)>| {
        let names: Vec<&str> = models.iter().map(|(model, _)| model.name).collect();
        names.join(", ")
    };
    match (proved.is_empty(), others.is_empty()) {
        (_, true) => "proved on every model".to_owned(),
        (true, false) => "proved on no model".to_owned(),
        (false, false) => format!("proved on {}; not on {}", names(proved), names(others)),
    }
}

/// Says for which CPUs a proof on a model holds.
pub(crate) fn holds_for(hardware: &Hardware, model: CpuModel) -> String {
    if hardware.is_every() {
        return "Each proof holds for every CPU model, one with PCIDs for every model that has them."
            .to_owned();
    }
    if model == CpuModel::WEAKEST {
        return "Each proof holds for every CPU model, because `weakest` does whatever another one does: but for their \
                errata\n(383 of amd-k10; INVLPG and global entries of intel-alder-lake), for features that a CPU \
                lacks, and for\npolicies that ask for errata, which `weakest` reports none of. `--cpu all` proves it for \
                each."
            .to_owned();
    }
    format!(
        "Each proof holds for {} alone; `--cpu weakest` proves for others, `--cpu all` for each.",
        told(model)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_on_some_models_names_them_and_the_others() {
        let all = CpuModel::ALL.map(|model| (model, true));
        assert_eq!(proved_for(all.into_iter()), "proved on every model");
        let [first, second, ..] = CpuModel::ALL;
        let some = [(first, false), (second, true)];
        assert_eq!(
            proved_for(some.into_iter()),
            "proved on amd-k10; not on weakest"
        );
        let none = [(first, false)];
        assert_eq!(proved_for(none.into_iter()), "proved on no model");
    }
}
