//! Address spaces: how one is made, kept alive, and ended, while others change it and are lazy in it.
//!
//! Every page begins with a word that names its space, its place and its version ([`crate::evidence`]); the
//! board, a page that ring 3 may read, has a floor for each: no older version may be seen, because the flush
//! after it has returned. [`crate::changes`] has the changes of pages, each with its flush.

use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{Hw, MmHandle, PageRange, PhysAddr, VirtAddr};
use spin::{Mutex, MutexGuard};

use crate::breaks::Break;
use crate::evidence::WrongRead;
use crate::freeing::{self, Frame, Gather, TOTALS};
use crate::limits::MAX_SPACES;
use crate::machine::{hw, tlb};
use crate::page_id::{PAGES, PAGES_IN_REGION, Place, REGIONS, Region, SpaceIndex};
use crate::paging::{self, Level};
use crate::shared::{Few, Shared};
use crate::{breaking, ending, frames, isolation, progress, retirement, tags};

/// Where the program stands, that every task runs, and the board.
pub const PROGRAM: u64 = 0x100_0000_0000;
pub const BOARD: u64 = PROGRAM + 0x10_0000;

/// What a space is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// Nothing: never made, or reaped.
    Dead,
    /// Somebody makes it.
    Unborn,
    /// Tasks may run in it.
    Alive,
    /// Its tasks leave; the last reference retires it, and it waits to be reaped.
    Dying,
}

impl Few for Life {
    const ALL: &'static [Life] = &[Life::Dead, Life::Unborn, Life::Alive, Life::Dying];
}

/// A page: mapped with this version, or absent until this version is mapped.
#[derive(Clone, Copy)]
pub struct Page {
    pub version: u32,
    pub frame: Option<PhysAddr>,
}

/// The pages of a region.
pub type Pages = [Page; PAGES_IN_REGION];

/// An address space.
pub struct Space {
    index: SpaceIndex,
    life: Shared<Life>,
    /// CPUs that run its tasks or change it, and one while it is alive: with the last it is retired.
    references: AtomicU64,
    root: AtomicU64,
    /// The root for ring 3, or 0: with page-table isolation.
    user_root: AtomicU64,
    board: AtomicU64,
    regions: [Mutex<Pages>; REGIONS],
}

/// The user spaces.
pub static SPACES: [Space; MAX_SPACES - 1] =
    [Space::new(0), Space::new(1), Space::new(2), Space::new(3)];

impl Space {
    const fn new(index: usize) -> Self {
        const ABSENT: Page = Page {
            version: 1,
            frame: None,
        };
        Space {
            index: SpaceIndex(index),
            life: Shared::first(),
            references: AtomicU64::new(0),
            root: AtomicU64::new(0),
            user_root: AtomicU64::new(0),
            board: AtomicU64::new(0),
            regions: [const { Mutex::new([ABSENT; PAGES_IN_REGION]) }; REGIONS],
        }
    }

    /// Returns its place among all.
    pub fn index(&self) -> SpaceIndex {
        self.index
    }

    /// Returns the protocol's name for it.
    pub fn handle(&self) -> MmHandle {
        MmHandle(self.index.0 as u64 + 1)
    }

    /// Returns its root table.
    pub fn root(&self) -> PhysAddr {
        PhysAddr(self.root.load(Ordering::Relaxed))
    }

    /// Returns its root table for ring 3, if that is another one.
    fn user_root(&self) -> Option<PhysAddr> {
        let root = self.user_root.load(Ordering::Relaxed);
        (root != 0).then_some(PhysAddr(root))
    }

