//! A protocol of your own, checked: a shootdown in thirty lines, and an optimisation that is right for pages
//! and wrong for page tables.
//!
//! A target that acknowledges *before* it invalidates lets the initiator go on earlier. No user code runs on
//! the target in between, so no stale translation is used. But a speculative walk needs no user code: if
//! the initiator frees a page table, the target may walk it.
//!
//! It imports nothing of `lazytlb` but the seam: `Hw` (what the machine does) and `Memory` (page tables,
//! frames, user accesses). Run it with `cargo run --release -p lazytlb-check --example own_protocol`.

use lazytlb::hw::{Hw, Until};
use lazytlb::memory::{Access, Entry, FrameKind, Memory};
use lazytlb::{CpuId, CpuSet, Cr3Load, FlushRange, PhysAddr, VirtAddr};
use lazytlb_check::{Checker, Finding, ModelHw, Program};
use lazytlb_model::AtomicCell;

/// The page that CPU 0 unmaps while CPU 1 uses it.
const PAGE: VirtAddr = VirtAddr(0);

/// When the target says "done".
#[derive(Clone, Copy)]
enum Acknowledge {
    AfterInvalidating,
    BeforeInvalidating,
}

/// The protocol's state: one word, which the initiator sets and the target clears. It lives in memory that
/// the checker knows; a captured variable would make the code nondeterministic, and is refused.
#[derive(Clone, Copy)]
struct Shootdown {
    pending: AtomicCell,
    acknowledge: Acknowledge,
}

impl Shootdown {
    /// CPU 0: unmaps the page by removing its table from the root; returns when CPU 1 cannot use either.
    fn unmap(&self, hw: &ModelHw, root: PhysAddr) {
        hw.write_entry(root, 0, Entry::ABSENT);
        hw.flush_begins(root, FlushRange::page(PAGE));
        hw.store(&self.pending, 1);
        // The IPI orders nothing: without the fence it may overtake the stores before it.
        hw.fence();
        let mut target = CpuSet::<1>::EMPTY;
        target.insert(CpuId(1));
        hw.send_ipi(&target);
        hw.invlpg(PAGE);
        hw.pause_until(&self.pending, Until::Zero);
        // From here on the checker takes any use of the old translation, anywhere, for a bug.
        hw.flush_returned(root);
    }

    /// CPU 1: the interrupt's handler.
    fn handle(&self, hw: &ModelHw) {
        if hw.cpu() == CpuId(0) {
            return;
        }
        match self.acknowledge {
            Acknowledge::AfterInvalidating => {
                hw.invlpg(PAGE);
                hw.store(&self.pending, 0);
            }
            Acknowledge::BeforeInvalidating => {
                hw.store(&self.pending, 0);
                hw.note("acknowledged early");
                hw.invlpg(PAGE);
            }
        }
    }
}

/// What CPU 0 does with the table that it unhooked.
#[derive(Clone, Copy)]
enum Table {
    Kept,
    Freed,
}

/// Two CPUs share a space with one table. CPU 0 maps and unmaps a page; CPU 1 reads it twice.
fn program(acknowledge: Acknowledge, table_is: Table) -> Program {
    let mut program = Program::new("own protocol", 2);
    let (root, table) = (program.table(), program.table());
    program.free_frames(1);
    let shootdown = Shootdown {
        pending: program.atomic("pending", 0),
        acknowledge,
    };
    program.operation(0, "map", move |hw| {
        hw.load_cr3(root, Cr3Load::Flush);
        hw.write_entry(root, 0, Entry::to(table));
        hw.write_entry(table, 0, Entry::to(hw.alloc_frame(FrameKind::Page)));
    });
    program.operation(0, "unmap", move |hw| {
        shootdown.unmap(hw, root);
        if let Table::Freed = table_is {
            hw.free_frame(table);
        }
    });
    program.operation(1, "read twice", move |hw| {
        hw.load_cr3(root, Cr3Load::Flush);
        hw.touch(PAGE, Access::Load);
        hw.touch(PAGE, Access::Load);
    });
    program.on_flush_interrupt(move |hw| shootdown.handle(hw));
    program
}

fn main() {
    for (acknowledge, name) in [
        (Acknowledge::AfterInvalidating, "after INVLPG"),
        (Acknowledge::BeforeInvalidating, "before INVLPG"),
    ] {
        for (table, fate) in [(Table::Kept, "kept"), (Table::Freed, "freed")] {
            let verdict = Checker::new().check(&program(acknowledge, table));
            let states = verdict.effort.states;
            println!(
                "acknowledging {name}, table {fate}: {}, {states} states",
                verdict.name()
            );
            if let Finding::Violation { timeline, .. } = &verdict.finding {
                println!("\n{timeline}");
            }
        }
    }
}
