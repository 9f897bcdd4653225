//! What is proved about the shipped programs, pinned with its state counts.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use lazytlb::{GarbageWalksAccepted, Policy};
use lazytlb_check::{Checker, LazyTlb, Protocol, Reduction, ShippedProgram, Storage};
use lazytlb_model::{CpuModel, MemoryModel, Property, Reading, UpperLevels, WcReadings};

const SAFE: [Policy; 3] = [Policy::InitMm, Policy::Ipi, Policy::IpiOnTableFree];

/// States of the proofs on the weakest CPU, local steps collapsed, in the order of [`SAFE`]. A count that
/// changes with a change of the protocol, the model or a program is no error: look at why, and pin it anew.
#[rustfmt::skip]
const STATES: [(&str, MemoryModel, [u64; 3]); 22] = [
    ("smoke", MemoryModel::Sc, [600, 638, 638]),
    ("smoke", MemoryModel::TSO, [1_017, 1_072, 1_072]),
    ("reference-3", MemoryModel::Sc, [225_843, 258_583, 258_583]),
    ("reference-3", MemoryModel::TSO, [315_133, 395_925, 395_925]),
    ("no-table-free", MemoryModel::Sc, [150_283, 160_384, 262_069]),
    ("no-table-free", MemoryModel::TSO, [219_732, 254_420, 465_407]),
    ("two-initiators", MemoryModel::Sc, [78_739, 78_739, 85_021]),
    ("two-initiators", MemoryModel::TSO, [144_828, 144_828, 154_636]),
    ("two-spaces", MemoryModel::Sc, [2_329, 2_329, 2_434]),
    ("two-spaces", MemoryModel::TSO, [3_822, 3_822, 3_939]),
    ("two-initiators-one-target", MemoryModel::Sc, [88_373, 91_772, 105_420]),
    ("two-initiators-one-target", MemoryModel::TSO, [202_431, 211_085, 238_295]),
    ("lazy-initiator", MemoryModel::Sc, [16_470, 83_040, 115_699]),
    ("lazy-initiator", MemoryModel::TSO, [30_474, 168_258, 234_697]),
    ("lazy-between-spaces", MemoryModel::Sc, [32_744, 45_348, 54_439]),
    ("lazy-between-spaces", MemoryModel::TSO, [67_764, 104_883, 120_264]),
    ("table-after-pages", MemoryModel::Sc, [574, 618, 699]),
    ("table-after-pages", MemoryModel::TSO, [855, 908, 1_017]),
    ("two-pages-at-once", MemoryModel::Sc, [661, 661, 679]),
    ("two-pages-at-once", MemoryModel::TSO, [1_117, 1_117, 1_140]),
    ("exit", MemoryModel::Sc, [613, 823, 823]),
    ("exit", MemoryModel::TSO, [614, 994, 994]),
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
fn the_safe_policies_need_no_mfence_before_an_ipi() {
    for name in ["reference-3", "two-initiators", "lazy-initiator", "exit"] {
        for policy in SAFE {
            let mut program = program(name, policy);
            program.features().weak_fences = true;
            let verdict = checker(MemoryModel::TSO).check(&program);
            assert!(verdict.is_safe(), "{policy} on {name}: {verdict:?}");
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
    let mut unreached: Vec<&str> = LazyTlb::outcomes().to_vec();
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
        for &policy in Policy::ALL {
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

/// CPU 0 reads a private word with interrupts off, then a flag with interrupts on; the handler changes both
/// in between. What was read steers an assertion, which a search that merges too much would miss.
#[test]
fn an_interrupt_between_two_reads_is_not_merged_away() {
    use lazytlb::{CpuId, CpuSet, Hw};

    let mut program = lazytlb_check::Program::new("two reads", 2);
    let (flag, word) = (program.atomic("flag", 0), program.local(0, "word", 0));
    program.on_flush_interrupt(move |hw| {
        if hw.cpu() == CpuId(0) {
            hw.store_local(&word, 1);
            hw.fetch_add(&flag, 1);
        }
    });
    program.operation(0, "read both", move |hw| {
        let former = hw.disable_interrupts();
        let first = hw.load_local(&word);
        hw.restore_interrupts(former);
        assert!(
            first == 1 || hw.load(&flag) == 0,
            "the handler came in between"
        );
    });
    program.operation(1, "interrupt", |hw| {
        let mut targets = CpuSet::<1>::EMPTY;
        targets.insert(CpuId(0));
        hw.send_ipi(&targets);
    });
    for reduction in [Reduction::None, Reduction::CollapseLocal] {
        let verdict = Checker::new().reduction(reduction).check(&program);
        let property = verdict.violation().map(|violation| violation.property);
        assert_eq!(property, Some(Property::Panic), "{reduction:?}");
    }
}

#[test]
fn collapsing_changes_no_verdict_of_the_larger_programs() {
    for name in [
        "reference-3",
        "no-table-free",
        "lazy-initiator",
        "two-initiators-one-target",
    ] {
        for policy in [Policy::InitMm, Policy::IpiOnTableFree] {
            let every_step = checker(MemoryModel::Sc).reduction(Reduction::None);
            let verdict = every_step.check(&program(name, policy));
            assert!(
                verdict.is_safe(),
                "{policy} on {name}: proved with collapsing only"
            );
        }
    }
}

#[test]
fn threads_and_fingerprints_find_the_same_states() {
    let program = program("no-table-free", Policy::Ipi);
    let plain = checker(MemoryModel::Sc).check(&program);
    for other in [
        checker(MemoryModel::Sc).threads(2),
        checker(MemoryModel::Sc).threads(5),
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
fn threads_collect_the_same_outcomes() {
    let defer = Policy::Defer(GarbageWalksAccepted);
    for (name, policy) in [("no-table-free", Policy::Ipi), ("two-initiators", defer)] {
        let program = program(name, policy);
        let plain = checker(MemoryModel::TSO).outcomes(&program).unwrap();
        assert!(!plain.ends.is_empty() && plain.incomplete.is_none());
        for threads in [2, 5] {
            let checker = checker(MemoryModel::TSO).threads(threads);
            let outcomes = checker.outcomes(&program).unwrap();
            assert_eq!(outcomes.ends, plain.ends, "{name}, {threads} threads");
            assert!(outcomes.violations.keys().eq(plain.violations.keys()));
            let counts =
                |effort: lazytlb_check::Effort| (effort.states, effort.transitions, effort.depth);
            assert_eq!(counts(outcomes.effort), counts(plain.effort), "{name}");
        }
    }
}

#[test]
fn a_program_that_is_done_in_time_is_not_incomplete_because_its_last_steps_took_long() {
    use lazytlb::Hw;
    let mut program = lazytlb_check::Program::new("one step", 1);
    program.proves("limits are looked at in order");
    let flag = program.atomic("flag", 0);
    program.operation(0, "raise", move |hw| hw.store(&flag, 1));
    let sc = checker(MemoryModel::Sc);
    assert!(sc.clone().max_states(3).check(&program).is_safe());
    // Full after its first state: the second may be anywhere.
    assert_eq!(
        sc.clone().max_states(1).check(&program).name(),
        "incomplete"
    );
    let short = sc.max_time(std::time::Duration::ZERO);
    assert_eq!(short.check(&program).name(), "incomplete");
    let mut nothing = lazytlb_check::Program::new("nothing", 1);
    nothing.proves("a program of no step ends at once");
    assert!(short.check(&nothing).is_safe());
    assert!(short.outcomes(&nothing).unwrap().incomplete.is_none());
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
    assert!(
        few.effort.states < 1100,
        "it stops at the limit, not far past it"
    );
    let small = Checker::new().max_memory_bytes(1 << 20).check(&program);
    assert_eq!(small.name(), "incomplete");
    let short = Checker::new()
        .max_time(std::time::Duration::ZERO)
        .check(&program);
    assert_eq!((few.name(), short.name()), ("incomplete", "incomplete"));
    assert!(!few.is_safe() && !short.is_safe());
}

fn with_levels(upper_levels: UpperLevels) -> CpuModel {
    CpuModel::WEAKEST.with_upper_levels(upper_levels)
}

fn found(cpu_model: CpuModel, name: &str, policy: Policy) -> Option<Property> {
    let verdict = checker(MemoryModel::TSO)
        .cpu_model(cpu_model)
        .check(&program(name, policy));
    assert_ne!(verdict.name(), "incomplete");
    verdict.violation().map(|violation| violation.property)
}

#[test]
fn the_verdicts_hold_on_every_cpu_model() {
    let defer = Policy::Defer(GarbageWalksAccepted);
    for model in CpuModel::ALL {
        for policy in SAFE {
            assert_eq!(
                found(model, "reference-3", policy),
                None,
                "{policy} on {}",
                model.name
            );
        }
        let deferred = found(model, "reference-3", defer);
        assert_eq!(
            deferred,
            Some(Property::TableUseAfterFree),
            "{}",
            model.name
        );
        let by_quirk = found(model, "reference-3", Policy::DeferUnlessQuirk);
        let detects = model.quirks.garbage_walk_is_fatal();
        assert_eq!(by_quirk.is_none(), detects, "{}", model.name);
    }
}

#[test]
fn without_paging_structure_caches_a_walk_in_flight_still_makes_deferral_unsafe() {
    let defer = Policy::Defer(GarbageWalksAccepted);
    for (upper_levels, expected) in [
        (UpperLevels::OnlyInFlight, Some(Property::TableUseAfterFree)),
        (UpperLevels::Atomic, None),
    ] {
        let model = with_levels(upper_levels);
        assert_eq!(
            found(model, "reference-3", defer),
            expected,
            "{upper_levels:?}"
        );
    }
    // What is safe with everything is safe with less.
    for policy in SAFE {
        assert_eq!(
            found(with_levels(UpperLevels::Atomic), "reference-3", policy),
            None
        );
    }
}

#[test]
fn a_walk_of_garbage_leaves_a_global_entry_or_writes_an_accessed_bit() {
    let defer = Policy::Defer(GarbageWalksAccepted);
    for (name, end) in [
        ("garbage-entry", Some(Property::TableUseAfterFree)),
        ("garbage-entry-without-pge", None),
        ("garbage-accessed-bit", Some(Property::CorruptedFrame)),
    ] {
        assert_eq!(found(CpuModel::WEAKEST, name, defer), end, "{name}");
        for policy in SAFE {
            assert_eq!(
                found(CpuModel::WEAKEST, name, policy),
                None,
                "{policy} on {name}"
            );
        }
    }
    // The entry that is used is the one that the CR3 load does not remove.
    let verdict = checker(MemoryModel::TSO).check(&program("garbage-entry", defer));
    let through = verdict.violation().unwrap().through.unwrap();
    assert!(through.garbage && through.global, "{through:?}");
}

#[test]
fn write_combining_stores_are_done_when_a_flush_returns() {
    for model in CpuModel::ALL {
        for reading in [Reading::Started, Reading::Retired] {
            let model = model.with_write_combining(WcReadings::all(reading));
            for &policy in Policy::ALL {
                let case = format!("{policy} on {}, {reading:?}", model.name);
                assert_eq!(found(model, "write-combining", policy), None, "{case}");
            }
        }
    }
}
