//! A mapping of 4 KiB that becomes one of 2 MiB: erratum 383 (H20, H31). Two of 2 MiB that go.

use lazytlb::{Entry, FlushRange, Memory, PageRange, PageSize, Policy, Tables};
use lazytlb_model::entry::bits;

use super::setup::{CPU_0, CPU_1, FAR_PAGE, PAGE, Setup, USER, root_index, table_index};
use crate::program::Program;
use crate::protocol::Protocol;

pub(super) fn break_flush_make<P: Protocol>(name: &str, policy: Policy) -> Program {
    promote::<P>(name, policy, true)
}

pub(super) fn make_flush<P: Protocol>(name: &str, policy: Policy) -> Program {
    promote::<P>(name, policy, false)
}

/// The table is not freed: what the change of size does is all that there is to see.
fn promote<P: Protocol>(name: &str, policy: Policy, breaks: bool) -> Program {
    let mut setup = Setup::<P>::new(name, 2, 1, policy);
    setup.switch(CPU_0, "switch to the space", USER);
    let table = setup.hook_table(CPU_0, USER, PAGE);
    let (root, page) = (setup.root(USER), setup.program.page());
    setup.operation(CPU_0, "promote", move |hw, protocol| {
        hw.write_entry(table, table_index(PAGE), Entry::to(page));
        let large = Entry(Entry::to(page).0 | bits::LARGE);
        let index = root_index(PAGE);
        hw.write_entry(root, index, if breaks { Entry::ABSENT } else { large });
        // Whoever may walk the table must let go of it: as if it were freed.
        protocol.flush(hw, USER, FlushRange::All, Tables::Freed);
        if breaks {
            hw.write_entry(root, index, large);
        }
    });
    setup.switch(CPU_1, "switch to the space", USER);
    setup.touch(CPU_1, PAGE);
    setup.go_lazy(CPU_1);
    setup.program
}

/// Two large pages go with one flush: whatever counts them must do so in their size (FreeBSD EN-26:10). Twice something is flushed before, so that
/// a protocol that broadcasts does so here.
pub(super) fn two_large_pages<P: Protocol>(name: &str, policy: Policy) -> Program {
    let mut setup = Setup::<P>::new(name, 2, 1, policy);
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
    setup.touch(CPU_1, PAGE);
    setup.touch(CPU_1, FAR_PAGE);
    setup.touch(CPU_1, FAR_PAGE);
    setup.program
}
