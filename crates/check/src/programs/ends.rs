//! The end of a space, on a CPU that is in it, while others are lazy in it or come to it.

use lazytlb::{Entry, FrameKind, Hw, Memory, PhysAddr, Poll, Until};

use super::setup::{
    CPU_0, CPU_1, CPU_2, FAR_PAGE, MakeProtocol, PAGE, SECOND_USER, Setup, Shipped, USER,
    root_index, table_index,
};
use crate::program::Program;
use crate::protocol::{Ended, Space};

/// The programs of this file.
pub(super) const PROGRAMS: &[Shipped] = &[
    (
        "retire-anywhere",
        "3 CPUs: one is lazy in a space, one switches to it and on; the third, which has it loaded, retires it \
                 with interrupts off, frees its root, and reuses the frame as a table",
        retire_anywhere,
    ),
    (
        "retire-two",
        "2 CPUs: one has been in two spaces and idles in one; the other retires both, one after the other, and frees \
                 their roots",
        retire_two,
    ),
    (
        "flush-trim-retire",
        "2 CPUs: one goes to another space, back, and lazy; the other unmaps a page, frees its table, and \
                 retires the space",
        flush_trim_retire,
    ),
    (
        "retire-while-coming",
        "2 CPUs: one goes to a space, lazy, back, and lazy; the other, which has left it for another one, retires \
                 it and frees its root",
        retire_while_coming,
    ),
];

impl Setup {
    /// Retires a space, with interrupts off, and frees its root once nobody can reach it.
    fn retire_and_free(&mut self, space: Space) {
        let root = self.root(space);
        self.operation(CPU_0, "retire, free the root", move |hw, protocol| {
            let former = hw.disable_interrupts();
            let ended = protocol.start_retiring(hw, space);
            hw.restore_interrupts(former);
            if ended == Ended::Later {
                hw.poll(|hw| protocol.reap(hw));
            }
            hw.free_frame(root);
        });
    }

    /// Takes the lowest free frame for a table of a space, and uses that.
    fn reuse_as_table(&mut self, space: Space, page: PhysAddr) {
        let root = self.root(space);
        self.operation(CPU_0, "reuse the frame as a table", move |hw, protocol| {
            let table = hw.alloc_frame(FrameKind::Table);
            hw.write_entry(table, table_index(FAR_PAGE), Entry::to(page));
            hw.write_entry(root, root_index(FAR_PAGE), Entry::to(table));
            protocol.switch_mm(hw, space);
        });
        self.touch(CPU_0, FAR_PAGE);
    }
}

/// A CPU is lazy in a space, and one switches to it whenever it likes, while it dies on a third, which has it loaded. Nobody uses it
/// any more: whoever comes to it is to leave.
fn retire_anywhere(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 3, 2, make);
    setup.program.proves(
        "no CPU can walk the root of a space that has ended once its frame is freed, whoever was on the way to it",
    );
    let page = setup.program.page();
    let left = setup.program.atomic("tasks that left", 0);
    setup.switch(CPU_0, "switch to the space", USER);
    setup.operation(CPU_0, "wait for the other task", move |hw, _| {
        hw.pause_until(&left, Until::Equals(1));
    });
    setup.retire_and_free(USER);
    setup.reuse_as_table(SECOND_USER, page);
    setup.switch(CPU_1, "switch to the space", USER);
    setup.operation(CPU_1, "its task is gone", move |hw, protocol| {
        protocol.enter_lazy(hw);
        hw.store(&left, 1);
    });
    setup.switch(CPU_2, "switch to the space, or from it", USER);
    setup.switch(CPU_2, "switch to the second space", SECOND_USER);
    setup.program
}

/// Two spaces end, one right after the other, on a CPU that does not wait in between. Another CPU has been in both, and
/// idles in the second: it must be told twice, or look again.
fn retire_two(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 2, make);
    setup.program.proves(
        "no CPU can walk the root of a space that has ended once its frame is freed, and no space lingers for ever",
    );
    let left = setup.program.atomic("tasks that left", 0);
    let roots = [USER, SECOND_USER].map(|space| setup.root(space));
    setup.operation(CPU_0, "wait for the tasks", move |hw, _| {
        hw.pause_until(&left, Until::Equals(1));
    });
    setup.operation(CPU_0, "retire both, free the roots", move |hw, protocol| {
        let ended = [USER, SECOND_USER].map(|space| protocol.start_retiring(hw, space));
        for (ended, root) in ended.into_iter().zip(roots) {
            if ended == Ended::Now {
                hw.free_frame(root);
                continue;
            }
            let space = hw.poll(|hw| protocol.reap(hw));
            hw.free_frame(roots[space.0 - USER.0]);
        }
    });
    for space in [SECOND_USER, USER, SECOND_USER] {
        setup.switch(CPU_1, "switch", space);
    }
    setup.operation(CPU_1, "its task is gone", move |hw, protocol| {
        protocol.enter_lazy(hw);
        hw.store(&left, 1);
    });
    setup.program
}

/// One CPU unmaps a page, frees its table, and ends the space, that the other has left for another one, and come back to.
fn flush_trim_retire(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 2, make);
    let table = setup.program.table();
    let page = setup.mapped(USER, table, PAGE);
    let left = setup.program.atomic("tasks that left", 0);
    setup.operation(CPU_0, "unmap a page", move |hw, protocol| {
        page.remove(hw, protocol);
    });
    setup.free_table(CPU_0, USER, table, PAGE);
    setup.operation(CPU_0, "wait for the other task", move |hw, _| {
        hw.pause_until(&left, Until::Equals(1));
    });
    setup.retire_and_free(USER);
    for space in [USER, SECOND_USER, USER] {
        setup.switch(CPU_1, "switch", space);
        setup.touch(CPU_1, PAGE);
    }
    setup.operation(CPU_1, "its task is gone", move |hw, protocol| {
        protocol.enter_lazy(hw);
        hw.store(&left, 1);
    });
    setup.program
}

/// A space ends, on a CPU that has left it for another one, while a CPU comes to it and stays, or comes back to it.
fn retire_while_coming(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 2, make);
    setup.program.proves(
        "a space that ends is left by whoever is on the way to it, so its root can be freed in the end",
    );
    // With PCIDs it keeps what it has cached, and is still in the cpumask.
    for space in [SECOND_USER, USER, SECOND_USER] {
        setup.switch(CPU_0, "switch", space);
    }
    setup.retire_and_free(USER);
    for _ in 0..2 {
        setup.switch(CPU_1, "switch to the space", USER);
        setup.go_lazy(CPU_1);
    }
    setup.program
}
