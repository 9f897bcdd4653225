//! A mapping that changes its size: errata 383 and of Intel's ITLB (H20, H31, H31a). Two large pages that go.

use lazytlb::{
    Access, Entry, Fetched, FlushRange, Memory, PageRange, PageSize, PhysAddr, Tables, VirtAddr,
};
use lazytlb_model::entry::bits;

use super::setup::{
    CPU_0, CPU_1, FAR_PAGE, MakeProtocol, NEXT_PAGE, PAGE, Setup, Shipped, USER, root_index,
    table_index,
};
use crate::model_hw::ModelHw;
use crate::program::Program;
use crate::protocol::{PageChange, Protocol};

/// The programs of this file.
pub(super) const PROGRAMS: &[Shipped] = &[
    (
        "promote",
        "2 CPUs: one uses a 4 KiB page; the other makes a 2 MiB page of it: break, flush, make where two sizes may \
                 not coexist",
        promote,
    ),
    (
        "promote-data",
        "promote, of pages that no instruction is fetched from",
        promote_data,
    ),
    (
        "promote-in-place",
        "promote without the break: make, flush",
        promote_in_place,
    ),
    (
        "split",
        "2 CPUs: one uses a 2 MiB page; the other makes 4 KiB pages of it",
        split,
    ),
    (
        "two-large-pages",
        "2 CPUs: one unmaps two pages of 2 MiB with one flush, the other touches both",
        two_large_pages,
    ),
];

/// What a program does with a change.
type Change = fn(&ModelHw, &dyn Protocol, &PageChange<'_>);

fn promote(name: &str, make: MakeProtocol) -> Program {
    promote_by(name, make, Fetched::Perhaps, by_entry_point)
}

/// As [`promote`], of pages that nothing can be fetched from.
fn promote_data(name: &str, make: MakeProtocol) -> Program {
    promote_by(name, make, Fetched::Never, by_entry_point)
}

fn promote_in_place(name: &str, make: MakeProtocol) -> Program {
    promote_by(name, make, Fetched::Perhaps, in_place)
}

fn by_entry_point(hw: &ModelHw, protocol: &dyn Protocol, change: &PageChange<'_>) {
    protocol.change_size(hw, USER, change);
}

fn in_place(hw: &ModelHw, protocol: &dyn Protocol, change: &PageChange<'_>) {
    (change.make)(hw);
    let range = FlushRange::Pages(change.pages);
    // Lazy CPUs must not be spared: as if the table were freed.
    protocol.flush(hw, USER, range, Tables::Freed);
}

/// The table is not freed: what the change of size does is all that there is to see.
fn promote_by(name: &str, make: MakeProtocol, fetched: Fetched, change: Change) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    setup.switch(CPU_0, "switch to the space", USER);
    let table = setup.hook_table(CPU_0, USER, PAGE);
    let (root, small, large) = sizes_of(&mut setup, fetched);
    setup.operation(CPU_0, "promote", move |hw, protocol| {
        hw.write_entry(table, table_index(PAGE), small);
        let index = root_index(PAGE);
        let to = PageChange {
            pages: PageRange::page(PAGE),
            fetched,
            clear: &|hw| hw.write_entry(root, index, Entry::ABSENT),
            make: &|hw| hw.write_entry(root, index, large),
        };
        change(hw, protocol, &to);
    });
    use_it(&mut setup);
    setup.program
}

/// The other way: a large page becomes small ones, of a table that is filled before.
fn split(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let (root, small, large) = sizes_of(&mut setup, Fetched::Perhaps);
    let table = setup.program.table();
    let program = &mut setup.program;
    program.first_entry(table, table_index(PAGE), small);
    program.first_entry(root, root_index(PAGE), large);
    setup.operation(CPU_0, "split", move |hw, protocol| {
        let index = root_index(PAGE);
        let to = PageChange {
            pages: PageRange {
                start: PAGE,
                len_pages: 1,
                size: PageSize::Size2M,
            },
            fetched: Fetched::Perhaps,
            clear: &|hw| hw.write_entry(root, index, Entry::ABSENT),
            make: &|hw| hw.write_entry(root, index, Entry::to(table)),
        };
        protocol.change_size(hw, USER, &to);
    });
    use_it(&mut setup);
    setup.program
}

/// Returns the root, and the entries for a page of both sizes.
fn sizes_of(setup: &mut Setup, fetched: Fetched) -> (PhysAddr, Entry, Entry) {
    let page = Entry::to(setup.program.page()).0;
    let page = match fetched {
        Fetched::Perhaps => page,
        Fetched::Never => page | bits::NO_EXECUTE,
    };
    (setup.root(USER), Entry(page), Entry(page | bits::LARGE))
}

fn use_it(setup: &mut Setup) {
    setup.switch(CPU_1, "switch to the space", USER);
    setup.touch(CPU_1, PAGE);
    setup.go_lazy(CPU_1);
}

/// Two large pages go with one flush: whatever counts them must do so in their size (FreeBSD EN-26:10), and of each go all the pieces that it may be held
/// in (H6), of which the last load uses one. Twice something is flushed before, so that a protocol that broadcasts does so here.
fn two_large_pages(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let root = setup.root(USER);
    let pages = [PAGE, FAR_PAGE].map(|addr| {
        let page = setup.program.page();
        let large = Entry(Entry::to(page).0 | bits::LARGE);
        setup.program.first_entry(root, root_index(addr), large);
        (addr, page)
    });
    setup.flush_all(CPU_0, "flush everything", USER);
    setup.flush_all(CPU_0, "flush it again", USER);
    setup.operation(CPU_0, "unmap both pages", move |hw, protocol| {
        for (addr, _) in pages {
            hw.write_entry(root, root_index(addr), Entry::ABSENT);
        }
        let both = PageRange {
            start: PAGE,
            len_pages: pages.len() as u64,
            size: PageSize::Size2M,
        };
        protocol.flush(hw, USER, FlushRange::Pages(both), Tables::Kept);
        for (_, page) in pages {
            hw.free_frame(page);
        }
    });
    setup.switch(CPU_1, "switch to the space", USER);
    let inside = VirtAddr(FAR_PAGE.0 + NEXT_PAGE.0);
    for addr in [PAGE, FAR_PAGE, inside] {
        // No stores: those wait in the store buffer after a broadcast, which is another matter (H29).
        setup.operation(CPU_1, "load", move |hw, _| hw.touch(addr, Access::Load));
    }
    setup.program
}
