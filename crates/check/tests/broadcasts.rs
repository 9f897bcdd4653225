//! What a broadcast through the trait beside the seam leaves in caches is found, and what it drops is not.

use std::num::NonZeroU16;

use lazytlb::{
    Access, Broadcast, Cr3Load, Entry, FlushRange, Globals, Hw, Invlpgb, Memory, Pcid, Stride,
    Strides, Until, UpperLevels, VirtAddr,
};
use lazytlb_check::{Checker, Program};
use lazytlb_model::cpu_model::BroadcastAnswer;
use lazytlb_model::{CpuModel, Cr4, Property};

const GLOBAL: u64 = 1 << 8;

/// What CPU 0 removes, before it broadcasts.
#[derive(Clone, Copy)]
enum Removed {
    /// The page with this index.
    Page(u16),
    /// The same, where its entry is global.
    GlobalPage(u16),
    /// The table, which it frees.
    Table,
}

/// Invalidates on every CPU, on any machine.
fn everywhere<H: Broadcast>(hw: &H, what: Invlpgb) {
    hw.fence();
    hw.invlpgb(what);
    hw.tlbsync();
}

/// CPU 0 removes, broadcasts and waits; CPU 1 touches the page meanwhile. Returns what is violated.
fn violated_on(cpu_model: CpuModel, removed: Removed, what: Invlpgb) -> Option<Property> {
    let mut program = Program::new("broadcast", 2);
    program.features().broadcasts = true;
    program.start_with_cr4(Cr4::default().with(Cr4::PCIDE, true).with(Cr4::PGE, true));
    let (root, table, page) = (program.table(), program.table(), program.page());
    let (index, flags) = match removed {
        Removed::Page(index) => (index, 0),
        Removed::GlobalPage(index) => (index, GLOBAL),
        Removed::Table => (0, 0),
    };
    let addr = VirtAddr(u64::from(index) << 12);
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, index, Entry(Entry::to(page).0 | flags));
    program.start_with_root(root);
    program.operation(0, "remove", move |hw| {
        match removed {
            Removed::Page(_) | Removed::GlobalPage(_) => {
                hw.write_entry(table, index, Entry::ABSENT);
            }
            Removed::Table => hw.write_entry(root, 0, Entry::ABSENT),
        }
        hw.flush_begins(root, FlushRange::page(addr));
        everywhere(hw, what);
        hw.flush_returned(root);
        if let Removed::Table = removed {
            hw.free_frame(table);
        }
    });
    program.operation(1, "touch", move |hw| hw.touch(addr, Access::Load));
    program.operation(1, "touch again", move |hw| {
        hw.touch(addr, Access::Load);
        hw.load_cr3(root, Cr3Load::Flush);
    });
    let verdict = Checker::new().cpu_model(cpu_model).check(&program);
    let property = verdict.violation().map(|violation| violation.property);
    assert!(property.is_some() || verdict.is_safe(), "{verdict:?}");
    property
}

fn violated(removed: Removed, what: Invlpgb) -> Option<Property> {
    let weakest = violated_on(CpuModel::WEAKEST, removed, what);
    assert_eq!(weakest, violated_on(CpuModel::AMD_ZEN3, removed, what));
    weakest
}

fn addresses(start: u64, count: u16, stride: Stride) -> Invlpgb {
    let addresses = Some(Strides {
        start: VirtAddr(start),
        count: NonZeroU16::new(count).expect("some"),
        stride,
    });
    Invlpgb {
        addresses,
        ..Invlpgb::EVERYTHING
    }
}

const STALE: Option<Property> = Some(Property::StaleUse);

#[test]
fn a_broadcast_without_addresses_reaches_every_page_and_table() {
    for removed in [Removed::Page(0), Removed::GlobalPage(1), Removed::Table] {
        assert_eq!(violated(removed, Invlpgb::EVERYTHING), None);
    }
}

#[test]
fn upper_levels_that_are_kept_lead_into_a_freed_table_and_to_no_removed_page() {
    let what = Invlpgb {
        upper_levels: UpperLevels::Kept,
        ..Invlpgb::EVERYTHING
    };
    assert_eq!(violated(Removed::Page(0), what), None);
    let walked = Some(Property::TableUseAfterFree);
    assert_eq!(violated(Removed::Table, what), walked);
}

#[test]
fn only_pages_that_an_address_lies_in_go() {
    for (removed, count, expected) in [(0, 1, None), (1, 1, STALE), (1, 2, None), (2, 2, STALE)] {
        let what = addresses(0, count, Stride::Size4K);
        assert_eq!(violated(Removed::Page(removed), what), expected);
    }
}

#[test]
fn a_stride_of_2m_passes_over_small_pages() {
    let what = addresses(0, 2, Stride::Size2M);
    assert_eq!(violated(Removed::Page(0), what), None);
    assert_eq!(violated(Removed::Page(1), what), STALE);
}

#[test]
fn other_pcids_are_spared() {
    for (pcid, expected) in [(0, None), (1, STALE)] {
        let what = Invlpgb {
            pcid: Some(Pcid::new(pcid)),
            ..Invlpgb::EVERYTHING
        };
        assert_eq!(violated(Removed::Page(0), what), expected);
    }
}

#[test]
fn global_entries_that_are_kept_are_used() {
    let what = Invlpgb {
        globals: Globals::Kept,
        ..Invlpgb::EVERYTHING
    };
    assert_eq!(violated(Removed::GlobalPage(0), what), STALE);
    assert_eq!(violated(Removed::Page(0), what), None);
}

