//! Two spaces, two PCIDs, and tables that are freed while another PCID's entries still lead to them.
//!
//! CPU 1 leaves space A by a CR3 load with bit 63 set, and comes back; meanwhile CPU 0 unhooks A's table, and
//! frees it without an interrupt, because A is not loaded anywhere. On its return CPU 1 compares generations,
//! as Linux's `switch_mm_irqs_off` does, and flushes A's PCID if it has missed something. No walk can begin at
//! what it still caches of A in between: so whether this is safe hangs on walks in flight alone, and on what
//! the load with bit 63 does to them (H12a).

use lazytlb::hw::{Hw, Until};
use lazytlb::memory::{Access, Entry, FrameKind, Memory};
use lazytlb::{CpuId, CpuSet, Cr3Load, FlushRange, PhysAddr, VirtAddr};
use lazytlb_check::{Checker, ModelHw, Program, Verdict};
use lazytlb_model::{AtomicCell, CpuModel, Cr4, Invpcid, KeepLoad, LocalCell, Property};

const X: VirtAddr = VirtAddr(0);
const PCID_A: u16 = 1;
const PCID_B: u16 = 2;
/// A PCID that nothing is cached under.
const UNUSED_PCID: u16 = 3;

/// What CPU 1 does when it has left A.
#[derive(Clone, Copy, PartialEq)]
enum Leaving {
    OnlyLoads,
    /// It invalidates something of whichever PCID, which ends its walks in flight.
    EndsWalks,
}

/// What CPU 1 does when it comes back.
#[derive(Clone, Copy, PartialEq)]
enum Returning {
    /// It makes itself known, then compares generations: Linux with the fix of CVE-2025-40174.
    FencesAndCompares,
    /// Without the fence between the two: Linux before the fix.
    Compares,
    /// It keeps what it has cached.
    Keeps,
}

/// What becomes of the table's frame.
#[derive(Clone, Copy, PartialEq)]
enum Frame {
    Freed,
    /// It is a table of the other space at once.
    IsATableAgain,
}

#[derive(Clone, Copy)]
struct Protocol {
    leaving: Leaving,
    returning: Returning,
    frame: Frame,
}

const LINUX: Protocol = Protocol {
    leaving: Leaving::OnlyLoads,
    returning: Returning::FencesAndCompares,
    frame: Frame::Freed,
};

/// The words of the protocol, and the tables.
#[derive(Clone, Copy)]
struct Words {
    generation: AtomicCell,
    a_is_loaded: AtomicCell,
    acknowledged: AtomicCell,
    is_a_table_again: AtomicCell,
    flushed_to: LocalCell,
    a: PhysAddr,
    b: PhysAddr,
    table: PhysAddr,
}

impl Protocol {
    fn remove(self, hw: &ModelHw, words: Words) {
        hw.write_entry(words.a, 0, Entry::ABSENT);
        hw.flush_begins(words.a, FlushRange::page(X));
        hw.fetch_add(&words.generation, 1);
        if hw.load(&words.a_is_loaded) == 1 {
            let mut target = CpuSet::<1>::EMPTY;
            target.insert(CpuId(1));
            hw.send_ipi(&target);
            hw.pause_until(&words.acknowledged, Until::Equals(1));
        } else {
            hw.note("nobody is interrupted");
        }
        hw.flush_returned(words.a);
        hw.free_frame(words.table);
        if self.frame == Frame::IsATableAgain {
            let again = hw.alloc_frame(FrameKind::Table);
            assert!(again == words.table, "the lowest free frame is taken");
            hw.write_entry(again, 0, Entry::to(words.b));
            hw.write_entry(words.b, 0, Entry::to(again));
            hw.store(&words.is_a_table_again, 1);
        }
    }

    fn leave(self, hw: &ModelHw, words: Words) {
        let former = hw.disable_interrupts();
        hw.load_cr3_with_pcid(words.b, PCID_B, Cr3Load::Keep);
        if self.leaving == Leaving::EndsWalks {
            hw.invpcid(Invpcid::Pcid(UNUSED_PCID));
        }
        hw.store(&words.a_is_loaded, 0);
        hw.restore_interrupts(former);
    }

    fn come_back(self, hw: &ModelHw, words: Words) {
        if self.frame == Frame::IsATableAgain {
            // The frame looks like a table of A's by the time that CPU 1 is back.
            hw.pause_until(&words.is_a_table_again, Until::Equals(1));
        }
        let former = hw.disable_interrupts();
        hw.store(&words.a_is_loaded, 1);
        if self.returning != Returning::Compares {
            // Store, then load: either this CPU reads the new generation, or CPU 0 sees it in A.
            hw.fence();
        }
        let generation = hw.load(&words.generation);
        let missed_one = generation != hw.load_local(&words.flushed_to);
        let load = match missed_one && self.returning != Returning::Keeps {
            true => Cr3Load::Flush,
            false => Cr3Load::Keep,
        };
        hw.load_cr3_with_pcid(words.a, PCID_A, load);
        hw.store_local(&words.flushed_to, generation);
        hw.restore_interrupts(former);
        hw.touch(X, Access::Load);
    }

