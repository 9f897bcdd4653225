//! Software walks page tables without a lock, while others free them.

use lazytlb::{Entry, FlushRange, FrameKind, Memory, Tables};

use super::setup::{
    CPU_0, CPU_1, CPU_2, FAR_PAGE, KERNELS_OWN, MakeProtocol, PAGE, Setup, Shipped, USER,
    root_index, walk,
};
use crate::program::Program;
use crate::protocol::Part;

/// The programs of this file.
pub(super) const PROGRAMS: &[Shipped] = &[
    (
        "walked-from-outside",
        "2 CPUs: one maps and frees a table three times; the other, in the kernel's own space, walks the tables by \
                 software, without a lock",
        walked_from_outside,
    ),
    (
        "walked-inside",
        "walked-from-outside, by a CPU that has switched to the space",
        walked_inside,
    ),
    (
        "walked-by-a-lazy-cpu",
        "walked-from-outside, by a CPU that is lazy in the space",
        walked_by_a_lazy_cpu,
    ),
    (
        "walked-while-parts-are-waited-for",
        "2 CPUs: one unhooks a table, flushes in two parts, waits once, and frees it; the other, in the kernel's own \
                 space, walks the tables by software",
        walked_while_parts_are_waited_for,
    ),
    (
        "walked-beside-a-target",
        "walked-from-outside, and a third CPU that runs in the space",
        walked_beside_a_target,
    ),
    (
        "walked-beside-a-lazy-cpu",
        "walked-from-outside, and a third CPU that goes lazy in the space, then leaves it",
        walked_beside_a_lazy_cpu,
    ),
];

/// The walker has another space loaded: no flush of the walked one interrupts it.
fn walked_from_outside(name: &str, make: MakeProtocol) -> Program {
    walked(name, make, proves)
}

/// The walker runs in the space.
fn walked_inside(name: &str, make: MakeProtocol) -> Program {
    walked(name, make, |setup| {
        setup.switch(CPU_1, "switch to the space", USER)
    })
}

/// The walker is lazy in the space: flushes may spare it.
fn walked_by_a_lazy_cpu(name: &str, make: MakeProtocol) -> Program {
    walked(name, make, |setup| {
        setup.switch(CPU_1, "switch to the space", USER);
        setup.go_lazy(CPU_1);
    })
}

/// The table is freed after a shootdown in parts, by code that waits itself.
fn walked_while_parts_are_waited_for(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::walked(name, 2, 1, make);
    let table = setup.hook_table(CPU_0, USER, PAGE);
    let root = setup.root(USER);
    setup.operation(CPU_0, "free the table", move |hw, protocol| {
        hw.write_entry(root, root_index(PAGE), Entry::ABSENT);
        let part = |addr, tables| Part {
            space: USER,
            range: FlushRange::page(addr),
            tables,
        };
        let parts = [part(PAGE, Tables::Freed), part(FAR_PAGE, Tables::Kept)];
        protocol.flush_together(hw, &parts, &|_| {});
        hw.free_frame(table);
    });
    proves(&mut setup);
    walk_by_software(setup)
}

/// The walker is outside, and a flush has somebody else to interrupt.
fn walked_beside_a_target(name: &str, make: MakeProtocol) -> Program {
    let mut setup = mapped_and_freed(name, 3, make);
    setup.switch(CPU_2, "switch to the space", USER);
    setup.touch(CPU_2, PAGE);
    walk_by_software(setup)
}

/// The walker is outside, and somebody else is lazy, whom flushes may spare.
fn walked_beside_a_lazy_cpu(name: &str, make: MakeProtocol) -> Program {
    let mut setup = mapped_and_freed(name, 3, make);
    setup.switch(CPU_2, "switch to the space", USER);
    setup.go_lazy(CPU_2);
    setup.switch(CPU_2, "leave", KERNELS_OWN);
    walk_by_software(setup)
}

fn walked(name: &str, make: MakeProtocol, before: impl Fn(&mut Setup)) -> Program {
    let mut setup = mapped_and_freed(name, 2, make);
    before(&mut setup);
    walk_by_software(setup)
}

fn mapped_and_freed(name: &str, cpus: u8, make: MakeProtocol) -> Setup {
    let mut setup = Setup::walked(name, cpus, 1, make);
    setup.program.free_frames(2);
    for turn in [
        "map and free",
        "map and free again",
        "map and free once more",
    ] {
        setup.map_and_free_table(CPU_0, turn, FrameKind::Table);
    }
    setup
}

/// Says what a program proves in which nobody runs in the space: no promise about a flush bears weight there.
fn proves(setup: &mut Setup) {
    setup
        .program
        .proves("no page table is freed under a walk by software");
}

/// Adds the walk.
fn walk_by_software(mut setup: Setup) -> Program {
    let root = setup.root(USER);
    setup.operation(CPU_1, "walk by software", move |hw, protocol| {
        protocol.walk(hw, &|hw| walk(hw, root, PAGE));
    });
    setup.program
}
