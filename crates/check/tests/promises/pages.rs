//! Page sizes: what a range covers, in whatever size it is cached.

use lazytlb::{
    Access, CpuId, Cr3Load, Entry, FlushRange, FrameKind, Hw, Memory, PageRange, PageSize,
    PhysAddr, Policy, Promises, Spaces, Tables, Until, VirtAddr,
};
use lazytlb_check::{CheckError, Checker, LazyTlb, ModelHw, Program, Protocol, Space};
use lazytlb_model::entry::bits;
use lazytlb_model::{CpuModel, Invpcid, Privilege, Property};

use crate::{NEXT, PAGE, interrupt, large, violated, violated_on};

/// The large page that `PAGE` lies in.
const LARGE_PAGE: FlushRange = FlushRange::Pages(PageRange {
    start: PAGE,
    len_pages: 1,
    size: PageSize::Size2M,
});
/// The same addresses, in the smallest pages.
const ITS_PAGES: FlushRange = FlushRange::Pages(PageRange {
    start: PAGE,
    len_pages: 512,
    size: PageSize::Size4K,
});

fn flush_all(hw: &ModelHw, root: PhysAddr) {
    hw.load_cr3(root, Cr3Load::Flush);
}

/// One CPU maps two small pages, puts a large one in their place, flushes, and uses the second.
fn promotion(range: FlushRange, flush: fn(&ModelHw, PhysAddr)) -> Program {
    let mut program = Program::new("promotion", 1);
    let (root, table) = (program.first_root(), program.table());
    let pages = [program.page(), program.page()];
    let promoted = program.page();
    for (index, page) in pages.into_iter().enumerate() {
        program.first_entry(table, index as u16, Entry::to(page));
    }
    program.first_entry(root, 0, Entry::to(table));
    program.operation(0, "promote", move |hw| {
        hw.write_entry(root, 0, large(promoted));
        hw.flush_begins(root, range);
        flush(hw, root);
        hw.flush_returned(root);
        hw.touch(NEXT, Access::Load);
    });
    program
}

#[test]
fn promotion_with_one_invlpg_leaves_small_entries_elsewhere_in_the_large_page() {
    let one_invlpg = promotion(LARGE_PAGE, |hw, _| hw.invlpg(PAGE));
    assert_eq!(violated(&one_invlpg), Some(Property::StaleUse));
    assert_eq!(violated(&promotion(LARGE_PAGE, flush_all)), None);
}

/// The protocol does as it is told: one INVLPG a page of the range. So a range must be in the smallest pages
/// that may be cached.
#[test]
fn the_protocol_promotes_safely_if_the_range_is_in_small_pages() {
    let promoted_in = |range: FlushRange| {
        let mut program = Program::new("promotion", 1);
        let (root, table) = (program.table(), program.table());
        let pages = [program.page(), program.page()];
        let promoted = program.page();
        for (index, page) in pages.into_iter().enumerate() {
            program.first_entry(table, index as u16, Entry::to(page));
        }
        program.first_entry(root, 0, Entry::to(table));
        let protocol = LazyTlb::new(&mut program, Policy::Ipi, &[root]);
        program.operation(0, "promote", move |hw| {
            protocol.switch_mm(hw, Space(1));
            hw.write_entry(root, 0, large(promoted));
            protocol.flush(hw, Space(1), range, Tables::Kept);
            hw.touch(NEXT, Access::Load);
        });
        violated(&program)
    };
    assert_eq!(promoted_in(LARGE_PAGE), Some(Property::StaleUse));
    assert_eq!(promoted_in(ITS_PAGES), None);
    assert_eq!(promoted_in(FlushRange::All), None);
}

/// A flush of one small page promises nothing of its neighbour, under the same upper entry.
#[test]
fn a_use_outside_of_the_range_is_not_stale() {
    for (addr, expected) in [(PAGE, Some(Property::StaleUse)), (NEXT, None)] {
        let mut program = Program::new("one page of two", 1);
        let (root, table) = (program.first_root(), program.table());
        for index in [0, 1] {
            let page = program.page();
            program.first_entry(table, index, Entry::to(page));
        }
        program.first_entry(root, 0, Entry::to(table));
        program.operation(0, "unhook the table", move |hw| {
            hw.write_entry(root, 0, Entry::ABSENT);
            hw.flush_begins(root, FlushRange::page(PAGE));
            hw.flush_returned(root);
            hw.touch(addr, Access::Store);
        });
        assert_eq!(violated(&program), expected, "{addr:?}");
    }
}

/// The same of a large page that is cut into small ones: in the range its entry is stale, and elsewhere it is not.
#[test]
fn a_large_pages_entry_is_stale_where_the_range_says_so() {
    for (addr, expected) in [(PAGE, None), (NEXT, Some(Property::StaleUse))] {
        let mut program = Program::new("cut", 1);
        let (root, table, page) = (program.first_root(), program.table(), program.page());
        program.first_entry(root, 0, large(page));
        program.first_entry(table, 0, Entry::to(page));
        program.operation(0, "cut", move |hw| {
            hw.write_entry(root, 0, Entry::to(table));
            hw.flush_begins(root, FlushRange::page(NEXT));
            hw.flush_returned(root);
            hw.touch(addr, Access::Store);
        });
        assert_eq!(violated(&program), expected, "{addr:?}");
    }
}

