//! A page of the kernel's, mapped under the roots of two spaces: a flush of one of them is not enough.
//!
//! A promise speaks of the spaces that it names: one, several, or all. CPU 0 unmaps the page for all; CPU 1 has another
//! space loaded. With a promise about one space the checker would not look at CPU 1 at all.
//!
//! Run it with `cargo run --release -p lazytlb-check --example kernel_page`.

use lazytlb::{Access, Cr3Load, Entry, FlushRange, Hw, Memory, Promises, Spaces, VirtAddr};
use lazytlb::{CpuId, CpuSet, Until};
use lazytlb_check::{Checker, Program, Verdict};

/// Where the kernel's page is mapped, in every space.
const PAGE: VirtAddr = VirtAddr(0x20_0000);

/// CPU 0 asks CPU 1 to flush, too, or does not.
fn check(asks_cpu_1: bool) -> Verdict {
    let mut program = Program::new("kernel page", 2);
    // The kernel's half: one table, hooked into both roots.
    let (roots, table) = ([program.first_root(), program.table()], program.table());
    let page = program.page();
    for root in roots {
        program.first_entry(root, 1, Entry::to(table));
    }
    program.first_entry(table, 0, Entry::to(page));
    let acknowledged = program.atomic("acknowledged", 0);
    program.operation(0, "unmap a kernel page", move |hw| {
        hw.write_entry(table, 0, Entry::ABSENT);
        let promise = hw.promise_begins(Spaces::All, FlushRange::page(PAGE));
        hw.invlpg(PAGE);
        if asks_cpu_1 {
            let mut others = CpuSet::<1>::EMPTY;
            others.insert(CpuId(1));
            hw.send_ipi(&others);
            hw.pause_until(&acknowledged, Until::Equals(1));
        }
        hw.promise_kept(promise);
    });
    program.operation(1, "run in another space", move |hw| {
        hw.load_cr3(roots[1], Cr3Load::Flush);
        hw.touch(PAGE, Access::Load);
        hw.touch(PAGE, Access::Load);
    });
    program.on_flush_interrupt(move |hw| {
        hw.invlpg(PAGE);
        hw.store(&acknowledged, 1);
    });
    Checker::new().check(&program)
}

pub(crate) fn main() {
    let (all, one) = (check(true), check(false));
    println!(
        "flushing on every CPU: {}; on one: {}",
        all.name(),
        one.name()
    );
    assert!(all.is_safe());
    assert!(one.violation().is_some());
}
