//! Changes of a space's pages: each with its flush, and each raises the page's floor once that has returned.

use core::iter::once;
use core::sync::atomic::Ordering;

use lazytlb::{FlushRange, PhysAddr, Tables, VirtAddr};

use crate::evidence::{LateWrite, PageWord};
use crate::freeing::{self, TOTALS};
use crate::machine::{hw, tlb};
use crate::page_id::{PAGES_IN_REGION, PageId, Place, Region};
use crate::paging::{self, Level};
use crate::space::{Page, Space};
use crate::user_tags::{self, Parts};
use crate::{clock, cpu, ending, frames, progress, tags};

impl Space {
    /// Names a page of the space.
    pub fn page_id(&self, place: Place) -> PageId {
        let space = self.index();
        PageId { space, place }
    }

    /// Removes pages, with a flush of them before `remove` returns.
    pub fn removing(&self, places: impl Iterator<Item = Place>, remove: impl FnOnce()) {
        tags::removing(self.handle(), || {
            user_tags::removing(self.handle(), Parts::pages(places), remove);
        });
    }

    /// Makes a frame with a version of a page.
    pub fn page_frame(&self, place: Place, version: u32) -> PhysAddr {
        let frame = frames::alloc();
        let page = self.page_id(place);
        let word = PageWord { page, version }.encode();
        frames::word(frame, 0).store(word, Ordering::Release);
        frame
    }

    /// Maps, unmaps, remaps or protects one page, by chance.
    pub fn change_page(&self, chance: u64) {
        let place = Place::by_chance(chance);
        let mut pages = self.pages_of(place.region());
        if let Some(large) = self.large_page(place.region()) {
            self.remap_large(place.region(), &mut pages, large);
            return count_change();
        }
        let page = &mut pages[place.index()];
        match (page.frame, chance >> 16 & 3) {
            (None, _) => self.map(page, place),
            (Some(frame), 0) => self.unmap(page, place, frame),
            (Some(frame), 1) => self.remap(page, place, frame),
            (Some(frame), 2) => self.remap_and_flush_all(page, place, frame),
            (Some(frame), _) => self.protect_for_a_while(place, frame),
        }
        count_change();
    }

    fn map(&self, page: &mut Page, place: Place) {
        let frame = self.page_frame(place, page.version);
        // Nothing to flush: what is absent is not cached (H21).
        paging::make(self.root(), VirtAddr(place.address()))
            .store(frame.0 | paging::WRITABLE, Ordering::Release);
        page.frame = Some(frame);
    }

    fn unmap(&self, page: &mut Page, place: Place, frame: PhysAddr) {
        let addr = VirtAddr(place.address());
        self.removing(once(place), || {
            freeing::gather(self.handle(), |gather| {
                freeing::unhook_page(gather, self.root(), addr, frame, 0);
            });
        });
        *page = Page {
            version: page.version + 1,
            frame: None,
        };
        self.publish(place, page.version);
    }

    /// Unmaps a region's pages from one to another, with one flush.
    pub fn unmap_neighbours(&self, chance: u64) {
        let region = Region::by_chance(chance);
        let mut pages = self.pages_of(region);
        let first = (chance >> 8) as usize % PAGES_IN_REGION;
        let mapped: [Option<(Place, PhysAddr)>; PAGES_IN_REGION] = core::array::from_fn(|index| {
            let place = region.places().nth(index).filter(|_| index >= first)?;
            Some((place, pages[index].frame?))
        });
        let mapped = mapped.into_iter().flatten();
        if mapped.clone().next().is_none() {
            // No removal, and no flush.
            return;
        }
        self.removing(mapped.clone().map(|(place, _)| place), || {
            freeing::gather(self.handle(), |gather| {
                for (place, frame) in mapped.clone() {
                    let addr = VirtAddr(place.address());
                    freeing::unhook_page(gather, self.root(), addr, frame, 0);
                }
            });
        });
        for (place, _) in mapped {
            let page = &mut pages[place.index()];
            *page = Page {
                version: page.version + 1,
                frame: None,
            };
            self.publish(place, page.version);
        }
        count_change();
    }

