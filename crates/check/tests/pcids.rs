//! Proofs with PCIDs: of every program over menus, with fewer slots than spaces and with enough, and of the shipped
//! programs.

use std::sync::Arc;

use lazytlb::{
    Access, Entry, FlushRange, FrameKind, GarbageWalksAccepted, Memory, Policy, Tables, VirtAddr,
};
use lazytlb_check::{
    Checker, Frees, LazyTlb, Menus, Program, Protocol, Removal, ShippedProgram, Space, Verdict,
    WithPcids,
};
use lazytlb_model::{CpuModel, MemoryModel, Property};

const SAFE: [Policy; 3] = [Policy::InitMm, Policy::Ipi, Policy::IpiOnTableFree];
const DEFER: Policy = Policy::Defer(GarbageWalksAccepted);

fn any<P: Protocol>(menus: &str, policy: Policy, checker: Checker) -> Verdict {
    let menus: Menus = menus.parse().expect("these are menus");
    checker.check_built(|| menus.program::<P>(policy))
}

fn tso() -> Checker {
    Checker::new().memory(MemoryModel::TSO)
}

fn property(verdict: &Verdict) -> Option<Property> {
    verdict.violation().map(|violation| violation.property)
}

#[test]
fn two_spaces_share_a_slot_or_have_one_each() {
    for policy in SAFE {
        for verdict in [
            any::<WithPcids<1>>("map,unmap,free/switch,touch,lazy,switch:2", policy, tso()),
            any::<WithPcids<1>>(
                "map,unmap,free,switch,touch/switch,touch,lazy",
                policy,
                tso(),
            ),
            any::<WithPcids<2>>(
                "map,unmap,free/switch,touch,switch:2,touch:2",
                policy,
                tso(),
            ),
        ] {
            assert!(verdict.is_safe(), "{policy}: {}", verdict.name());
        }
        // The initiator itself comes and goes.
        let verdict = any::<WithPcids<2>>("map,free,switch,switch:2/switch,touch", policy, tso());
        assert!(verdict.is_safe(), "{policy}: {}", verdict.name());
        // Two slots, three spaces: the one that was loaded longest ago gives way.
        let verdict =
            any::<WithPcids<2>>("map,unmap/switch,touch,switch:2,switch:3", policy, tso());
        assert!(verdict.is_safe(), "{policy}: {}", verdict.name());
        let unreached = verdict.unreached.join(", ");
        for outcome in ["kept", "behind", "switch: loaded,"] {
            assert!(!unreached.contains(outcome), "{policy}: {unreached}");
        }
    }
}

#[test]
fn on_every_cpu_model_that_has_pcids() {
    let with_pcids = CpuModel::ALL.into_iter().filter(|model| model.pcids);
    for cpu_model in with_pcids {
        for policy in SAFE {
            let checker = tso().cpu_model(cpu_model);
            let verdict = any::<WithPcids<2>>("map,free/switch,touch,switch:2", policy, checker);
            assert!(
                verdict.is_safe(),
                "{policy} on {}: {}",
                cpu_model.name,
                verdict.name()
            );
        }
    }
}

#[test]
fn defer_is_unsafe_exactly_where_tables_are_freed() {
    let kept = any::<WithPcids<2>>("map,unmap/switch,touch,lazy,switch:2", DEFER, tso());
    assert!(kept.is_safe(), "{}", kept.name());
    let freed = any::<WithPcids<2>>("map,free/switch,touch,lazy", DEFER, tso());
    assert_eq!(property(&freed), Some(Property::TableUseAfterFree));
}

/// Three CPUs, of which none has PCIDs enough for both spaces.
#[test]
fn three_cpus_under_sequential_consistency() {
    let checker = Checker::new().memory(MemoryModel::Sc);
    let menus = "map,unmap/switch,touch,switch:2/switch,touch,switch:2";
    let verdict = any::<WithPcids<1>>(menus, Policy::IpiOnTableFree, checker);
    assert!(verdict.is_safe(), "{}", verdict.name());
}

#[test]
fn every_shipped_program_has_the_verdict_that_it_has_without() {
    for program in ShippedProgram::<WithPcids<2>>::all() {
        // They take long, up to 27 M states, and have one space.
        if ["reference-4", "reference-3", "no-table-free"].contains(&program.name) {
            continue;
        }
        let without =
            ShippedProgram::<LazyTlb>::by_name(program.name).expect("both have all programs");
        for policy in [DEFER, Policy::InitMm, Policy::IpiOnTableFree] {
            let with = tso().check_built(|| program.build(policy));
            let without = tso().check_built(|| without.build(policy));
            let both = [&with, &without].map(|verdict| (verdict.name(), property(verdict)));
            assert_eq!(both[0], both[1], "{} under {policy}", program.name);
        }
    }
}

/// There is no need to flush the kernel's own space. Whoever does changes nothing for the user space that comes back.
#[test]
fn a_flush_of_init_mm_leaves_the_slots_alone() {
    let (init_mm, user, page) = (Space(0), Space(1), VirtAddr(0));
    let mut program = Program::new("a flush of init_mm", 2);
    let (root, table) = (program.table(), program.table());
    program.free_frames(1);
    let protocol = Arc::new(WithPcids::<1>::new(&mut program, Policy::Ipi, &[root]));
    let handler = Arc::clone(&protocol);
    program.on_flush_interrupt(move |hw| handler.handle_flush_ipi(hw));
    let maps = Arc::clone(&protocol);
    program.operation(0, "map and unmap", move |hw| {
        let frame = hw.alloc_frame(FrameKind::Page);
        hw.write_entry(table, 0, Entry::to(frame));
        hw.write_entry(root, 0, Entry::to(table));
        let removal = Removal {
            addr: page,
            table,
            index: 0,
            frees: Frees::Page(frame),
        };
        maps.remove(hw, user, &[removal], &|_| {});
    });
    let there_and_back = Arc::clone(&protocol);
    program.operation(1, "there and back", move |hw| {
        there_and_back.switch_mm(hw, user);
        hw.touch(page, Access::Load);
        there_and_back.switch_mm(hw, init_mm);
        there_and_back.flush(hw, init_mm, FlushRange::page(page), Tables::Kept);
        there_and_back.switch_mm(hw, user);
        hw.touch(page, Access::Load);
    });
    let verdict = tso().check(&program);
    assert!(verdict.is_safe(), "{:?}", property(&verdict));
}
