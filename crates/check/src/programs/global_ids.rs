//! PCIDs that mean the same space on every CPU, until another space gets them.
//!
//! A protocol that has such gives a space one once a flush has interrupted a CPU in it; the next flush moves the CPUs to it, and from the third on flushes are
//! broadcast. So the programs here flush three times. For a protocol that has none they are flushes like others.

use lazytlb::{Access, Entry, FlushRange, Hw, Memory, Poll, Tables, Until};

use super::setup::{
    CPU_0, CPU_1, CPU_2, MakeProtocol, NEXT_PAGE, PAGE, SECOND_USER, Setup, Shipped, THIRD_USER,
    USER, root_index, table_index,
};
use crate::program::Program;
use crate::protocol::{Ended, Part};

/// The programs of this file.
pub(super) const PROGRAMS: &[Shipped] = &[
    (
        "three-flushes",
        "2 CPUs: one flushes, unmaps a page, and frees its table; the other touches the page, goes lazy, comes back, \
                 touches",
        moves,
    ),
    (
        "three-flushes-in-steps",
        "2 CPUs: one flushes twice, then unmaps a page by a shootdown in steps, which its wait sends; the other touches it",
        in_steps,
    ),
    (
        "three-flushes-isolated",
        "2 CPUs, page-table isolation: one flushes twice, then unmaps a page; the other uses it in user mode",
        isolated,
    ),
    (
        "initiator-inside-in-steps",
        "2 CPUs: one flushes the space that it runs in by a shootdown in steps; the other flushes it, unmaps a page, \
                 and frees its table",
        inside_in_steps,
    ),
    (
        "lazy-beside-steps",
        "3 CPUs: one flushes, then by a shootdown in steps, and frees a table; one is in the space, and one lazy there",
        lazy_in_steps,
    ),
    (
        "two-global-ids",
        "2 CPUs: one is flushed in two spaces, goes to a third, touches a page, and comes back to the second, \
                 where that is not mapped",
        two_ids,
    ),
    (
        "two-global-ids-isolated",
        "two-global-ids, in user mode, with page-table isolation",
        two_ids_isolated,
    ),
    (
        "recycled-id",
        "2 CPUs: one is flushed in a space, and keeps what is cached while that ends; then in a second one, which \
                 gets the PCID of the first where it is the same on every CPU",
        recycled,
    ),
];

impl Setup {
    /// Flushes everything of the space by a shootdown in steps.
    fn flush_all_in_steps(&mut self) {
        self.operation(CPU_0, "flush in steps", move |hw, protocol| {
            let everything = Part {
                space: USER,
                range: FlushRange::All,
                tables: Tables::Kept,
            };
            protocol.flush_together(hw, &[everything], &|_| {});
        });
    }
}

/// One CPU flushes, unmaps a page and frees its table; the other uses the page, goes lazy and comes back, anywhere in that.
fn moves(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let table = setup.program.table();
    let page = setup.mapped(USER, table, NEXT_PAGE);
    setup.flush_all(CPU_0, "flush everything", USER);
    setup.operation(CPU_0, "unmap a page", move |hw, protocol| {
        page.remove(hw, protocol);
    });
    setup.free_table(CPU_0, USER, table, NEXT_PAGE);
    setup.switch(CPU_1, "switch to the space", USER);
    setup.touch(CPU_1, NEXT_PAGE);
    setup.go_lazy(CPU_1);
    setup.switch(CPU_1, "switch back", USER);
    setup.touch(CPU_1, NEXT_PAGE);
    setup.program
}

/// One CPU flushes twice, then unmaps a page by a shootdown in steps, which its wait sends; the other touches it.
fn in_steps(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let table = setup.program.table();
    let page = setup.mapped(USER, table, NEXT_PAGE);
    setup.flush_all(CPU_0, "flush everything", USER);
    setup.flush_all(CPU_0, "flush it again", USER);
    setup.operation(CPU_0, "unmap a page in steps", move |hw, protocol| {
        let part = page.clear(hw);
        protocol.flush_and_add(hw, &[], &[part]);
        page.free(hw);
    });
    setup.switch(CPU_1, "switch to the space", USER);
    for _ in 0..3 {
        setup.touch(CPU_1, NEXT_PAGE);
    }
    setup.program
}

/// One CPU flushes twice, then unmaps a page of both halves; the other uses it in user mode.
fn isolated(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::isolated(name, 2, 1, make);
    let table = setup.program.table();
    let page = setup.mapped(USER, table, NEXT_PAGE);
    let [_, user_half] = setup.halves(USER);
    let index = root_index(NEXT_PAGE);
    setup
        .program
        .first_entry(user_half, index, Entry::to(table));
    setup.flush_all(CPU_0, "flush everything", USER);
    setup.flush_all(CPU_0, "flush it again", USER);
    setup.operation(CPU_0, "unmap a page", move |hw, protocol| {
        page.remove(hw, protocol);
    });
    setup.switch(CPU_1, "switch to the space", USER);
    for _ in 0..3 {
        setup.touch_in_user_mode(CPU_1, NEXT_PAGE, Access::Load);
    }
    setup.program
}

