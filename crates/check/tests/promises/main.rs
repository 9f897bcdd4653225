//! What a promise about a flush covers, and how it is begun and kept: a program for each claim.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

mod accounts;
mod ignored;
mod pages;
mod waiting_stores;

use lazytlb::{CpuId, CpuSet, Entry, Hw, PhysAddr, VirtAddr};
use lazytlb_check::{Checker, ModelHw, Program, Reduction, Verdict};
use lazytlb_model::entry::bits;
use lazytlb_model::{CpuModel, MemoryModel, Property};

/// The page that most programs map.
const PAGE: VirtAddr = VirtAddr(0);
/// The page after it, under the same table.
const NEXT: VirtAddr = VirtAddr(0x1000);

/// Says what a program violates, on a CPU model, under both memory models, merged and not: always the same.
fn violated_on(cpu_model: CpuModel, program: &Program) -> Option<Property> {
    let mut found = Vec::new();
    for memory in [MemoryModel::Sc, MemoryModel::TSO] {
        for reduction in [Reduction::CollapseLocal, Reduction::None] {
            let checker = Checker::new().cpu_model(cpu_model);
            let verdict = checker.memory(memory).reduction(reduction).check(program);
            assert_ne!(verdict.name(), "incomplete", "{verdict:?}");
            found.push(property_of(&verdict));
        }
    }
    assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
    found[0]
}

fn violated(program: &Program) -> Option<Property> {
    violated_on(CpuModel::WEAKEST, program)
}

fn property_of(verdict: &Verdict) -> Option<Property> {
    verdict.violation().map(|violation| violation.property)
}

/// Returns the entry of a large page.
fn large(page: PhysAddr) -> Entry {
    Entry(Entry::to(page).0 | bits::LARGE)
}

/// Interrupts a CPU.
fn interrupt(hw: &ModelHw, cpu: CpuId) {
    let mut targets = CpuSet::<1>::EMPTY;
    targets.insert(cpu);
    hw.send_ipi(&targets);
}
