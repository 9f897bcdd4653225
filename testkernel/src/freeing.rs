//! Where unmapped frames go: unhooked within a gather, freed when its flush has returned, and counted.

use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{Flushed, FrameSink, PhysAddr, Unhooked, VirtAddr};

use crate::breaks::Break;
use crate::paging::{self, Level};
use crate::{breaking, frames, limits, machine};

/// What the flushes of a storm did, summed up.
pub struct Totals {
    pub changes: AtomicU64,
    pub flushes: AtomicU64,
    pub interrupted: AtomicU64,
    pub lazy_skipped: AtomicU64,
    pub tables_freed: AtomicU64,
    pub spaces_ended: AtomicU64,
}

pub static TOTALS: Totals = Totals {
    changes: AtomicU64::new(0),
    flushes: AtomicU64::new(0),
    interrupted: AtomicU64::new(0),
    lazy_skipped: AtomicU64::new(0),
    tables_freed: AtomicU64::new(0),
    spaces_ended: AtomicU64::new(0),
};

/// Adds a flush to the totals.
pub fn count(report: Flushed) {
    TOTALS.flushes.fetch_add(1, Ordering::Relaxed);
    TOTALS
        .interrupted
        .fetch_add(report.interrupted.into(), Ordering::Relaxed);
    TOTALS
        .lazy_skipped
        .fetch_add(report.lazy_skipped.into(), Ordering::Relaxed);
}

/// Takes frames back once they are flushed.
pub struct Freer;

impl FrameSink for Freer {
    fn flushed(&mut self, report: Flushed) {
        count(report);
    }
    fn release_page(&mut self, frame: PhysAddr) {
        frames::HELD.fetch_sub(1, Ordering::Relaxed);
        if !breaking::is(Break::FreeBeforeFlush) {
            frames::free(frame);
        }
    }
    fn release_table(&mut self, frame: PhysAddr) {
        frames::HELD.fetch_sub(1, Ordering::Relaxed);
        TOTALS.tables_freed.fetch_add(1, Ordering::Relaxed);
        frames::free(frame);
    }
}

/// The gather of this kernel.
pub type Gather<'a> =
    lazytlb::Gather<'a, machine::Store, Freer, { limits::WORDS }, { limits::SLOTS }>;

/// Unhooks a page of the space with this root, within a gather: its entry becomes `new_entry`.
pub fn unhook_page(
    gather: &mut Gather<'_>,
    root: PhysAddr,
    addr: VirtAddr,
    frame: PhysAddr,
    new_entry: u64,
) {
    frames::hold(1);
    gather.unhook(addr, Unhooked::Page(frame), |_| {
        let entry = paging::find(root, addr, Level::Pages).expect("it is mapped");
        entry.store(new_entry, Ordering::Release);
    });
    if breaking::is(Break::FreeBeforeFlush) {
        frames::free(frame);
        machine::widen_window();
    }
}

/// Unhooks what the entry for `addr` at a level points to, within a gather: a table, if there is one.
pub fn unhook_table(gather: &mut Gather<'_>, root: PhysAddr, addr: VirtAddr, level: Level) {
    let Some(entry) = paging::find(root, addr, level) else {
        return;
    };
    if let Some(table) = paging::target(entry.load(Ordering::Relaxed)) {
        frames::hold(1);
        gather.unhook(addr, Unhooked::Table(table), |_| {
            entry.store(0, Ordering::Release)
        });
    }
}
