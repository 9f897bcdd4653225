//! Stretches of addresses: what a promise speaks of, and what of an entry it makes stale.

use std::num::NonZeroU64;

use lazytlb::{FlushRange, PageSize, VirtAddr};

use crate::limit::{Limit, MOST_STALE_PARTS};

/// Whole 4 KiB pages that follow each other, at least one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Extent {
    first: Page,
    last: Page,
}

/// A 4 KiB page of addresses, by its number, from 1 on: then an extent that may be none takes no more room.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Page(NonZeroU64);

impl Page {
    const FIRST: Page = Page(NonZeroU64::MIN);
    const LAST: Page = Page::number(u64::MAX >> PageSize::Size4K.shift());

    /// Returns the page with so many before it.
    const fn number(before: u64) -> Page {
        Page(NonZeroU64::MIN.saturating_add(before))
    }

    fn of(addr: VirtAddr) -> Page {
        Page::number(addr.0 >> PageSize::Size4K.shift())
    }

    fn next(self) -> Page {
        Page::number(self.0.get())
    }
}

impl Extent {
    /// Every address.
    const ALL: Extent = Extent {
        first: Page::FIRST,
        last: Page::LAST,
    };

    /// The aligned block of `1 << shift` bytes that an address lies in.
    pub(crate) fn block(addr: VirtAddr, shift: u32) -> Extent {
        let first = VirtAddr(addr.0 >> shift << shift);
        let last = VirtAddr(first.0 | ((1 << shift) - 1));
        Extent {
            first: Page::of(first),
            last: Page::of(last),
        }
    }

    /// What a flush of a range is for; `None` if that is no page at all.
    pub(crate) fn of_flush(range: FlushRange) -> Option<Extent> {
        let FlushRange::Pages(pages) = range else {
            return Some(Extent::ALL);
        };
        let in_small_pages = pages.size.shift() - PageSize::Size4K.shift();
        let first = pages.start.0 >> pages.size.shift() << in_small_pages;
        let len = pages.len_pages.saturating_mul(1 << in_small_pages);
        let last = first.saturating_add(len.checked_sub(1)?);
        Some(Extent {
            first: Page::number(first),
            last: Page::number(last).min(Page::LAST),
        })
    }

    pub(crate) fn contains(self, addr: VirtAddr) -> bool {
        (self.first..=self.last).contains(&Page::of(addr))
    }

    /// Returns what lies in both.
    pub(crate) fn common(self, other: Extent) -> Option<Extent> {
        let both = Extent {
            first: self.first.max(other.first),
            last: self.last.min(other.last),
        };
        (both.first <= both.last).then_some(both)
    }

    /// Says whether so few pages are all of it.
    pub(crate) fn has_only(self, mut pages: impl Iterator<Item = VirtAddr> + Clone) -> bool {
        let count = pages.clone().filter(|&page| self.contains(page)).count() as u64;
        let len = self.last.0.get() - self.first.0.get() + 1;
        pages.next().is_some() && count == len
    }

    /// Returns both as one, if nothing lies between them.
    fn joined(self, other: Extent) -> Option<Extent> {
        let apart =
            |one: Extent, other: Extent| one.last < other.first && one.last.next() < other.first;
        if apart(self, other) || apart(other, self) {
            return None;
        }
        Some(Extent {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        })
    }
}

/// The parts of an entry that must not be used, although the rest of it may: none of most entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StaleParts([Option<Extent>; MOST_STALE_PARTS]);

impl StaleParts {
    pub(crate) const NONE: StaleParts = StaleParts([None; MOST_STALE_PARTS]);

    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self == StaleParts::NONE
    }

    pub(crate) fn contains(self, addr: VirtAddr) -> bool {
        self.iter().any(|part| part.contains(addr))
    }

    /// Lists the parts, lowest first: nothing touches anything.
    pub(crate) fn iter(self) -> impl Iterator<Item = Extent> {
        self.0.into_iter().flatten()
    }

    /// Returns them with one more.
    ///
    /// # Errors
    /// If they are more than an entry has room for.
    pub(crate) fn with(self, part: Extent) -> Result<StaleParts, Limit> {
        let mut joined = part;
        let mut apart = Vec::new();
        for part in self.iter() {
            match joined.joined(part) {
                Some(both) => joined = both,
                None => apart.push(part),
            }
        }
        apart.push(joined);
        apart.sort_unstable();
        Limit::check(
            "separate stale parts of one large page",
            MOST_STALE_PARTS,
            apart.len(),
        )?;
        let mut parts = [None; MOST_STALE_PARTS];
        for (part, put) in apart.into_iter().zip(&mut parts) {
            *put = Some(part);
        }
        Ok(StaleParts(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lazytlb::PageRange;

    fn pages(start: u64, len_pages: u64, size: PageSize) -> FlushRange {
        let start = VirtAddr(start);
        FlushRange::Pages(PageRange {
            start,
            len_pages,
            size,
        })
    }

    #[test]
    fn a_flush_in_large_pages_is_for_every_small_page_in_them() {
        let flush = Extent::of_flush(pages(0x20_3000, 1, PageSize::Size2M)).unwrap();
        assert!(flush.contains(VirtAddr(0x20_0000)) && flush.contains(VirtAddr(0x3f_f000)));
        assert!(!flush.contains(VirtAddr(0x1f_f000)) && !flush.contains(VirtAddr(0x40_0000)));
        assert_eq!(Extent::of_flush(pages(0, 0, PageSize::Size4K)), None);
        assert_eq!(Extent::of_flush(FlushRange::All), Some(Extent::ALL));
        assert!(Extent::of_flush(pages(0, u64::MAX, PageSize::Size1G)).is_some());
    }

    #[test]
    fn parts_that_touch_are_one() {
        let page = |addr| Extent::block(VirtAddr(addr), 12);
        let apart = StaleParts::NONE
            .with(page(0x3000))
            .unwrap()
            .with(page(0x1000))
            .unwrap();
        assert_eq!(apart.iter().count(), 2);
        let one = apart.with(page(0x2000)).unwrap();
        assert!(one.iter().eq([Extent {
            first: Page::number(1),
            last: Page::number(3)
        }]));
        assert!(apart.with(page(0x7000)).is_err());
        assert!(one.contains(VirtAddr(0x3fff)) && !one.contains(VirtAddr(0x4000)));
    }
}
