//! Page-table isolation: what a flush removes is removed from both halves of a space.

use lazytlb::{GarbageWalksAccepted, Policy};
use lazytlb_check::{Checker, LazyTlb, Menus, Protocol, ShippedProgram, Verdict, WithPcids};
use lazytlb_model::{CpuModel, MemoryModel, Property};

const SAFE: [Policy; 3] = [Policy::InitMm, Policy::Ipi, Policy::IpiOnTableFree];
const PROGRAMS: [&str; 3] = ["isolated", "isolated-tables", "isolated-large"];

fn check<P: Protocol>(program: &str, policy: Policy, checker: &Checker) -> Verdict {
    let program = ShippedProgram::<P>::by_name(program).expect("it ships");
    checker.check_built(|| program.build(policy))
}

fn any<P: Protocol>(menus: &str, policy: Policy) -> Verdict {
    let menus: Menus = menus.parse().expect("these are menus");
    let menus = menus.isolated();
    Checker::new().check_built(|| menus.program::<P>(policy))
}

#[test]
fn every_safe_policy_flushes_both_halves() {
    for memory in [MemoryModel::Sc, MemoryModel::TSO] {
        let checker = Checker::new().memory(memory);
        for (program, policy) in PROGRAMS
            .iter()
            .flat_map(|program| SAFE.map(|it| (program, it)))
        {
            for verdict in [
                check::<LazyTlb>(program, policy, &checker),
                check::<WithPcids<1>>(program, policy, &checker),
                check::<WithPcids<2>>(program, policy, &checker),
            ] {
                assert!(verdict.is_safe(), "{program}, {policy}: {}", verdict.name());
            }
        }
    }
}

#[test]
fn on_every_cpu_model() {
    for cpu_model in CpuModel::ALL {
        let checker = Checker::new().cpu_model(cpu_model);
        for program in PROGRAMS {
            let verdict = check::<LazyTlb>(program, Policy::Ipi, &checker);
            assert!(verdict.is_safe(), "{program}, {}", cpu_model.name);
            if cpu_model.pcids {
                let verdict = check::<WithPcids<1>>(program, Policy::Ipi, &checker);
                assert!(verdict.is_safe(), "{program}, {}", cpu_model.name);
            }
        }
    }
}

#[test]
fn of_any_length() {
    for policy in SAFE {
        for verdict in [
            any::<LazyTlb>("map,unmap,free,switch,touch/switch,touch,lazy", policy),
            any::<WithPcids<1>>("map,unmap,free/switch,touch,lazy", policy),
        ] {
            assert!(verdict.is_safe(), "{policy}: {}", verdict.name());
            let statement = verdict.statement.expect("it is a proof of any length");
            assert!(
                statement.contains("1 space (root in frame 1, in user mode frame 2)"),
                "{statement}"
            );
        }
    }
    let defer = any::<WithPcids<1>>(
        "map,free/switch,touch,lazy",
        Policy::Defer(GarbageWalksAccepted),
    );
    let violated = defer.violation().map(|violation| violation.property);
    assert_eq!(violated, Some(Property::TableUseAfterFree));
}
