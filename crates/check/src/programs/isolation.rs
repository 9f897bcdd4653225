//! Page-table isolation: spaces with a root for the kernel and one for user mode.

use lazytlb::{Access, Entry, FlushRange, FrameKind, Memory, PageRange, PageSize, Tables};
use lazytlb_model::entry::bits;

use super::setup::{
    CPU_0, CPU_1, MakeProtocol, NEXT_PAGE, PAGE, SECOND_USER, Setup, Shipped, USER, root_index,
    table_index,
};
use crate::program::Program;
use crate::protocol::{Frees, Removal};

/// The programs of this file.
pub(super) const PROGRAMS: &[Shipped] = &[
    (
        "isolated",
        "2 CPUs, page-table isolation: one unmaps and frees a page, the other uses it in user mode",
        isolated,
    ),
    (
        "isolated-tables",
        "isolated, and the page's table goes too",
        isolated_tables,
    ),
    (
        "isolated-large",
        "2 CPUs, page-table isolation: one unmaps a 2 MiB page, the other uses a part of it in user mode",
        isolated_large,
    ),
];

/// One CPU maps a page and its table under both roots, unmaps both and frees them; the other one's tasks use the page in user mode, where they are
/// interrupted.
fn isolated(name: &str, make: MakeProtocol) -> Program {
    build(name, make, Tables::Kept)
}

/// As [`isolated`], and the table goes too.
fn isolated_tables(name: &str, make: MakeProtocol) -> Program {
    build(name, make, Tables::Freed)
}

/// One CPU unmaps a 2 MiB page under both roots; the other one's tasks use a part of it that is not its first, in user mode.
fn isolated_large(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::isolated(name, 2, 2, make);
    let page = Entry(Entry::to(setup.program.page()).0 | bits::LARGE);
    let halves = setup.halves(USER);
    for root in halves {
        setup.program.first_entry(root, root_index(PAGE), page);
    }
    setup.operation(CPU_0, "unmap", move |hw, protocol| {
        for root in halves {
            hw.write_entry(root, root_index(PAGE), Entry::ABSENT);
        }
        let large = PageRange {
            start: PAGE,
            len_pages: 1,
            size: PageSize::Size2M,
        };
        protocol.flush(hw, USER, FlushRange::Pages(large), Tables::Kept);
    });
    for space in [USER, SECOND_USER, USER] {
        setup.switch(CPU_1, "switch", space);
        setup.touch_in_user_mode(CPU_1, NEXT_PAGE, Access::Load);
    }
    setup.program
}

fn build(name: &str, make: MakeProtocol, tables: Tables) -> Program {
    let mut setup = Setup::isolated(name, 2, 2, make);
    setup.program.free_frames(1);
    let table = setup.program.table();
    let halves = setup.halves(USER);
    setup.operation(CPU_0, "map and unmap", move |hw, protocol| {
        let page = hw.alloc_frame(FrameKind::Page);
        hw.write_entry(table, table_index(PAGE), Entry::to(page));
        for root in halves {
            hw.write_entry(root, root_index(PAGE), Entry::to(table));
        }
        let removal = |table, index, frees| Removal {
            addr: PAGE,
            table,
            index,
            frees,
        };
        let mut removals = vec![removal(table, table_index(PAGE), Frees::Page(page))];
        if tables == Tables::Freed {
            let [kernel, user] = halves.map(|root| (root, root_index(PAGE)));
            removals.push(removal(kernel.0, kernel.1, Frees::Nothing));
            removals.push(removal(user.0, user.1, Frees::Table(table)));
        }
        protocol.remove(hw, USER, &removals, &|_| {});
    });
    for space in [USER, SECOND_USER, USER] {
        setup.switch(CPU_1, "switch", space);
        setup.touch_in_user_mode(CPU_1, PAGE, Access::Load);
    }
    setup.touch_in_user_mode(CPU_1, PAGE, Access::Load);
    setup.go_lazy(CPU_1);
    setup.switch(CPU_1, "switch", USER);
    setup.touch_in_user_mode(CPU_1, PAGE, Access::Load);
    setup.program
}
