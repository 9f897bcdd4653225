//! Address spaces, and every change that this kernel makes to one: each with its flush.
//!
//! A space has 32 pages, eight in each of four gibibytes, so that a region has tables of its own. Every page
//! begins with a word that names its space, its place and its version; the board, a page that ring 3 may
//! read, has a floor for each: no older version may be seen, because the flush after it has returned.

use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{FlushRange, Flushed, FrameSink, Hw, MmHandle, PhysAddr, Tables, Unhooked, VirtAddr};
use spin::{Mutex, MutexGuard};

use crate::breaks::{self, Break};
use crate::machine::{self, MAX_SPACES, hw, tlb};
use crate::paging::{self, Level};
use crate::{clock, cpu, frames, outcome};

/// Where the pages begin; the next 512 GiB hold the program and the board.
pub const PAGES: u64 = 0x80_0000_0000;
pub const PROGRAM: u64 = 0x100_0000_0000;
pub const BOARD: u64 = PROGRAM + 0x10_0000;
const REGIONS: usize = 4;
const PAGES_IN_REGION: usize = 8;

/// What a space is good for.
const DEAD: u64 = 0;
const ALIVE: u64 = 1;
const DYING: u64 = 2;

/// A page: mapped with this version, or absent until this version is mapped.
#[derive(Clone, Copy)]
struct Page {
    version: u32,
    frame: Option<PhysAddr>,
}

/// An address space.
pub struct Space {
    index: usize,
    state: AtomicU64,
    /// CPUs that run its tasks: a space is retired only when there are none.
    running: AtomicU64,
    root: AtomicU64,
    board: AtomicU64,
    regions: [Mutex<[Page; PAGES_IN_REGION]>; REGIONS],
}

/// The user spaces.
pub static SPACES: [Space; MAX_SPACES - 1] =
    [Space::new(0), Space::new(1), Space::new(2), Space::new(3)];

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
struct Freer;

