//! Instruction fetches in programs: what their early walks (H40) mean for promises, and that no program has to
//! say that it fetches.

use lazytlb::hw::{Hw, Until};
use lazytlb::memory::{Entry, Memory};
use lazytlb::{CpuId, CpuSet};
use lazytlb::{Cr3Load, FlushRange, VirtAddr};
use lazytlb_check::{Checker, Outcomes, Program, Reduction};
use lazytlb_model::{CpuModel, MemoryModel, Privilege, Property};

const X: VirtAddr = VirtAddr(0);

/// One CPU maps a page, and fetches from it after an MFENCE.
fn map_and_fetch() -> Program {
    let mut program = Program::new("map and fetch", 1);
    let (root, table, page) = (program.table(), program.table(), program.page());
    program.start_with_root(root);
    program.first_entry(root, 0, Entry::to(table));
    let faulted = program.local(0, "faulted", 0);
    program.operation(0, "map and fetch", move |hw| {
        hw.write_entry(table, 0, Entry::to(page));
        hw.fence();
        let fetched = hw.fetch(X, Privilege::Supervisor);
        hw.store_local(&faulted, fetched.is_none().into());
    });
    program
}

fn outcomes(cpu_model: CpuModel, program: &Program) -> Outcomes {
    let checker = Checker::new().cpu_model(cpu_model);
    checker.outcomes(program).unwrap()
}

#[test]
fn a_program_need_not_say_that_it_fetches() {
    let mut says_so = map_and_fetch();
    says_so.features().fetches = true;
    for (cpu_model, may_fault) in [
        (CpuModel::WEAKEST, true),
        (CpuModel::INTEL_SKYLAKE, true),
        (CpuModel::AMD_ZEN3, false),
    ] {
        let found = outcomes(cpu_model, &map_and_fetch());
        assert_eq!(found.ends, outcomes(cpu_model, &says_so).ends);
        let faults = found.ends.iter().any(|end| end.own_cells[0][0] == 1);
        assert_eq!(faults, may_fault, "on {}", cpu_model.name);
    }
}

/// What CPU 1 does between its page fault and its fetch.
#[derive(Clone, Copy, PartialEq)]
enum Between {
    Nothing,
    Fences,
    Serializes,
}

/// CPU 0 unmaps a page, and takes a page fault of CPU 1 there for its flush.
fn fault_for_a_flush(between: Between) -> Program {
    let mut program = Program::new("a fault for a flush", 2);
    let (idle, root, table) = (program.table(), program.table(), program.table());
    let page = program.page();
    let word = program.atomic("word", 0);
    program.give_word(page, word);
    program.start_with_root(idle);
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, 0, Entry::to(page));
    let unmapped = program.atomic("unmapped", 0);
    let faulted = program.atomic("faulted", 0);
    program.operation(0, "unmap", move |hw| {
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.fence();
        hw.flush_begins(root, FlushRange::page(X));
        hw.store(&unmapped, 1);
        hw.pause_until(&faulted, Until::Equals(1));
        hw.flush_returned(root);
    });
    program.operation(1, "use", move |hw| {
        hw.load_cr3(root, Cr3Load::Flush);
        hw.pause_until(&unmapped, Until::Equals(1));
        if hw.load_virtual(X, Privilege::Supervisor).is_some() {
            hw.invlpg(X);
        }
        hw.store(&faulted, 1);
        match between {
            Between::Nothing => {}
            Between::Fences => hw.fence(),
            Between::Serializes => hw.serialize(),
        }
        let _ = hw.fetch(X, Privilege::Supervisor);
    });
    program
}

#[test]
fn a_fetch_by_what_an_entry_held_before_a_returned_flush_is_a_stale_use() {
    for (between, cpu_model, is_safe) in [
        (Between::Nothing, CpuModel::WEAKEST, false),
        (Between::Fences, CpuModel::WEAKEST, false),
        (Between::Fences, CpuModel::AMD_ZEN3, true),
        (Between::Serializes, CpuModel::WEAKEST, true),
    ] {
        let program = fault_for_a_flush(between);
        let verdict = Checker::new().cpu_model(cpu_model).check(&program);
        assert_eq!(verdict.is_safe(), is_safe, "{verdict:?}");
        if !is_safe {
            assert_eq!(verdict.violation().unwrap().property, Property::StaleUse);
        }
    }
}

/// An MFENCE that serializes is no local call, though no store waits: an interrupt that comes before it may still fetch
/// by what the entry held, after it has found the page absent.
#[test]
fn an_interrupt_comes_before_a_fence_that_serializes() {
    let mut program = Program::new("fence", 2);
    let (root, table, page) = (program.first_root(), program.table(), program.page());
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, 0, Entry::to(page));
    program.proves("who does not find a page does not find it afterwards");
    program.operation(0, "unmap", move |hw| {
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.fence();
    });
    program.operation(1, "interrupt", |hw| {
        let mut unmapper = CpuSet::<1>::EMPTY;
        unmapper.insert(CpuId(0));
        hw.send_ipi(&unmapper);
    });
    program.on_flush_interrupt(|hw| {
        let [first, second] = [(); 2].map(|()| hw.fetch(X, Privilege::Supervisor));
        assert!(first.is_some() || second.is_none(), "the page came back");
    });
    for memory in [MemoryModel::Sc, MemoryModel::TSO] {
        for reduction in [Reduction::CollapseLocal, Reduction::None] {
            let checker = Checker::new().cpu_model(CpuModel::AMD_ZEN3);
            let checker = checker.memory(memory).reduction(reduction);
            let verdict = checker.check(&program);
            let violated = verdict.violation().map(|violation| violation.property);
            assert_eq!(violated, Some(Property::Panic), "{memory:?} {reduction:?}");
        }
    }
}