    fn program(self) -> Program {
        let mut program = Program::new("two PCIDs", 2);
        let idle = program.table();
        let (a, b, table) = (program.table(), program.table(), program.table());
        let page = program.page();
        program.start_with_root(idle);
        program.start_with_cr4(Cr4::default().with(Cr4::PCIDE, true));
        program.first_entry(a, 0, Entry::to(table));
        program.first_entry(table, 0, Entry::to(page));
        let words = Words {
            generation: program.atomic("generation of A", 0),
            a_is_loaded: program.atomic("A is loaded", 1),
            acknowledged: program.atomic("acknowledged", 0),
            is_a_table_again: program.atomic("is a table again", 0),
            flushed_to: program.local(1, "flushed to", 0),
            a,
            b,
            table,
        };
        program.operation(0, "remove", move |hw| self.remove(hw, words));
        program.operation(1, "use A", move |hw| {
            hw.load_cr3_with_pcid(a, PCID_A, Cr3Load::Flush);
            hw.touch(X, Access::Load);
        });
        program.operation(1, "leave A", move |hw| self.leave(hw, words));
        program.operation(1, "come back", move |hw| self.come_back(hw, words));
        program.on_flush_interrupt(move |hw| {
            hw.invpcid(Invpcid::Pcid(PCID_A));
            hw.store(&words.acknowledged, 1);
        });
        program.expect_notes(["nobody is interrupted"]);
        program
    }

    fn checked(self, reading: KeepLoad) -> Verdict {
        let cpu_model = CpuModel::WEAKEST.with_keep_load(reading);
        let verdict = Checker::new().cpu_model(cpu_model).check(&self.program());
        assert!(verdict.uses_pcids);
        verdict
    }
}

fn violated(verdict: &Verdict) -> Option<Property> {
    verdict.violation().map(|violation| violation.property)
}

#[test]
fn a_table_freed_under_an_inactive_pcid_is_no_violation() {
    for frame in [Frame::Freed, Frame::IsATableAgain] {
        let protocol = Protocol { frame, ..LINUX };
        let verdict = protocol.checked(KeepLoad::EndsWalks);
        assert!(verdict.is_safe(), "{verdict:?}");
        assert!(verdict.unreached.is_empty(), "{:?}", verdict.unreached);
    }
}

#[test]
fn by_the_weak_reading_a_walk_in_flight_still_holds_it_and_the_verdict_says_so() {
    let verdict = LINUX.checked(KeepLoad::WalksGoOn);
    let violation = verdict.violation().unwrap();
    assert_eq!(violation.property, Property::TableUseAfterFree);
    for told in [
        "walk in flight",
        "under PCID 1",
        "ASSUMED",
        "cr3-load-ends-walks",
    ] {
        assert!(violation.what.contains(told), "{}", violation.what);
    }
}

#[test]
fn an_invalidation_after_leaving_makes_both_readings_safe() {
    for reading in [KeepLoad::EndsWalks, KeepLoad::WalksGoOn] {
        for frame in [Frame::Freed, Frame::IsATableAgain] {
            let leaving = Leaving::EndsWalks;
            let protocol = Protocol {
                leaving,
                frame,
                ..LINUX
            };
            let verdict = protocol.checked(reading);
            assert!(verdict.is_safe(), "{reading:?}: {verdict:?}");
        }
    }
}

#[test]
fn coming_back_without_a_flush_begins_a_walk_at_the_freed_table() {
    for reading in [KeepLoad::EndsWalks, KeepLoad::WalksGoOn] {
        // Also where the frame is a table again: what A's PCID caches leads to the one that was freed.
        for frame in [Frame::Freed, Frame::IsATableAgain] {
            let protocol = Protocol {
                leaving: Leaving::EndsWalks,
                returning: Returning::Keeps,
                frame,
            };
            let verdict = protocol.checked(reading);
            assert_eq!(violated(&verdict), Some(Property::TableUseAfterFree));
            let what = &verdict.violation().unwrap().what;
            assert!(!what.contains("in flight"), "{what}");
        }
    }
}

#[test]
fn without_the_fence_of_linux_a_generation_is_missed() {
    let returning = Returning::Compares;
    let protocol = Protocol { returning, ..LINUX };
    let verdict = protocol.checked(KeepLoad::EndsWalks);
    assert_eq!(violated(&verdict), Some(Property::TableUseAfterFree));
    let sc = Checker::new()
        .cpu_model(CpuModel::WEAKEST.with_keep_load(KeepLoad::EndsWalks))
        .memory(lazytlb_model::MemoryModel::Sc)
        .check(&protocol.program());
    assert!(sc.is_safe(), "the fence is for the store buffer: {sc:?}");
}

#[test]
fn a_root_that_was_left_is_held_by_a_walk_in_flight_too() {
    let mut program = Program::new("freed root", 1);
    program.proves("no walk can begin, or go on, at a root that is freed");
    let (idle, root, other) = (program.table(), program.table(), program.table());
    program.start_with_root(idle);
    program.start_with_cr4(Cr4::default().with(Cr4::PCIDE, true));
    program.operation(0, "leave", move |hw| {
        hw.load_cr3_with_pcid(root, PCID_A, Cr3Load::Flush);
        hw.load_cr3_with_pcid(other, PCID_B, Cr3Load::Keep);
        hw.free_frame(root);
    });
    let check = |reading| {
        let cpu_model = CpuModel::WEAKEST.with_keep_load(reading);
        Checker::new().cpu_model(cpu_model).check(&program)
    };
    assert!(check(KeepLoad::EndsWalks).is_safe());
    let weak = check(KeepLoad::WalksGoOn);
    assert_eq!(violated(&weak), Some(Property::TableUseAfterFree));
}
