//! What the operations of menus do.

use lazytlb::{Access, Entry, FlushRange, FrameKind, Memory, PhysAddr, Tables, VirtAddr};

use super::lock::{Lock, PageTableLock, locked};
use super::operation::MenuOperation;
use crate::model_hw::ModelHw;
use crate::programs::setup::{NEXT_PAGE, PAGE, root_index, table_index};
use crate::protocol::{Frees, Protocol, Removal, Space};

/// A space whose page tables operations change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tabled {
    pub(super) space: Space,
    pub(super) root: PhysAddr,
    /// The pages that may be mapped.
    pub(super) pages: &'static [VirtAddr],
    /// What is taken to change its tables, where several CPUs do.
    pub(super) lock: Option<Lock>,
}

/// Does an operation once.
pub(super) fn run<P: Protocol>(
    hw: &ModelHw,
    protocol: &P,
    operation: MenuOperation,
    tabled: Tabled,
) {
    let Tabled {
        space, root, lock, ..
    } = tabled;
    let flush = |range| protocol.flush(hw, space, range, Tables::Kept);
    match operation {
        MenuOperation::Map => locked(hw, lock, || map(hw, root, PAGE)),
        MenuOperation::MapNext => locked(hw, lock, || map(hw, root, NEXT_PAGE)),
        MenuOperation::Unmap => unmap(hw, protocol, tabled, &[PAGE], Tables::Kept),
        MenuOperation::UnmapBoth => unmap(hw, protocol, tabled, tabled.pages, Tables::Kept),
        MenuOperation::Free => unmap(hw, protocol, tabled, tabled.pages, Tables::Freed),
        MenuOperation::Protect => protect(hw, protocol, tabled),
        MenuOperation::Load => hw.touch(PAGE, Access::Load),
        MenuOperation::Touch => hw.touch(PAGE, Access::Store),
        MenuOperation::TouchNext => hw.touch(NEXT_PAGE, Access::Store),
        MenuOperation::Switch => protocol.switch_mm(hw, space),
        MenuOperation::Lazy => protocol.enter_lazy(hw),
        MenuOperation::FlushAll => flush(FlushRange::All),
        MenuOperation::FlushPage => flush(FlushRange::page(PAGE)),
        MenuOperation::FlushNext => flush(FlushRange::page(NEXT_PAGE)),
    }
}

/// Maps a page, if it is absent, with its table, if that is.
fn map(hw: &ModelHw, root: PhysAddr, addr: VirtAddr) {
    let hooked = hw.read_entry(root, root_index(addr));
    if hooked.is_present() {
        let table = hooked.frame();
        if !hw.read_entry(table, table_index(addr)).is_present() {
            let page = hw.alloc_frame(FrameKind::Page);
            hw.write_entry(table, table_index(addr), Entry::to(page));
        }
        return;
    }
    let table = hw.alloc_frame(FrameKind::Table);
    let page = hw.alloc_frame(FrameKind::Page);
    hw.write_entry(table, table_index(addr), Entry::to(page));
    hw.write_entry(root, root_index(addr), Entry::to(table));
}

/// Unmaps those of the pages that are there, and their table with them, if that is to be freed.
fn unmap<P: Protocol>(
    hw: &ModelHw,
    protocol: &P,
    tabled: Tabled,
    pages: &[VirtAddr],
    tables: Tables,
) {
    let flushes_later = flushes_after_unlock(tabled.lock);
    let removals = locked(hw, tabled.lock, || {
        let removals = mapped(hw, tabled.root, pages, tables);
        if flushes_later {
            for removal in &removals {
                hw.write_entry(removal.table, removal.index, Entry::ABSENT);
            }
        } else if !removals.is_empty() {
            protocol.remove(hw, tabled.space, &removals, &|_| {});
        }
        removals
    });
    if flushes_later {
        flush_and_free(hw, protocol, tabled.space, &removals, tables);
    }
}

fn flushes_after_unlock(lock: Option<Lock>) -> bool {
    lock.is_some_and(|lock| lock.taken == PageTableLock::FlushAfterUnlock)
}

/// Lists what of the pages is mapped, and their table, if that is to be freed.
fn mapped(hw: &ModelHw, root: PhysAddr, pages: &[VirtAddr], tables: Tables) -> Vec<Removal> {
    let hooked = hw.read_entry(root, root_index(PAGE));
    if !hooked.is_present() {
        return Vec::new();
    }
    let table = hooked.frame();
    let mut removals = Vec::new();
    for &addr in pages {
        let mapped = hw.read_entry(table, table_index(addr));
        if mapped.is_present() {
            removals.push(Removal {
                addr,
                table,
                index: table_index(addr),
                frees: Frees::Page(mapped.frame()),
            });
        }
    }
    if tables == Tables::Freed {
        removals.push(Removal {
            addr: PAGE,
            table: root,
            index: root_index(PAGE),
            frees: Frees::Table(table),
        });
    }
    removals
}

/// Flushes what was removed, with one flush, and frees it.
fn flush_and_free<P: Protocol>(
    hw: &ModelHw,
    protocol: &P,
    space: Space,
    removals: &[Removal],
    tables: Tables,
) {
    let ranges = removals
        .iter()
        .map(|removal| FlushRange::page(removal.addr));
    let Some(range) = ranges.reduce(FlushRange::union) else {
        return;
    };
    protocol.flush(hw, space, range, tables);
    for removal in removals {
        match removal.frees {
            Frees::Nothing => {}
            Frees::Page(frame) | Frees::Table(frame) => hw.free_frame(frame),
        }
    }
}

/// Takes the right to write to the page away, if there is one, and flushes it.
fn protect<P: Protocol>(hw: &ModelHw, protocol: &P, tabled: Tabled) {
    let flushes_later = flushes_after_unlock(tabled.lock);
    let flush = || protocol.flush(hw, tabled.space, FlushRange::page(PAGE), Tables::Kept);
    let is_protected = locked(hw, tabled.lock, || {
        let is_protected = write_protect(hw, tabled.root);
        if is_protected && !flushes_later {
            flush();
        }
        is_protected
    });
    if is_protected && flushes_later {
        flush();
    }
}

/// Makes the entry of the page read-only; says whether it was not.
fn write_protect(hw: &ModelHw, root: PhysAddr) -> bool {
    let hooked = hw.read_entry(root, root_index(PAGE));
    if !hooked.is_present() {
        return false;
    }
    let table = hooked.frame();
    let mapped = hw.read_entry(table, table_index(PAGE));
    let is_to_be = mapped.is_present() && mapped.is_writable();
    if is_to_be {
        let index = table_index(PAGE);
        hw.write_entry(table, index, Entry::read_only(mapped.frame()));
    }
    is_to_be
}
