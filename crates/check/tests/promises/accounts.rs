//! Promises add up: begun, handed on, and each kept once.

use lazytlb::{
    Access, CpuId, Cr3Load, Entry, FlushRange, Hw, Memory, PhysAddr, Promise, Promises, Spaces,
    Until, ValueKind,
};
use lazytlb_check::{CheckError, Checker, ModelHw, Program};
use lazytlb_model::{MemoryModel, Property};

use crate::{NEXT, PAGE, interrupt, property_of, violated};

/// The ranges of [`PAGE`] and of the page after it.
const FIRST: FlushRange = FlushRange::page(PAGE);
const SECOND: FlushRange = FlushRange::page(NEXT);

/// One CPU maps two pages, and then does this with the root and the table.
fn with_two_pages(run: fn(&ModelHw, PhysAddr, PhysAddr)) -> Program {
    let mut program = Program::new("two pages", 1);
    let (root, table) = (program.first_root(), program.table());
    for index in [0, 1] {
        let page = program.page();
        program.first_entry(table, index, Entry::to(page));
    }
    program.first_entry(root, 0, Entry::to(table));
    program.operation(0, "flush", move |hw| run(hw, root, table));
    program
}

/// The second begins while the first is open: it must not take its place.
#[test]
fn a_second_promise_does_not_replace_the_first() {
    let by_root = |other: PhysAddr| {
        let mut program = Program::new("two flushes", 1);
        let (root, table, page) = (program.first_root(), program.table(), program.page());
        assert_ne!(root, other);
        assert_eq!(other, program.table());
        program.first_entry(root, 0, Entry::to(table));
        program.first_entry(table, 0, Entry::to(page));
        program.operation(0, "two flushes", move |hw| {
            hw.write_entry(table, 0, Entry::ABSENT);
            hw.flush_begins(root, FlushRange::All);
            hw.flush_begins(other, FlushRange::All);
            hw.flush_returned(other);
            hw.flush_returned(root);
            hw.touch(PAGE, Access::Load);
        });
        violated(&program)
    };
    assert_eq!(by_root(PhysAddr(0x3000)), Some(Property::StaleUse));
    let numbered = with_two_pages(|hw, root, table| {
        hw.write_entry(table, 0, Entry::ABSENT);
        let first = hw.promise_begins(Spaces::one(root), FIRST);
        hw.write_entry(table, 1, Entry::ABSENT);
        let second = hw.promise_begins(Spaces::one(root), SECOND);
        hw.promise_kept(second);
        hw.touch(PAGE, Access::Load); // Not promised yet.
        hw.promise_kept(first);
        hw.touch(PAGE, Access::Load);
    });
    assert_eq!(violated(&numbered), Some(Property::StaleUse));
}

#[test]
fn before_its_promise_is_kept_a_use_is_not_stale() {
    let program = with_two_pages(|hw, root, table| {
        hw.write_entry(table, 0, Entry::ABSENT);
        let first = hw.promise_begins(Spaces::one(root), FIRST);
        let second = hw.promise_begins(Spaces::one(root), SECOND);
        hw.promise_kept(second);
        hw.touch(PAGE, Access::Load);
        hw.invlpg(PAGE);
        hw.promise_kept(first);
        hw.touch(PAGE, Access::Load);
    });
    assert_eq!(violated(&program), None);
}

#[test]
fn a_promise_has_the_lowest_free_number_of_its_cpu() {
    let program = with_two_pages(|hw, root, _| {
        let begin = || hw.promise_begins(Spaces::one(root), FlushRange::All);
        let (first, second) = (begin(), begin());
        assert_eq!((first, second), (Promise(1), Promise(2)));
        hw.promise_kept(first);
        assert_eq!(begin(), first);
        hw.promise_kept(first);
        hw.promise_kept(second);
    });
    assert_eq!(violated(&program), None);
}

#[test]
fn each_promise_is_kept_exactly_once() {
    let wrong: [fn(&ModelHw, PhysAddr, PhysAddr); 7] = [
        |hw, root, _| hw.flush_begins(root, FIRST),
        |hw, root, _| hw.flush_returned(root),
        |hw, root, table| {
            hw.flush_begins(root, FIRST);
            hw.flush_returned(root);
            hw.flush_returned(table);
        },
        |hw, root, _| {
            hw.flush_begins(root, FIRST);
            hw.flush_begins(root, SECOND);
            hw.flush_returned(root);
            hw.flush_returned(root);
        },
        |hw, root, _| {
            let promise = hw.promise_begins(Spaces::one(root), FIRST);
            hw.promise_kept(promise);
            hw.promise_kept(promise);
        },
        |hw, _, _| hw.promise_kept(Promise(0)),
        |hw, _, _| hw.promise_kept(Promise(u64::MAX)),
    ];
    for (number, run) in wrong.into_iter().enumerate() {
        let found = violated(&with_two_pages(run));
        assert_eq!(found, Some(Property::Panic), "wrong in way {number}");
    }
}

