//! Several spaces, and the end of one.

use lazytlb::{FlushRange, Hw, Memory, Tables, Until};

use super::setup::{
    CPU_0, CPU_1, CPU_2, FAR_PAGE, MakeProtocol, PAGE, SECOND_USER, Setup, Shipped, USER,
};
use crate::program::Program;

/// The programs of this file.
pub(super) const PROGRAMS: &[Shipped] = &[
    (
        "two-spaces",
        "3 CPUs: one unmaps a page of the space that the second uses, then flushes the third's",
        two_spaces,
    ),
    (
        "lazy-between-spaces",
        "3 CPUs: two unmap a page, each in a space of its own; the third goes lazy in one space, \
                 and switches to the other",
        lazy_between_spaces,
    ),
    (
        "back-and-forth",
        "2 CPUs: one goes back and forth between two spaces, and touches in each; the other maps and unmaps \
                 a page in one of them, flushes everything there, and frees the table",
        back_and_forth,
    ),
    (
        "free-from-elsewhere",
        "2 CPUs: one frees a table of a space that it has left for another, where the second touches",
        free_from_elsewhere,
    ),
    (
        "exit",
        "3 CPUs: two leave the space, lazily; the third, lazy itself, retires it and frees its \
                 root",
        exit,
    ),
];

/// The initiator's second request rewrites the first: a target that acknowledges the first before it has
/// read it serves the wrong space.
fn two_spaces(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 3, 2, make);
    setup.program.free_frames(1);
    setup.switch(CPU_0, "switch to the first space", USER);
    let table = setup.hook_table(CPU_0, USER, PAGE);
    setup.map_and_free_pages(CPU_0, USER, table, &[PAGE]);
    setup.flush_all(CPU_0, "flush the second space", SECOND_USER);
    setup.switch(CPU_1, "switch to the first space", USER);
    setup.touch(CPU_1, PAGE);
    setup.touch(CPU_1, PAGE);
    setup.switch(CPU_2, "switch to the second space", SECOND_USER);
    setup.program
}

/// A CPU that is lazy in one space comes to another: whoever flushes there must not take it for lazy.
fn lazy_between_spaces(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 3, 2, make);
    setup.program.free_frames(2);
    for (cpu, space, page) in [(CPU_0, USER, &[PAGE]), (CPU_1, SECOND_USER, &[FAR_PAGE])] {
        setup.switch(cpu, "switch to its space", space);
        let table = setup.hook_table(cpu, space, page[0]);
        setup.map_and_free_pages(cpu, space, table, page);
    }
    setup.switch(CPU_2, "switch to the first space", USER);
    setup.go_lazy(CPU_2);
    setup.switch(CPU_2, "switch to the second space", SECOND_USER);
    setup.touch(CPU_2, FAR_PAGE);
    setup.program
}

/// A CPU goes back and forth between two spaces, while another one unmaps, flushes everything, and frees a table in one of
/// them. With PCIDs, the one keeps what it has cached of the space that it is not in.
fn back_and_forth(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 2, make);
    setup.program.free_frames(1);
    let table = setup.hook_table(CPU_0, USER, PAGE);
    setup.map_and_free_pages(CPU_0, USER, table, &[PAGE]);
    setup.flush_all(CPU_0, "flush everything", USER);
    setup.free_table(CPU_0, USER, table, PAGE);
    for space in [SECOND_USER, USER, SECOND_USER, USER, SECOND_USER] {
        setup.switch(CPU_1, "switch", space);
        setup.touch(CPU_1, PAGE);
    }
    setup.program
}

/// A CPU unmaps and frees in a space that it has left for another one, where a second CPU touches.
fn free_from_elsewhere(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 2, make);
    let table = setup.hook_table(CPU_0, USER, PAGE);
    for space in [USER, SECOND_USER, USER, SECOND_USER] {
        setup.switch(CPU_0, "switch", space);
    }
    setup.free_table(CPU_0, USER, table, PAGE);
    setup.switch(CPU_1, "switch to the first space", USER);
    setup.touch(CPU_1, PAGE);
    setup.program
}

fn exit(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 3, 1, make);
    setup.program.proves(
        "no CPU can walk the root of a space that has ended once its frame is freed, and nobody runs in it",
    );
    let root = setup.root(USER);
    let left = setup.program.atomic("tasks that left", 0);
    for cpu in [CPU_1, CPU_2] {
        setup.switch(cpu, "switch to the space", USER);
        setup.go_lazy(cpu);
        setup.operation(cpu, "its task is gone", move |hw, _| {
            hw.fetch_add(&left, 1);
        });
    }
    setup.switch(CPU_0, "switch to the space", USER);
    setup.operation(CPU_0, "wait for the other tasks", move |hw, _| {
        hw.pause_until(&left, Until::Equals(2));
    });
    setup.go_lazy(CPU_0);
    setup.operation(
        CPU_0,
        "flush everything, retire, free the root",
        move |hw, protocol| {
            protocol.flush(hw, USER, FlushRange::All, Tables::Freed);
            protocol.retire(hw, USER);
            hw.free_frame(root);
        },
    );
    setup.program
}
