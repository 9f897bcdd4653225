//! Walks of freed tables, followed to their ends (H33): what the mail of 2017 doubts that one can observe.

use lazytlb::{FrameKind, Memory};
use lazytlb_model::Cr4;

use super::setup::{CPU_0, CPU_1, MakeProtocol, PAGE, Setup, Shipped, USER};
use crate::program::Program;

/// The programs of this file.
pub(super) const PROGRAMS: &[Shipped] = &[
    (
        "garbage-entry",
        "2 CPUs, garbage walks followed: one frees a table while the other is lazy, comes back and \
                 touches",
        entry,
    ),
    (
        "garbage-entry-without-pge",
        "garbage-entry with CR4.PGE clear: nothing survives the CR3 load that catches up",
        entry_without_pge,
    ),
    (
        "garbage-accessed-bit",
        "2 CPUs, garbage walks followed: one frees a table, and reuses the frame as a page, while \
                 the other is lazy",
        accessed_bit,
    ),
];

fn entry(name: &str, make: MakeProtocol) -> Program {
    come_back(name, make, Cr4::PGE)
}

fn entry_without_pge(name: &str, make: MakeProtocol) -> Program {
    come_back(name, make, Cr4::default())
}

/// CPU 1 is lazy while CPU 0 frees a table, comes back, catches up with a CR3 load, and touches.
fn come_back(name: &str, make: MakeProtocol, cr4: Cr4) -> Program {
    let mut setup = free_under_a_lazy_cpu(name, make, cr4);
    setup.switch(CPU_1, "switch back", USER);
    setup.touch(CPU_1, PAGE);
    setup.program
}

fn accessed_bit(name: &str, make: MakeProtocol) -> Program {
    let mut setup = free_under_a_lazy_cpu(name, make, Cr4::PGE);
    setup.operation(CPU_0, "reuse the frames as pages", |hw, _| {
        hw.alloc_frame(FrameKind::Page);
        hw.alloc_frame(FrameKind::Page);
    });
    setup.program
}

fn free_under_a_lazy_cpu(name: &str, make: MakeProtocol, cr4: Cr4) -> Setup {
    let mut setup = Setup::new(name, 2, 1, make);
    setup.program.free_frames(2);
    setup.program.start_with_cr4(cr4);
    setup.program.follow_garbage_walks();
    setup.switch(CPU_0, "switch to the space", USER);
    setup.map_and_free_table(CPU_0, "map, unmap, free the table", FrameKind::Page);
    setup.switch(CPU_1, "switch to the space", USER);
    setup.go_lazy(CPU_1);
    setup
}
