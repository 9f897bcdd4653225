//! A stranger's protocol that is generic over the seam, checked on CPUs that broadcast and on one that does not.
//!
//! The protocol itself, `protocol.rs`, imports nothing but `lazytlb`'s traits and their values; the same file is compiled
//! for real CPUs in `crates/x86/tests/stranger.rs`. Run it with
//! `cargo run --release -p lazytlb-check --example stranger`.

mod protocol;

use lazytlb::{
    Access, CpuId, CpuSet, Entry, FlushRange, Hw, Memory, PageRange, PageSize, PhysAddr, VirtAddr,
};
use lazytlb_check::{Checker, ModelHw, Program};
use lazytlb_model::{AtomicCell, CpuModel, MemoryModel, Property};

use protocol::{LeftOut, Shootdown};

/// What CPU 0 unmaps: more pages than the modelled machine lets one broadcast name. The one between is not mapped.
const FIRST: PageRange = PageRange {
    start: VirtAddr(0),
    len_pages: 3,
    size: PageSize::Size4K,
};
/// What CPU 1 unmaps.
const SECOND: PageRange = PageRange {
    start: VirtAddr(3 << 12),
    len_pages: 1,
    size: PageSize::Size4K,
};
/// The pages that are mapped at first, and touched all the time.
const MAPPED: [u16; 3] = [0, 2, 3];

/// Unmaps some pages of the space, as a kernel's munmap would.
fn unmap(
    hw: &ModelHw,
    shootdown: Shootdown<AtomicCell>,
    [root, table]: [PhysAddr; 2],
    range: PageRange,
) {
    let mut others = CpuSet::<1>::EMPTY;
    others.insert(CpuId(1 - hw.cpu().0));
    shootdown.lock(hw);
    for index in MAPPED {
        if range.contains(address(index)) {
            hw.write_entry(table, index, Entry::ABSENT);
        }
    }
    hw.flush_begins(root, FlushRange::Pages(range));
    shootdown.flush(hw, &others, range);
    hw.flush_returned(root);
    shootdown.unlock(hw);
}

fn address(index: u16) -> VirtAddr {
    VirtAddr(u64::from(index) << 12)
}

/// Two CPUs share a space, and each unmaps some of it.
fn program(left_out: LeftOut) -> Program {
    let mut program = Program::new("a stranger's protocol", 2);
    program.features().broadcasts = true;
    let (root, table) = (program.table(), program.table());
    program.first_entry(root, 0, Entry::to(table));
    for index in MAPPED {
        let page = program.page();
        program.first_entry(table, index, Entry::to(page));
    }
    program.start_with_root(root);
    let shootdown = Shootdown {
        lock: program.atomic("lock", 0),
        request: program.atomic("request", 0),
        pending: program.atomic("pending", 0),
        left_out,
    };
    for (cpu, range, page) in [(0, FIRST, 3), (1, SECOND, 2)] {
        program.operation(cpu, "unmap", move |hw| {
            unmap(hw, shootdown, [root, table], range);
        });
        program.operation(cpu, "touch", move |hw| {
            hw.touch(address(page), Access::Load);
        });
    }
    program.on_flush_interrupt(move |hw| shootdown.handle(hw));
    program
}

/// Returns the property that is violated, if one is.
fn violated(left_out: LeftOut, cpu_model: &CpuModel, memory: MemoryModel) -> Option<Property> {
    let checker = Checker::new().cpu_model(*cpu_model).memory(memory);
    let verdict = checker.check(&program(left_out));
    let property = verdict.violation().map(|violation| violation.property);
    println!(
        "{left_out:?} left out, {}, {}: {}{}, {} states",
        cpu_model.name,
        memory.name(),
        verdict.name(),
        property.map_or(String::new(), |property| format!(" ({property})")),
        verdict.effort.states,
    );
    assert!(property.is_some() || verdict.is_safe(), "{verdict:?}");
    property
}

pub(crate) fn main() {
    let stale = Some(Property::StaleUse);
    let cpu_models = [
        CpuModel::WEAKEST,
        CpuModel::AMD_ZEN3,
        CpuModel::INTEL_SKYLAKE,
    ];
    for cpu_model in &cpu_models {
        let by_broadcast = |wrong| if cpu_model.broadcast { wrong } else { None };
        let by_interrupts = |wrong| if cpu_model.broadcast { None } else { wrong };
        for (memory, needs_fence) in [(MemoryModel::Sc, None), (MemoryModel::TSO, stale)] {
            for (left_out, expected) in [
                (LeftOut::Nothing, None),
                (LeftOut::Fence, by_broadcast(needs_fence)),
                (LeftOut::Tlbsync, by_broadcast(stale)),
                (LeftOut::OtherRuns, by_broadcast(stale)),
                (LeftOut::OneStep, by_interrupts(stale)),
            ] {
                assert_eq!(violated(left_out, cpu_model, memory), expected);
            }
        }
    }
}