#[test]
fn too_many_open_promises_are_an_error_that_says_what_to_raise() {
    let three = |hw: &ModelHw, root: PhysAddr, _: PhysAddr| {
        let begin = || hw.promise_begins(Spaces::one(root), FlushRange::All);
        for promise in [begin(), begin(), begin()] {
            hw.promise_kept(promise);
        }
    };
    let mut program = with_two_pages(three);
    let error = Checker::new().try_check(&program, |_| {}).unwrap_err();
    let CheckError::Limit(how) = error else {
        panic!("{error:?}")
    };
    assert!(how.contains("Features::promises"), "{how}");
    program.features().promises = 3;
    assert_eq!(violated(&program), None);
}

/// CPU 0 begins, and CPU 1 keeps what it finds in a word: what is covered, and whether it is granted again, is
/// judged with CPU 0's stores, which may still wait in its buffer.
fn handed_over(flushes: bool, remaps: bool) -> Option<Property> {
    let mut program = Program::new("handed over", 2);
    let (root, table, page) = (program.first_root(), program.table(), program.page());
    let handed = program.atomic_of_kind(ValueKind::Promise, "promise", 0);
    let is_handed = program.atomic_of_kind(ValueKind::Flag, "is handed", 0);
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, 0, Entry::to(page));
    program.operation(0, "unmap", move |hw| {
        hw.write_entry(table, 0, Entry::ABSENT);
        if flushes {
            hw.invlpg(PAGE);
        }
        let promise = hw.promise_begins(Spaces::one(root), FlushRange::page(PAGE));
        if remaps {
            hw.write_entry(table, 0, Entry::to(page));
        }
        hw.swap(&handed, promise.0);
        hw.swap(&is_handed, 1);
    });
    program.operation(1, "keep", move |hw| {
        hw.pause_until(&is_handed, Until::Equals(1));
        let promise = Promise(hw.load(&handed));
        hw.load_cr3(root, Cr3Load::Flush);
        hw.promise_kept(promise);
        hw.touch(PAGE, Access::Load);
    });
    program.operation(0, "use", move |hw| {
        hw.touch(PAGE, Access::Load);
    });
    violated(&program)
}

#[test]
fn another_cpu_may_keep_a_promise() {
    assert_eq!(handed_over(true, false), None);
    assert_eq!(handed_over(false, false), Some(Property::StaleUse));
    assert_eq!(handed_over(false, true), None, "it is mapped again");
}

/// CPU 0 maps the page again, and says so by an interrupt: the store may still wait in its buffer (H36) when CPU 1
/// keeps the promise, and grants the entry that CPU 1 has cached all along.
#[test]
fn what_is_granted_again_is_judged_with_the_beginners_stores() {
    let remapped = |remaps: bool| {
        let mut program = Program::new("granted by a store that waits", 2);
        let (root, table, page) = (program.first_root(), program.table(), program.page());
        let handed = program.atomic_of_kind(ValueKind::Promise, "promise", 0);
        let is_handed = program.atomic_of_kind(ValueKind::Flag, "is handed", 0);
        program.first_entry(root, 0, Entry::to(table));
        program.first_entry(table, 0, Entry::to(page));
        program.on_flush_interrupt(move |hw| {
            hw.swap(&is_handed, 1);
        });
        program.operation(0, "unmap, map again", move |hw| {
            hw.write_entry(table, 0, Entry::ABSENT);
            let promise = hw.promise_begins(Spaces::one(root), FlushRange::page(PAGE));
            hw.swap(&handed, promise.0);
            if remaps {
                hw.write_entry(table, 0, Entry::to(page));
            }
            interrupt(hw, CpuId(1));
        });
        program.operation(1, "keep, use", move |hw| {
            hw.pause_until(&is_handed, Until::Equals(1));
            hw.promise_kept(Promise(hw.load(&handed)));
            hw.touch(PAGE, Access::Load);
        });
        violated(&program)
    };
    assert_eq!(remapped(false), Some(Property::StaleUse));
    assert_eq!(remapped(true), None);
}

#[test]
fn a_flush_that_returns_on_another_cpu_is_kept_there() {
    let mut program = Program::new("elsewhere", 2);
    let (root, table, page) = (program.first_root(), program.table(), program.page());
    let begun = program.atomic("begun", 0);
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, 0, Entry::to(page));
    program.operation(0, "unmap", move |hw| {
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.flush_begins(root, FlushRange::All);
        hw.swap(&begun, 1);
    });
    program.operation(1, "return", move |hw| {
        hw.pause_until(&begun, Until::Equals(1));
        hw.flush_returned(root);
        hw.touch(PAGE, Access::Load);
    });
    assert_eq!(violated(&program), Some(Property::StaleUse));
}

