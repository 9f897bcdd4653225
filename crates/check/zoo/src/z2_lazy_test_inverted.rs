//! Z2: where tables are freed, the interrupt goes to exactly the CPUs that are not lazy. Linux, a few weeks in 2018.
//!
//! Source: Linux 64482aafe55f (2018-07), of the series that 2ff6ddf19c0e belongs to, `arch/x86/mm/tlb.c`; reverted with the
//! series in 2018-08 (merge 706a1ea65e), redone as 145f573b89a6. The commit itself was not at hand: what is ported
//! is what HISTORY says of it, a test the wrong way round.
//!
//! A flush that frees no tables may skip lazy CPUs, which catch up by generation. One that frees some must not.
//!
//! The checker: `table-use-after-free` on two CPUs, one that goes lazy and one that frees a table. With the test righted it is safe.
//!
//! Left out: PCIDs, ranges, and the asynchronous interrupt by which the series wanted to do it.

use lazytlb::{Cr3Load, Entry, FlushRange, Memory, PhysAddr};
use lazytlb_check::Program;
use lazytlb_model::Property;

use crate::calls::Calls;
use crate::exhibit::{Case, Exhibit};
use crate::setting::{PAGE, bit, index, mapped, root_of_no_user, uses, without_interrupts};

pub(crate) const EXHIBIT: Exhibit = Exhibit {
    name: "z2",
    kernel: "Linux 4.18-rc",
    about: "the lazy test is inverted: a flush that frees tables interrupts all but the lazy CPUs",
    source: "Linux 64482aafe55f, the choice of targets; reverted by merge 706a1ea65e, redone as 145f573b89a6",
    story: "Lazy CPUs shall be left alone by flushes of pages, and be interrupted by those that free page tables. The \
            test for the second is the wrong way round: the lazy CPU, for whose sake it was written, is the only one \
            that is not told, and its paging-structure caches lead to the freed table.",
    fix: "the test the right way round: where tables are freed, everybody in mm_cpumask is interrupted",
    left_out: "PCIDs, ranges, the asynchronous interrupt of that series",
    bug: Some(Case::unsafe_by(
        "only CPUs that are not lazy",
        (Property::TableUseAfterFree, 28),
        || program(Targets::NotLazy),
    )),
    proofs: &[Case::safe("lazy or not", || program(Targets::All))],
    also: &[],
    broken: &[
        Case::unsafe_by("only lazy CPUs", (Property::TableUseAfterFree, 33), || {
            program(Targets::OnlyLazy)
        }),
        Case::unsafe_by("no fence on the way back", (Property::StaleUse, 21), || {
            program(Targets::AllWithoutFence)
        }),
    ],
};

/// Whom a flush that frees tables interrupts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Targets {
    NotLazy,
    OnlyLazy,
    All,
    /// All, but whoever comes back reads the generation before its `is_lazy` is visible.
    AllWithoutFence,
}

#[derive(Clone, Copy)]
struct Mm<A> {
    root: PhysAddr,
    init: PhysAddr,
    tlb_gen: A,
    cpumask: A,
    flushed_to: [A; 2],
    is_lazy: [A; 2],
    calls: Calls<A, 2>,
    targets: Targets,
}

impl<A> Mm<A> {
    fn enter_lazy<H: Memory<Atomic = A>>(&self, hw: &H) {
        hw.store(&self.is_lazy[index(hw.cpu())], 1);
    }

    fn come_back<H: Memory<Atomic = A>>(&self, hw: &H) {
        let me = index(hw.cpu());
        without_interrupts(hw, || {
            if hw.load(&self.is_lazy[me]) != 0 {
                hw.store(&self.is_lazy[me], 0);
                // Either the initiator reads that we are not lazy, or we read its generation.
                if self.targets != Targets::AllWithoutFence {
                    hw.fence();
                }
                self.catch_up(hw);
            } else if hw.load(&self.cpumask) & bit(hw.cpu()) == 0 {
                hw.fetch_or(&self.cpumask, bit(hw.cpu()));
                let tlb_gen = hw.load(&self.tlb_gen);
                hw.load_cr3(self.root, Cr3Load::Flush);
                hw.store(&self.flushed_to[me], tlb_gen);
            }
        });
    }

