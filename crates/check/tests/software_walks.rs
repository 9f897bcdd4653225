//! Walks of page tables by software, without a lock: no table is freed under one, under any policy.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use std::sync::Arc;

use lazytlb::{Entry, FlushRange, FrameKind, Hw, Memory, Policy, Tables};
use lazytlb_check::{
    Checker, LazyTlb, Menus, Program, Protocol, ShippedProgram, Space, Verdict, WithPcids,
};
use lazytlb_model::Property;

const SAFE_POLICIES: [Policy; 4] = [
    Policy::InitMm,
    Policy::Ipi,
    Policy::IpiOnTableFree,
    Policy::Quarantine,
];

fn check<P: Protocol>(menus: &str, policy: Policy) -> Verdict {
    let menus: Menus = menus.parse().unwrap();
    Checker::new().check(&menus.program::<P>(policy))
}

#[test]
fn no_table_is_freed_under_a_walk_whoever_walks() {
    for policy in SAFE_POLICIES {
        for menus in [
            "map,free/switch,touch,lazy,walk",
            "map,free,walk/switch,lazy",
        ] {
            let verdict = check::<LazyTlb>(menus, policy);
            assert!(verdict.is_safe(), "{policy:?}, {menus}: {verdict:?}");
        }
        let verdict = check::<WithPcids<1>>("map,free/switch,switch:2,walk", policy);
        assert!(verdict.is_safe(), "{policy:?}, with PCIDs: {verdict:?}");
    }
}

#[test]
fn so_it_is_beside_a_third_cpu() {
    for policy in [Policy::Ipi, Policy::IpiOnTableFree, Policy::Quarantine] {
        let verdict = check::<LazyTlb>("map,free/switch,lazy/walk", policy);
        assert!(verdict.is_safe(), "{policy:?}: {verdict:?}");
    }
}

#[test]
fn so_it_is_where_held_tables_are_given_up() {
    let menus = "map,free,release,reclaim/switch,lazy,walk";
    let verdict = check::<LazyTlb>(menus, Policy::Quarantine);
    assert!(verdict.is_safe(), "{verdict:?}");
    assert!(verdict.rests_on.tables_freed > 0, "{verdict:?}");
}

#[test]
fn so_it_is_with_two_roots() {
    let menus: Menus = "map,free/switch,walk".parse().unwrap();
    for policy in SAFE_POLICIES {
        let program = menus.clone().isolated().program::<WithPcids<1>>(policy);
        let verdict = Checker::new().check(&program);
        assert!(verdict.is_safe(), "{policy:?}: {verdict:?}");
    }
}

#[test]
fn every_shipped_walk_is_safe_under_every_policy_that_is() {
    let programs = ShippedProgram::<LazyTlb>::all().into_iter();
    let walked: Vec<_> = programs
        .filter(|program| program.name.starts_with("walked"))
        .collect();
    assert_eq!(walked.len(), 6);
    for program in walked {
        for policy in SAFE_POLICIES {
            let verdict = Checker::new().check(&program.build(policy));
            assert!(
                verdict.is_safe(),
                "{}, {policy:?}: {verdict:?}",
                program.name
            );
        }
    }
}

/// A walk with nothing but interrupts off, from a CPU that has another space loaded.
fn walked_with_interrupts_off(policy: Policy) -> Program {
    let mut program = Program::new("interrupts off", 2);
    let root = program.table();
    let protocol = Arc::new(LazyTlb::new(&mut program, policy, &[root]));
    program.free_frames(1);
    let handler = Arc::clone(&protocol);
    program.on_flush_interrupt(move |hw| handler.handle_flush_ipi(hw));
    program.operation(0, "map and free a table", move |hw| {
        let table = hw.alloc_frame(FrameKind::Table);
        hw.write_entry(root, 0, Entry::to(table));
        hw.write_entry(root, 0, Entry::ABSENT);
        protocol.flush(hw, Space(1), FlushRange::All, Tables::Freed);
        hw.free_frame(table);
    });
    program.operation(1, "walk", move |hw| {
        let former = hw.disable_interrupts();
        let hooked = hw.read_entry(root, 0);
        if hooked.is_present() {
            hw.read_entry(hooked.frame(), 0);
        }
        hw.restore_interrupts(former);
    });
    program
}

#[test]
fn interrupts_off_alone_keep_no_table_from_whoever_walks_from_outside() {
    for policy in SAFE_POLICIES {
        let verdict = Checker::new().check(&walked_with_interrupts_off(policy));
        let violation = verdict.violation().unwrap();
        assert_eq!(violation.property, Property::SoftwareWalkAfterFree);
        assert_eq!((violation.cpu, violation.frame), (Some(1), Some(2)));
    }
}

#[test]
fn what_a_handler_holds_back_meanwhile_is_not_given_up_under_a_walk() {
    let program = ShippedProgram::<LazyTlb>::by_name("reclaim-beside-a-handler").unwrap();
    for policy in SAFE_POLICIES {
        let verdict = Checker::new().check(&program.build(policy));
        assert!(verdict.is_safe(), "{policy:?}: {verdict:?}");
        assert!(verdict.rests_on.tables_freed > 0);
    }
}
