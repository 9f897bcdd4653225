//! `lazytlb zoo`: the bugs of history, and real kernels' shootdowns: each bug found, each fix proved.

use lazytlb_check::Verdict;
use lazytlb_model::CpuModel;
use lazytlb_zoo::{Case, Exhibit, Role};

use crate::arguments::Zoo;
use crate::check::Complete;
use crate::checking::checker;
use crate::progress::Display;
use crate::report::{Ending, Report};
use crate::zoo_records::ExhibitRecord;
use crate::zoo_words::{Shown, show, table_of};

/// Runs the command.
pub(crate) fn run(options: &Zoo) -> anyhow::Result<Ending> {
    let mut report = Report::open(&options.output)?;
    let exhibits = match options.name {
        Some(exhibit) => std::slice::from_ref(exhibit),
        None => lazytlb_zoo::ALL,
    };
    let mut shown = Vec::new();
    for exhibit in exhibits {
        // What is broken on purpose is for whoever looks closer.
        let cases = exhibit.cases();
        let cases = cases
            .filter(|(role, _)| options.name.is_some() || matches!(role, Role::Bug | Role::Proof));
        let mut verdicts = Vec::new();
        for (role, case) in cases {
            verdicts.push((role, case, check(options, exhibit, &case)?));
        }
        shown.push(Shown { exhibit, verdicts });
    }
    if options.output.json {
        for shown in &shown {
            report.json(&ExhibitRecord::new(shown))?;
        }
        let verdicts = shown.iter().map(|shown| shown.verdicts.len()).sum();
        report.json(&Complete::new(verdicts))?;
    } else if let (Some(_), Some(shown)) = (options.name, shown.first()) {
        show(&mut report, shown)?;
    } else {
        report.line(table_of(&shown))?;
        for shown in &shown {
            for unexpected in shown.unexpected() {
                report.line(unexpected)?;
            }
        }
    }
    report.finish()?;
    Ok(ending_of(&shown))
}

fn check(options: &Zoo, exhibit: &Exhibit, case: &Case) -> anyhow::Result<Verdict> {
    let display = Display::new(format!("checking {}: {}", exhibit.name, case.name));
    // The case says on which machine.
    let checker = checker(CpuModel::WEAKEST, case.memory, &options.bounds);
    Ok(case.check(&checker, |progress| display.search(progress))?)
}

/// Says how the command ends: well, if every verdict is what it must be.
fn ending_of(shown: &[Shown]) -> Ending {
    let verdicts = shown.iter().flat_map(|shown| &shown.verdicts);
    let endings = verdicts.map(|(_, case, verdict)| match verdict.finding {
        _ if case.is_as_expected(verdict) => Ending::Good,
        lazytlb_check::Finding::Incomplete { .. } if !verdict.nothing_proved() => {
            Ending::Incomplete
        }
        _ => Ending::Violation,
    });
    endings.max().unwrap_or(Ending::Good)
}

#[cfg(test)]
mod tests {
    use lazytlb_check::Checker;

    use super::*;

    /// A case under the expectations of another: as if the checker had found something else.
    #[test]
    fn a_bug_that_is_not_found_and_a_fix_that_is_not_proved_end_with_a_violation() {
        let exhibit = lazytlb_zoo::by_name("z5").expect("it is there");
        let (bug, fix) = (exhibit.bug.expect("it has one"), exhibit.proofs[0]);
        let verdict = |case: &Case| case.check(&Checker::new(), |_| {}).expect("it fits");
        for (case, of, ending) in [
            (bug, bug, Ending::Good),
            (fix, fix, Ending::Good),
            (bug, fix, Ending::Violation),
            (fix, bug, Ending::Violation),
        ] {
            let verdicts = vec![(Role::Bug, case, verdict(&of))];
            let shown = Shown { exhibit, verdicts };
            assert_eq!(ending_of(&[shown]), ending);
        }
        let few = Checker::new().max_states(10);
        let early = fix.check(&few, |_| {}).expect("it fits");
        let verdicts = vec![(Role::Proof, fix, early)];
        assert_eq!(
            ending_of(&[Shown { exhibit, verdicts }]),
            Ending::Incomplete
        );
    }
}
