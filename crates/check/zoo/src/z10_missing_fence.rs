//! Z10: a CPU that is in `mm_cpumask` already reads the generation before its `loaded_mm` is visible. Linux 6.15, CVE-2025-40174.
//!
//! Source: Linux 209954cbc7d0 ("Update mm_cpumask lazily"), `switch_mm_irqs_off`, `flush_tlb_mm_range` and `should_flush_tlb` in
//! `arch/x86/mm/tlb.c` as of 6.15; fixed by 83b0177a6c48 (2025), "Fix SMP ordering in switch_mm_irqs_off()". Read: the fix,
//! message and difference.
//!
//! ```text
//! CPU 1, comes back to mm                    CPU 0, flushes mm
//! loaded_mm = SWITCHING (in the buffer)
//! in the mask already: nothing locked
//! reads the old tlb_gen: not behind
//!                                            clears the entry; raises tlb_gen
//!                                            reads loaded_mm: init_mm, so it is skipped
//! CR3 load with bit 63 set: keeps all
//! ```
//! Setting the mask's bit was the fence, as long as each switch set it. Under sequential consistency the bug does not exist,
//! and it takes PCIDs: without them the load itself flushes.
//!
//! The checker: `stale-use` under x86-TSO on two CPUs, one that unmaps a page and one that leaves and comes back; safe under SC. With the
//! fence it is safe.
//!
//! Left out: lazy mode, slots (one PCID for the space, one for init_mm), LAM, trimming, INVLPGB and its global ASIDs.

use lazytlb::{Cr3Load, Entry, FlushRange, Memory, Pcid, Pcids, PhysAddr};
use lazytlb_check::Program;
use lazytlb_model::{Cr4, MemoryModel, Property};

use crate::calls::Calls;
use crate::exhibit::{Case, Exhibit};
use crate::setting::{PAGE, bit, index, mapped, root_of_no_user, uses, without_interrupts};

pub(crate) const EXHIBIT: Exhibit = Exhibit {
    name: "z10",
    kernel: "Linux 6.15",
    about: "a CPU that is in mm_cpumask already reads tlb_gen before its loaded_mm is visible, and keeps stale entries",
    source: "Linux 6.15, switch_mm_irqs_off, should_flush_tlb (209954cbc7d0); fixed by 83b0177a6c48 (CVE-2025-40174)",
    story: "A CPU that comes back to a space stores loaded_mm = SWITCHING, enters mm_cpumask, reads tlb_gen, and keeps its \
            PCID's entries if it is not behind. The locked instruction that sets the mask's bit was also the fence \
            between store and load. Since CPUs stay in the mask, the bit is set already, and nothing is locked: the load passes \
            the store. The initiator still reads the old loaded_mm, and skips the CPU, which has read the old generation.",
    fix: "an smp_mb() where the mask's bit is not set anew: either the initiator reads SWITCHING, or the CPU the new generation",
    left_out: "lazy mode, slots, LAM, trimming, INVLPGB",
    bug: Some(Case::unsafe_by(
        "no fence",
        (Property::StaleUse, 31),
        || program(Fence::OnlyWithTheBit),
    )),
    proofs: &[Case::safe("a fence on either way", || {
        program(Fence::Always)
    })],
    also: &[Case::safe("no fence, under sequential consistency", || {
        program(Fence::OnlyWithTheBit)
    })
    .under(MemoryModel::Sc)],
    broken: &[
        Case::unsafe_by(
            "the generation is read before the fence",
            (Property::StaleUse, 32),
            || program(Fence::TooLate),
        ),
        Case::unsafe_by("SWITCHING is not stored", (Property::StaleUse, 30), || {
            program(Fence::ButNoSwitching)
        }),
    ],
};

const INIT_MM: u64 = 0;
const MM: u64 = 1;
const SWITCHING: u64 = 2;

/// The PCID of init_mm; the space has the one that CPUs start with.
const INIT_PCID: Pcid = Pcid::new(1);

/// Where there is a fence between the store of `loaded_mm` and the load of `tlb_gen`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fence {
    OnlyWithTheBit,
    Always,
    TooLate,
    ButNoSwitching,
}

#[derive(Clone, Copy)]
struct Mm<A> {
    root: PhysAddr,
    init: PhysAddr,
    tlb_gen: A,
    cpumask: A,
    loaded_mm: [A; 2],
    flushed_to: [A; 2],
    calls: Calls<A, 2>,
    fence: Fence,
}

