//! What is proved about the shipped programs, pinned with its state counts.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use lazytlb::{GarbageWalksAccepted, Policy};
use lazytlb_check::{Checker, LazyTlb, Protocol, Reduction, ShippedProgram, Storage};
use lazytlb_model::{CpuModel, MemoryModel, Property};

const SAFE: [Policy; 3] = [Policy::InitMm, Policy::Ipi, Policy::IpiOnTableFree];

/// States of the proofs on the weakest CPU, local steps collapsed, in the order of [`SAFE`]. A count that
/// changes with a change of the protocol, the model or a program is no error: look at why, and pin it anew.
#[rustfmt::skip]
const STATES: [(&str, MemoryModel, [u64; 3]); 22] = [
    ("smoke", MemoryModel::Sc, [475, 524, 524]),
    ("smoke", MemoryModel::TSO, [761, 952, 952]),
    ("reference-3", MemoryModel::Sc, [143_884, 176_910, 176_910]),
    ("reference-3", MemoryModel::TSO, [210_439, 364_276, 364_276]),
    ("no-table-free", MemoryModel::Sc, [101_116, 113_693, 186_435]),
    ("no-table-free", MemoryModel::TSO, [153_906, 242_161, 431_418]),
    ("two-initiators", MemoryModel::Sc, [15_271, 15_271, 16_255]),
    ("two-initiators", MemoryModel::TSO, [21_096, 21_096, 22_294]),
    ("two-spaces", MemoryModel::Sc, [2_031, 2_031, 2_136]),
    ("two-spaces", MemoryModel::TSO, [3_259, 3_259, 3_376]),
    ("two-initiators-one-target", MemoryModel::Sc, [98_060, 100_907, 115_421]),
    ("two-initiators-one-target", MemoryModel::TSO, [212_622, 255_573, 285_032]),
    ("lazy-initiator", MemoryModel::Sc, [7_820, 24_567, 28_688]),
    ("lazy-initiator", MemoryModel::TSO, [16_438, 37_678, 44_639]),
    ("lazy-between-spaces", MemoryModel::Sc, [24_053, 32_968, 39_020]),
    ("lazy-between-spaces", MemoryModel::TSO, [51_803, 84_475, 95_246]),
    ("table-after-pages", MemoryModel::Sc, [446, 506, 582]),
    ("table-after-pages", MemoryModel::TSO, [679, 902, 1_003]),
    ("two-pages-at-once", MemoryModel::Sc, [576, 576, 594]),
    ("two-pages-at-once", MemoryModel::TSO, [954, 954, 977]),
    ("exit", MemoryModel::Sc, [426, 792, 792]),
    ("exit", MemoryModel::TSO, [426, 1_111, 1_111]),
];

fn checker(memory: MemoryModel) -> Checker {
    Checker::new().memory(memory)
}

fn program(name: &str, policy: Policy) -> lazytlb_check::Program {
    ShippedProgram::<LazyTlb>::by_name(name)
        .unwrap()
        .build(policy)
}

#[test]
fn the_safe_policies_are_proved_with_these_states() {
    for (name, memory, states) in STATES {
        for (policy, states) in SAFE.into_iter().zip(states) {
            let verdict = checker(memory).check(&program(name, policy));
            assert!(verdict.is_safe(), "{policy} on {name}: {verdict:?}");
            assert_eq!(
                verdict.effort.states, states,
                "{policy} on {name}, {memory:?}"
            );
        }
    }
}

#[test]
fn deferral_is_unsafe_exactly_where_tables_are_freed_under_lazy_cpus() {
    let defer = Policy::Defer(GarbageWalksAccepted);
    for (name, memory, _) in STATES {
        let verdict = checker(memory).check(&program(name, defer));
        let property = verdict.violation().map(|violation| violation.property);
        let frees_under_lazy_cpus = [
            "smoke",
            "reference-3",
            "two-initiators-one-target",
            "lazy-initiator",
            "table-after-pages",
        ];
        let expected = frees_under_lazy_cpus
            .contains(&name)
            .then_some(Property::TableUseAfterFree);
        assert_eq!(property, expected, "{name}, {memory:?}");
    }
}

#[test]
fn no_outcome_of_the_protocol_is_out_of_every_proof() {
    let mut unreached: Vec<&str> = LazyTlb::OUTCOMES.to_vec();
    for shipped in ShippedProgram::<LazyTlb>::all() {
        if shipped.name == "reference-4" {
            continue;
        }
        for policy in SAFE {
            let verdict = checker(MemoryModel::TSO).check(&shipped.build(policy));
            unreached.retain(|outcome| verdict.unreached.iter().any(|not| not == outcome));
        }
    }
    assert!(unreached.is_empty(), "no program reaches {unreached:?}");
}

#[test]
fn collapsing_changes_no_verdict_and_saves_states() {
    for name in [
        "smoke",
        "exit",
        "two-spaces",
        "table-after-pages",
        "two-pages-at-once",
    ] {
        for policy in Policy::ALL {
            for memory in [MemoryModel::Sc, MemoryModel::TSO] {
                let collapsed = checker(memory).check(&program(name, policy));
                let every_step = checker(memory).reduction(Reduction::None);
                let every_step = every_step.check(&program(name, policy));
                assert_eq!(collapsed.name(), every_step.name(), "{policy} on {name}");
                let property = |verdict: &lazytlb_check::Verdict| {
                    verdict.violation().map(|violation| violation.property)
                };
                assert_eq!(
                    property(&collapsed),
                    property(&every_step),
                    "{policy} on {name}"
                );
                assert!(collapsed.effort.states < every_step.effort.states);
            }
        }
    }
}

#[test]
fn threads_and_fingerprints_find_the_same_states() {
    let program = program("no-table-free", Policy::Ipi);
    let plain = checker(MemoryModel::Sc).check(&program);
    for other in [
        checker(MemoryModel::Sc).threads(2),
        checker(MemoryModel::Sc).storage(Storage::Fingerprints),
    ] {
        let verdict = other.check(&program);
        assert!(verdict.is_safe());
        assert_eq!(verdict.effort.states, plain.effort.states);
        assert_eq!(verdict.effort.transitions, plain.effort.transitions);
        assert_eq!(verdict.effort.depth, plain.effort.depth);
    }
    assert_eq!(plain.omission_probability(), 0.0);
}

#[test]
fn a_quirk_that_is_detected_makes_the_difference() {
    for (cpu_model, is_safe) in [(CpuModel::AMD_K10, true), (CpuModel::WEAKEST, false)] {
        let checker = checker(MemoryModel::TSO).cpu_model(cpu_model);
        let verdict = checker.check(&program("reference-3", Policy::DeferUnlessQuirk));
        assert_eq!(verdict.is_safe(), is_safe, "{}", cpu_model.name);
    }
}

#[test]
fn limits_end_a_search_as_incomplete() {
    let program = program("reference-3", Policy::Ipi);
    let few = Checker::new().max_states(1000).check(&program);
    let short = Checker::new()
        .max_time(std::time::Duration::ZERO)
        .check(&program);
    assert_eq!((few.name(), short.name()), ("incomplete", "incomplete"));
    assert!(!few.is_safe() && !short.is_safe());
}
