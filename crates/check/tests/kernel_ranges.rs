//! Kernel ranges: flushed in every space, on every CPU that is online, whatever it has cached under whichever PCID.

use lazytlb::Policy;
use lazytlb_check::{Checker, LazyTlb, Protocol, ShippedProgram, Verdict, WithPcids};
use lazytlb_model::{CpuModel, MemoryModel};

const SAFE: [Policy; 3] = [Policy::InitMm, Policy::Ipi, Policy::IpiOnTableFree];
const PROGRAMS: [&str; 4] = [
    "kernel-page",
    "kernel-page-global",
    "kernel-table",
    "comes-online",
];

fn check<P: Protocol>(program: &str, policy: Policy, checker: &Checker) -> Verdict {
    let program = ShippedProgram::<P>::by_name(program).expect("it ships");
    checker.check_built(|| program.build(policy))
}

fn assert_safe<P: Protocol>(policy: Policy, checker: &Checker, what: &str) {
    for program in PROGRAMS {
        let verdict = check::<P>(program, policy, checker);
        assert!(
            verdict.is_safe(),
            "{program}, {policy}, {what}: {}",
            verdict.name()
        );
    }
}

#[test]
fn every_safe_policy_flushes_them() {
    for memory in [MemoryModel::Sc, MemoryModel::TSO] {
        let checker = Checker::new().memory(memory);
        for policy in SAFE {
            assert_safe::<LazyTlb>(policy, &checker, "PCIDs off");
            assert_safe::<WithPcids<1>>(policy, &checker, "1 slot");
            assert_safe::<WithPcids<2>>(policy, &checker, "2 slots");
        }
    }
}

/// One of them is Alder Lake, where INVLPG may leave global entries (H34).
#[test]
fn on_every_cpu_model() {
    for cpu_model in CpuModel::ALL {
        let checker = Checker::new().cpu_model(cpu_model);
        assert_safe::<LazyTlb>(Policy::Ipi, &checker, cpu_model.name);
        if cpu_model.pcids {
            assert_safe::<WithPcids<2>>(Policy::Ipi, &checker, cpu_model.name);
        }
    }
}

/// A kernel flush is nothing that a policy spares somebody.
#[test]
fn defer_frees_no_kernel_table_under_a_lazy_cpu() {
    let defer = Policy::Defer(lazytlb::GarbageWalksAccepted);
    let verdict = check::<WithPcids<1>>("kernel-table", defer, &Checker::new());
    assert!(verdict.is_safe(), "{}", verdict.name());
}
