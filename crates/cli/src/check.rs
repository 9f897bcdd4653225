//! `lazytlb check`: proofs, counterexamples, or the word `incomplete`.

use lazytlb::Policy;
use lazytlb::sources::{self, SOURCES};
use lazytlb_check::{Checker, Finding, Reduction, RestsOn, Storage, Verdict};
use lazytlb_model::CpuModel;
use serde::Serialize;

use crate::argument_values::{require_broadcasts, require_pcids};
use crate::arguments::Check;
use crate::check_records::VerdictRecord;
use crate::checking::{check, checker};
use crate::hanging;
use crate::hardware::{told, told_readings};
use crate::html::{Checked, HtmlFile, check_page};
use crate::numbers::grouped;
use crate::report::{Ending, Report, table};
use crate::subject::Subject;
use crate::verdict_words::{ending_of, memory, outcome, unproved};

/// Runs the command.
pub(crate) fn run(options: &Check) -> anyhow::Result<Ending> {
    let mut report = Report::open(&options.output)?;
    let page = HtmlFile::open(&options.html, &options.output)?;
    let cpu = options.hardware.model()?;
    let subject = Subject::of(options)?;
    if subject.slots.is_some() {
        require_pcids(cpu)?;
    }
    if subject.global_ids.is_some() {
        require_broadcasts(cpu)?;
    }
    let checker = checker_of(options, cpu);
    let mut ending = Ending::Good;
    let mut verdicts = Vec::new();
    for &policy in &options.policy.0 {
        let verdict = check(&checker, &subject, policy)?;
        ending = ending.max(ending_of(&verdict));
        if options.output.json {
            let record = VerdictRecord::new(policy, subject.slots, &verdict);
            report.json(&record.with_global_ids(subject.global_ids, cpu))?;
        }
        verdicts.push((policy, verdict));
    }
    if !options.output.json {
        print(&mut report, (options, &subject), cpu, &verdicts)?;
    }
    if options.assumptions {
        for (policy, verdict) in &verdicts {
            let ask = |cpu| check(&checker_of(options, cpu), &subject, *policy);
            let hangs_on = hanging::hangs_on(verdict, ask)?;
            hanging::tell(&mut report, options.output.json, (cpu, *policy), hangs_on)?;
        }
    }
    if options.output.json {
        report.json(&Complete::new(verdicts.len()))?;
    }
    report.finish()?;
    if let Some(page) = page {
        let checked = verdicts.iter().map(|(policy, verdict)| Checked {
            name: policy.to_string(),
            verdict,
            command: format!("lazytlb {}", repeat((options, &subject), *policy, cpu)),
        });
        let about = about((options, &subject), cpu);
        page.write(&check_page(about, &checked.collect::<Vec<_>>()))?;
    }
    Ok(ending)
}

/// Says what is checked, and on what.
fn about((options, subject): (&Check, &Subject), cpu: CpuModel) -> String {
    format!(
        "{subject} on CPU model {}, memory {}",
        told(cpu),
        memory(options.memory.model())
    )
}

/// Makes the checker that the command line asks for, on a CPU model.
pub(crate) fn checker_of(options: &Check, cpu: CpuModel) -> Checker {
    let storage = if options.fingerprints {
        Storage::Fingerprints
    } else {
        Storage::FullStates
    };
    let reduction = if options.no_reduction {
        Reduction::None
    } else {
        Reduction::CollapseLocal
    };
    checker(cpu, options.memory.model(), &options.bounds)
        .storage(storage)
        .reduction(reduction)
}

/// The last record of JSON output: without it, the output is not whole, whatever the exit code says. Checked code
/// that ends the process cannot print it.
#[derive(Serialize)]
pub(crate) struct Complete {
    complete: bool,
    verdicts: usize,
}

impl Complete {
    pub(crate) fn new(verdicts: usize) -> Complete {
        Complete {
            complete: true,
            verdicts,
        }
    }
}

