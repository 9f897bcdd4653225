//! Several CPUs flush at once.

use super::setup::{CPU_0, CPU_1, CPU_2, FAR_PAGE, MakeProtocol, PAGE, Setup, Shipped, USER};
use crate::program::Program;

/// The programs of this file.
pub(super) const PROGRAMS: &[Shipped] = &[
    (
        "two-initiators",
        "2 CPUs in one space: each unmaps an address of its own and flushes the other",
        two_initiators,
    ),
    (
        "two-initiators-one-target",
        "3 CPUs: one flushes everything, one unmaps a page and frees its table, both from the \
                 kernel's own space; the third switches to the space, touches, goes lazy",
        two_initiators_one_target,
    ),
    (
        "lazy-initiator",
        "2 CPUs: one goes lazy and, as a kernel thread that reclaims memory, unmaps a page of the \
                 space that it is lazy in; the other flushes everything there, then frees a table",
        lazy_initiator,
    ),
];

fn two_initiators(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    setup.program.free_frames(2);
    for (cpu, own, others) in [(CPU_0, &[PAGE], FAR_PAGE), (CPU_1, &[FAR_PAGE], PAGE)] {
        setup.switch(cpu, "switch to the space", USER);
        let table = setup.hook_table(cpu, USER, own[0]);
        setup.map_and_free_pages(cpu, USER, table, own);
        setup.touch(cpu, others);
    }
    setup.program
}

fn two_initiators_one_target(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 3, 1, make);
    setup.program.free_frames(1);
    setup.flush_all(CPU_0, "flush everything", USER);
    let table = setup.hook_table(CPU_1, USER, PAGE);
    setup.map_and_free_pages(CPU_1, USER, table, &[PAGE]);
    setup.free_table(CPU_1, USER, table, PAGE);
    setup.switch(CPU_2, "switch to the space", USER);
    setup.touch(CPU_2, PAGE);
    setup.go_lazy(CPU_2);
    setup.program
}

fn lazy_initiator(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    setup.program.free_frames(1);
    setup.switch(CPU_0, "switch to the space", USER);
    let table = setup.hook_table(CPU_0, USER, FAR_PAGE);
    setup.go_lazy(CPU_0);
    setup.map_and_free_pages(CPU_0, USER, table, &[FAR_PAGE]);
    setup.switch(CPU_1, "switch to the space", USER);
    let table = setup.hook_table(CPU_1, USER, PAGE);
    setup.flush_all(CPU_1, "flush everything", USER);
    setup.free_table(CPU_1, USER, table, PAGE);
    setup.program
}