    /// Locks a region's pages.
    pub fn pages_of(&self, region: Region) -> MutexGuard<'_, Pages> {
        self.regions[region.index()].lock()
    }

    /// Locks a region's pages if they are free.
    pub fn try_pages_of(&self, region: Region) -> Option<MutexGuard<'_, Pages>> {
        self.regions[region.index()].try_lock()
    }

    /// Keeps the space alive while this CPU runs a task in it or changes it; false if it is dying or dead.
    pub fn pin(&self) -> bool {
        let one_more = |references| (references > 0).then_some(references + 1);
        let pinned = self
            .references
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more);
        if pinned.is_err() {
            return false;
        }
        let alive = self.life.load() == Life::Alive;
        if !alive {
            self.unpin();
        }
        alive
    }

    /// Says that this CPU runs no task here any more: it has gone lazy, or elsewhere. In any context: whoever is the last
    /// retires the space.
    pub fn unpin(&self) {
        if self.references.fetch_sub(1, Ordering::SeqCst) == 1 {
            let root = self.root();
            retirement::retire(self.handle(), root);
            if breaking::is(Break::FreeOnRetire) {
                self.release(root, self.user_root());
            }
        }
    }

    /// Makes the space anew if it is dead, with the program and the board mapped.
    pub fn create(&self) {
        if !self.life.change(Life::Dead, Life::Unborn) {
            return;
        }
        unsafe extern "C" {
            static user_start: u8;
            static user_end: u8;
        }
        let root = frames::alloc();
        frames::word(root, 0).store(paging::kernel_root_entry(), Ordering::Relaxed);
        let (start, end) = (&raw const user_start as u64, &raw const user_end as u64);
        for offset in (0..end - start).step_by(4096) {
            let entry = (start + offset) | paging::READ_ONLY;
            paging::make(root, VirtAddr(PROGRAM + offset)).store(entry, Ordering::Relaxed);
        }
        // The directory of all regions exists from now on: below it, each region has a lock of its own.
        paging::make(root, VirtAddr(PAGES));
        let board = frames::alloc();
        paging::make(root, VirtAddr(BOARD)).store(board.0 | paging::READ_ONLY, Ordering::Relaxed);
        for region in Region::all() {
            for (place, page) in region.places().zip(self.pages_of(region).iter()) {
                frames::word(board, place.slot()).store(page.version.into(), Ordering::Relaxed);
            }
        }
        self.root.store(root.0, Ordering::Relaxed);
        self.board.store(board.0, Ordering::Relaxed);
        let user_root = isolation::user_root_of(root);
        let word = user_root.map_or(0, |root| root.0);
        self.user_root.store(word, Ordering::Relaxed);
        tlb().kernel().create_mm(self.handle(), root, user_root);
        self.references.store(1, Ordering::SeqCst);
        self.life.store(Life::Alive);
    }

    /// Raises a page's floor: the flush that removed what was older has returned.
    pub fn publish(&self, place: Place, floor: u32) {
        let board = PhysAddr(self.board.load(Ordering::Relaxed));
        frames::word(board, place.slot()).store(floor.into(), Ordering::Release);
    }

    /// Unhooks a region's pages and its two tables within a gather.
    pub fn unhook_region(&self, gather: &mut Gather, region: Region, pages: &Pages) {
        let (root, addr) = (self.root(), VirtAddr(region.address()));
        // From below: a table goes after all that it maps.
        if let Some(frame) = self.large_page(region) {
            freeing::unhook_large_page(gather, root, addr, frame, 0);
        } else {
            for (place, page) in region.places().zip(pages) {
                if let Some(frame) = page.frame {
                    freeing::unhook_page(gather, root, VirtAddr(place.address()), frame, 0);
                }
            }
            freeing::unhook_table(gather, self.handle(), root, addr, Level::Tables);
        }
        freeing::unhook_table(gather, self.handle(), root, addr, Level::Directories);
    }

    /// Takes note that a region's pages are gone.
    pub fn forget(&self, region: Region, pages: &mut Pages) {
        for (place, page) in region.places().zip(pages) {
            if page.frame.take().is_some() {
                page.version += 1;
                self.publish(place, page.version);
            }
        }
    }

    /// Lets the space die once nobody has a reference any more; the caller drops one of them. False if it is not alive.
    pub fn doom(&self) -> bool {
        self.life.change(Life::Alive, Life::Dying)
    }

    /// Ends the space, while other CPUs may still be lazy in it: frees all but the root, then retires it.
    pub fn end(&self) {
        if !self.doom() {
            return;
        }
        // Its tasks leave at their next tick, since nobody pins a dying space.
        while self.references.load(Ordering::SeqCst) != 1 {
            core::hint::spin_loop();
        }
        let root = self.root();
        let mut regions = self.regions.each_ref().map(Mutex::lock);
        freeing::gather(self.handle(), |gather| {
            for (region, pages) in Region::all().zip(&regions) {
                self.unhook_region(gather, region, pages);
            }
            self.unhook_from_roots(gather, VirtAddr(PAGES));
        });
        for (region, pages) in Region::all().zip(&mut regions) {
            self.forget(region, pages);
        }
        freeing::gather(self.handle(), |gather| {
            let board = PhysAddr(self.board.load(Ordering::Relaxed));
            let entry = paging::find(root, VirtAddr(BOARD), Level::Pages);
            entry.expect("it is mapped").store(0, Ordering::Release);
            frames::hold(1);
            gather.unmapped(PageRange::page(VirtAddr(BOARD)));
            gather.free_page(hw(), Frame::Page(board));
            for level in [Level::Tables, Level::Directories] {
                freeing::unhook_table(gather, self.handle(), root, VirtAddr(PROGRAM), level);
            }
            self.unhook_from_roots(gather, VirtAddr(PROGRAM));
        });
        drop(regions);
        self.unpin();
    }

    /// Unhooks the table that the roots' entries for `addr` point to, within a gather: it has gone when both have.
    fn unhook_from_roots(&self, gather: &mut Gather, addr: VirtAddr) {
        if let Some(user_root) = self.user_root() {
            let entry = paging::find(user_root, addr, Level::Root);
            entry
                .expect("a root has every entry")
                .store(0, Ordering::Release);
        }
        freeing::unhook_table(gather, self.handle(), self.root(), addr, Level::Root);
    }

    /// Frees what is left of it: nobody can reach it any more.
    pub fn release(&self, root: PhysAddr, user_root: Option<PhysAddr>) {
        tags::ended(self.handle());
        for region in Region::all() {
            self.forget(region, &mut self.pages_of(region));
        }
        if let Some(user_root) = user_root {
            isolation::check_same(root, user_root);
            frames::free(user_root);
        }
        paging::free_tree(root);
    }

    /// Takes note that it is reaped.
    pub fn is_dead_now(&self) {
        self.life.store(Life::Dead);
        TOTALS.spaces_ended.fetch_add(1, Ordering::Relaxed);
        progress::count();
    }

    /// Reports what ring 3 found wrong.
    pub fn report_read(&self, addr: u64, seen: u64, floor: u64) -> ! {
        let (cpu, space, poison) = (hw().cpu().0, self.index, frames::POISON);
        ending::violation(format_args!(
            "{}",
            WrongRead {
                cpu,
                space,
                addr,
                seen,
                poison,
                floor,
            }
        ))
    }
}
