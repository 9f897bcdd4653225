//! NMIs, which come at any time.

use lazytlb::{Access, Memory};

use super::setup::{CPU_0, CPU_1, MakeProtocol, PAGE, SECOND_USER, Setup, Shipped, USER};
use crate::program::Program;

/// The programs of this file.
pub(super) const PROGRAMS: &[Shipped] = &[(
    "nmi",
    "2 CPUs: one goes lazy and comes back, then to another space, and takes an NMI, whose handler touches \
                 user memory where it may; the other unmaps that",
    nmi,
)];

/// A CPU goes lazy and comes back, then lazy and to another space, and takes an NMI somewhere on the way, whose handler touches user memory where the
/// protocol says that it may. The NMI is sent when a page of that memory has been unmapped and flushed.
fn nmi(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 2, make);
    setup.program.free_frames(1);
    let protocol = setup.protocol();
    setup.program.on_nmi(move |hw| {
        if protocol.may_touch_user_memory(hw) {
            hw.touch(PAGE, Access::Store);
        }
    });
    let table = setup.hook_table(CPU_0, USER, PAGE);
    setup.map_and_free_pages(CPU_0, USER, table, &[PAGE]);
    setup.operation(CPU_0, "send an NMI", |hw, _| hw.send_nmi(1 << CPU_1.0));
    setup.switch(CPU_1, "switch to the space", USER);
    setup.touch(CPU_1, PAGE);
    setup.go_lazy(CPU_1);
    setup.switch(CPU_1, "switch to the same space", USER);
    setup.go_lazy(CPU_1);
    setup.switch(CPU_1, "switch to another space", SECOND_USER);
    setup.program
}