#[test]
fn a_cpu_that_has_no_broadcasts_says_so_and_raises_an_exception() {
    let found = violated_on(
        CpuModel::INTEL_SKYLAKE,
        Removed::Page(0),
        Invlpgb::EVERYTHING,
    );
    assert_eq!(found, Some(Property::GeneralProtection));
    for cpu_model in CpuModel::ALL {
        let mut program = Program::new("asks", 1);
        let broadcasts = cpu_model.broadcast;
        program.operation(0, "ask", move |hw| {
            assert_eq!(hw.most_addresses().is_some(), broadcasts);
            hw.fence();
        });
        program.proves("the machine says whether it broadcasts");
        let verdict = Checker::new().cpu_model(cpu_model).check(&program);
        assert!(verdict.is_safe(), "{verdict:?}");
    }
}

#[test]
fn more_addresses_than_the_machine_allows_are_an_error() {
    let found = violated(Removed::Page(0), addresses(0, 3, Stride::Size4K));
    assert_eq!(found, Some(Property::Panic));
}

/// One CPU removes a page and broadcasts; the code goes on on another CPU, which executes TLBSYNC: it waits for nothing, since that CPU has broadcast nothing.
#[test]
fn tlbsync_on_another_cpu_than_the_broadcast_waits_for_nothing() {
    let found = |migrates: bool| {
        let mut program = Program::new("migrates", 3);
        program.features().broadcasts = true;
        let (root, table, page) = (program.table(), program.table(), program.page());
        program.first_entry(root, 0, Entry::to(table));
        program.first_entry(table, 0, Entry::to(page));
        program.start_with_root(root);
        let migrated = program.atomic("migrated", 0);
        program.operation(0, "remove", move |hw| {
            hw.write_entry(table, 0, Entry::ABSENT);
            hw.flush_begins(root, FlushRange::page(VirtAddr(0)));
            hw.fence();
            Broadcast::invlpgb(hw, Invlpgb::EVERYTHING);
            if !migrates {
                Broadcast::tlbsync(hw);
                hw.flush_returned(root);
            }
            hw.store(&migrated, 1);
        });
        program.operation(1, "go on", move |hw| {
            hw.pause_until(&migrated, Until::Equals(1));
            Broadcast::tlbsync(hw);
            if migrates {
                hw.flush_returned(root);
            }
        });
        program.operation(2, "touch", |hw| hw.touch(VirtAddr(0), Access::Load));
        let verdict = Checker::new().check(&program);
        let property = verdict.violation().map(|violation| violation.property);
        assert!(property.is_some() || verdict.is_safe(), "{verdict:?}");
        property
    };
    assert_eq!(found(true), STALE);
    assert_eq!(found(false), None);
}

/// A store has its translation, and waits in the other CPU's buffer, when that answers the broadcast. What its answer says of such stores is
/// assumed of some models, of the stores alone that went through what goes.
#[test]
fn a_store_that_waits_holds_up_the_answer_where_that_is_assumed() {
    let found = |cpu_model: CpuModel, removed: u64, touched: u64| {
        let mut program = Program::new("a store waits", 2);
        program.features().broadcasts = true;
        let (root, table) = (program.table(), program.table());
        program.first_entry(root, 0, Entry::to(table));
        for index in 0..2 {
            let page = program.page();
            program.first_entry(table, index, Entry::to(page));
        }
        program.start_with_root(root);
        program.operation(0, "remove", move |hw| {
            hw.write_entry(table, removed as u16, Entry::ABSENT);
            hw.flush_begins(root, FlushRange::page(VirtAddr(removed << 12)));
            everywhere(hw, addresses(removed << 12, 1, Stride::Size4K));
            hw.flush_returned(root);
        });
        program.operation(1, "store", move |hw| {
            hw.touch(VirtAddr(touched << 12), Access::Store);
        });
        program.operation(1, "load", |hw| hw.touch(VirtAddr(0), Access::Load));
        let verdict = Checker::new().cpu_model(cpu_model).check(&program);
        let property = verdict.violation().map(|violation| violation.property);
        assert!(property.is_some() || verdict.is_safe(), "{verdict:?}");
        property
    };
    let assumed = CpuModel::WEAKEST.with_broadcast_answer(BroadcastAnswer::AfterStores);
    assert_eq!(found(CpuModel::WEAKEST, 0, 0), STALE);
    for model in [assumed, CpuModel::AMD_ZEN3, CpuModel::AMD_ZEN5] {
        assert_eq!(found(model, 0, 0), None);
    }
    assert_eq!(found(CpuModel::WEAKEST, 1, 0), None);
}

/// The assumption orders nothing else: a store of another kind waits on.
#[test]
fn other_stores_wait_on_while_a_broadcast_is_answered() {
    let mut program = Program::new("another store waits", 2);
    program.features().broadcasts = true;
    let root = program.table();
    program.start_with_root(root);
    let stored = program.atomic("stored", 0);
    let arrived = program.atomic("arrived", 0);
    program.operation(0, "broadcast", move |hw| {
        hw.pause_until(&arrived, Until::Equals(1));
        hw.store(&arrived, 2);
        everywhere(hw, Invlpgb::EVERYTHING);
        if hw.load(&stored) == 0 {
            hw.note("the store waits");
        }
    });
    program.operation(1, "store", move |hw| {
        hw.swap(&arrived, 1);
        hw.store(&stored, 1);
    });
    program.expect_notes(["the store waits"]);
    program.proves("nothing: it lists what is reached");
    let assumed = CpuModel::WEAKEST.with_broadcast_answer(BroadcastAnswer::AfterStores);
    let verdict = Checker::new().cpu_model(assumed).check(&program);
    assert!(verdict.is_safe(), "{verdict:?}");
    assert!(verdict.unreached.is_empty(), "{verdict:?}");
}