fn print(
    report: &mut Report,
    (options, subject): (&Check, &Subject),
    cpu: CpuModel,
    verdicts: &[(Policy, Verdict)],
) -> anyhow::Result<()> {
    report.line(about((options, subject), cpu))?;
    if verdicts
        .iter()
        .any(|(_, verdict)| verdict.uses_write_combining)
    {
        report.line(format_args!(
            "What empties write-combining buffers has {} the writes to a device (H27)",
            told_readings(cpu.write_combining)
        ))?;
    }
    if verdicts.iter().any(|(_, verdict)| verdict.uses_pcids) {
        report.line(format_args!(
            "A CR3 load with bit 63 set {} (H12a, ASSUMED)",
            cpu.keep_load.about()
        ))?;
    }
    if subject.global_ids.is_some() {
        report.line(format_args!(
            "A CPU answers a broadcast {}; non-temporal stores may leave it later",
            cpu.broadcast_answer.about()
        ))?;
    }
    report.line(format_args!(
        "Protocol: lazytlb {}, {} source files, hash {}",
        env!("CARGO_PKG_VERSION"),
        SOURCES.len(),
        sources::combined()
    ))?;
    report.line(rows(verdicts))?;
    for (policy, verdict) in verdicts {
        match &verdict.finding {
            Finding::Violation { timeline, .. } if verdicts.len() == 1 => {
                report.line(format_args!(
                    "\nShortest counterexample, replayed:\n\n{timeline}"
                ))?;
            }
            Finding::Violation { timeline, .. } => {
                report.line(format_args!("{policy}: {}", timeline.story[0]))?;
                report.line(format_args!(
                    "  lazytlb {}",
                    repeat((options, subject), *policy, cpu)
                ))?;
            }
            Finding::Incomplete { why } => {
                report.line(format_args!("{policy}: {}", unproved(verdict, why)))?;
            }
            Finding::Safe => {}
        }
        if verdict.is_safe() && verdict.omission_probability() > 0.0 {
            let odds = verdict.omission_probability();
            report.line(format_args!(
                "{policy}: odds of an omitted state: {odds:.1e}"
            ))?;
        }
    }
    for (policy, verdict) in verdicts {
        print_statement(report, policy, verdict)?;
    }
    let each = verdicts.iter();
    let each = each.map(|(policy, verdict)| (*policy, vec![verdict]));
    print_basis(report, &each.collect::<Vec<_>>())?;
    let verdicts: Vec<&Verdict> = verdicts.iter().map(|(_, verdict)| verdict).collect();
    print_unreached(report, &verdicts)
}

/// Says what is proved of something, in a sentence, if it is a proof that has one.
pub(crate) fn print_statement(
    report: &mut Report,
    of: impl std::fmt::Display,
    verdict: &Verdict,
) -> anyhow::Result<()> {
    match &verdict.statement {
        Some(statement) => report.line(format_args!("Proved of {of}: {statement}.")),
        None => Ok(()),
    }
}

/// Says what proofs rest on: all those of a policy together, which is named.
pub(crate) fn print_basis<N: std::fmt::Display>(
    report: &mut Report,
    verdicts: &[(N, Vec<&Verdict>)],
) -> anyhow::Result<()> {
    let are_proofs = |verdicts: &[&Verdict]| verdicts.iter().all(|verdict| verdict.is_safe());
    let proved = || verdicts.iter().filter(|(_, all)| are_proofs(all));
    let Some((_, first)) = proved().next() else {
        return Ok(());
    };
    let basis = |(policy, verdicts): &(N, Vec<&Verdict>)| {
        let sum = |of: fn(&RestsOn) -> u64| -> u64 {
            verdicts.iter().map(|verdict| of(&verdict.rests_on)).sum()
        };
        format!(
            "{policy} {} / {} / {}",
            sum(|rests_on| rests_on.promises_kept),
            sum(|rests_on| rests_on.interrupts_taken),
            sum(|rests_on| rests_on.tables_freed)
        )
    };
    let all: Vec<String> = proved().map(basis).collect();
    report.line(format_args!(
        "The proofs rest on places in the code (kept promises that covered a cached entry / calls of interrupt \
         handlers / freed page tables): {}",
        all.join("; ")
    ))?;
    if let Some(proves) = first.first().and_then(|verdict| verdict.proves.as_ref()) {
        report.line(format_args!("The program says that it proves: {proves}"))?;
    }
    Ok(())
}

/// Makes the table of the verdicts, and what each took.
fn rows(verdicts: &[(Policy, Verdict)]) -> comfy_table::Table {
    let header = [
        "policy",
        "verdict",
        "states",
        "transitions",
        "depth",
        "seconds",
        "bytes/state",
    ];
    let mut rows = table(&header, 2..7);
    for (policy, verdict) in verdicts {
        let effort = verdict.effort;
        rows.add_row([
            policy.name().to_owned(),
            outcome(verdict),
            grouped(effort.states),
            grouped(effort.transitions),
            effort.depth.to_string(),
            format!("{:.2}", effort.seconds),
            format!("{:.0}", effort.bytes_per_state()),
        ]);
    }
    rows
}

