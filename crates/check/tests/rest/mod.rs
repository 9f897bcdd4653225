//! Checks that ask whether all come to rest.

use lazytlb_check::{Checker, Finding, Program, Reduction, Storage, Verdict};
use lazytlb_model::{MemoryModel, Property};

/// Checks a program in every manner: all must agree.
#[track_caller]
pub(crate) fn check(program: &Program) -> Verdict {
    let mut program = program.clone();
    program.proves("all come to rest");
    let mut former: Option<Verdict> = None;
    for memory in [MemoryModel::Sc, MemoryModel::TSO] {
        let checker = Checker::new().memory(memory);
        let manners = [
            checker.clone(),
            checker.clone().threads(2),
            checker.clone().storage(Storage::Fingerprints),
            checker.reduction(Reduction::None),
        ];
        for checker in manners {
            let verdict = checker.try_check(&program, |_| {}).unwrap();
            if let Finding::Incomplete { why } = &verdict.finding {
                panic!("{why}");
            }
            if let Some(former) = &former {
                let properties = [former, &verdict].map(|of| of.violation().map(|of| of.property));
                assert_eq!(properties[0], properties[1], "{checker:?}");
            }
            former = Some(verdict);
        }
    }
    former.expect("it was checked")
}

#[track_caller]
pub(crate) fn is_safe(program: &Program) {
    let verdict = check(program);
    assert!(verdict.is_safe(), "{:?}", verdict.violation());
}

/// Returns how the CPUs go on for ever.
#[track_caller]
pub(crate) fn livelock(program: &Program) -> String {
    let verdict = check(program);
    let Finding::Violation {
        violation,
        timeline,
    } = verdict.finding
    else {
        panic!("it is {}", verdict.name());
    };
    assert_eq!(violation.property, Property::Deadlock);
    assert!(violation.what.contains("for ever"), "{}", violation.what);
    let from = timeline.again_from.expect("it goes round");
    assert!(from < timeline.events.len());
    assert!(timeline.to_string().contains("again and again"));
    violation.what
}

#[track_caller]
pub(crate) fn waits(program: &Program) -> String {
    let violation = check(program).violation().cloned().unwrap();
    assert_eq!(violation.property, Property::Deadlock);
    violation.what
}
