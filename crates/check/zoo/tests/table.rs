//! The whole zoo: each bug is found by the property that it is listed with, at its length; each fix is proved; and whatever is
//! broken on purpose is found.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use lazytlb_check::{Checker, Reduction, Verdict};
use lazytlb_model::CpuModel;
use lazytlb_zoo::{ALL, Case, Exhibit, Expected, Role, length};

fn checked(exhibit: &Exhibit, case: &Case, checker: &Checker) -> Verdict {
    let verdict = case.check(checker, |_| {});
    verdict.unwrap_or_else(|error| panic!("{}, {}: {error}", exhibit.name, case.name))
}

fn all_cases() -> impl Iterator<Item = (&'static Exhibit, Role, Case)> {
    ALL.iter().flat_map(|exhibit| {
        exhibit
            .cases()
            .map(move |(role, case)| (exhibit, role, case))
    })
}

#[test]
fn each_case_comes_to_what_it_must_and_counterexamples_are_as_long_as_listed() {
    for (exhibit, _, case) in all_cases() {
        let verdict = checked(exhibit, &case, &Checker::new());
        let listed = match case.expected {
            Expected::Safe => None,
            Expected::Violation { length, .. } => Some(length),
        };
        let name = (exhibit.name, case.name);
        assert!(
            case.is_as_expected(&verdict),
            "{name:?}: {:?}",
            verdict.finding
        );
        assert_eq!(length(&verdict), listed, "{name:?}");
    }
}

#[test]
fn each_case_comes_to_the_same_without_reduction() {
    for (exhibit, _, case) in all_cases() {
        let checker = Checker::new().reduction(Reduction::None);
        let verdict = checked(exhibit, &case, &checker);
        let name = (exhibit.name, case.name);
        assert!(
            case.is_as_expected(&verdict),
            "{name:?}: {:?}",
            verdict.finding
        );
    }
}

/// On every CPU that has what the protocol needs: only PCIDs are not everywhere.
#[test]
fn each_fix_holds_on_every_cpu_model() {
    let mut on_k10 = 0;
    for (exhibit, role, case) in all_cases() {
        if role != Role::Proof {
            continue;
        }
        for cpu in CpuModel::ALL {
            let needs_pcids = ["z6", "z7", "z10"].contains(&exhibit.name);
            if needs_pcids && !cpu.pcids {
                continue;
            }
            on_k10 += u32::from(cpu == CpuModel::AMD_K10);
            let verdict = checked(exhibit, &Case { cpu, ..case }, &Checker::new());
            let name = (exhibit.name, case.name, cpu.name);
            assert!(verdict.is_safe(), "{name:?}: {:?}", verdict.finding);
        }
    }
    assert!(on_k10 > 10, "most fixes need no PCIDs");
}

#[test]
fn each_exhibit_has_a_proof_and_two_ways_to_break_it() {
    for exhibit in ALL {
        let of = |wanted| exhibit.cases().filter(|(role, _)| *role == wanted).count();
        assert!(
            of(Role::Proof) > 0 && of(Role::Broken) > 1,
            "{}",
            exhibit.name
        );
        for (role, case) in exhibit.cases() {
            let is_safe = case.expected == Expected::Safe;
            let is_right = match role {
                Role::Proof => is_safe,
                Role::Bug | Role::Broken => !is_safe,
                Role::Also => true,
            };
            assert!(is_right, "{}", case.name);
        }
    }
}

/// A proof in which nothing happened would be worth nothing.
#[test]
fn in_each_proof_something_was_promised_or_freed_and_somebody_was_interrupted() {
    for (exhibit, role, case) in all_cases() {
        if role != Role::Proof {
            continue;
        }
        let rests_on = checked(exhibit, &case, &Checker::new()).rests_on;
        let happened = rests_on.promises_kept + rests_on.tables_freed;
        assert!(
            happened > 0 || exhibit.name == "z7",
            "{}: {}",
            exhibit.name,
            case.name
        );
        let unanswered = ["z7"].contains(&exhibit.name) || case.name.contains("hold a reference");
        assert!(
            rests_on.interrupts_taken > 0 || unanswered,
            "{}",
            exhibit.name
        );
    }
}
