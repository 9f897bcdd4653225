//! One CPU maps and frees, others come and go lazily.

use lazytlb::{CpuId, FrameKind};

use super::setup::{
    CPU_0, CPU_1, CPU_2, CPU_3, FAR_PAGE, MakeProtocol, PAGE, Setup, Shipped, USER,
};
use crate::program::Program;

/// The programs of this file.
pub(super) const PROGRAMS: &[Shipped] = &[
    (
        "smoke",
        "2 CPUs: one maps, unmaps and frees a table once; the other touches and goes lazy",
        smoke,
    ),
    (
        "reference-3",
        "3 CPUs: one maps, unmaps and frees a table twice, in reused frames; two switch to the \
                 space, touch, go lazy, come back, touch",
        reference_3,
    ),
    (
        "reference-4",
        "reference-3, and a fourth CPU that maps and unmaps a second address in the same space",
        reference_4,
    ),
    (
        "no-table-free",
        "reference-3 without freeing tables: only pages come and go",
        no_table_free,
    ),
];

fn smoke(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    setup.program.free_frames(2);
    setup.switch(CPU_0, "switch to the space", USER);
    setup.map_and_free_table(CPU_0, "map, unmap, free the table", FrameKind::Page);
    setup.switch(CPU_1, "switch to the space", USER);
    setup.touch(CPU_1, PAGE);
    setup.switch(CPU_1, "switch to the same space", USER);
    setup.go_lazy(CPU_1);
    setup.program
}

fn reference_3(name: &str, make: MakeProtocol) -> Program {
    map_twice_while_two_come_and_go(name, 3, make).program
}

fn reference_4(name: &str, make: MakeProtocol) -> Program {
    let mut setup = map_twice_while_two_come_and_go(name, 4, make);
    setup.program.free_frames(1);
    setup.switch(CPU_3, "switch to the space", USER);
    let table = setup.hook_table(CPU_3, USER, FAR_PAGE);
    setup.map_and_free_pages(CPU_3, USER, table, &[FAR_PAGE]);
    setup.program
}

fn no_table_free(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 3, 1, make);
    setup.program.free_frames(1);
    setup.switch(CPU_0, "switch to the space", USER);
    let table = setup.hook_table(CPU_0, USER, PAGE);
    setup.map_and_free_pages(CPU_0, USER, table, &[PAGE]);
    setup.map_and_free_pages(CPU_0, USER, table, &[PAGE]);
    come_and_go(&mut setup, CPU_1);
    come_and_go(&mut setup, CPU_2);
    setup.program
}

/// In the second round the freed table's frame is reused for the page, and the page's for the table.
fn map_twice_while_two_come_and_go(name: &str, cpus: u8, make: MakeProtocol) -> Setup {
    let mut setup = Setup::new(name, cpus, 1, make);
    setup.program.free_frames(2);
    setup.switch(CPU_0, "switch to the space", USER);
    setup.map_and_free_table(CPU_0, "map, unmap, free the table", FrameKind::Page);
    setup.map_and_free_table(CPU_0, "the same in reused frames", FrameKind::Table);
    come_and_go(&mut setup, CPU_1);
    come_and_go(&mut setup, CPU_2);
    setup
}

fn come_and_go(setup: &mut Setup, cpu: CpuId) {
    setup.switch(cpu, "switch to the space", USER);
    setup.touch(cpu, PAGE);
    setup.go_lazy(cpu);
    setup.switch(cpu, "switch back", USER);
    setup.touch(cpu, PAGE);
}
