//! Where unmapped frames go: unhooked within a gather, freed when its flush has returned, and counted.

use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{
    Batch, Flushed, FrameSink, HeldBatch, Hw, MmHandle, PageRange, PageSize, PhysAddr, Policy,
    Retired, VirtAddr,
};

use crate::breaks::Break;
use crate::machine::{hw, tlb};
use crate::paging::{self, Level};
use crate::{breaking, frames, holding, large_frames, limits, machine, options, walkers};

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

/// Takes frames back once they are flushed, and keeps page tables that are held back.
pub struct Freer {
    mm: MmHandle,
    /// Tables that came, to be freed or to be held; and lazy CPUs that were spared.
    pub tables: u64,
    pub spared: u64,
}

impl Freer {
    /// Makes one for a space.
    pub fn of(mm: MmHandle) -> Freer {
        Freer {
            mm,
            tables: 0,
            spared: 0,
        }
    }
}

/// A frame that is to be freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    Page(PhysAddr),
    LargePage(PhysAddr),
    Table(PhysAddr),
    /// A page table that was held back.
    HeldTable(PhysAddr),
}

impl FrameSink for Freer {
    type Item = Frame;

    fn flushed(&mut self, report: Flushed) {
        self.spared += u64::from(report.lazy_skipped);
        count(report);
    }
    fn release(&mut self, frame: Frame) {
        frames::HELD.fetch_sub(1, Ordering::Relaxed);
        match frame {
            Frame::Page(_) if breaking::is(Break::FreeBeforeFlush) => {}
            Frame::Page(frame) => frames::free(frame),
            Frame::LargePage(frame) => large_frames::free(frame),
            Frame::HeldTable(_) if breaking::is(Break::FreeHeldAtOnce) => {}
            Frame::Table(table) | Frame::HeldTable(table) => {
                self.tables += u64::from(frame == Frame::Table(table));
                free_table(table);
            }
        }
    }
    fn room(&self) -> u64 {
        match breaking::is(Break::DenyHoldRoom) {
            true => 0,
            false => holding::ROOM as u64,
        }
    }
    fn hold(&mut self, batch: HeldBatch, frame: Frame) {
        let Frame::Table(table) = frame else {
            unreachable!("this kernel says of pages that they are no tables: {frame:?}");
        };
        self.tables += 1;
        holding::put(self.mm, batch, table);
        if breaking::is(Break::FreeHeldAtOnce) {
            free_table(table);
        }
    }
    fn take_held(&mut self, batch: HeldBatch) -> Option<Frame> {
        holding::take(batch).map(Frame::HeldTable)
    }
}

fn free_table(table: PhysAddr) {
    TOTALS.tables_freed.fetch_add(1, Ordering::Relaxed);
    if promises_tables() {
        walkers::about_to_free(table);
    }
    frames::free(table);
}

/// Says whether the policy promises that no lazy CPU walks a freed table, and no promise is broken that this one hangs on.
fn promises_tables() -> bool {
    let options = options::get();
    let is_promised = match options.policy {
        Policy::Defer(_) => false,
        Policy::DeferUnlessQuirk => hw().quirks().garbage_walk_is_fatal(),
        _ => true,
    };
    is_promised && options.broken.is_none_or(Break::is_of_holding)
}

/// Frees what this CPU holds back and nobody can walk any more. In any context: from a tick, and before it reaps.
pub fn release_held() {
    if options::get().policy == Policy::Quarantine {
        tlb().release_held(hw(), &mut Freer::of(MmHandle(0)));
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
    let before = holding::Before::now(mm);
    walkers::flush_begins(mm);
    let mut gather = tlb().gather(hw(), mm, Batch::new(), Freer::of(mm));
    remove(&mut gather);
    let (freer, _) = gather.finish(hw());
    let interrupted = walkers::flush_ended();
    holding::flushed(&before, freer.tables, freer.spared, interrupted);
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
    gather.free_page(hw(), Frame::Page(frame));
    if breaking::is(Break::FreeBeforeFlush) {
        frames::free(frame);
        machine::widen_window();
    }
}

/// Unhooks a page of 2 MiB of the space with this root, within a gather: its entry becomes `new_entry`.
pub fn unhook_large_page(
    gather: &mut Gather,
    root: PhysAddr,
    addr: VirtAddr,
    frame: PhysAddr,
    new_entry: u64,
) {
    frames::hold(1);
    let entry = paging::find(root, addr, Level::Tables).expect("it is mapped");
    entry.store(new_entry, Ordering::Release);
    gather.unmapped(large(addr));
    gather.free_page(hw(), Frame::LargePage(frame));
}

/// Names a page of 2 MiB.
pub fn large(addr: VirtAddr) -> PageRange {
    PageRange {
        start: addr,
        len_pages: 1,
        size: PageSize::Size2M,
    }
}

/// Unhooks what the entry for `addr` at a level points to, within a gather: a table, if there is one.
pub fn unhook_table(
    gather: &mut Gather,
    mm: MmHandle,
    root: PhysAddr,
    addr: VirtAddr,
    level: Level,
) {
    let Some(entry) = paging::find(root, addr, level) else {
        return;
    };
    if let Some(table) = paging::target(entry.load(Ordering::Relaxed)) {
        frames::hold(1);
        entry.store(0, Ordering::Release);
        walkers::unhooked(mm, table);
        gather.unhooked(PageRange::page(addr));
        gather.free(hw(), Frame::Table(table));
    }
}
