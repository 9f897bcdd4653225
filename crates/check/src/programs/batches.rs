//! What one flush covers, and what is freed after it.

use lazytlb::{Access, Entry, FlushRange, Memory, PhysAddr, Promises, Spaces, VirtAddr};

use super::setup::{
    CPU_0, CPU_1, FAR_PAGE, MakeProtocol, NEXT_PAGE, PAGE, Setup, Shipped, USER, root_index,
    table_index,
};
use crate::program::Program;
use crate::protocol::{Frees, Removal};

/// The programs of this file.
pub(super) const PROGRAMS: &[Shipped] = &[
    (
        "table-after-pages",
        "2 CPUs: one unmaps a page, then frees its table with a flush of its own; the other goes \
                 lazy in between",
        table_after_pages,
    ),
    (
        "two-pages-at-once",
        "2 CPUs: one unmaps two pages with one flush, the other touches both",
        two_pages_at_once,
    ),
    (
        "many-ranges",
        "2 CPUs: one unmaps five pages that lie apart with one flush, the other touches the last",
        many_ranges,
    ),
    (
        "full-batch",
        "2 CPUs: one frees a page and two tables, one more than its batch takes, while the other is lazy",
        full_batch,
    ),
    (
        "full-batch-of-pages",
        "2 CPUs: one frees two pages and then their table, one more than its batch takes, while the other is lazy",
        full_batch_of_pages,
    ),
    (
        "no-room",
        "2 CPUs: one frees a page and its table without room to gather them, while the other is lazy",
        no_room,
    ),
    (
        "detached-subtree",
        "2 CPUs: one frees a table that still leads to a page, while the other is lazy",
        detached_subtree,
    ),
    (
        "nothing-to-flush",
        "2 CPUs: one unmaps and frees a page that the other uses; that one finds it unmapped, and relies on it",
        nothing_to_flush,
    ),
    (
        "subtree",
        "2 CPUs: one frees two tables, and names an address below one of them; the other touches that",
        subtree,
    ),
    (
        "isolated-subtree",
        "subtree, with page-table isolation",
        isolated_subtree,
    ),
];

fn table_after_pages(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    setup.program.free_frames(1);
    setup.switch(CPU_0, "switch to the space", USER);
    let table = setup.hook_table(CPU_0, USER, PAGE);
    setup.map_and_free_pages(CPU_0, USER, table, &[PAGE]);
    setup.free_table(CPU_0, USER, table, PAGE);
    setup.switch(CPU_1, "switch to the space", USER);
    setup.go_lazy(CPU_1);
    setup.program
}

fn two_pages_at_once(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    setup.program.free_frames(2);
    setup.switch(CPU_0, "switch to the space", USER);
    let table = setup.hook_table(CPU_0, USER, PAGE);
    setup.map_and_free_pages(CPU_0, USER, table, &[PAGE, NEXT_PAGE]);
    setup.switch(CPU_1, "switch to the space", USER);
    setup.touch(CPU_1, PAGE);
    setup.touch(CPU_1, NEXT_PAGE);
    setup.program
}

/// Who finds a page removed has nothing to flush, and relies on it all the same: *nothing to flush is not nothing to wait
/// for* (Linux 99baac21e458).
fn nothing_to_flush(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let table = setup.program.table();
    let (page, root) = (setup.mapped(USER, table, PAGE), setup.root(USER));
    setup.operation(CPU_0, "unmap a page", move |hw, protocol| {
        page.remove(hw, protocol);
    });
    setup.switch(CPU_1, "switch to the space", USER);
    setup.touch(CPU_1, PAGE);
    setup.operation(CPU_1, "have nothing to do", |hw, protocol| {
        protocol.remove(hw, USER, &[], &|_| {});
    });
    setup.operation(CPU_1, "find it unmapped", move |hw, protocol| {
        if hw.read_entry(table, table_index(PAGE)) == Entry::ABSENT {
            let promise = hw.promise_begins(Spaces::one(root), FlushRange::page(PAGE));
            protocol.remove(hw, USER, &[], &|_| {});
            hw.promise_kept(promise);
        }
    });
    setup.touch(CPU_1, PAGE);
    setup.program
}

/// More pages, far from each other, than a gather keeps ranges of.
fn many_ranges(name: &str, make: MakeProtocol) -> Program {
    const PAGES: u64 = 5;
    let mut setup = Setup::new(name, 2, 1, make);
    // One for each range.
    setup.program.features().promises = 4;
    let table = setup.program.table();
    let addrs = (0..PAGES).map(|number| VirtAddr(number << 13));
    let pages: Vec<_> = addrs.map(|addr| setup.mapped(USER, table, addr)).collect();
    setup.operation(
        CPU_0,
        "unmap all pages with one flush",
        move |hw, protocol| {
            let removals = pages.iter().map(|page| page.removal());
            // The last one alone is freed.
            let removals = removals.enumerate().map(|(number, removal)| Removal {
                frees: match number as u64 + 1 == PAGES {
                    true => removal.frees,
                    false => Frees::Nothing,
                },
                ..removal
            });
            protocol.remove(hw, USER, &removals.collect::<Vec<_>>(), &|_| {});
        },
    );
    setup.switch(CPU_1, "switch to the space", USER);
    setup.touch(CPU_1, VirtAddr((PAGES - 1) << 13));
    setup.program
}

