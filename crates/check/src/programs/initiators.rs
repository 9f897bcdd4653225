//! Several CPUs flush at once.

use super::setup::{CPU_0, CPU_1, CPU_2, FAR_PAGE, MakeProtocol, PAGE, Setup, USER};
use crate::program::Program;

pub(super) fn two_initiators(name: &str, make: MakeProtocol) -> Program {
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

pub(super) fn two_initiators_one_target(name: &str, make: MakeProtocol) -> Program {
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

pub(super) fn lazy_initiator(name: &str, make: MakeProtocol) -> Program {
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
