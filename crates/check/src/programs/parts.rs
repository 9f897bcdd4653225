//! Shootdowns in parts: several flushes that are waited for once, and others in between.

use lazytlb::{Entry, FlushRange, Memory, PhysAddr, Tables, VirtAddr};

use super::setup::{
    CPU_0, CPU_1, CPU_2, MakeProtocol, NEXT_PAGE, PAGE, SECOND_USER, Setup, Shipped, USER,
    root_index, table_index,
};
use crate::model_hw::ModelHw;
use crate::program::Program;
use crate::protocol::{Frees, Part, Protocol, Removal, Space};

/// The programs of this file.
pub(super) const PROGRAMS: &[Shipped] = &[
    (
        "two-adds",
        "3 CPUs: one unmaps a page in each of two spaces, with one shootdown in two parts; each of \
                 the others is in one of them, and one goes lazy and comes back",
        two_adds,
    ),
    (
        "added-after-a-send",
        "2 CPUs: one unmaps two pages with one shootdown, of which the second part is added when the first was sent; \
                 the other touches that",
        added_after_a_send,
    ),
    (
        "nested-shootdown",
        "2 CPUs: one unmaps a page, and between sending that and waiting for it another one; the other touches \
                 both, goes lazy, comes back",
        nested,
    ),
    (
        "nested-elsewhere",
        "2 CPUs: one unmaps a page, and between sending that and waiting for it one of another space; the other \
                 touches the first",
        nested_elsewhere,
    ),
];

/// A page that is mapped from the start, and unmapped by hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapped {
    pub(super) space: Space,
    addr: VirtAddr,
    table: PhysAddr,
    frame: PhysAddr,
}

impl Mapped {
    /// Clears its entry, and returns what is to be flushed before it is freed.
    pub(super) fn clear(self, hw: &ModelHw) -> Part {
        hw.write_entry(self.table, table_index(self.addr), Entry::ABSENT);
        Part {
            space: self.space,
            range: FlushRange::page(self.addr),
            tables: Tables::Kept,
        }
    }

    /// Clears its entry, flushes at once, and frees it.
    pub(super) fn remove(self, hw: &ModelHw, protocol: &dyn Protocol) {
        protocol.remove(hw, self.space, &[self.removal()], &|_| {});
    }

    /// What it takes to unmap it and free it.
    pub(super) fn removal(self) -> Removal {
        Removal {
            addr: self.addr,
            table: self.table,
            index: table_index(self.addr),
            frees: Frees::Page(self.frame),
        }
    }

    /// Clears its entry, flushes with a shootdown of one part, and frees it. Of such, any number may be under way on a CPU.
    pub(super) fn unmap(self, hw: &ModelHw, protocol: &dyn Protocol) {
        let part = self.clear(hw);
        protocol.flush_together(hw, &[part], &|_| {});
        self.free(hw);
    }

    pub(super) fn free(self, hw: &ModelHw) {
        hw.free_frame(self.frame);
    }
}

impl Setup {
    /// Maps a page of a space from the start, under a table that stays.
    pub(super) fn mapped(&mut self, space: Space, table: PhysAddr, addr: VirtAddr) -> Mapped {
        let (root, frame) = (self.root(space), self.program.page());
        let program = &mut self.program;
        program.first_entry(root, root_index(addr), Entry::to(table));
        program.first_entry(table, table_index(addr), Entry::to(frame));
        Mapped {
            space,
            addr,
            table,
            frame,
        }
    }
}

/// Each space has a CPU in it: one lost part of the two is one CPU that uses what is freed.
fn two_adds(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 3, 2, make);
    let [first, second] = [USER, SECOND_USER].map(|space| {
        let table = setup.program.table();
        setup.mapped(space, table, PAGE)
    });
    setup.operation(CPU_0, "unmap a page in each space", move |hw, protocol| {
        let parts = [first.clear(hw), second.clear(hw)];
        protocol.flush_and_add(hw, &[], &parts);
        first.free(hw);
        second.free(hw);
    });
    setup.switch(CPU_1, "switch to the first space", USER);
    setup.touch(CPU_1, PAGE);
    setup.switch(CPU_2, "switch to the second space", SECOND_USER);
    setup.touch(CPU_2, PAGE);
    setup.go_lazy(CPU_2);
    setup.switch(CPU_2, "switch to the second space", SECOND_USER);
    setup.touch(CPU_2, PAGE);
    setup.program
}

/// Who has answered the first part is to be told of the second.
fn added_after_a_send(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let table = setup.program.table();
    let [first, second] = [PAGE, NEXT_PAGE].map(|addr| setup.mapped(USER, table, addr));
    setup.operation(CPU_0, "unmap two pages", move |hw, protocol| {
        let [first_part, second_part] = [first, second].map(|page| page.clear(hw));
        protocol.flush_and_add(hw, &[first_part], &[second_part]);
        first.free(hw);
        second.free(hw);
    });
    setup.switch(CPU_1, "switch to the space", USER);
    setup.touch(CPU_1, NEXT_PAGE);
    setup.touch(CPU_1, NEXT_PAGE);
    setup.program
}

/// A target answers the one or the other, or both at once: an answer for the first must not be taken for one for the
/// second, nor the other way round.
fn nested(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let table = setup.program.table();
    let [outer, inner] = [PAGE, NEXT_PAGE].map(|addr| setup.mapped(USER, table, addr));
    setup.switch(CPU_0, "switch to the space", USER);
    setup.operation(
        CPU_0,
        "unmap a page, and another before the wait",
        move |hw, protocol| {
            let part = outer.clear(hw);
            protocol.flush_together(hw, &[part], &|hw| inner.unmap(hw, protocol));
            outer.free(hw);
        },
    );
    setup.switch(CPU_1, "switch to the space", USER);
    setup.touch(CPU_1, PAGE);
    setup.touch(CPU_1, NEXT_PAGE);
    setup.go_lazy(CPU_1);
    setup.switch(CPU_1, "switch to the space", USER);
    setup.touch(CPU_1, NEXT_PAGE);
    setup.touch(CPU_1, PAGE);
    setup.program
}

/// As [`nested`], in two spaces whose generations are equal: the second request is written over the first, while the target
/// reads that.
fn nested_elsewhere(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 2, make);
    let [outer, inner] = [(USER, PAGE), (SECOND_USER, NEXT_PAGE)].map(|(space, addr)| {
        let table = setup.program.table();
        setup.mapped(space, table, addr)
    });
    setup.operation(
        CPU_0,
        "unmap a page, and one of another space before the wait",
        move |hw, protocol| {
            let part = outer.clear(hw);
            protocol.flush_together(hw, &[part], &|hw| inner.unmap(hw, protocol));
            outer.free(hw);
        },
    );
    setup.switch(CPU_1, "switch to the first space", USER);
    setup.touch(CPU_1, PAGE);
    setup.touch(CPU_1, PAGE);
    setup.program
}
