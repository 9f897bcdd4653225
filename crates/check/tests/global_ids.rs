//! Flushes by broadcast: a space that several CPUs use gets a PCID that is the same on each, and from then on nobody is interrupted.
//!
//! What a store does that waits in another CPU's store buffer while a broadcast is answered, no manual says: it is assumed of `amd-zen3` and `amd-zen5`
//! (`broadcast-waits-for-stores`), and not of `weakest`. So what is proved there under TSO is of loads, or under that assumption. Larger menus by
//! `lazytlb check --pcids 1 --global-ids 1 --any MENUS`.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use lazytlb::{GarbageWalksAccepted, Policy};
use lazytlb_check::{
    Checker, Menus, Protocol, ShippedProgram, Verdict, WithBroadcast, WithPcids, notes,
};
use lazytlb_model::cpu_model::BroadcastAnswer;
use lazytlb_model::{CpuModel, MemoryModel, Property};

const POLICIES: [Policy; 4] = [
    Policy::InitMm,
    Policy::Ipi,
    Policy::IpiOnTableFree,
    Policy::Quarantine,
];

fn sc() -> Checker {
    Checker::new().memory(MemoryModel::Sc)
}

fn tso(cpu_model: CpuModel) -> Checker {
    Checker::new().memory(MemoryModel::TSO).cpu_model(cpu_model)
}

fn any<P: Protocol>(menus: &str, policy: Policy, checker: Checker) -> Verdict {
    let menus: Menus = menus.parse().unwrap();
    checker.check_built(|| menus.program::<P>(policy))
}

fn property(verdict: &Verdict) -> Option<Property> {
    verdict.violation().map(|violation| violation.property)
}

#[track_caller]
fn assert_safe(verdict: &Verdict, what: &str) {
    assert!(verdict.is_safe(), "{what}: {verdict:?}");
}

/// Says whether an outcome of the protocol was met.
fn was_reached(verdict: &Verdict, outcome: &str) -> bool {
    !verdict
        .unreached
        .iter()
        .any(|unreached| unreached == outcome)
}

#[test]
fn a_space_moves_to_its_id_and_is_flushed_by_broadcast_alone() {
    for policy in POLICIES {
        let menus = "map,unmap,free/switch,touch,lazy";
        let verdict = any::<WithBroadcast<1, 1>>(menus, policy, sc());
        assert_safe(&verdict, policy.name());
        for outcome in [notes::MOVED, notes::BROADCAST] {
            assert!(was_reached(&verdict, outcome), "{policy}: {outcome}");
        }
    }
}

/// Where no CPU is ever interrupted again, none is while it is lazy either, though the policy interrupts lazy CPUs. But it is before the space has its id.
#[test]
fn with_store_buffers_too() {
    for cpu_model in [CpuModel::AMD_ZEN3, CpuModel::AMD_ZEN5] {
        let menus = "map,unmap,free/switch,touch,lazy";
        let verdict = any::<WithBroadcast<1, 1>>(menus, Policy::IpiOnTableFree, tso(cpu_model));
        assert_safe(&verdict, cpu_model.name);
    }
    for policy in [Policy::Ipi, Policy::Quarantine] {
        let menus = "map,free/switch,touch,lazy";
        let verdict = any::<WithBroadcast<1, 1>>(menus, policy, tso(CpuModel::AMD_ZEN5));
        assert_safe(&verdict, policy.name());
    }
}

#[test]
fn of_a_store_that_waits_meanwhile_no_manual_promises_anything() {
    let stores = "map,unmap/switch,touch";
    let check = |menus, cpu_model| {
        any::<WithBroadcast<1, 1>>(menus, Policy::IpiOnTableFree, tso(cpu_model))
    };
    let weakest = CpuModel::WEAKEST;
    assert_eq!(property(&check(stores, weakest)), Some(Property::StaleUse));
    assert_safe(&check("map,unmap,free/switch,load,lazy", weakest), "loads");
    let answers = |when| weakest.with_broadcast_answer(when);
    assert_safe(
        &check(stores, answers(BroadcastAnswer::AfterStores)),
        "assumed",
    );
    let zen5 = CpuModel::AMD_ZEN5.with_broadcast_answer(BroadcastAnswer::AtOnce);
    assert_eq!(property(&check(stores, zen5)), Some(Property::StaleUse));
}

#[test]
fn spaces_that_find_no_id_left_are_flushed_as_without() {
    let menus = "map,free,map:2,free:2/switch,touch,switch:2,touch:2";
    let verdict = any::<WithBroadcast<1, 1>>(menus, Policy::IpiOnTableFree, sc());
    assert_safe(&verdict, menus);
    for outcome in [
        notes::BROADCAST,
        // Of the space that found none.
        notes::INVALIDATED_PAGES,
    ] {
        assert!(was_reached(&verdict, outcome), "{outcome}");
    }
}

#[test]
fn what_is_cached_under_an_id_stays_though_the_slot_goes_to_another_space() {
    for checker in [sc(), tso(CpuModel::AMD_ZEN5)] {
        let menus = "map,free/switch,touch,switch:2,touch:2";
        let verdict = any::<WithBroadcast<1, 1>>(menus, Policy::IpiOnTableFree, checker);
        assert_safe(&verdict, menus);
        assert!(was_reached(&verdict, notes::KEPT));
    }
    let verdict = any::<WithBroadcast<2, 1>>(
        "map,free/switch,touch,switch:2",
        Policy::IpiOnTableFree,
        sc(),
    );
    assert_safe(&verdict, "two slots");
}

