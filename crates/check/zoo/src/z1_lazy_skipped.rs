//! Z1: lazy CPUs are skipped by every flush, those that free page tables included. Linux 4.14-rc, the hang of 2017.
//!
//! Source: Linux 94b1b03b519b (2017-07), `enter_lazy_tlb` in `arch/x86/include/asm/mmu_context.h`, `switch_mm_irqs_off` and
//! `flush_tlb_mm_range` in `arch/x86/mm/tlb.c`; mended by b956575bed91 (2017-10).
//!
//! To be lazy is to be out of `mm_cpumask` with the space still in CR3. Whoever comes back enters the mask, then reads the
//! generation, and flushes if it is behind: so no stale translation is ever *used*. But its paging-structure caches, and
//! walks in flight, still lead to tables that others free meanwhile (H10, H12a).
//!
//! The checker: `table-use-after-free` on two CPUs, one that goes lazy and one that frees the table. Both fixes, the interrupt and
//! init_mm's tables at once, are safe there.
//!
//! Left out: PCIDs and slots (each CPU has one space and init_mm), ranges (a flush is of everything), software walkers.

use lazytlb::{Cr3Load, Entry, FlushRange, Memory, PhysAddr};
use lazytlb_check::Program;
use lazytlb_model::{AtomicCell, Property};

use crate::calls::Calls;
use crate::exhibit::{Case, Exhibit};
use crate::setting::{PAGE, bit, index, mapped, root_of_no_user, uses, without_interrupts};

pub(crate) const EXHIBIT: Exhibit = Exhibit {
    name: "z1",
    kernel: "Linux 4.14-rc",
    about: "lazy CPUs are skipped by every flush, and tables are freed under their paging-structure caches",
    source: "Linux 94b1b03b519b, enter_lazy_tlb, switch_mm_irqs_off, flush_tlb_mm_range; fixed by b956575bed91",
    story: "A CPU that goes lazy keeps the space in CR3, and leaves mm_cpumask. A flush does not interrupt it; when it \
            comes back it compares generations, and flushes then. No stale translation is used in between. But the flush \
            also frees a page table, and the lazy CPU's caches still lead there: a speculative walk reads what the freed \
            frame holds by then.",
    fix: "without PCIDs a lazy CPU stays in mm_cpumask, and when interrupted leaves for init_mm; with PCIDs it loads \
          init_mm's tables at once, so that nothing is left to be flushed",
    left_out: "PCIDs and slots, ranges, software walkers",
    bug: Some(Case::unsafe_by(
        "lazy CPUs are skipped",
        (Property::TableUseAfterFree, 18),
        || program(Lazy::Skipped),
    )),
    proofs: &[
        Case::safe("lazy CPUs are interrupted", || program(Lazy::Interrupted)),
        Case::safe("lazy CPUs load init_mm's tables", || {
            program(Lazy::InInitMm)
        }),
    ],
    also: &[],
    broken: &[
        Case::unsafe_by(
            "an interrupted lazy CPU stays as it is",
            (Property::TableUseAfterFree, 28),
            || program(Lazy::InterruptedInVain),
        ),
        Case::unsafe_by(
            "the mask is left before init_mm's tables are loaded",
            (Property::TableUseAfterFree, 17),
            || program(Lazy::InInitMmTooLate),
        ),
    ],
};

/// What it means to be lazy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lazy {
    /// The space stays in CR3, and nobody is told of flushes.
    Skipped,
    /// The space stays in CR3, until a flush comes.
    Interrupted,
    /// init_mm's tables are in CR3.
    InInitMm,
    /// As `Interrupted`, but the handler leaves lazy CPUs alone.
    InterruptedInVain,
    /// As `InInitMm`, in the other order.
    InInitMmTooLate,
}

/// A space, and what each CPU knows of it.
#[derive(Clone, Copy)]
struct Mm<A> {
    root: PhysAddr,
    init: PhysAddr,
    tlb_gen: A,
    cpumask: A,
    /// For each CPU, the generation that it has flushed to.
    flushed_to: [A; 2],
    /// For each CPU, whether it is lazy, where that is not told by the mask.
    is_lazy: [A; 2],
    calls: Calls<A, 2>,
    lazy: Lazy,
}