/// H6, H14: INVPCID for an address of a large page that is held in pieces drops one piece.
#[test]
fn one_invpcid_does_not_drop_a_large_page_in_pieces() {
    let unmap = |flush: fn(&ModelHw, PhysAddr)| {
        let mut program = Program::new("invpcid", 1);
        program.features().tags = true;
        let (root, page) = (program.first_root(), program.page());
        program.first_entry(root, 0, large(page));
        program.operation(0, "unmap", move |hw| {
            hw.write_entry(root, 0, Entry::ABSENT);
            hw.flush_begins(root, LARGE_PAGE);
            flush(hw, root);
            hw.flush_returned(root);
            hw.touch(NEXT, Access::Load);
        });
        program
    };
    let one_address = unmap(|hw, _| hw.invpcid(Invpcid::Address(0, PAGE)));
    assert_eq!(violated(&one_address), Some(Property::StaleUse));
    assert_eq!(
        violated_on(CpuModel::AMD_ZEN3, &one_address),
        None,
        "it holds them whole"
    );
    assert_eq!(violated(&unmap(|hw, _| hw.invlpg(PAGE))), None);
    let both = unmap(|hw, _| {
        hw.invpcid(Invpcid::Address(0, PAGE));
        hw.invpcid(Invpcid::Address(0, NEXT));
    });
    assert_eq!(violated(&both), None);
}

/// A large page is unmapped, flushed page by page with INVPCID, and used at an address.
fn flushed_by_piece(pages: &'static [u64], at: u64) -> Program {
    let mut program = Program::new("pieces", 1);
    program.features().tags = true;
    let (root, page) = (program.first_root(), program.page());
    program.first_entry(root, 0, large(page));
    program.operation(0, "unmap", move |hw| {
        hw.write_entry(root, 0, Entry::ABSENT);
        let begin = |&page: &u64| {
            let range = FlushRange::page(VirtAddr(page << 12));
            let promise = hw.promise_begins(Spaces::one(root), range);
            hw.invpcid(Invpcid::Address(0, VirtAddr(page << 12)));
            hw.promise_kept(promise);
        };
        pages.iter().for_each(begin);
        hw.touch(VirtAddr(at << 12), Access::Load);
    });
    program
}

#[test]
fn pieces_that_are_gone_are_no_stale_use_however_many_touch() {
    for at in [0, 1, 2, 3, 8] {
        assert_eq!(violated(&flushed_by_piece(&[0, 1, 2, 3], at)), None, "{at}");
        assert_eq!(violated(&flushed_by_piece(&[2, 0, 3, 1], at)), None, "{at}");
    }
    assert_eq!(violated(&flushed_by_piece(&[5, 3, 4], 4)), None);
}

/// The model has no room for the third piece. It must not be taken to stay: INVPCID did remove it (H14).
#[test]
fn too_many_separate_pieces_gone_are_a_limit_and_no_violation() {
    for at in [0, 2, 4] {
        let error = Checker::new()
            .try_check(&flushed_by_piece(&[0, 2, 4], at), |_| {})
            .unwrap_err();
        let CheckError::Limit(message) = &error else {
            panic!("{error:?}")
        };
        assert!(
            message.contains("more than 2 separate pieces gone"),
            "{message}"
        );
    }
}

/// A frame inside a large page is freed under its entry, and perhaps used for something else.
fn frame_inside(addr: VirtAddr, reuses: bool) -> Program {
    let mut program = Program::new("a frame inside", 1);
    let (root, page, inside) = (program.first_root(), program.page(), program.page());
    program.first_entry(root, 0, large(page));
    program.operation(0, "free a frame inside", move |hw| {
        hw.free_frame(inside);
        if reuses {
            assert_eq!(hw.alloc_frame(FrameKind::Table), inside);
        }
        hw.touch(addr, Access::Load);
    });
    program
}

#[test]
fn a_frame_inside_a_large_page_that_is_freed_or_reused_must_not_be_used() {
    for reuses in [false, true] {
        let used = frame_inside(NEXT, reuses);
        assert_eq!(violated(&used), Some(Property::StaleUse), "{reuses}");
        let other_part = frame_inside(PAGE, reuses);
        assert_eq!(violated(&other_part), None, "{reuses}");
        let beyond = frame_inside(VirtAddr(0x2000), reuses);
        assert_eq!(violated(&beyond), None, "{reuses}");
    }
}

