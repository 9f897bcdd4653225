//! Where unmapped frames go: unhooked within a gather, freed when its flush has returned, and counted.

use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{Batch, Flushed, FrameSink, MmHandle, PageRange, PhysAddr, Retired, VirtAddr};

use crate::breaks::Break;
use crate::machine::{hw, tlb};
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

/// Adds the end of a space to the totals.
pub fn count_retired(report: Retired) {
    TOTALS
        .interrupted
        .fetch_add(report.interrupted.into(), Ordering::Relaxed);
}

/// Takes frames back once they are flushed.
pub struct Freer;

/// A frame that is to be freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    Page(PhysAddr),
    Table(PhysAddr),
}

impl FrameSink for Freer {
    type Item = Frame;

    fn flushed(&mut self, report: Flushed) {
        count(report);
    }
    fn release(&mut self, frame: Frame) {
        frames::HELD.fetch_sub(1, Ordering::Relaxed);
        match frame {
            Frame::Page(_) if breaking::is(Break::FreeBeforeFlush) => {}
            Frame::Page(frame) => frames::free(frame),
            Frame::Table(frame) => {
                TOTALS.tables_freed.fetch_add(1, Ordering::Relaxed);
                frames::free(frame);
            }
        }
    }
}

/// Frames that one flush frees at most: more than a space has pages and tables.
const FRAMES: usize = 64;

/// The gather of this kernel.
pub type Gather = lazytlb::Gather<
    'static,
    machine::Store,
    Freer,
    Batch<Frame, FRAMES>,
    { limits::WORDS },
    { limits::SLOTS },
>;

/// Removes something from a space within a gather: then flushes, then frees.
pub fn gather(mm: MmHandle, remove: impl FnOnce(&mut Gather)) {
    let mut gather = tlb().gather(hw(), mm, Batch::new(), Freer);
    remove(&mut gather);
    gather.finish(hw());
}

/// Unhooks a page of the space with this root, within a gather: its entry becomes `new_entry`.
pub fn unhook_page(
    gather: &mut Gather,
    root: PhysAddr,
    addr: VirtAddr,
    frame: PhysAddr,
    new_entry: u64,
) {
    frames::hold(1);
    let entry = paging::find(root, addr, Level::Pages).expect("it is mapped");
    entry.store(new_entry, Ordering::Release);
    gather.unmapped(PageRange::page(addr));
    gather.free(hw(), Frame::Page(frame));
    if breaking::is(Break::FreeBeforeFlush) {
        frames::free(frame);
        machine::widen_window();
    }
}

/// Unhooks what the entry for `addr` at a level points to, within a gather: a table, if there is one.
pub fn unhook_table(gather: &mut Gather, root: PhysAddr, addr: VirtAddr, level: Level) {
    let Some(entry) = paging::find(root, addr, level) else {
        return;
    };
    if let Some(table) = paging::target(entry.load(Ordering::Relaxed)) {
        frames::hold(1);
        entry.store(0, Ordering::Release);
        gather.unhooked(PageRange::page(addr));
        gather.free(hw(), Frame::Table(table));
    }
}