impl<A> Mm<A> {
    fn enter_lazy<H: Memory<Atomic = A>>(&self, hw: &H) {
        let me = hw.cpu();
        without_interrupts(hw, || match self.lazy {
            Lazy::Skipped => {
                hw.fetch_and(&self.cpumask, !bit(me));
            }
            Lazy::Interrupted | Lazy::InterruptedInVain => hw.store(&self.is_lazy[index(me)], 1),
            Lazy::InInitMm => self.leave(hw),
            Lazy::InInitMmTooLate => {
                hw.fetch_and(&self.cpumask, !bit(me));
                hw.load_cr3(self.init, Cr3Load::Flush);
            }
        });
    }

    /// Comes back to the space that was borrowed.
    fn leave_lazy<H: Memory<Atomic = A>>(&self, hw: &H) {
        let me = hw.cpu();
        without_interrupts(hw, || {
            hw.store(&self.is_lazy[index(me)], 0);
            if hw.load(&self.cpumask) & bit(me) == 0 {
                // Whoever raises the generation later sees the bit: both are locked instructions.
                hw.fetch_or(&self.cpumask, bit(me));
                let tlb_gen = hw.load(&self.tlb_gen);
                let is_behind = hw.load(&self.flushed_to[index(me)]) != tlb_gen;
                if is_behind || self.lazy != Lazy::Skipped {
                    hw.store(&self.flushed_to[index(me)], tlb_gen);
                    hw.load_cr3(self.root, Cr3Load::Flush);
                }
            }
        });
    }

    /// Leaves for init_mm.
    fn leave<H: Memory<Atomic = A>>(&self, hw: &H) {
        hw.load_cr3(self.init, Cr3Load::Flush);
        hw.fetch_and(&self.cpumask, !bit(hw.cpu()));
    }

    /// Unhooks a table, flushes, and frees it.
    fn free_table<H: Memory<Atomic = A>>(&self, hw: &H, table: PhysAddr) {
        let me = hw.cpu();
        hw.write_entry(self.root, 0, Entry::ABSENT);
        hw.flush_begins(self.root, FlushRange::All);
        hw.fetch_add(&self.tlb_gen, 1);
        let others = hw.load(&self.cpumask) & !bit(me);
        self.calls.call(hw, others, || self.catch_up(hw));
        hw.flush_returned(self.root);
        hw.free_frame(table);
    }

    fn catch_up<H: Memory<Atomic = A>>(&self, hw: &H) {
        let me = index(hw.cpu());
        if hw.load(&self.cpumask) & bit(hw.cpu()) == 0 {
            return;
        }
        if hw.load(&self.is_lazy[me]) != 0 {
            if self.lazy == Lazy::Interrupted {
                self.leave(hw);
            }
            return;
        }
        let tlb_gen = hw.load(&self.tlb_gen);
        if hw.load(&self.flushed_to[me]) != tlb_gen {
            hw.load_cr3(self.root, Cr3Load::Flush);
            hw.store(&self.flushed_to[me], tlb_gen);
        }
    }
}

fn each(program: &mut Program, name: &str, value: u64) -> [AtomicCell; 2] {
    [0, 1].map(|cpu| program.atomic(format!("{name} of CPU {cpu}"), value))
}

/// CPU 1 uses a page, goes lazy, and comes back; CPU 0 frees the page's table.
fn program(lazy: Lazy) -> Program {
    let mut program = Program::new("z1", 2);
    let init = root_of_no_user(&mut program, "init_mm");
    let space = mapped(&mut program, "mm");
    program.start_with_root(space.root);
    let mm = Mm {
        root: space.root,
        init,
        tlb_gen: program.atomic("tlb_gen", 1),
        cpumask: program.atomic("cpumask", 0b11),
        flushed_to: each(&mut program, "flushed_to", 1),
        is_lazy: each(&mut program, "is_lazy", 0),
        calls: Calls::new(&mut program),
        lazy,
    };
    program.operation(0, "free the table", move |hw| {
        mm.free_table(hw, space.table)
    });
    uses(&mut program, 1, PAGE);
    program.operation(1, "go lazy", move |hw| mm.enter_lazy(hw));
    program.operation(1, "come back", move |hw| mm.leave_lazy(hw));
    uses(&mut program, 1, PAGE);
    program.on_flush_interrupt(move |hw| mm.calls.serve(hw, || mm.catch_up(hw)));
    program
}