#[test]
fn both_halves_are_flushed_with_page_table_isolation() {
    for checker in [sc(), tso(CpuModel::AMD_ZEN5), tso(CpuModel::WEAKEST)] {
        let menus: Menus = "map,free/switch,load".parse().unwrap();
        let menus = menus.isolated();
        let build = || menus.program::<WithBroadcast<1, 1>>(Policy::IpiOnTableFree);
        assert_safe(&checker.check_built(build), "isolated");
    }
}

#[test]
fn shootdowns_in_steps_give_an_id_and_settle_it_too() {
    let menus = "map,map-next,unmap-two/switch,touch,touch-next";
    let verdict = any::<WithBroadcast<1, 1>>(menus, Policy::IpiOnTableFree, sc());
    assert_safe(&verdict, menus);
    assert!(was_reached(&verdict, notes::MOVED));
    assert!(was_reached(&verdict, notes::BROADCAST));
}

/// Whoever has not moved yet is interrupted by the next flush: the initiator itself, and who is lazy.
#[test]
fn a_shootdown_in_steps_settles_only_when_nobody_is_left() {
    for policy in POLICIES {
        for name in ["initiator-inside-in-steps", "lazy-beside-steps"] {
            let program = ShippedProgram::<WithBroadcast<1, 1>>::by_name(name).unwrap();
            for checker in [sc(), tso(CpuModel::AMD_ZEN5)] {
                let verdict = checker.check_built(|| program.build(policy));
                assert_safe(&verdict, name);
                assert!(was_reached(&verdict, notes::MOVED), "{name}, {policy}");
            }
        }
    }
}

#[test]
fn two_ids_are_told_apart_from_each_other_and_from_slots() {
    fn check<P: Protocol>() {
        for name in ["two-global-ids", "two-global-ids-isolated"] {
            let program = ShippedProgram::<P>::by_name(name).unwrap();
            for policy in POLICIES {
                for checker in [sc(), tso(CpuModel::AMD_ZEN5)] {
                    let verdict = checker.check_built(|| program.build(policy));
                    assert_safe(&verdict, name);
                }
            }
        }
    }
    check::<WithBroadcast<1, 2>>();
    check::<WithBroadcast<2, 2>>();
}

#[test]
fn three_cpus_and_an_initiator_that_comes_and_goes() {
    for menus in [
        "map,free/switch,touch/switch",
        "map,free,switch/switch,touch,lazy",
    ] {
        let verdict = any::<WithBroadcast<1, 1>>(menus, Policy::IpiOnTableFree, sc());
        assert_safe(&verdict, menus);
    }
}

#[test]
fn defer_is_unsafe_only_until_the_space_is_settled() {
    // A lazy CPU that stays under its slot's PCID is spared, and the space does not settle: that is what `defer` is.
    let defer = Policy::Defer(GarbageWalksAccepted);
    let menus = "map,free/switch,touch,lazy";
    let verdict = any::<WithBroadcast<1, 1>>(menus, defer, sc());
    assert_eq!(property(&verdict), Some(Property::TableUseAfterFree));
}

/// Checks every shipped program but the largest, and compares with what it comes to without global ids.
#[test]
fn every_shipped_program_comes_to_what_it_comes_to_without() {
    let large = [
        "reference-3",
        "reference-4",
        "no-table-free",
        "two-initiators",
        "two-initiators-one-target",
        "lazy-initiator",
        "lazy-between-spaces",
        "shootdown-in-a-handler",
        "many-ranges",
    ];
    let programs = ShippedProgram::<WithBroadcast<1, 1>>::all().into_iter();
    for program in programs.filter(|program| !large.contains(&program.name)) {
        let without = ShippedProgram::<WithPcids<1>>::by_name(program.name).unwrap();
        // What is safe under TSO is safe under sequential consistency.
        let checkers = [|| tso(CpuModel::AMD_ZEN5), sc];
        for checker in checkers {
            let policy = Policy::IpiOnTableFree;
            let with = checker().check_built(|| program.build(policy));
            let without = checker().check_built(|| without.build(policy));
            let both = [&with, &without].map(|verdict| (verdict.name(), property(verdict)));
            assert_eq!(both[0], both[1], "{}", program.name);
            if with.is_safe() {
                break;
            }
        }
    }
}

/// A broadcast sends off nothing that a CPU has written to a device: so everybody is interrupted besides. That is safe on any CPU, whenever it answers.
#[test]
fn a_device_is_unmapped_by_interrupts_though_its_space_is_flushed_by_broadcast() {
    let program = ShippedProgram::<WithBroadcast<1, 1>>::by_name("device-unmap-after-flushes");
    let program = program.unwrap();
    for policy in POLICIES {
        for cpu_model in [CpuModel::WEAKEST, CpuModel::AMD_ZEN5] {
            let verdict = tso(cpu_model).check_built(|| program.build(policy));
            assert_safe(&verdict, policy.name());
            assert!(was_reached(&verdict, notes::MOVED), "{policy}");
        }
    }
}

/// A broadcast goes by the size of what is cached, so of a large page that is held in pieces it takes no more than those that it names (H30, H6).
#[test]
fn large_pages_go_in_all_their_pieces() {
    let program = ShippedProgram::<WithBroadcast<1, 1>>::by_name("two-large-pages").unwrap();
    for policy in POLICIES {
        for checker in [sc(), tso(CpuModel::WEAKEST), tso(CpuModel::AMD_ZEN5)] {
            let verdict = checker.check_built(|| program.build(policy));
            assert_safe(&verdict, policy.name());
            assert!(was_reached(&verdict, notes::BROADCAST), "{policy}");
        }
    }
}