    /// Replaces a page, with a flush of it.
    fn remap(&self, page: &mut Page, place: Place, old: PhysAddr) {
        let addr = VirtAddr(place.address());
        let new = self.page_frame(place, page.version + 1);
        self.removing(once(place), || {
            freeing::gather(self.handle(), |gather| {
                let entry = new.0 | paging::WRITABLE;
                freeing::unhook_page(gather, self.root(), addr, old, entry);
            });
        });
        *page = Page {
            version: page.version + 1,
            frame: Some(new),
        };
        self.publish(place, page.version);
    }

    /// Replaces a page, and flushes everything of the space.
    fn remap_and_flush_all(&self, page: &mut Page, place: Place, old: PhysAddr) {
        let version = page.version + 1;
        let new = self.page_frame(place, version);
        let entry = paging::find(self.root(), VirtAddr(place.address()), Level::Pages);
        let entry = entry.expect("it is mapped");
        self.removing(once(place), || {
            entry.store(new.0 | paging::WRITABLE, Ordering::Release);
            freeing::count(tlb().flush(hw(), self.handle(), FlushRange::All, Tables::Kept));
        });
        *page = Page {
            version,
            frame: Some(new),
        };
        self.publish(place, version);
        frames::free(old);
    }

    /// Forbids writing to a page, checks that nobody writes any more, and allows it again.
    fn protect_for_a_while(&self, place: Place, frame: PhysAddr) {
        let addr = VirtAddr(place.address());
        let entry = paging::find(self.root(), addr, Level::Pages).expect("it is mapped");
        // Written by the reader of each CPU at a word of its own, with the version's word. Clear them:
        // a store that comes too late shows.
        let range = FlushRange::page(addr);
        self.removing(once(place), || {
            entry.store(frame.0 | paging::READ_ONLY, Ordering::Release);
            freeing::count(tlb().flush(hw(), self.handle(), range, Tables::Kept));
        });
        for writer in 0..cpu::MAX_CPUS {
            frames::word(frame, 8 + writer).store(0, Ordering::SeqCst);
        }
        clock::wait_microseconds(20);
        for writer in 0..cpu::MAX_CPUS {
            let found = frames::word(frame, 8 + writer).load(Ordering::SeqCst);
            if found != 0 {
                let (cpu, page) = (writer, self.page_id(place));
                ending::violation(format_args!("{}", LateWrite { cpu, page, found }));
            }
        }
        // An upgrade needs no flush: at worst a spurious fault (H21).
        entry.store(frame.0 | paging::WRITABLE, Ordering::Release);
    }

    /// Says whether a region has tables of its own.
    fn has_tables(&self, region: Region) -> bool {
        let entry = paging::find(self.root(), VirtAddr(region.address()), Level::Directories);
        entry.is_some_and(|entry| paging::target(entry.load(Ordering::Relaxed)).is_some())
    }

    /// Unmaps a region, and frees its two tables.
    pub fn tear_down(&self, region: Region) {
        let mut pages = self.pages_of(region);
        let mapped = region.places().zip(pages.iter());
        let mapped = mapped.filter(|(_, page)| page.frame.is_some());
        let mut parts = Parts::pages(mapped.map(|(place, _)| place));
        if self.has_tables(region) {
            parts = parts.and(Parts::TABLES);
        }
        user_tags::removing(self.handle(), parts, || {
            freeing::gather(self.handle(), |gather| {
                self.unhook_region(gather, region, &pages);
            });
        });
        self.forget(region, &mut pages);
        count_change();
    }
}

/// Counts a change.
pub fn count_change() {
    TOTALS.changes.fetch_add(1, Ordering::Relaxed);
    progress::count();
}
