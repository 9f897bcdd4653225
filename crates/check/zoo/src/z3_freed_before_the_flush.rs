//! Z3: on two short cuts, a page table goes back to the allocator before the flush. Linux until 4.19.
//!
//! Source: Linux, `tlb_remove_table` and `tlb_remove_table_one` in `mm/memory.c`; fixed by the series of merge 706a1ea65e
//! (2018-08): "Remove tlb_remove_table() non-concurrent condition", "Support invalidating TLB caches for RCU_TABLE_FREE".
//!
//! Where one thread alone uses a space, a table was freed at once: no other walker is there. Where no memory was left
//! for a batch, every CPU was interrupted, by a function that flushes nothing, and the table was freed. The first forgets the
//! hardware's walkers, on this CPU and on lazy ones; the second knows software's only.
//!
//! Read: the merge's message, and `tlb_remove_table_smp_sync` ("simply deliver the interrupt").
//!
//! The checker: `table-use-after-free`, already by the CPU that frees. Unhook, flush, free is safe.
//!
//! Left out: the batches themselves and RCU. A flush is one interrupt to whoever is in the mask.

use lazytlb::{Cr3Load, Entry, FlushRange, Memory, PhysAddr};
use lazytlb_check::Program;
use lazytlb_model::Property;

use crate::calls::Calls;
use crate::exhibit::{Case, Exhibit};
use crate::setting::{PAGE, bit, mapped, uses};

pub(crate) const EXHIBIT: Exhibit = Exhibit {
    name: "z3",
    kernel: "Linux 4.18",
    about: "on short cuts, page tables go back to the allocator before the flush",
    source: "Linux tlb_remove_table, tlb_remove_table_one; fixed by merge 706a1ea65e",
    story: "Freed tables are gathered, and go back after the flush. Not so if a single thread uses the space: then the \
            table is freed where it is unhooked, and the flush comes later. But the CPU's own walker, and those of CPUs \
            that are lazy in the space, do not count as users, and read it. If no memory is left for a batch it is no \
            better: everybody is interrupted, and flushes nothing.",
    fix: "one order on every path: unhook, flush, then free",
    left_out: "batches and RCU",
    bug: Some(Case::unsafe_by(
        "a single user's table is freed at once",
        (Property::TableUseAfterFree, 5),
        || program(Path::SingleUser),
    )),
    proofs: &[Case::safe("unhook, flush, free", || {
        program(Path::Gathered)
    })],
    also: &[],
    broken: &[
        Case::unsafe_by(
            "no memory for a batch: all are interrupted, and flush nothing",
            (Property::TableUseAfterFree, 16),
            || program(Path::NoBatch),
        ),
        Case::unsafe_by(
            "flush, unhook, free",
            (Property::TableUseAfterFree, 19),
            || program(Path::FlushedFirst),
        ),
    ],
};

/// How a table is freed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Path {
    SingleUser,
    NoBatch,
    Gathered,
    FlushedFirst,
}

#[derive(Clone, Copy)]
struct Mm<A> {
    root: PhysAddr,
    /// Threads that run in the space: lazy CPUs do not count.
    users: A,
    cpumask: A,
    /// Whether whoever is interrupted shall flush.
    flushes: A,
    calls: Calls<A, 2>,
    path: Path,
}

impl<A> Mm<A> {
    fn free_table<H: Memory<Atomic = A>>(&self, hw: &H, table: PhysAddr) {
        if self.path == Path::FlushedFirst {
            self.flush(hw);
        }
        hw.write_entry(self.root, 0, Entry::ABSENT);
        hw.flush_begins(self.root, FlushRange::All);
        let is_freed_at_once = match self.path {
            Path::SingleUser => hw.load(&self.users) < 2,
            Path::NoBatch => {
                hw.store(&self.flushes, 0);
                self.calls.call(hw, self.others(hw), || ());
                true
            }
            Path::Gathered | Path::FlushedFirst => false,
        };
        if is_freed_at_once {
            hw.free_frame(table);
        }
        if self.path != Path::FlushedFirst {
            self.flush(hw);
        }
        hw.flush_returned(self.root);
        if !is_freed_at_once {
            hw.free_frame(table);
        }
    }

    fn others<H: Memory<Atomic = A>>(&self, hw: &H) -> u64 {
        hw.load(&self.cpumask) & !bit(hw.cpu())
    }

    fn flush<H: Memory<Atomic = A>>(&self, hw: &H) {
        hw.store(&self.flushes, 1);
        // The fence orders what was unhooked before it looks at the mask.
        hw.fence();
        self.calls.call(hw, self.others(hw), || {
            hw.load_cr3(self.root, Cr3Load::Flush);
        });
    }

    fn serve<H: Memory<Atomic = A>>(&self, hw: &H) {
        self.calls.serve(hw, || {
            if hw.load(&self.flushes) != 0 {
                hw.load_cr3(self.root, Cr3Load::Flush);
            }
        });
    }
}

/// CPU 0's thread, the only one, frees a table; CPU 1 is lazy in the space, and comes back to use it when another thread starts.
fn program(path: Path) -> Program {
    let mut program = Program::new("z3", 2);
    let space = mapped(&mut program, "mm");
    program.start_with_root(space.root);
    let mm = Mm {
        root: space.root,
        users: program.atomic("users", 1),
        cpumask: program.atomic("cpumask", 0b11),
        flushes: program.atomic("flushes", 1),
        calls: Calls::new(&mut program),
        path,
    };
    program.operation(0, "free the table", move |hw| {
        mm.free_table(hw, space.table)
    });
    uses(&mut program, 1, PAGE);
    program.on_flush_interrupt(move |hw| mm.serve(hw));
    program
}