    fn catch_up<H: Memory<Atomic = A>>(&self, hw: &H) {
        let me = index(hw.cpu());
        let tlb_gen = hw.load(&self.tlb_gen);
        if hw.load(&self.flushed_to[me]) != tlb_gen {
            hw.load_cr3(self.root, Cr3Load::Flush);
            hw.store(&self.flushed_to[me], tlb_gen);
        }
    }

    fn unmap_page<H: Memory<Atomic = A>>(&self, hw: &H, table: PhysAddr) {
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.flush_begins(self.root, FlushRange::page(PAGE));
        hw.fetch_add(&self.tlb_gen, 1);
        let others = self.others(hw);
        let targets = others & !self.lazy(hw, others);
        self.calls.call(hw, targets, || self.catch_up(hw));
        hw.flush_returned(self.root);
    }

    fn free_table<H: Memory<Atomic = A>>(&self, hw: &H, table: PhysAddr) {
        hw.write_entry(self.root, 0, Entry::ABSENT);
        hw.flush_begins(self.root, FlushRange::All);
        hw.fetch_add(&self.tlb_gen, 1);
        let others = self.others(hw);
        let targets = match self.targets {
            Targets::NotLazy => others & !self.lazy(hw, others),
            Targets::OnlyLazy => others & self.lazy(hw, others),
            Targets::All | Targets::AllWithoutFence => others,
        };
        self.calls.call(hw, targets, || self.catch_up(hw));
        hw.flush_returned(self.root);
        hw.free_frame(table);
    }

    fn others<H: Memory<Atomic = A>>(&self, hw: &H) -> u64 {
        hw.load(&self.cpumask) & !bit(hw.cpu())
    }

    /// Returns those of a set that say that they are lazy: with two CPUs there is one to ask.
    fn lazy<H: Memory<Atomic = A>>(&self, hw: &H, others: u64) -> u64 {
        let other = 1 - index(hw.cpu());
        match others != 0 && hw.load(&self.is_lazy[other]) != 0 {
            true => others,
            false => 0,
        }
    }

    /// What an interrupted CPU does: a lazy one leaves for init_mm.
    fn serve<H: Memory<Atomic = A>>(&self, hw: &H) {
        let me = index(hw.cpu());
        self.calls.serve(hw, || {
            if hw.load(&self.is_lazy[me]) != 0 {
                hw.load_cr3(self.init, Cr3Load::Flush);
                hw.fetch_and(&self.cpumask, !bit(hw.cpu()));
                hw.store(&self.is_lazy[me], 0);
            } else if hw.load(&self.cpumask) & bit(hw.cpu()) != 0 {
                self.catch_up(hw);
            }
        });
    }
}

/// CPU 1 goes lazy and comes back; CPU 0 unmaps a page, then frees its table.
fn program(targets: Targets) -> Program {
    let mut program = Program::new("z2", 2);
    let init = root_of_no_user(&mut program, "init_mm");
    let space = mapped(&mut program, "mm");
    program.start_with_root(space.root);
    let mut each = |name: &str, value: u64| {
        [0, 1].map(|cpu| program.atomic(format!("{name} of CPU {cpu}"), value))
    };
    let (flushed_to, is_lazy) = (each("flushed_to", 1), each("is_lazy", 0));
    let mm = Mm {
        root: space.root,
        init,
        tlb_gen: program.atomic("tlb_gen", 1),
        cpumask: program.atomic("cpumask", 0b11),
        flushed_to,
        is_lazy,
        calls: Calls::new(&mut program),
        targets,
    };
    program.operation(0, "unmap the page", move |hw| {
        mm.unmap_page(hw, space.table)
    });
    program.operation(0, "free the table", move |hw| {
        mm.free_table(hw, space.table)
    });
    uses(&mut program, 1, PAGE);
    program.operation(1, "go lazy", move |hw| mm.enter_lazy(hw));
    program.operation(1, "come back", move |hw| mm.come_back(hw));
    uses(&mut program, 1, PAGE);
    program.on_flush_interrupt(move |hw| mm.serve(hw));
    program
}