/// The large page is cached only after a frame inside was freed, and before that is used again.
#[test]
fn a_frame_inside_that_was_freed_before_it_was_cached_must_not_be_used_once_reused() {
    for (addr, expected) in [(NEXT, Some(Property::StaleUse)), (PAGE, None)] {
        let mut program = Program::new("freed before", 1);
        let (root, page, inside) = (program.table(), program.page(), program.page());
        program.first_entry(root, 0, large(page));
        program.operation(0, "free, load, reuse", move |hw| {
            hw.free_frame(inside);
            hw.load_cr3(root, Cr3Load::Flush);
            assert_eq!(hw.alloc_frame(FrameKind::Page), inside);
            hw.touch(addr, Access::Load);
        });
        assert_eq!(violated(&program), expected, "{addr:?}");
    }
}

/// The store has gone through the large page's entry before the flush, at an address outside of its range.
#[test]
fn a_buffered_store_is_stale_by_its_own_address() {
    for (addr, expected) in [(PAGE, None), (NEXT, Some(Property::StaleUse))] {
        let mut program = Program::new("a store that waits", 2);
        let (root, page) = (program.first_root(), program.page());
        let go = program.atomic("go", 0);
        program.first_entry(root, 0, large(page));
        program.operation(0, "unmap", move |hw| {
            hw.pause_until(&go, Until::Equals(1));
            hw.write_entry(root, 0, Entry::ABSENT);
            hw.flush_begins(root, FlushRange::page(NEXT));
            hw.invlpg(PAGE);
            hw.flush_returned(root);
        });
        program.operation(1, "store", move |hw| {
            hw.store(&go, 1);
            hw.touch(addr, Access::Store);
            hw.invlpg(PAGE);
        });
        let checker = Checker::new();
        assert_eq!(
            crate::property_of(&checker.check(&program)),
            expected,
            "{addr:?}"
        );
    }
}

/// The table is unhooked and its flush has begun; then the other CPU, which still holds the upper entry, fills a
/// page from what is stored into the table meanwhile. INVLPG of another page drops the upper entry, not the page's.
#[test]
fn a_flush_covers_what_is_filled_through_a_covered_entry_after_it_began() {
    let mut program = Program::new("filled later", 2);
    let (root, table, page) = (program.first_root(), program.table(), program.page());
    let (begun, stored, kept) = (
        program.atomic("begun", 0),
        program.atomic("stored", 0),
        program.atomic("kept", 0),
    );
    program.first_entry(root, 0, Entry::to(table));
    program.operation(0, "unhook the table", move |hw| {
        hw.write_entry(root, 0, Entry::ABSENT);
        hw.invlpg(PAGE);
        hw.flush_begins(root, FlushRange::All);
        hw.swap(&begun, 1);
        hw.pause_until(&stored, Until::Equals(1));
        hw.flush_returned(root);
        hw.swap(&kept, 1);
    });
    program.operation(1, "map", move |hw| {
        hw.pause_until(&begun, Until::Equals(1));
        hw.write_entry(table, 0, Entry::to(page));
        hw.invlpg(VirtAddr(0x20_0000));
        hw.swap(&stored, 1);
        hw.pause_until(&kept, Until::Equals(1));
        hw.touch(PAGE, Access::Load);
    });
    for model in [CpuModel::INTEL_SKYLAKE, CpuModel::WEAKEST] {
        assert_eq!(
            violated_on(model, &program),
            Some(Property::StaleUse),
            "{}",
            model.name
        );
    }
}

/// CPU 0's stores that clear D wait when its flush begins, and CPU 1 sets D before they drain: then the entry is
/// cached with D, which nothing had when the flush began (H21).
#[test]
fn a_flush_that_takes_d_away_covers_an_entry_that_gets_it_later() {
    let cleaned = |invalidates: bool| {
        let mut program = Program::new("clean", 2);
        program.features().accessed_dirty = true;
        let (root, table) = (program.first_root(), program.table());
        let (word, kept) = (program.atomic("word", 0), program.atomic("kept", 0));
        let (begun, stored) = (program.atomic("begun", 0), program.atomic("stored", 0));
        let page = program.page_with_word(word);
        let clean = Entry(Entry::to(page).0 | bits::ACCESSED);
        program.first_entry(root, 0, Entry(Entry::to(table).0 | bits::ACCESSED));
        program.first_entry(table, 0, clean);
        program.operation(0, "clean", move |hw| {
            hw.write_entry(table, 0, clean);
            hw.flush_begins(root, FlushRange::page(PAGE));
            // An interrupt, and a load, drain nothing (H36).
            interrupt(hw, CpuId(1));
            hw.pause_until(&stored, Until::Equals(1));
            hw.flush_returned(root);
            hw.swap(&kept, 1);
        });
        program.on_flush_interrupt(move |hw| {
            hw.swap(&begun, 1);
        });
        program.operation(1, "store", move |hw| {
            let store = || hw.store_virtual(PAGE, 0xff, 1, Privilege::Supervisor, false);
            hw.pause_until(&begun, Until::Equals(1));
            store();
            hw.swap(&stored, 1);
            hw.pause_until(&kept, Until::Equals(1));
            if invalidates {
                hw.invlpg(PAGE);
            }
            store();
        });
        crate::property_of(&lazytlb_check::Checker::new().check(&program))
    };
    assert_eq!(cleaned(false), Some(Property::StaleUse));
    assert_eq!(cleaned(true), None);
}