/// One frame more than a gather takes before it flushes by itself, beside a lazy CPU: the first table may be held back, the second one,
/// which was unhooked before that flush, has no room.
fn full_batch(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let [first, second] = [PAGE, FAR_PAGE].map(|addr| setup.table_at(addr));
    let page = setup.mapped(USER, first.1, PAGE).removal();
    free_beside_a_lazy_cpu(setup, vec![page, first.0, second.0])
}

/// As [`full_batch`]: what is left when the gather has flushed by itself is the only table.
fn full_batch_of_pages(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let (unhooked, table) = setup.table_at(PAGE);
    let pages = [PAGE, NEXT_PAGE].map(|addr| setup.mapped(USER, table, addr).removal());
    free_beside_a_lazy_cpu(setup, vec![pages[0], pages[1], unhooked])
}

/// Nothing can be gathered, nor held back: what was flushed beside a lazy CPU is flushed again, and freed at once.
fn no_room(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let (unhooked, table) = setup.table_at(PAGE);
    let page = setup.mapped(USER, table, PAGE).removal();
    setup.operation(CPU_0, "unmap and free one by one", move |hw, protocol| {
        protocol.remove_one_by_one(hw, USER, &[page, unhooked]);
    });
    go_lazy_beside(setup)
}

/// A table goes with the page that it still leads to.
fn detached_subtree(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let (unhooked, table) = setup.table_at(PAGE);
    setup.mapped(USER, table, PAGE);
    let frees = Frees::Subtree(table);
    free_beside_a_lazy_cpu(setup, vec![Removal { frees, ..unhooked }])
}

fn free_beside_a_lazy_cpu(mut setup: Setup, removals: Vec<Removal>) -> Program {
    setup.operation(CPU_0, "unmap and free", move |hw, protocol| {
        protocol.remove(hw, USER, &removals, &|_| {});
    });
    go_lazy_beside(setup)
}

pub(super) fn go_lazy_beside(mut setup: Setup) -> Program {
    setup.switch(CPU_1, "switch to the space", USER);
    setup.touch(CPU_1, PAGE);
    setup.go_lazy(CPU_1);
    setup.program
}

impl Setup {
    /// Makes a table that is hooked into the space from the start; returns what unhooks it, too.
    pub(super) fn table_at(&mut self, addr: VirtAddr) -> (Removal, PhysAddr) {
        let (table, root) = (self.program.table(), self.root(USER));
        let index = root_index(addr);
        self.program.first_entry(root, index, Entry::to(table));
        let unhooked = Removal {
            addr,
            table: root,
            index,
            frees: Frees::Table(table),
        };
        (unhooked, table)
    }
}

/// Two tables are detached at once, and one address in the reach of one of them is named: all upper levels must go, which
/// INVLPG sees to on CPUs without TCE only. In the half that is not loaded, if there is one, no instruction does with one address.
fn subtree(name: &str, make: MakeProtocol) -> Program {
    detach_two_tables(Setup::new(name, 2, 1, make))
}

/// As [`subtree`], with page-table isolation.
fn isolated_subtree(name: &str, make: MakeProtocol) -> Program {
    detach_two_tables(Setup::isolated(name, 2, 1, make))
}

fn detach_two_tables(mut setup: Setup) -> Program {
    let roots = setup.roots_of(USER);
    let tables = [PAGE, FAR_PAGE].map(|addr| {
        let (table, page) = (setup.program.table(), setup.program.page());
        setup
            .program
            .first_entry(table, table_index(addr), Entry::to(page));
        for &root in &roots {
            setup
                .program
                .first_entry(root, root_index(addr), Entry::to(table));
        }
        (addr, table)
    });
    setup.operation(CPU_0, "detach both tables", move |hw, protocol| {
        let mut removals = Vec::new();
        for (addr, table) in tables {
            for (half, &root) in roots.iter().enumerate() {
                removals.push(Removal {
                    addr: PAGE,
                    table: root,
                    index: root_index(addr),
                    frees: match half + 1 == roots.len() {
                        true => Frees::Table(table),
                        false => Frees::Nothing,
                    },
                });
            }
        }
        protocol.remove(hw, USER, &removals, &|_| {});
    });
    setup.switch(CPU_1, "switch to the space", USER);
    if setup.user_mode(CPU_1).is_some() {
        setup.touch_in_user_mode(CPU_1, PAGE, Access::Load);
    } else {
        setup.touch(CPU_1, PAGE);
    }
    setup.program
}