/// Says what no proof is about: outcomes of the protocol that none of them reached.
pub(crate) fn print_unreached(report: &mut Report, verdicts: &[&Verdict]) -> anyhow::Result<()> {
    match told_of_nothing(verdicts) {
        Some(told) => report.line(format_args!("{told}")),
        None => Ok(()),
    }
}

/// Says in a sentence what no proof is about, if there is a proof, and something of the kind.
fn told_of_nothing(verdicts: &[&Verdict]) -> Option<String> {
    let proved = || verdicts.iter().filter(|verdict| verdict.is_safe());
    let first = proved().next()?;
    let all = |verdict: &Verdict| [&verdict.unreached[..], &verdict.never_happened].concat();
    let nowhere = |what: &String| proved().all(|verdict| all(verdict).contains(what));
    let unreached: Vec<String> = all(first).into_iter().filter(nowhere).collect();
    (!unreached.is_empty()).then(|| {
        let unreached = unreached.join("; ");
        format!("No proof here says anything about: {unreached}")
    })
}

/// Returns the arguments that repeat one row alone.
pub(crate) fn repeat(
    (options, subject): (&Check, &Subject),
    policy: Policy,
    cpu: CpuModel,
) -> String {
    let mut command = format!(
        "check --policy {policy} {} {} --memory {}",
        subject.arguments(),
        options.hardware.arguments_for(cpu),
        options.memory.model().name()
    );
    for (set, flag) in [
        (options.fingerprints, " --fingerprints"),
        (options.no_reduction, " --no-reduction"),
    ] {
        if set {
            command.push_str(flag);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use lazytlb::{Access, Entry, FlushRange, Hw, Memory, VirtAddr};
    use lazytlb_check::Program;

    use super::*;

    /// A search that exhausts all states, and shows nothing about a flush.
    fn of_nothing() -> Verdict {
        let mut program = Program::new("nothing", 1);
        program.operation(0, "touch", |hw| {
            hw.touch(VirtAddr(0), Access::Load);
            hw.invlpg(VirtAddr(0));
        });
        Checker::new().check(&program)
    }

    #[test]
    fn a_proof_of_nothing_has_an_ending_of_its_own_and_says_so_in_both_forms() {
        let verdict = of_nothing();
        assert_eq!(ending_of(&verdict), Ending::NothingProved);
        assert_eq!(outcome(&verdict), "nothing proved");
        let Finding::Incomplete { why } = &verdict.finding else {
            panic!("{verdict:?}");
        };
        assert!(unproved(&verdict, why).starts_with("nothing proved: "));
        let record = serde_json::to_value(VerdictRecord::new(Policy::Ipi, None, &verdict));
        let record = record.expect("a verdict is JSON");
        assert_eq!(record["verdict"], "nothing proved");
        assert_eq!(record["rests_on"]["promises_kept"], 0);
        assert!(!record["why_incomplete"].is_null());
    }

    /// The first promise is about what it should be; the second one's range holds nothing.
    #[test]
    fn a_promise_about_nothing_is_named_in_the_terminal_and_in_json() {
        let mut program = Program::new("two promises", 1);
        let (root, page) = (program.first_root(), program.page());
        let table = program.table();
        program.first_entry(root, 0, Entry::to(table));
        program.first_entry(table, 0, Entry::to(page));
        program.operation(0, "unmap", move |hw| {
            hw.write_entry(table, 0, Entry::ABSENT);
            for page in [0, 5] {
                hw.flush_begins(root, FlushRange::page(VirtAddr(page << 12)));
                hw.invlpg(VirtAddr(0));
                hw.flush_returned(root);
            }
        });
        let verdict = Checker::new().check(&program);
        assert!(verdict.is_safe(), "{verdict:?}");
        let named = "CPU 0, \"unmap\": the promise begun there never covered a cached entry";
        let record = serde_json::to_value(VerdictRecord::new(Policy::Ipi, None, &verdict));
        let record = record.expect("a verdict is JSON").to_string();
        assert!(record.contains(&named.replace('"', "\\\"")), "{record}");
        let told = told_of_nothing(&[&verdict]).expect("something never happened");
        assert!(told.contains(named), "{told}");
    }
}
