//! Regions whose pages change their size while others read them: into one large page with their contents, and back.
//!
//! Each change brings every page to another frame and to a newer version, so a reader that goes on by the old size shows. Where two sizes may not be
//! cached at once, nobody uses the old ones when the new one is made: they are spoiled first, and whoever still reads them shows at once.

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{Fetched, PageRange, PageSize, PhysAddr, SizeChange, Tables, VirtAddr};

use crate::breaks::Break;
use crate::evidence::PageWord;
use crate::freeing::{self, Frame};
use crate::machine::hw;
use crate::page_id::{PAGES_IN_REGION, Place, Region};
use crate::paging::{self, Level};
use crate::space::{Page, Pages, Space};
use crate::user_tags::{self, Parts};
use crate::{breaking, changes, clock, frames, large_frames, tags, walkers};

static TO_LARGE: AtomicU64 = AtomicU64::new(0);
static TO_SMALL: AtomicU64 = AtomicU64::new(0);
static BROKEN_FIRST: AtomicU64 = AtomicU64::new(0);

/// How often sizes have changed.
#[derive(Clone, Copy, Debug)]
pub struct Changed {
    pub to_large: u64,
    pub to_small: u64,
    /// Those of both that broke the old mapping and flushed before they made the new one.
    pub broken_first: u64,
}

impl Changed {
    /// Reads the counters.
    pub fn now() -> Changed {
        let get = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Changed {
            to_large: get(&TO_LARGE),
            to_small: get(&TO_SMALL),
            broken_first: get(&BROKEN_FIRST),
        }
    }

    /// Subtracts those of another moment.
    pub fn since(self, before: Changed) -> Changed {
        Changed {
            to_large: self.to_large - before.to_large,
            to_small: self.to_small - before.to_small,
            broken_first: self.broken_first - before.broken_first,
        }
    }

    /// Returns them with their names, in the order in which they are printed.
    pub fn rows(self) -> [(&'static str, u64); 3] {
        [
            ("became_large", self.to_large),
            ("became_small", self.to_small),
            ("broken_first", self.broken_first),
        ]
    }
}

/// How long what nobody may read stays spoiled.
const SPOILED_MICROSECONDS: u64 = 20;

/// Spoils frames that nobody may read any more, for a while: whoever does finds no page there.
pub fn spoil(frames: impl Iterator<Item = PhysAddr> + Clone) {
    frames
        .clone()
        .for_each(|frame| frames::word(frame, 0).store(0, Ordering::SeqCst));
    clock::wait_microseconds(SPOILED_MICROSECONDS);
}

fn frames_of(pages: &Pages) -> impl Iterator<Item = PhysAddr> + Clone {
    pages.iter().filter_map(|page| page.frame)
}

impl Space {
    /// Returns the large page that a region is, if it is one.
    pub fn large_page(&self, region: Region) -> Option<PhysAddr> {
        let entry = paging::find(self.root(), VirtAddr(region.address()), Level::Tables)?;
        paging::large_page(entry.load(Ordering::Relaxed))
    }

    /// Changes the size of a region's pages, if it has any.
    pub fn change_size(&self, region: Region) {
        let mut pages = self.pages_of(region);
        let addr = VirtAddr(region.address());
        let Some(entry) = paging::find(self.root(), addr, Level::Tables) else {
            return;
        };
        let value = entry.load(Ordering::Relaxed);
        match (paging::large_page(value), paging::target(value)) {
            (Some(large), _) => self.make_small(region, &mut pages, entry, large),
            (None, Some(table)) => self.make_large(region, &mut pages, entry, table),
            (None, None) => return,
        }
        changes::count_change();
    }

    fn make_large(&self, region: Region, pages: &mut Pages, entry: &AtomicU64, table: PhysAddr) {
        let Some(large) = large_frames::alloc() else {
            return;
        };
        let former = *pages;
        for (place, page) in region.places().zip(pages.iter_mut()) {
            *page = Page {
                version: page.version + u32::from(page.frame.is_some()),
                frame: Some(large_frames::part(large, place.index())),
            };
            self.fill(place, page);
        }
        let change = SizeChange {
            pages: match breaking::is(Break::NameNewSize) {
                true => freeing::large(VirtAddr(region.address())),
                false => small_pages(region),
            },
            fetched: Fetched::Perhaps,
            tables: Tables::Freed,
        };
        let to = Made {
            entry,
            value: large.0 | paging::WRITABLE | paging::LARGE,
            table: Some(table),
        };
        self.resize(region, &former, change, &to, |gather| {
            let former = frames_of(&former).map(Frame::Page);
            for page in former {
                frames::hold(1);
                gather.free_page(hw(), page);
            }
            frames::hold(1);
            gather.free(hw(), Frame::Table(table));
        });
        self.publish_all(region, pages);
        TO_LARGE.fetch_add(1, Ordering::Relaxed);
    }

