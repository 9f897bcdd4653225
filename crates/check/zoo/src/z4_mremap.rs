//! Z4: a page moves to another address, and the page-table lock is released before the old one is flushed. Linux until 4.19.
//!
//! Source: Linux, `move_ptes` in `mm/mremap.c`; fixed by eb66ae030829 (2018-10, CVE-2018-18281), whose message
//! says that the page's lifetime is controlled by the page-table lock.
//!
//! Whoever takes the lock next finds the page at its new address only, unmaps it there, flushes that address, and frees the
//! page. A thread that still has the old address cached reads and writes a page that is somebody else's by then.
//!
//! The promise that the second CPU makes, and that is broken, is about the *page*: no address of the space leads to it any more.
//! That is what it relies on when it frees it, by the rule that the lock stands for: tables and TLBs agree when it is free.
//!
//! The checker: `stale-use` on two CPUs, one that moves the page and one that unmaps it and stores to where it was. With the flush
//! before the release it is safe.
//!
//! Left out: moves of whole tables, dirty bits, the reverse map by which truncation finds the page.

use lazytlb::{
    CompareExchange, Entry, FlushRange, Memory, PageRange, PageSize, PhysAddr, Poll, Promises,
    Spaces, VirtAddr,
};
use lazytlb_check::Program;
use lazytlb_model::Property;

use crate::calls::Calls;
use crate::exhibit::{Case, Exhibit};
use crate::setting::{PAGE, mapped};

pub(crate) const EXHIBIT: Exhibit = Exhibit {
    name: "z4",
    kernel: "Linux 4.18",
    about: "mremap releases the page-table lock before it flushes: the page is freed under its old address",
    source: "Linux move_ptes; fixed by eb66ae030829 (CVE-2018-18281)",
    story: "CPU 0 moves a page's entry to another address under the page-table lock, releases the lock, and flushes the \
            old address then. In between CPU 1 takes the lock, finds the page at its new address, unmaps it, flushes \
            that address, and frees the page. The old address is still cached: a store goes to a freed page.",
    fix: "the flush of the old address comes before the lock is released",
    left_out: "moves of whole tables, dirty bits, the reverse map",
    bug: Some(Case::unsafe_by(
        "the lock is released first",
        (Property::StaleUse, 28),
        || program(Flush::AfterUnlock),
    )),
    proofs: &[Case::safe("the flush comes first", || {
        program(Flush::Locked)
    })],
    also: &[],
    broken: &[
        Case::unsafe_by("no flush at all", (Property::StaleUse, 13), || {
            program(Flush::Never)
        }),
        Case::unsafe_by(
            "CPU 0 flushes only its own",
            (Property::StaleUse, 15),
            || program(Flush::OnlyHere),
        ),
    ],
};

/// Where the page moves to.
const ELSEWHERE: VirtAddr = VirtAddr(1 << 12);

/// When the old address is flushed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    AfterUnlock,
    Locked,
    Never,
    OnlyHere,
}

#[derive(Clone, Copy)]
struct Mm<A> {
    root: PhysAddr,
    table: PhysAddr,
    lock: A,
    calls: Calls<A, 2>,
    flush: Flush,
}

impl<A> Mm<A> {
    /// Takes the page-table lock. Interrupts are on: its holder waits for this CPU.
    fn lock<H: CompareExchange<Atomic = A> + Poll>(&self, hw: &H) {
        hw.poll(|hw| hw.compare_exchange(&self.lock, 0, 1).ok());
    }

    fn mremap<H>(&self, hw: &H)
    where
        H: CompareExchange<Atomic = A> + Poll + Memory,
    {
        self.lock(hw);
        let entry = hw.read_entry(self.table, 0);
        hw.write_entry(self.table, 0, Entry::ABSENT);
        hw.write_entry(self.table, 1, entry);
        hw.flush_begins(self.root, FlushRange::page(PAGE));
        match self.flush {
            Flush::Locked => self.calls.call(hw, 0b10, || hw.invlpg(PAGE)),
            Flush::OnlyHere => hw.invlpg(PAGE),
            Flush::AfterUnlock | Flush::Never => {}
        }
        hw.store(&self.lock, 0);
        if self.flush == Flush::AfterUnlock {
            self.calls.call(hw, 0b10, || hw.invlpg(PAGE));
        }
        hw.flush_returned(self.root);
    }

    /// Unmaps the page where it has come to, if it has, and frees it.
    fn munmap<H>(&self, hw: &H)
    where
        H: CompareExchange<Atomic = A> + Poll + Promises,
    {
        self.lock(hw);
        let entry = hw.read_entry(self.table, 1);
        if entry.is_present() {
            hw.write_entry(self.table, 1, Entry::ABSENT);
            let both = PageRange {
                start: PAGE,
                len_pages: 2,
                size: PageSize::Size4K,
            };
            let gone = hw.promise_begins(Spaces::one(self.root), FlushRange::Pages(both));
            self.calls.call(hw, 0b01, || hw.invlpg(ELSEWHERE));
            hw.promise_kept(gone);
            hw.free_frame(entry.frame());
        }
        hw.store(&self.lock, 0);
    }

    fn serve<H: Memory<Atomic = A>>(&self, hw: &H) {
        self.calls.serve(hw, || {
            hw.invlpg(PAGE);
            hw.invlpg(ELSEWHERE);
        });
    }
}

/// CPU 0 moves a page; CPU 1 unmaps it where it has come to, and stores where it was.
fn program(flush: Flush) -> Program {
    let mut program = Program::new("z4", 2);
    let space = mapped(&mut program, "mm");
    program.start_with_root(space.root);
    let mm = Mm {
        root: space.root,
        table: space.table,
        lock: program.atomic("page-table lock", 0),
        calls: Calls::new(&mut program),
        flush,
    };
    program.operation(0, "mremap", move |hw| mm.mremap(hw));
    program.operation(1, "munmap", move |hw| mm.munmap(hw));
    program.operation(1, "store to the old address", |hw| {
        hw.touch(PAGE, lazytlb::Access::Store);
    });
    program.on_flush_interrupt(move |hw| mm.serve(hw));
    program
}