/// A page of the kernel's, under the roots of two spaces: its promise must name both, or all.
fn kernel_page(spaces: fn(PhysAddr, PhysAddr) -> Spaces, flushes_second: bool) -> Option<Property> {
    let mut program = Program::new("a kernel page", 2);
    let (one, other) = (program.first_root(), program.table());
    let (table, page) = (program.table(), program.page());
    for root in [one, other] {
        program.first_entry(root, 0, Entry::to(table));
    }
    program.first_entry(table, 0, Entry::to(page));
    let (ready, unmapped, done) = (
        program.atomic("ready", 0),
        program.atomic("unmapped", 0),
        program.atomic("done", 0),
    );
    program.operation(0, "unmap", move |hw| {
        hw.pause_until(&ready, Until::Equals(1));
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.invlpg(PAGE);
        let promise = hw.promise_begins(spaces(one, other), FlushRange::page(PAGE));
        hw.swap(&unmapped, 1);
        hw.pause_until(&done, Until::Equals(1));
        hw.promise_kept(promise);
        hw.swap(&ready, 2);
    });
    program.operation(1, "use", move |hw| {
        hw.load_cr3(other, Cr3Load::Flush);
        hw.swap(&ready, 1);
        hw.pause_until(&unmapped, Until::Equals(1));
        if flushes_second {
            hw.invlpg(PAGE);
        }
        hw.swap(&done, 1);
        hw.pause_until(&ready, Until::Equals(2));
        hw.touch(PAGE, Access::Load);
    });
    violated(&program)
}

#[test]
fn a_kernel_page_under_two_roots_is_covered_under_both() {
    let first: fn(PhysAddr, PhysAddr) -> Spaces = |one, _| Spaces::one(one);
    let both: fn(PhysAddr, PhysAddr) -> Spaces =
        |one, other| Spaces::several(&[one, other]).unwrap();
    let all: fn(PhysAddr, PhysAddr) -> Spaces = |_, _| Spaces::All;
    assert_eq!(
        kernel_page(first, false),
        None,
        "nothing is promised of the other"
    );
    for spaces in [both, all] {
        assert_eq!(kernel_page(spaces, false), Some(Property::StaleUse));
        assert_eq!(kernel_page(spaces, true), None);
    }
}

/// The page is held under another PCID than the one that its space has at the start, and comes from a store of
/// CPU 0 that still waits when the promise begins.
#[test]
fn a_promise_covers_every_pcid_that_a_space_is_held_under() {
    let mut program = Program::new("tags", 1);
    program.start_with_cr4(lazytlb_model::Cr4::PCIDE);
    let (root, table, page) = (program.first_root(), program.table(), program.page());
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, 0, Entry::to(page));
    program.operation(0, "unmap", move |hw| {
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.flush_begins(root, FlushRange::All);
        hw.load_cr3_with_pcid(root, 1, Cr3Load::Keep);
        hw.flush_returned(root);
        hw.load_cr3_with_pcid(root, 0, Cr3Load::Keep);
        hw.touch(PAGE, Access::Load);
    });
    assert_eq!(violated(&program), Some(Property::StaleUse));
}

/// CPU 0's store waits although its flush has returned, and it says so by an interrupt, which orders nothing (H36):
/// so CPU 1 may still fill the page, under a PCID that nobody had when the promise began.
#[test]
fn a_promise_covers_what_is_filled_later_under_another_pcid() {
    let mut program = Program::new("filled later", 2);
    program.start_with_cr4(lazytlb_model::Cr4::PCIDE);
    let (other, root) = (program.first_root(), program.table());
    let (table, page) = (program.table(), program.page());
    program.first_entry(root, 0, Entry::to(table));
    program.first_entry(table, 0, Entry::to(page));
    let returned = program.atomic("returned", 0);
    program.on_flush_interrupt(move |hw| {
        hw.swap(&returned, 1);
    });
    program.operation(0, "unmap", move |hw| {
        hw.write_entry(table, 0, Entry::ABSENT);
        hw.flush_begins(root, FlushRange::page(PAGE));
        hw.flush_returned(root);
        interrupt(hw, CpuId(1));
    });
    program.operation(1, "use", move |hw| {
        hw.pause_until(&returned, Until::Equals(1));
        hw.load_cr3_with_pcid(root, 1, Cr3Load::Flush);
        hw.touch(PAGE, Access::Load);
        hw.load_cr3_with_pcid(other, 0, Cr3Load::Flush);
    });
    let found = |memory| {
        let verdict = Checker::new().memory(memory).check(&program);
        assert_ne!(verdict.name(), "incomplete", "{verdict:?}");
        property_of(&verdict)
    };
    assert_eq!(found(MemoryModel::TSO), Some(Property::StaleUse));
    assert_eq!(found(MemoryModel::Sc), None);
}
