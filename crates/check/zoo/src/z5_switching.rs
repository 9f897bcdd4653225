//! Z5: between its CR3 load and its store of `loaded_mm`, a CPU uses the new space and is skipped. Linux 6.14, CVE-2025-37964.
//!
//! Source: Linux 209954cbc7d0 (a CPU stays in `mm_cpumask` after it has switched away) and 6db2526c1d69 (so the mask is
//! trimmed, and the target's `loaded_mm` decides), `should_flush_tlb` and `switch_mm_irqs_off` in `arch/x86/mm/tlb.c`;
//! fixed by fea4e317f9e7 (2025). Read: the postings, and the fix's message.
//!
//! The checker: `stale-use` on two CPUs, one that unmaps a page and one that switches to the space. With "switching" counted as
//! the space it is safe.
//!
//! Left out: PCIDs (every CR3 load flushes; Z10 has them), lazy mode, trimming, ranges.

use lazytlb::{Cr3Load, Entry, FlushRange, Memory, PhysAddr};
use lazytlb_check::Program;
use lazytlb_model::Property;

use crate::calls::Calls;
use crate::exhibit::{Case, Exhibit};
use crate::setting::{PAGE, bit, index, mapped, uses, without_interrupts};

pub(crate) const EXHIBIT: Exhibit = Exhibit {
    name: "z5",
    kernel: "Linux 6.14",
    about: "a CPU between its CR3 load and its store of loaded_mm already uses the new space, and is skipped",
    source: "Linux 6db2526c1d69, should_flush_tlb, switch_mm_irqs_off; fixed by fea4e317f9e7 (CVE-2025-37964)",
    story: "Since CPUs stay in mm_cpumask after they have left, an initiator looks at the target's loaded_mm, and \
            interrupts it only if that is the space to be flushed. A CPU that switches there stores SWITCHING, loads \
            CR3, and stores the space last. In between it fills its TLB from the new space, and its loaded_mm says \
            otherwise: it is skipped, and goes on with what it has cached.",
    fix: "a target whose loaded_mm is SWITCHING counts as being in the space",
    left_out: "PCIDs (z10 has them), lazy mode, trimming of the mask, ranges",
    bug: Some(Case::unsafe_by(
        "SWITCHING is not the space",
        (Property::StaleUse, 24),
        || program(Rule::LOADED_ONLY),
    )),
    proofs: &[Case::safe("SWITCHING counts as the space", || {
        program(Rule::FIXED)
    })],
    also: &[],
    broken: &[
        Case::unsafe_by(
            "loaded_mm says the old space until the end",
            (Property::StaleUse, 24),
            || {
                program(Rule {
                    before_load: INIT_MM,
                    ..Rule::FIXED
                })
            },
        ),
        Case::unsafe_by(
            "the mask is entered after the CR3 load",
            (Property::StaleUse, 23),
            || {
                program(Rule {
                    mask: Mask::EnteredLast,
                    ..Rule::FIXED
                })
            },
        ),
    ],
};

/// What `loaded_mm` may hold.
const INIT_MM: u64 = 0;
const MM: u64 = 1;
const SWITCHING: u64 = 2;

/// When a CPU enters the mask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mask {
    EnteredFirst,
    EnteredLast,
}

/// What initiator and target agree on.
#[derive(Clone, Copy)]
struct Rule {
    /// What `loaded_mm` says before CR3 is loaded.
    before_load: u64,
    /// What besides [`MM`] counts as the space.
    counts: Option<u64>,
    mask: Mask,
}

impl Rule {
    const FIXED: Rule = Rule {
        before_load: SWITCHING,
        counts: Some(SWITCHING),
        mask: Mask::EnteredFirst,
    };
    const LOADED_ONLY: Rule = Rule {
        counts: None,
        ..Rule::FIXED
    };
}

#[derive(Clone, Copy)]
struct Mm<A> {
    root: PhysAddr,
    tlb_gen: A,
    cpumask: A,
    loaded_mm: [A; 2],
    flushed_to: [A; 2],
    calls: Calls<A, 2>,
    rule: Rule,
}

impl<A> Mm<A> {
    fn load<H: Memory<Atomic = A>>(&self, hw: &H) {
        hw.load_cr3(self.root, Cr3Load::Flush);
    }

    fn switch_to<H: Memory<Atomic = A>>(&self, hw: &H) {
        let me = index(hw.cpu());
        without_interrupts(hw, || {
            hw.store(&self.loaded_mm[me], self.rule.before_load);
            if self.rule.mask == Mask::EnteredFirst {
                hw.fetch_or(&self.cpumask, bit(hw.cpu()));
            }
            let tlb_gen = hw.load(&self.tlb_gen);
            hw.store(&self.flushed_to[me], tlb_gen);
            hw.load_cr3(self.root, Cr3Load::Flush);
            if self.rule.mask == Mask::EnteredLast {
                hw.fetch_or(&self.cpumask, bit(hw.cpu()));
            }
            hw.store(&self.loaded_mm[me], MM);
        });
    }

    fn unmap<H: Memory<Atomic = A>>(&self, hw: &H, table: PhysAddr) {
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.flush_begins(self.root, FlushRange::page(PAGE));
        hw.fetch_add(&self.tlb_gen, 1);
        let other = 1 - index(hw.cpu());
        let mut targets = hw.load(&self.cpumask) & !bit(hw.cpu());
        if targets != 0 {
            let loaded = hw.load(&self.loaded_mm[other]);
            if loaded != MM && Some(loaded) != self.rule.counts {
                targets = 0;
            }
        }
        self.calls.call(hw, targets, || self.catch_up(hw));
        hw.flush_returned(self.root);
    }

    fn catch_up<H: Memory<Atomic = A>>(&self, hw: &H) {
        let me = index(hw.cpu());
        if hw.load(&self.loaded_mm[me]) != MM {
            return;
        }
        let tlb_gen = hw.load(&self.tlb_gen);
        if hw.load(&self.flushed_to[me]) != tlb_gen {
            hw.load_cr3(self.root, Cr3Load::Flush);
            hw.store(&self.flushed_to[me], tlb_gen);
        }
    }
}

/// CPU 0 runs in the space and unmaps a page; CPU 1 switches to the space and uses the page.
fn program(rule: Rule) -> Program {
    let mut program = Program::new("z5", 2);
    let space = mapped(&mut program, "mm");
    let loaded_mm = [(0, MM), (1, INIT_MM)]
        .map(|(cpu, mm)| program.atomic(format!("loaded_mm of CPU {cpu}"), mm));
    let flushed_to = [0, 1].map(|cpu| program.atomic(format!("flushed_to of CPU {cpu}"), 1));
    let mm = Mm {
        root: space.root,
        tlb_gen: program.atomic("tlb_gen", 1),
        cpumask: program.atomic("cpumask", 0b01),
        loaded_mm,
        flushed_to,
        calls: Calls::new(&mut program),
        rule,
    };
    program.operation(0, "run in the space", move |hw| mm.load(hw));
    program.operation(0, "unmap the page", move |hw| mm.unmap(hw, space.table));
    program.operation(1, "switch to the space", move |hw| mm.switch_to(hw));
    uses(&mut program, 1, PAGE);
    program.on_flush_interrupt(move |hw| mm.calls.serve(hw, || mm.catch_up(hw)));
    program
}