/// One CPU is interrupted in a space, so often that it gets a global id, and lingers there lazily while the space ends. Then it is so interrupted in
/// a second space, which gets the same id, if there is one only.
///
/// What it keeps is not at address 0: who moves to an id invalidates that, to end its walks.
fn recycled(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 2, make);
    setup.program.proves(
        "what is cached of a space that has ended is not taken for another's, though that gets its global id",
    );
    let (first, second) = (setup.program.table(), setup.program.table());
    // It stays mapped: nobody flushes it.
    let (root, kept) = (setup.root(USER), setup.program.page());
    setup
        .program
        .first_entry(root, root_index(NEXT_PAGE), Entry::to(first));
    setup
        .program
        .first_entry(first, table_index(NEXT_PAGE), Entry::to(kept));
    let removed = setup.mapped(SECOND_USER, second, PAGE);
    let left = setup.program.atomic("tasks that left", 0);
    setup.flush_all(CPU_0, "flush the first space", USER);
    setup.flush_all(CPU_0, "flush it again", USER);
    setup.operation(CPU_0, "wait for its task", move |hw, _| {
        hw.pause_until(&left, Until::Equals(1));
    });
    setup.operation(
        CPU_0,
        "retire, flush the second space, free the root",
        move |hw, protocol| {
            let ended = protocol.start_retiring(hw, USER);
            // It may get an id here, but not the first one's: that is still in use.
            for _ in 0..2 {
                protocol.flush(hw, SECOND_USER, FlushRange::All, Tables::Kept);
            }
            if ended == Ended::Later {
                hw.poll(|hw| protocol.reap(hw));
            }
            hw.free_frame(root);
        },
    );
    setup.flush_all(CPU_0, "flush the second space", SECOND_USER);
    setup.operation(CPU_0, "unmap a page there", move |hw, protocol| {
        removed.remove(hw, protocol);
    });
    setup.switch(CPU_1, "switch to the first space", USER);
    setup.touch(CPU_1, NEXT_PAGE);
    setup.operation(CPU_1, "its task is gone", move |hw, protocol| {
        protocol.enter_lazy(hw);
        hw.store(&left, 1);
    });
    setup.switch(CPU_1, "switch to the second space", SECOND_USER);
    setup.touch(CPU_1, PAGE);
    setup.touch(CPU_1, NEXT_PAGE);
    setup.program
}

/// One CPU is interrupted in a space, then in a second one: each gets a global id, if there are two. It goes on to a third space, which has none, and
/// comes back. The third one alone has its page mapped.
fn two_ids(name: &str, make: MakeProtocol) -> Program {
    with_two_ids(Setup::new(name, 2, 3, make), |setup| {
        setup.touch(CPU_1, NEXT_PAGE);
    })
}

/// As [`two_ids`], in user mode.
fn two_ids_isolated(name: &str, make: MakeProtocol) -> Program {
    with_two_ids(Setup::isolated(name, 2, 3, make), |setup| {
        setup.touch_in_user_mode(CPU_1, NEXT_PAGE, Access::Store);
    })
}

fn with_two_ids(mut setup: Setup, touch: impl Fn(&mut Setup)) -> Program {
    setup.program.proves(
        "what is cached of a space is not taken for that of another, though several have PCIDs that are the same on every CPU",
    );
    let (table, page) = (setup.program.table(), setup.program.page());
    for root in setup.roots_of(THIRD_USER) {
        let index = root_index(NEXT_PAGE);
        setup.program.first_entry(root, index, Entry::to(table));
    }
    let index = table_index(NEXT_PAGE);
    setup.program.first_entry(table, index, Entry::to(page));
    for space in [USER, SECOND_USER] {
        let flushed = setup.program.atomic("flushed", 0);
        setup.operation(CPU_0, "flush a space", move |hw, protocol| {
            protocol.flush(hw, space, FlushRange::All, Tables::Kept);
            hw.store(&flushed, 1);
        });
        setup.operation(
            CPU_1,
            "run there until it is flushed",
            move |hw, protocol| {
                protocol.switch_mm(hw, space);
                hw.pause_until(&flushed, Until::Equals(1));
            },
        );
    }
    setup.switch(CPU_1, "switch to the third space", THIRD_USER);
    touch(&mut setup);
    setup.switch(CPU_1, "switch back to the second", SECOND_USER);
    touch(&mut setup);
    setup.program
}

/// One CPU flushes a space by a shootdown in steps while it runs there itself; the other, which does not, flushes it too, and frees a table.
fn inside_in_steps(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let table = setup.program.table();
    let page = setup.mapped(USER, table, NEXT_PAGE);
    setup.switch(CPU_0, "switch to the space", USER);
    setup.touch(CPU_0, NEXT_PAGE);
    setup.flush_all_in_steps();
    setup.flush_all(CPU_1, "flush everything", USER);
    setup.operation(CPU_1, "unmap the page", move |hw, protocol| {
        page.remove(hw, protocol);
    });
    setup.free_table(CPU_1, USER, table, NEXT_PAGE);
    setup.program
}

/// A flush in steps interrupts one CPU and spares another, which is lazy; the next one is for a table.
fn lazy_in_steps(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 3, 1, make);
    let table = setup.program.table();
    setup.mapped(USER, table, NEXT_PAGE);
    let lazy = setup.program.atomic("lazy CPUs", 0);
    setup.operation(
        CPU_0,
        "flush everything when one is lazy",
        move |hw, protocol| {
            hw.pause_until(&lazy, Until::Equals(1));
            protocol.flush(hw, USER, FlushRange::All, Tables::Kept);
        },
    );
    setup.flush_all_in_steps();
    setup.free_table(CPU_0, USER, table, NEXT_PAGE);
    setup.switch(CPU_1, "switch to the space", USER);
    setup.touch(CPU_1, NEXT_PAGE);
    setup.operation(CPU_1, "go lazy", move |hw, protocol| {
        protocol.enter_lazy(hw);
        hw.store(&lazy, 1);
    });
    setup.switch(CPU_2, "switch to the space", USER);
    setup.program
}
