//! Z6: FreeBSD amd64: the other CPUs' generations of a space are cleared after the interrupt, not before. FreeBSD-EN-22:04.pcid.
//!
//! Source: freebsd-src, `sys/amd64/amd64/pmap.c`, `pmap_invalidate_preipi_pcid`, `pmap_invalidate_page`, `pmap_pcid_alloc` and
//! `pmap_activate_sw` (the first was read in a copy from after the fix, the last in one of its body alone); the bug came with r362031
//! (2020) and went with r368649 (3fd989da9118), whose message says what had moved.
//!
//! A pmap has a PCID and a generation for each CPU. A CPU that activates a pmap enters `pm_active` by a locked
//! instruction, then reads its `pm_gen`: if that is 0, the PCID is taken anew, and the load of CR3 flushes; else it keeps. Whoever
//! invalidates sets every other CPU's `pm_gen` to 0, then fences, then reads `pm_active`, and interrupts those. r362031
//! moved the local invalidation behind the interrupt, and the clearing with it.
//!
//! The checker: `stale-use` on two CPUs, one that unmaps a page and one that leaves and comes back. Cleared first, and fenced, it is safe.
//!
//! Left out: the choice of PCIDs (one for the pmap, one for the kernel's), page-table isolation, the scoreboard by which
//! initiators wait for CPUs, superpages, EPT.
//!
//! The bug is about pages. Where a page table is freed, it hangs on a reading: a CPU that has left by a load that keeps is not
//! interrupted, and by the weak reading of H12a, which no manual denies, its walks in flight go on into the freed
//! table. If such a load ends walks, the protocol is safe. `also` has both.

use lazytlb::{Cr3Load, Entry, FlushRange, Memory, Pcid, Pcids, PhysAddr};
use lazytlb_check::Program;
use lazytlb_model::{CpuModel, Cr4, KeepLoad, Property};

use crate::calls::Calls;
use crate::exhibit::{Case, Exhibit};
use crate::setting::{PAGE, bit, index, mapped, root_of_no_user, uses, without_interrupts};

pub(crate) const EXHIBIT: Exhibit = Exhibit {
    name: "z6",
    kernel: "FreeBSD r362031, amd64",
    about: "other CPUs' generations are cleared after the interrupt: who switches in between keeps stale entries",
    source: "freebsd-src sys/amd64/amd64/pmap.c, pmap_invalidate_page, pmap_activate_sw; r362031, fixed by r368649 \
             (FreeBSD-EN-22:04.pcid)",
    story: "CPU 1 is elsewhere, with the space's entries under its PCID. CPU 0 unmaps a page, finds nobody in pm_active, and \
            interrupts nobody. Before it clears CPU 1's generation, CPU 1 comes back: it enters pm_active, finds its \
            generation valid, and loads CR3 without a flush. What CPU 0 has unmapped is still there.",
    fix: "clear the generations, fence, then read pm_active and interrupt",
    left_out: "the choice of PCIDs, page-table isolation, the scoreboard, superpages",
    bug: Some(Case::unsafe_by(
        "cleared after the interrupt",
        (Property::StaleUse, 18),
        || program(Clear::AfterTheInterrupt, Frees::Nothing),
    )),
    proofs: &[Case::safe("cleared, fenced, then the interrupt", || {
        program(Clear::Fenced, Frees::Nothing)
    })],
    also: &[
        Case::unsafe_by(
            "a table is freed, and loads that keep let walks go on (H12a, ASSUMED)",
            (Property::TableUseAfterFree, 17),
            || program(Clear::Fenced, Frees::Table),
        ),
        Case::safe(
            "a table is freed, and loads that keep end walks (H12a, ASSUMED)",
            || program(Clear::Fenced, Frees::Table),
        )
        .on(CpuModel::WEAKEST.with_keep_load(KeepLoad::EndsWalks)),
    ],
    broken: &[
        Case::unsafe_by("no fence between the two", (Property::StaleUse, 18), || {
            program(Clear::Unfenced, Frees::Nothing)
        }),
        Case::unsafe_by(
            "the generation is read before pm_active is entered",
            (Property::StaleUse, 19),
            || program(Clear::ReadTooEarly, Frees::Nothing),
        ),
        Case::unsafe_by("never cleared", (Property::StaleUse, 16), || {
            program(Clear::Never, Frees::Nothing)
        }),
    ],
};

