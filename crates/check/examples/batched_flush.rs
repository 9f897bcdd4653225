//! A batch: two CPUs unmap a page each and go on; a third flushes once for both, and keeps both promises.
//!
//! What software relies on after a flush is a *promise*. The CPU that changes the page tables begins it, and gets a
//! number; whoever knows that the flush is done keeps it. Here that is CPU 2, which finds the numbers in words.
//!
//! Run it with `cargo run --release -p lazytlb-check --example batched_flush`.

use lazytlb::{
    Access, Entry, FlushRange, Hw, Memory, Promise, Promises, Spaces, Until, ValueKind, VirtAddr,
};
use lazytlb_check::{Checker, Program, Verdict};

/// CPU 2 empties the batch: by INVLPG of both pages, or of the first one only.
fn check(flushes_both: bool) -> Verdict {
    let mut program = Program::new("batched flush", 3);
    let (root, table) = (program.first_root(), program.table());
    program.first_entry(root, 0, Entry::to(table));
    let batch = [0, 1].map(|cpu| {
        let page = program.page();
        program.first_entry(table, cpu, Entry::to(page));
        let promise = program.atomic_of_kind(ValueKind::Promise, "promise", 0);
        (
            program.atomic_of_kind(ValueKind::Flag, "is ready", 0),
            promise,
        )
    });
    for cpu in [0, 1] {
        let (is_ready, promise) = batch[usize::from(cpu)];
        program.operation(cpu, "unmap a page", move |hw| {
            hw.write_entry(table, u16::from(cpu), Entry::ABSENT);
            let page = VirtAddr(u64::from(cpu) << 12);
            let begun = hw.promise_begins(Spaces::one(root), FlushRange::page(page));
            hw.store(&promise, begun.0);
            hw.swap(&is_ready, 1); // A fence: the entry is absent for everyone.
        });
    }
    program.operation(2, "flush the batch, then use the pages", move |hw| {
        let batch = batch.map(|(is_ready, promise)| {
            hw.pause_until(&is_ready, Until::Equals(1));
            Promise(hw.load(&promise))
        });
        hw.invlpg(VirtAddr(0));
        if flushes_both {
            hw.invlpg(VirtAddr(0x1000));
        }
        batch
            .into_iter()
            .for_each(|promise| hw.promise_kept(promise));
        hw.touch(VirtAddr(0x1000), Access::Load);
    });
    Checker::new().check(&program)
}

pub(crate) fn main() {
    let (both, one) = (check(true), check(false));
    println!("both pages: {}; one: {}", both.name(), one.name());
    assert!(both.is_safe());
    assert!(one.violation().is_some());
}
