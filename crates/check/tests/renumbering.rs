//! What renumbering must keep apart, in programs whose operations start for ever: each of these would have another
//! verdict if it were lost. `cargo xtask mutate-model --renumbering` loses it.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use lazytlb::{
    Access, Cr3Load, Entry, FlushRange, Hw, Memory, Payload, PhysAddr, Promises, Spaces, Until,
    ValueKind, VirtAddr,
};
use lazytlb_check::{CheckError, Checker, MenuItem, ModelHw, Program, Verdict};
use lazytlb_model::{AtomicCell, MemoryModel, Property};

const PAGE: VirtAddr = VirtAddr(0);

/// A program of a space with a table and a page, none of which is mapped at the start.
struct Space {
    program: Program,
    idle: PhysAddr,
    root: PhysAddr,
    table: PhysAddr,
    page: PhysAddr,
    /// Set while CPU 1 has the space loaded.
    inside: AtomicCell,
}

impl Space {
    fn of_cpus(cpus: u8) -> Space {
        let mut program = Program::new("renumbering", cpus);
        let (idle, root, table) = (program.table(), program.table(), program.table());
        let page = program.page();
        program.start_with_root(idle);
        let inside = program.atomic("inside", 0);
        Space {
            program,
            idle,
            root,
            table,
            page,
            inside,
        }
    }

    /// Lets CPU 1 come in and go, and touch the page meanwhile.
    fn offer_visits(&mut self) {
        let Space {
            root, idle, inside, ..
        } = *self;
        let visit = move |hw: &ModelHw| {
            hw.swap(&inside, 1);
            hw.load_cr3(root, Cr3Load::Flush);
            hw.touch(PAGE, Access::Load);
            hw.load_cr3(idle, Cr3Load::Flush);
            hw.swap(&inside, 0);
        };
        self.program.offer(1, MenuItem::new("visit", visit));
    }

    fn check(&self, memory: MemoryModel) -> Verdict {
        Checker::new().memory(memory).check(&self.program)
    }
}

fn violated(verdict: &Verdict) -> Option<Property> {
    verdict.violation().map(|violation| violation.property)
}

/// Memory may fill what a promise covers as long as the store that removes it waits, though nobody has it cached.
#[test]
fn what_nobody_has_cached_stays_covered_while_memory_has_it() {
    for (fences, memory, expected) in [
        (false, MemoryModel::TSO, Some(Property::StaleUse)),
        (true, MemoryModel::TSO, None),
        (false, MemoryModel::Sc, None),
    ] {
        let mut space = Space::of_cpus(2);
        let Space {
            root,
            table,
            page,
            inside,
            ..
        } = space;
        space.program.first_entry(root, 0, Entry::to(table));
        let map_and_unmap = move |hw: &ModelHw| {
            hw.write_entry(table, 0, Entry::to(page));
            hw.fence();
            hw.write_entry(table, 0, Entry::ABSENT);
            if fences {
                hw.fence();
            }
            hw.flush_begins(root, FlushRange::page(PAGE));
            hw.pause_until(&inside, Until::Zero);
            hw.flush_returned(root);
        };
        let item = MenuItem::new("map and unmap", map_and_unmap);
        space.program.offer(0, item);
        space.offer_visits();
        let verdict = space.check(memory);
        assert_eq!(
            violated(&verdict),
            expected,
            "{fences} {memory:?}: {verdict:?}"
        );
    }
}

/// What a walk finds through a cached upper entry belongs to the promise that covers that, also if it was not there yet.
#[test]
fn what_is_found_later_through_an_entry_that_is_covered_is_covered() {
    let mut space = Space::of_cpus(2);
    let Space {
        root, table, page, ..
    } = space;
    let done = space.program.atomic("done", 0);
    let unhook_then_map = move |hw: &ModelHw| {
        if hw.load(&done) == 0 {
            hw.write_entry(root, 0, Entry::to(table));
            hw.write_entry(root, 0, Entry::ABSENT);
            hw.flush_begins(root, FlushRange::page(PAGE));
            hw.flush_returned(root);
            hw.write_entry(table, 0, Entry::to(page));
            hw.store(&done, 1);
        }
    };
    let item = MenuItem::new("unhook, then map", unhook_then_map);
    space.program.offer(0, item);
    space.offer_visits();
    let verdict = space.check(MemoryModel::Sc);
    assert_eq!(violated(&verdict), Some(Property::StaleUse), "{verdict:?}");
}

