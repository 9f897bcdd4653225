//! Software walks page tables without a lock, while others free them.

use lazytlb::{Entry, FlushRange, FrameKind, Memory, Policy, Tables};

use super::setup::{
    CPU_0, CPU_1, CPU_2, FAR_PAGE, KERNELS_OWN, PAGE, Setup, USER, root_index, walk,
};
use crate::program::Program;
use crate::protocol::{Part, Protocol};

/// The walker has another space loaded: no flush of the walked one interrupts it.
pub(super) fn walked_from_outside<P: Protocol>(name: &str, policy: Policy) -> Program {
    walked::<P>(name, policy, proves)
}

/// The walker runs in the space.
pub(super) fn walked_inside<P: Protocol>(name: &str, policy: Policy) -> Program {
    walked::<P>(name, policy, |setup| {
        setup.switch(CPU_1, "switch to the space", USER)
    })
}

/// The walker is lazy in the space: flushes may spare it.
pub(super) fn walked_by_a_lazy_cpu<P: Protocol>(name: &str, policy: Policy) -> Program {
    walked::<P>(name, policy, |setup| {
        setup.switch(CPU_1, "switch to the space", USER);
        setup.go_lazy(CPU_1);
    })
}

/// The table is freed after a shootdown in parts, by code that waits itself.
pub(super) fn walked_while_parts_are_waited_for<P: Protocol>(
    name: &str,
    policy: Policy,
) -> Program {
    let mut setup = Setup::<P>::walked(name, 2, 1, policy);
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
pub(super) fn walked_beside_a_target<P: Protocol>(name: &str, policy: Policy) -> Program {
    let mut setup = mapped_and_freed::<P>(name, 3, policy);
    setup.switch(CPU_2, "switch to the space", USER);
    setup.touch(CPU_2, PAGE);
    walk_by_software(setup)
}

/// The walker is outside, and somebody else is lazy, whom flushes may spare.
pub(super) fn walked_beside_a_lazy_cpu<P: Protocol>(name: &str, policy: Policy) -> Program {
    let mut setup = mapped_and_freed::<P>(name, 3, policy);
    setup.switch(CPU_2, "switch to the space", USER);
    setup.go_lazy(CPU_2);
    setup.switch(CPU_2, "leave", KERNELS_OWN);
    walk_by_software(setup)
}

fn walked<P: Protocol>(name: &str, policy: Policy, before: impl Fn(&mut Setup<P>)) -> Program {
    let mut setup = mapped_and_freed(name, 2, policy);
    before(&mut setup);
    walk_by_software(setup)
}

fn mapped_and_freed<P: Protocol>(name: &str, cpus: u8, policy: Policy) -> Setup<P> {
    let mut setup = Setup::<P>::walked(name, cpus, 1, policy);
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
fn proves<P: Protocol>(setup: &mut Setup<P>) {
    setup
        .program
        .proves("no page table is freed under a walk by software");
}

/// Adds the walk.
fn walk_by_software<P: Protocol>(mut setup: Setup<P>) -> Program {
    let root = setup.root(USER);
    setup.operation(CPU_1, "walk by software", move |hw, protocol| {
        protocol.walk(hw, &|hw| walk(hw, root, PAGE));
    });
    setup.program
}
