//! Z8: a live 4 KiB mapping is replaced by one of 2 MiB without the break: two entries match. A class, erratum 383.
//!
//! Source: AMD's revision guide for family 10h (41322), erratum 383 (H31); the SDM, "Recommended Invalidation" (H7, H20).
//! Linux 4.14's debate has it as a side question: what a Phenom does when two entries match is a machine check.
//!
//! The checker: `multiple-match` on `amd-k10`, at the first store. Break, flush, make is safe, there and on every other model.
//!
//! Left out: the way back (a large page that is split), the work-around in DC_CFG, how software detects the erratum.
//! That two sizes are cached at one time counts as the machine check, whether or not an access meets both: an
//! over-approximation of the erratum.

use lazytlb::{Cr3Load, Entry, FlushRange, Memory, PhysAddr};
use lazytlb_check::Program;
use lazytlb_model::entry::bits;
use lazytlb_model::{CpuModel, Property};

use crate::calls::Calls;
use crate::exhibit::{Case, Exhibit};
use crate::setting::{Mapped, PAGE, mapped, uses};

pub(crate) const EXHIBIT: Exhibit = Exhibit {
    name: "z8",
    kernel: "a class, on AMD family 10h",
    about: "a live mapping changes its size without the break: two entries match, which is a machine check",
    source: "AMD 41322, erratum 383 (H31); SDM 3A, \"Recommended Invalidation\" (H20)",
    story: "512 small pages become a large one: the entry of the table is overwritten by one that maps 2 MiB, and then \
            everybody flushes. In between a CPU has the small page cached, and fills the large one beside it. On AMD \
            family 10h an access that finds both is a machine check.",
    fix: "break, flush, make: clear the entry, flush everywhere, then write the new one",
    left_out: "splitting, DC_CFG, detection; two sizes cached at one time count as the machine check",
    bug: Some(
        Case::unsafe_by("make, flush", (Property::MultipleMatch, 1), || {
            program(Order::MakeFlush)
        })
        .on(CpuModel::AMD_K10),
    ),
    proofs: &[
        Case::safe("break, flush, make", || program(Order::BreakFlushMake)).on(CpuModel::AMD_K10),
    ],
    also: &[],
    broken: &[
        Case::unsafe_by("break, make, flush", (Property::MultipleMatch, 2), || {
            program(Order::BreakMakeFlush)
        })
        .on(CpuModel::AMD_K10),
        Case::unsafe_by("break, flush here, make", (Property::StaleUse, 6), || {
            program(Order::BreakFlushHereMake)
        })
        .on(CpuModel::AMD_K10),
    ],
};

/// The order of what is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    MakeFlush,
    BreakFlushMake,
    BreakMakeFlush,
    /// Only the CPU that changes the entry flushes before it makes the new one.
    BreakFlushHereMake,
}

#[derive(Clone, Copy)]
struct Mm<A> {
    frames: Mapped,
    calls: Calls<A, 2>,
    order: Order,
}

impl<A> Mm<A> {
    fn promote<H: Memory<Atomic = A>>(&self, hw: &H) {
        let Mapped { root, page, .. } = self.frames;
        let large = Entry(Entry::to(page).0 | bits::LARGE);
        if self.order != Order::MakeFlush {
            hw.write_entry(root, 0, Entry::ABSENT);
        }
        if matches!(self.order, Order::MakeFlush | Order::BreakMakeFlush) {
            hw.write_entry(root, 0, large);
        }
        hw.flush_begins(root, FlushRange::All);
        match self.order {
            Order::BreakFlushHereMake => hw.load_cr3(root, Cr3Load::Flush),
            _ => self.flush(hw, root),
        }
        hw.flush_returned(root);
        if matches!(
            self.order,
            Order::BreakFlushMake | Order::BreakFlushHereMake
        ) {
            hw.write_entry(root, 0, large);
        }
    }

    fn flush<H: Memory<Atomic = A>>(&self, hw: &H, root: PhysAddr) {
        self.calls
            .call(hw, 0b10, || hw.load_cr3(root, Cr3Load::Flush));
    }

    fn serve<H: Memory<Atomic = A>>(&self, hw: &H) {
        self.calls
            .serve(hw, || hw.load_cr3(self.frames.root, Cr3Load::Flush));
    }
}

/// CPU 0 makes a small page a large one, while CPU 1 uses it.
fn program(order: Order) -> Program {
    let mut program = Program::new("z8", 2);
    let frames = mapped(&mut program, "mm");
    program.start_with_root(frames.root);
    let mm = Mm {
        frames,
        calls: Calls::new(&mut program),
        order,
    };
    program.operation(0, "promote", move |hw| mm.promote(hw));
    uses(&mut program, 1, PAGE);
    uses(&mut program, 1, PAGE);
    program.on_flush_interrupt(move |hw| mm.serve(hw));
    program
}