/// An entry that is written, removed, and written alike: two promises, and who is under the first, that was kept,
/// is not under the second, which is still open.
fn removed_twice(
    entry_of: fn(&Space) -> (PhysAddr, Entry),
    keeps_the_second_early: bool,
) -> Verdict {
    let mut space = Space::of_cpus(3);
    let (within, entry) = entry_of(&space);
    let Space {
        root,
        idle,
        table,
        page,
        inside,
        ..
    } = space;
    for (at, entry) in [(root, Entry::to(table)), (table, Entry::to(page))] {
        if at != within {
            space.program.first_entry(at, 0, entry);
        }
    }
    let remove_twice = move |hw: &ModelHw| {
        let begin = || hw.promise_begins(Spaces::one(root), FlushRange::page(PAGE));
        hw.write_entry(within, 0, entry);
        hw.write_entry(within, 0, Entry::ABSENT);
        let first = begin();
        hw.pause_until(&inside, Until::Zero);
        hw.write_entry(within, 0, entry);
        hw.write_entry(within, 0, Entry::ABSENT);
        let second = begin();
        hw.promise_kept(first);
        if keeps_the_second_early {
            hw.promise_kept(second);
        }
        hw.pause_until(&inside, Until::Zero);
        if !keeps_the_second_early {
            hw.promise_kept(second);
        }
    };
    let item = MenuItem::new("remove twice", remove_twice);
    space.program.offer(0, item);
    space.offer_visits();
    // This CPU keeps what it has cached of the first, and uses nothing.
    let look = move |hw: &ModelHw| {
        hw.load_cr3(root, Cr3Load::Flush);
        hw.load_cr3(idle, Cr3Load::Flush);
    };
    space.program.offer(2, MenuItem::new("look", look));
    space.check(MemoryModel::Sc)
}

#[test]
fn versions_that_two_promises_know_are_two() {
    let page = |space: &Space| (space.table, Entry::to(space.page));
    let table = |space: &Space| (space.root, Entry::to(space.table));
    for entry_of in [page, table] {
        let verdict = removed_twice(entry_of, false);
        assert!(verdict.is_safe(), "{verdict:?}");
        let early = removed_twice(entry_of, true);
        assert_eq!(violated(&early), Some(Property::StaleUse), "{early:?}");
    }
}

/// A stranger's protocol: CPU 1 waits until what CPU 0 counts has come to where it will be next.
fn wait_for_the_next(is_next: fn(u64) -> u64) -> Result<Verdict, CheckError> {
    let mut program = Program::new("wait", 2);
    let count = program.atomic_of_kind(ValueKind::Generation, "count", 1);
    program.offer(
        0,
        MenuItem::new("count", move |hw| {
            hw.fetch_add(&count, 1);
        }),
    );
    program.offer(
        1,
        MenuItem::new("wait", move |hw| {
            let now = hw.load(&count);
            hw.pause_until(&count, Until::AtLeast(is_next(now)));
        }),
    );
    program.proves("that it ends");
    Checker::new().try_check(&program, |_| {})
}

#[test]
fn a_wait_is_for_a_generation_that_was_read_or_the_next() {
    assert!(wait_for_the_next(|now| now).unwrap().is_safe());
    // CPU 0 need not count once more.
    let waits = wait_for_the_next(|now| now + 1).unwrap();
    let violated = waits.violation().map(|violation| violation.property);
    assert_eq!(violated, Some(Property::Deadlock), "{waits:?}");
    let further = wait_for_the_next(|now| now + 2);
    assert!(matches!(further, Err(CheckError::FalseClaim(_))));
}

/// Messages that are read after their operation are read: poison is no value.
#[test]
fn a_message_that_is_read_late_is_read_as_it_was_sent() {
    let mut program = Program::new("late", 2);
    let kind = ValueKind::Message(Payload::Other);
    let message = program.atomic_of_kind(kind, "message", 3);
    program.offer(0, MenuItem::new("send", move |hw| hw.store(&message, 4)));
    program.offer(
        1,
        MenuItem::new("receive", move |hw| {
            assert!([3, 4].contains(&hw.load(&message)));
            hw.pause_until(&message, Until::AtLeast(3));
        }),
    );
    program.proves("what is received");
    for memory in [MemoryModel::Sc, MemoryModel::TSO] {
        let verdict = Checker::new().memory(memory).check(&program);
        assert!(verdict.is_safe(), "{verdict:?}");
    }
}

/// Nobody sets the flag: an operation that waits for it first has started all the same.
#[test]
fn an_operation_whose_first_call_blocks_has_started() {
    let mut program = Program::new("first call", 1);
    let flag = program.atomic_of_kind(ValueKind::Flag, "flag", 0);
    program.offer(
        0,
        MenuItem::new("wait", move |hw| {
            hw.pause_until(&flag, Until::Equals(1));
        }),
    );
    program.proves("that nobody waits for ever");
    let verdict = Checker::new().check(&program);
    let violated = verdict.violation().map(|violation| violation.property);
    assert_eq!(violated, Some(Property::Deadlock), "{verdict:?}");
}

/// A message that carries a generation, and that nobody ever stores, still is one: the code compares with it. Once other
/// messages are known to be stored, it must not be left out of what gets new names.
#[test]
fn a_generation_that_nobody_stores_gets_new_names_with_the_others() {
    let mut program = Program::new("a limit", 1);
    let generation = program.atomic_of_kind(ValueKind::Generation, "generation", 1);
    let carries = ValueKind::Message(Payload::Generation);
    let limit = program.atomic_of_kind(carries, "limit", 1);
    let note = program.atomic_of_kind(ValueKind::Message(Payload::Other), "note", 0);
    let raise = MenuItem::new("raise", move |hw| {
        hw.store(&note, 7);
        let raised = hw.fetch_add(&generation, 1);
        let limit = hw.load(&limit);
        assert!(raised == limit || raised == limit + 1, "past the limit");
    });
    program.offer(0, raise);
    program.proves("nobody gets past the limit");
    let verdict = Checker::new().check(&program);
    let violated = verdict.violation().map(|violation| violation.property);
    assert_eq!(violated, Some(Property::Panic), "{verdict:?}");
}