    fn make_small(&self, region: Region, pages: &mut Pages, entry: &AtomicU64, large: PhysAddr) {
        let (former, table) = (*pages, frames::alloc());
        for (place, page) in region.places().zip(pages.iter_mut()) {
            let version = page.version + 1;
            let frame = self.page_frame(place, version);
            let small = frames::word(table, place.index());
            small.store(frame.0 | paging::WRITABLE, Ordering::Relaxed);
            let frame = Some(frame);
            *page = Page { version, frame };
        }
        let change = SizeChange {
            pages: freeing::large(VirtAddr(region.address())),
            fetched: Fetched::Perhaps,
            tables: Tables::Kept,
        };
        let to = Made {
            entry,
            value: table.0 | paging::TABLE,
            table: None,
        };
        self.resize(region, &former, change, &to, |gather| {
            frames::hold(1);
            gather.free_page(hw(), Frame::LargePage(large));
        });
        self.publish_all(region, pages);
        TO_SMALL.fetch_add(1, Ordering::Relaxed);
    }

    /// Replaces a region that is a large page by another one, with a flush of it.
    pub fn remap_large(&self, region: Region, pages: &mut Pages, former: PhysAddr) {
        let Some(large) = large_frames::alloc() else {
            return;
        };
        for (place, page) in region.places().zip(pages.iter_mut()) {
            *page = Page {
                version: page.version + 1,
                frame: Some(large_frames::part(large, place.index())),
            };
            self.fill(place, page);
        }
        self.removing(region.places(), || {
            freeing::gather(self.handle(), |gather| {
                let (addr, entry) = (
                    VirtAddr(region.address()),
                    large.0 | paging::WRITABLE | paging::LARGE,
                );
                freeing::unhook_large_page(gather, self.root(), addr, former, entry);
            });
        });
        self.publish_all(region, pages);
    }

    /// Changes the size within a gather, and frees what `free` hands over.
    fn resize(
        &self,
        region: Region,
        former: &Pages,
        change: SizeChange,
        to: &Made<'_>,
        free: impl FnOnce(&mut freeing::Gather),
    ) {
        let was_mapped = region.places().zip(former);
        let was_mapped = was_mapped.filter(|(_, page)| page.frame.is_some());
        let mut parts = Parts::pages(was_mapped.map(|(place, _)| place));
        if to.table.is_some() {
            parts = parts.and(Parts::TABLES);
        }
        let is_broken = Cell::new(false);
        let unhook = |entry: u64| {
            to.entry.store(entry, Ordering::Release);
            if let Some(table) = to.table.filter(|_| !is_broken.get()) {
                walkers::unhooked(self.handle(), table);
            }
        };
        let clear = || {
            unhook(0);
            is_broken.set(true);
        };
        let make = || {
            if is_broken.get() {
                spoil(frames_of(former));
                BROKEN_FIRST.fetch_add(1, Ordering::Relaxed);
            }
            unhook(to.value);
        };
        tags::removing(self.handle(), || {
            user_tags::removing(self.handle(), parts, || {
                freeing::gather(self.handle(), |gather| {
                    gather.change_size(hw(), change, clear, make);
                    free(gather);
                });
            });
        });
    }

    /// Writes what a page's first word says.
    pub fn fill(&self, place: Place, page: &Page) {
        let frame = page.frame.expect("it is about to be mapped");
        let word = PageWord {
            page: self.page_id(place),
            version: page.version,
        };
        frames::word(frame, 0).store(word.encode(), Ordering::Release);
    }

    fn publish_all(&self, region: Region, pages: &Pages) {
        for (place, page) in region.places().zip(pages) {
            self.publish(place, page.version);
        }
    }
}

/// What a change of size makes: an entry, and what it replaces, if that is a table.
struct Made<'a> {
    entry: &'a AtomicU64,
    value: u64,
    table: Option<PhysAddr>,
}

/// Names a region's pages.
fn small_pages(region: Region) -> PageRange {
    PageRange {
        start: VirtAddr(region.address()),
        len_pages: PAGES_IN_REGION as u64,
        size: PageSize::Size4K,
    }
}