impl<A> Mm<A> {
    /// Switches to init_mm: the CPU stays in the mask, and what it has cached stays, too.
    fn switch_away<H: Pcids<Atomic = A>>(&self, hw: &H) {
        let me = index(hw.cpu());
        without_interrupts(hw, || {
            hw.store(&self.loaded_mm[me], SWITCHING);
            hw.load_cr3_pcid(self.init, INIT_PCID, Cr3Load::Keep);
            hw.store(&self.loaded_mm[me], INIT_MM);
        });
    }

    fn switch_back<H: Pcids<Atomic = A>>(&self, hw: &H) {
        let me = index(hw.cpu());
        without_interrupts(hw, || {
            if self.fence != Fence::ButNoSwitching {
                hw.store(&self.loaded_mm[me], SWITCHING);
            }
            let mut early = None;
            if hw.load(&self.cpumask) & bit(hw.cpu()) == 0 {
                hw.fetch_or(&self.cpumask, bit(hw.cpu()));
            } else {
                match self.fence {
                    Fence::OnlyWithTheBit => {}
                    Fence::Always | Fence::ButNoSwitching => hw.fence(),
                    Fence::TooLate => {
                        early = Some(hw.load(&self.tlb_gen));
                        hw.fence();
                    }
                }
            }
            let tlb_gen = early.unwrap_or_else(|| hw.load(&self.tlb_gen));
            let load = match hw.load(&self.flushed_to[me]) == tlb_gen {
                true => Cr3Load::Keep,
                false => Cr3Load::Flush,
            };
            hw.store(&self.flushed_to[me], tlb_gen);
            hw.load_cr3_pcid(self.root, Pcid::KERNEL, load);
            hw.store(&self.loaded_mm[me], MM);
        });
    }

    fn unmap<H: Pcids<Atomic = A> + Memory>(&self, hw: &H, table: PhysAddr) {
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.flush_begins(self.root, FlushRange::page(PAGE));
        hw.fetch_add(&self.tlb_gen, 1);
        let other = 1 - index(hw.cpu());
        let mut targets = hw.load(&self.cpumask) & !bit(hw.cpu());
        if !matches!(hw.load(&self.loaded_mm[other]), MM | SWITCHING) {
            targets = 0;
        }
        self.calls.call(hw, targets, || self.catch_up(hw));
        hw.flush_returned(self.root);
    }

    fn catch_up<H: Pcids<Atomic = A>>(&self, hw: &H) {
        let me = index(hw.cpu());
        if hw.load(&self.loaded_mm[me]) != MM {
            return;
        }
        let tlb_gen = hw.load(&self.tlb_gen);
        if hw.load(&self.flushed_to[me]) != tlb_gen {
            hw.load_cr3_pcid(self.root, Pcid::KERNEL, Cr3Load::Flush);
            hw.store(&self.flushed_to[me], tlb_gen);
        }
    }
}

/// CPU 1 leaves the space, comes back, and uses a page; CPU 0 unmaps it.
fn program(fence: Fence) -> Program {
    let mut program = Program::new("z10", 2);
    program.start_with_cr4(Cr4::PCIDE);
    let init = root_of_no_user(&mut program, "init_mm");
    let space = mapped(&mut program, "mm");
    program.start_with_root(space.root);
    let loaded_mm = [0, 1].map(|cpu| program.atomic(format!("loaded_mm of CPU {cpu}"), MM));
    let flushed_to = [0, 1].map(|cpu| program.atomic(format!("flushed_to of CPU {cpu}"), 1));
    let mm = Mm {
        root: space.root,
        init,
        tlb_gen: program.atomic("tlb_gen", 1),
        cpumask: program.atomic("cpumask", 0b11),
        loaded_mm,
        flushed_to,
        calls: Calls::new(&mut program),
        fence,
    };
    program.operation(0, "unmap the page", move |hw| mm.unmap(hw, space.table));
    program.operation(1, "switch to init_mm", move |hw| mm.switch_away(hw));
    program.operation(1, "switch back", move |hw| mm.switch_back(hw));
    uses(&mut program, 1, PAGE);
    program.on_flush_interrupt(move |hw| mm.calls.serve(hw, || mm.catch_up(hw)));
    program
}