impl FrameSink for Freer {
    fn flushed(&mut self, report: Flushed) {
        count(report);
    }
    fn release_page(&mut self, frame: PhysAddr) {
        frames::HELD.fetch_sub(1, Ordering::Relaxed);
        if !breaks::is(Break::FreeBeforeFlush) {
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
type Gather<'a> = lazytlb::Gather<'a, machine::Store, Freer, { machine::WORDS }>;

impl Space {
    const fn new(index: usize) -> Self {
        const ABSENT: Page = Page {
            version: 1,
            frame: None,
        };
        Space {
            index,
            state: AtomicU64::new(DEAD),
            running: AtomicU64::new(0),
            root: AtomicU64::new(0),
            board: AtomicU64::new(0),
            regions: [const { Mutex::new([ABSENT; PAGES_IN_REGION]) }; REGIONS],
        }
    }

    /// Returns the protocol's name for it.
    pub fn handle(&self) -> MmHandle {
        MmHandle(self.index as u64 + 1)
    }

    fn root(&self) -> PhysAddr {
        PhysAddr(self.root.load(Ordering::Relaxed))
    }

    /// Keeps the space alive while this CPU runs a task in it or changes it; false if it is dying or dead.
    pub fn pin(&self) -> bool {
        self.running.fetch_add(1, Ordering::SeqCst);
        let alive = self.state.load(Ordering::SeqCst) == ALIVE;
        if !alive {
            self.unpin();
        }
        alive
    }

    /// Says that this CPU runs no task here any more: it has gone lazy, or elsewhere.
    pub fn unpin(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    /// Makes the space anew, with the program and the board mapped.
    pub fn create(&self) {
        unsafe extern "C" {
            static user_start: u8;
            static user_end: u8;
        }
        let root = frames::alloc();
        frames::word(root, 0).store(crate::boot::kernel_root_entry(), Ordering::Relaxed);
        let (start, end) = (&raw const user_start as u64, &raw const user_end as u64);
        for offset in (0..end - start).step_by(4096) {
            let entry = (start + offset) | paging::READ_ONLY;
            paging::make(root, VirtAddr(PROGRAM + offset)).store(entry, Ordering::Relaxed);
        }
        // The directory of all regions exists from now on: below it, each region has a lock of its own.
        paging::make(root, VirtAddr(PAGES));
        let board = frames::alloc();
        paging::make(root, VirtAddr(BOARD)).store(board.0 | paging::READ_ONLY, Ordering::Relaxed);
        for (index, region) in self.regions.iter().enumerate() {
            for (place, page) in region.lock().iter().enumerate() {
                let slot = index * PAGES_IN_REGION + place;
                frames::word(board, slot).store(page.version.into(), Ordering::Relaxed);
            }
        }
        self.root.store(root.0, Ordering::Relaxed);
        self.board.store(board.0, Ordering::Relaxed);
        tlb().kernel().create_mm(self.handle(), root);
        self.state.store(ALIVE, Ordering::SeqCst);
    }

    /// Raises a page's floor: the flush that removed what was older has returned.
    fn publish(&self, region: usize, place: usize, floor: u32) {
        let board = PhysAddr(self.board.load(Ordering::Relaxed));
        let slot = region * PAGES_IN_REGION + place;
        frames::word(board, slot).store(floor.into(), Ordering::Release);
    }

    /// Makes a frame with a version of a page.
    fn page_frame(&self, region: usize, place: usize, version: u32) -> PhysAddr {
        let frame = frames::alloc();
        let slot = (region * PAGES_IN_REGION + place) as u64;
        let header = (self.index as u64) << 48 | slot << 32 | u64::from(version);
        frames::word(frame, 0).store(header, Ordering::Release);
        frame
    }

    /// Unhooks a page within a gather.
    fn unhook_page(
        &self,
        gather: &mut Gather<'_>,
        addr: VirtAddr,
        frame: PhysAddr,
        new_entry: u64,
    ) {
        frames::hold(1);
        gather.unhook(addr, Unhooked::Page(frame), |_| {
            let entry = paging::find(self.root(), addr, Level::Pages).expect("it is mapped");
            entry.store(new_entry, Ordering::Release);
        });
        if breaks::is(Break::FreeBeforeFlush) {
            frames::free(frame);
            machine::widen_window();
        }
    }

    /// Unhooks a table within a gather.
    fn unhook_table(&self, gather: &mut Gather<'_>, addr: VirtAddr, level: Level) {
        let Some(entry) = paging::find(self.root(), addr, level) else {
            return;
        };
        if let Some(table) = paging::target(entry.load(Ordering::Relaxed)) {
            frames::hold(1);
            gather.unhook(addr, Unhooked::Table(table), |_| {
                entry.store(0, Ordering::Release)
            });
        }
    }

    /// Maps, unmaps, remaps or protects one page, by chance.
    pub fn change_page(&self, chance: u64) {
        let region = chance as usize % REGIONS;
        let place = chance as usize / REGIONS % PAGES_IN_REGION;
        let mut pages = self.regions[region].lock();
        let addr = address(region, place);
        match (pages[place].frame, chance >> 16 & 3) {
            (None, _) => {
                let frame = self.page_frame(region, place, pages[place].version);
                // Nothing to flush: what is absent is not cached (H21).
                paging::make(self.root(), addr)
                    .store(frame.0 | paging::WRITABLE, Ordering::Release);
                pages[place].frame = Some(frame);
            }
            (Some(frame), 0) => {
                tlb().gather(hw(), self.handle(), &mut Freer, |gather| {
                    self.unhook_page(gather, addr, frame, 0);
                });
                pages[place] = Page {
                    version: pages[place].version + 1,
                    frame: None,
                };
                self.publish(region, place, pages[place].version);
            }
            (Some(frame), 1) => {
                let new = self.page_frame(region, place, pages[place].version + 1);
                tlb().gather(hw(), self.handle(), &mut Freer, |gather| {
                    self.unhook_page(gather, addr, frame, new.0 | paging::WRITABLE);
                });
                pages[place] = Page {
                    version: pages[place].version + 1,
                    frame: Some(new),
                };
                self.publish(region, place, pages[place].version);
            }
            (Some(frame), 2) => self.remap_and_flush_all(&mut pages, region, place, frame),
            (Some(frame), _) => self.protect_for_a_while(region, place, frame),
        }
        TOTALS.changes.fetch_add(1, Ordering::Relaxed);
        crate::PROGRESS.fetch_add(1, Ordering::Relaxed);
    }

    /// Replaces a page, and flushes everything of the space.
    fn remap_and_flush_all(
        &self,
        pages: &mut MutexGuard<'_, [Page; PAGES_IN_REGION]>,
        region: usize,
        place: usize,
        old: PhysAddr,
    ) {
        let version = pages[place].version + 1;
        let new = self.page_frame(region, place, version);
        let entry = paging::find(self.root(), address(region, place), Level::Pages);
        entry
            .expect("it is mapped")
            .store(new.0 | paging::WRITABLE, Ordering::Release);
        count(tlb().flush(hw(), self.handle(), FlushRange::All, Tables::Kept));
        pages[place] = Page {
            version,
            frame: Some(new),
        };
        self.publish(region, place, version);
        frames::free(old);
    }

    /// Forbids writing to a page, checks that nobody writes any more, and allows it again.
    fn protect_for_a_while(&self, region: usize, place: usize, frame: PhysAddr) {
        let addr = address(region, place);
        let entry = paging::find(self.root(), addr, Level::Pages).expect("it is mapped");
        // Written by the reader of each CPU at a word of its own, with the version's word. Clear them:
        // a store that comes too late shows.
        entry.store(frame.0 | paging::READ_ONLY, Ordering::Release);
        count(tlb().flush(hw(), self.handle(), FlushRange::page(addr), Tables::Kept));
        for writer in 0..cpu::MAX_CPUS {
            frames::word(frame, 8 + writer).store(0, Ordering::SeqCst);
        }
        clock::wait_microseconds(20);
        for writer in 0..cpu::MAX_CPUS {
            let found = frames::word(frame, 8 + writer).load(Ordering::SeqCst);
            if found != 0 {
                outcome::violation(format_args!(
                    "CPU {writer} wrote to {:#x} (space {}), version {}, after the flush that made it \
                     read-only had returned",
                    addr.0, self.index, found as u32
                ));
            }
        }
        // An upgrade needs no flush: at worst a spurious fault (H21).
        entry.store(frame.0 | paging::WRITABLE, Ordering::Release);
    }

    /// Unmaps a region, and frees its two tables.
    pub fn tear_down(&self, region: usize) {
        let mut pages = self.regions[region].lock();
        tlb().gather(hw(), self.handle(), &mut Freer, |gather| {
            self.unhook_region(gather, region, &pages[..]);
        });
        self.forget(region, &mut pages[..]);
        TOTALS.changes.fetch_add(1, Ordering::Relaxed);
        crate::PROGRESS.fetch_add(1, Ordering::Relaxed);
    }

    fn unhook_region(&self, gather: &mut Gather<'_>, region: usize, pages: &[Page]) {
        for (place, page) in pages.iter().enumerate() {
            if let Some(frame) = page.frame {
                self.unhook_page(gather, address(region, place), frame, 0);
            }
        }
        // From below: a table goes after all that it maps.
        self.unhook_table(gather, address(region, 0), Level::Tables);
        self.unhook_table(gather, address(region, 0), Level::Directories);
    }

    /// Takes note that a region's pages are gone.
    fn forget(&self, region: usize, pages: &mut [Page]) {
        for (place, page) in pages.iter_mut().enumerate() {
            if page.frame.take().is_some() {
                page.version += 1;
                self.publish(region, place, page.version);
            }
        }
    }

    /// Ends the space, while other CPUs may still be lazy in it. False if someone else does already.
    pub fn end(&self) -> bool {
        let dies = self
            .state
            .compare_exchange(ALIVE, DYING, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        if !dies {
            return false;
        }
        // Its tasks leave at their next tick, since nobody pins a dying space.
        while self.running.load(Ordering::SeqCst) != 0 {
            core::hint::spin_loop();
        }
        let mut regions = self.regions.each_ref().map(Mutex::lock);
        tlb().gather(hw(), self.handle(), &mut Freer, |gather| {
            for (region, pages) in regions.iter().enumerate() {
                self.unhook_region(gather, region, &pages[..]);
            }
            self.unhook_table(gather, VirtAddr(PAGES), Level::Root);
        });
        for (region, pages) in regions.iter_mut().enumerate() {
            self.forget(region, &mut pages[..]);
        }
        tlb().gather(hw(), self.handle(), &mut Freer, |gather| {
            let board = PhysAddr(self.board.load(Ordering::Relaxed));
            frames::hold(1);
            gather.unhook(VirtAddr(BOARD), Unhooked::Table(board), |_| {
                let entry = paging::find(self.root(), VirtAddr(BOARD), Level::Pages);
                entry.expect("it is mapped").store(0, Ordering::Release);
            });
            for level in [Level::Tables, Level::Directories, Level::Root] {
                self.unhook_table(gather, VirtAddr(PROGRAM), level);
            }
        });
        count(tlb().retire(hw(), self.handle()));
        // Nobody has it loaded any more, lazily neither: only now may the root go.
        frames::free(self.root());
        self.state.store(DEAD, Ordering::SeqCst);
        TOTALS.spaces_ended.fetch_add(1, Ordering::Relaxed);
        crate::PROGRESS.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Reports what ring 3 found wrong.
    pub fn report_read(&self, addr: u64, seen: u64, floor: u64) -> ! {
        let (cpu, space) = (hw().cpu().0, self.index);
        let left = format_args!("a flush had returned that left version {floor} or a newer one");
        if seen == frames::POISON {
            outcome::violation(format_args!(
                "CPU {cpu} read a freed frame at {addr:#x} (space {space}): saw poison instead of a page version; \
                 {left}"
            ));
        }
        let what = match seen >> 48 == space as u64 {
            true => "an old version",
            false => "another space's page",
        };
        outcome::violation(format_args!(
            "CPU {cpu} read {what} at {addr:#x} (space {space}): saw page version {} (word {seen:#x}); {left}",
            seen as u32
        ))
    }
}

fn address(region: usize, place: usize) -> VirtAddr {
    VirtAddr(PAGES + ((region as u64) << 30) + ((place as u64) << 12))
}