/// The kernel's PCID; the space has the one that CPUs start with.
const KERNEL_PCID: Pcid = Pcid::new(1);

/// Whether the page's table goes, too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Frees {
    Nothing,
    Table,
}

/// When the other CPUs' generations are cleared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clear {
    AfterTheInterrupt,
    Fenced,
    Unfenced,
    Never,
    /// As `Fenced`, but a CPU that comes reads its own before it says that it comes.
    ReadTooEarly,
}

#[derive(Clone, Copy)]
struct Pmap<A> {
    root: PhysAddr,
    kernel_root: PhysAddr,
    pm_active: A,
    /// For each CPU: 0 if its PCID has to be taken anew.
    pm_gen: [A; 2],
    calls: Calls<A, 2>,
    clear: Clear,
    frees: Frees,
}

impl<A> Pmap<A> {
    fn leave<H: Pcids<Atomic = A>>(&self, hw: &H) {
        without_interrupts(hw, || {
            hw.load_cr3_pcid(self.kernel_root, KERNEL_PCID, Cr3Load::Keep);
            hw.fetch_and(&self.pm_active, !bit(hw.cpu()));
        });
    }

    fn activate<H: Pcids<Atomic = A>>(&self, hw: &H) {
        let pm_gen = &self.pm_gen[index(hw.cpu())];
        without_interrupts(hw, || {
            let early = (self.clear == Clear::ReadTooEarly).then(|| hw.load(pm_gen));
            hw.fetch_or(&self.pm_active, bit(hw.cpu()));
            let load = match early.unwrap_or_else(|| hw.load(pm_gen)) {
                0 => {
                    hw.store(pm_gen, 1);
                    Cr3Load::Flush
                }
                _ => Cr3Load::Keep,
            };
            hw.load_cr3_pcid(self.root, Pcid::KERNEL, load);
        });
    }

    fn unmap<H: Pcids<Atomic = A> + Memory>(&self, hw: &H, table: PhysAddr) {
        hw.write_entry(table, 0, Entry::ABSENT);
        if self.frees == Frees::Table {
            hw.write_entry(self.root, 0, Entry::ABSENT);
        }
        hw.flush_begins(self.root, FlushRange::page(PAGE));
        match self.clear {
            Clear::Fenced | Clear::ReadTooEarly => {
                self.clear_others(hw);
                // Either we read that a CPU has come, or it reads what we have cleared.
                hw.fence();
            }
            Clear::Unfenced => self.clear_others(hw),
            Clear::AfterTheInterrupt | Clear::Never => {}
        }
        let others = hw.load(&self.pm_active) & !bit(hw.cpu());
        self.calls.call(hw, others, || {
            if self.clear == Clear::AfterTheInterrupt {
                self.clear_others(hw);
            }
            hw.invlpg(PAGE);
        });
        hw.flush_returned(self.root);
        if self.frees == Frees::Table {
            hw.free_frame(table);
        }
    }

    fn clear_others<H: Pcids<Atomic = A>>(&self, hw: &H) {
        hw.store(&self.pm_gen[1 - index(hw.cpu())], 0);
    }

    fn serve<H: Pcids<Atomic = A>>(&self, hw: &H) {
        self.calls.serve(hw, || hw.invlpg(PAGE));
    }
}

/// CPU 1 leaves the space, comes back, and uses a page; CPU 0 unmaps it.
fn program(clear: Clear, frees: Frees) -> Program {
    let mut program = Program::new("z6", 2);
    program.start_with_cr4(Cr4::PCIDE);
    let kernel_root = root_of_no_user(&mut program, "the kernel's pmap");
    let space = mapped(&mut program, "pmap");
    program.start_with_root(space.root);
    let pm_gen = [0, 1].map(|cpu| program.atomic(format!("pm_gen of CPU {cpu}"), 1));
    let pmap = Pmap {
        root: space.root,
        kernel_root,
        pm_active: program.atomic("pm_active", 0b11),
        pm_gen,
        calls: Calls::new(&mut program),
        clear,
        frees,
    };
    program.operation(0, "unmap the page", move |hw| pmap.unmap(hw, space.table));
    program.operation(1, "switch to the kernel's pmap", move |hw| pmap.leave(hw));
    program.operation(1, "switch back", move |hw| pmap.activate(hw));
    uses(&mut program, 1, PAGE);
    program.on_flush_interrupt(move |hw| pmap.serve(hw));
    program
}
