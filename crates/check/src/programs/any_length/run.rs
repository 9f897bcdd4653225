//! What the operations of menus do.

use lazytlb::{Access, Entry, FlushRange, FrameKind, Memory, PhysAddr, Tables, VirtAddr};

use lazytlb_model::LocalCell;

use super::lock::{Lock, PageTableLock, locked};
use super::operation::MenuOperation;
use crate::model_hw::ModelHw;
use crate::programs::setup::{
    KERNELS_OWN, NEXT_PAGE, PAGE, in_user_mode, root_index, table_index, walk,
};
use crate::protocol::{Frees, Part, Protocol, Removal, Space};

/// A space whose page tables operations change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tabled {
    pub(super) space: Space,
    pub(super) root: PhysAddr,
    /// With page-table isolation, the root for user mode, and where this CPU keeps whether it is there.
    pub(super) user: Option<(PhysAddr, LocalCell)>,
    /// The pages that may be mapped.
    pub(super) pages: &'static [VirtAddr],
    /// What is taken to change its tables, where several CPUs do.
    pub(super) lock: Option<Lock>,
}

/// Does an operation once.
pub(super) fn run(hw: &ModelHw, protocol: &dyn Protocol, operation: MenuOperation, tabled: Tabled) {
    let Tabled { space, lock, .. } = tabled;
    let flush = |range| protocol.flush(hw, space, range, Tables::Kept);
    let touch = |addr, access| match tabled.user {
        None => hw.touch(addr, access),
        Some((_, mode)) => in_user_mode(hw, protocol, mode, |hw| hw.touch(addr, access)),
    };
    match operation {
        MenuOperation::Map => locked(hw, protocol, lock, || map(hw, tabled, PAGE)),
        MenuOperation::MapNext => locked(hw, protocol, lock, || map(hw, tabled, NEXT_PAGE)),
        MenuOperation::Unmap => unmap(hw, protocol, tabled, &[PAGE], Tables::Kept),
        MenuOperation::UnmapBoth => unmap(hw, protocol, tabled, tabled.pages, Tables::Kept),
        MenuOperation::UnmapTwo => unmap_in_parts(hw, protocol, tabled),
        MenuOperation::Free => unmap(hw, protocol, tabled, tabled.pages, Tables::Freed),
        MenuOperation::Protect => protect(hw, protocol, tabled),
        MenuOperation::Load => touch(PAGE, Access::Load),
        MenuOperation::Touch => touch(PAGE, Access::Store),
        MenuOperation::TouchNext => touch(NEXT_PAGE, Access::Store),
        MenuOperation::Switch => protocol.switch_mm(hw, space),
        MenuOperation::Lazy => protocol.enter_lazy(hw),
        MenuOperation::FlushAll => flush(FlushRange::All),
        MenuOperation::FlushPage => flush(FlushRange::page(PAGE)),
        MenuOperation::FlushNext => flush(FlushRange::page(NEXT_PAGE)),
        MenuOperation::Leave => protocol.switch_mm(hw, KERNELS_OWN),
        MenuOperation::Walk => protocol.walk(hw, &|hw| walk(hw, tabled.root, PAGE)),
        MenuOperation::Release => protocol.release_held(hw),
        MenuOperation::Reclaim => protocol.reclaim_now(hw),
    }
}

/// Maps a page, if it is absent, with its table, if that is.
fn map(hw: &ModelHw, tabled: Tabled, addr: VirtAddr) {
    let root = tabled.root;
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
    if let Some((user_root, _)) = tabled.user {
        hw.write_entry(user_root, root_index(addr), Entry::to(table));
    }
}

/// Unmaps those of the pages that are there, and their table with them, if that is to be freed.
fn unmap(
    hw: &ModelHw,
    protocol: &dyn Protocol,
    tabled: Tabled,
    pages: &[VirtAddr],
    tables: Tables,
) {
    let flushes_later = flushes_after_unlock(tabled.lock);
    let removals = locked(hw, protocol, tabled.lock, || {
        let removals = mapped(hw, tabled, pages, tables);
        if flushes_later {
            clear(hw, &removals);
        } else if !removals.is_empty() {
            protocol.remove(hw, tabled.space, &removals, &|_| {});
        }
        removals
    });
    if flushes_later {
        flush_and_free(hw, protocol, tabled.space, &removals, tables);
    }
}

/// Unmaps those of the pages that are there, each as a part of one shootdown.
fn unmap_in_parts(hw: &ModelHw, protocol: &dyn Protocol, tabled: Tabled) {
    let flushes_later = flushes_after_unlock(tabled.lock);
    let flush_and_free = |removals: &[Removal]| {
        let parts = removals.iter().map(|removal| Part {
            space: tabled.space,
            range: FlushRange::page(removal.addr),
            tables: Tables::Kept,
        });
        let parts: Vec<Part> = parts.collect();
        if !parts.is_empty() {
            protocol.flush_together(hw, &parts, &|_| {});
        }
        free(hw, removals);
    };
    let removals = locked(hw, protocol, tabled.lock, || {
        let removals = mapped(hw, tabled, tabled.pages, Tables::Kept);
        clear(hw, &removals);
        if !flushes_later {
            flush_and_free(&removals);
        }
        removals
    });
    if flushes_later {
        flush_and_free(&removals);
    }
}

fn clear(hw: &ModelHw, removals: &[Removal]) {
    for removal in removals {
        hw.write_entry(removal.table, removal.index, Entry::ABSENT);
    }
}

fn free(hw: &ModelHw, removals: &[Removal]) {
    for removal in removals {
        match removal.frees {
            Frees::Nothing => {}
            Frees::Page(frame) | Frees::Table(frame) | Frees::Subtree(frame) => {
                hw.free_frame(frame);
            }
        }
    }
}

fn flushes_after_unlock(lock: Option<Lock>) -> bool {
    lock.is_some_and(|lock| lock.taken == PageTableLock::FlushAfterUnlock)
}

/// Lists what of the pages is mapped, and their table, if that is to be freed.
fn mapped(hw: &ModelHw, tabled: Tabled, pages: &[VirtAddr], tables: Tables) -> Vec<Removal> {
    let root = tabled.root;
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
        let unhooked = |root, frees| Removal {
            addr: PAGE,
            table: root,
            index: root_index(PAGE),
            frees,
        };
        if let Some((user_root, _)) = tabled.user {
            removals.push(unhooked(user_root, Frees::Nothing));
        }
        removals.push(unhooked(root, Frees::Table(table)));
    }
    removals
}

/// Flushes what was removed, with one flush, and frees it.
fn flush_and_free(
    hw: &ModelHw,
    protocol: &dyn Protocol,
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
    free(hw, removals);
}

/// Takes the right to write to the page away, if there is one, and flushes it.
fn protect(hw: &ModelHw, protocol: &dyn Protocol, tabled: Tabled) {
    let flushes_later = flushes_after_unlock(tabled.lock);
    let flush = || protocol.flush(hw, tabled.space, FlushRange::page(PAGE), Tables::Kept);
    let is_protected = locked(hw, protocol, tabled.lock, || {
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
