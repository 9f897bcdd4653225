//! Addresses, and the ranges of them that a flush covers.

/// A virtual address in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VirtAddr(pub u64);

/// A physical address in bytes: of a page table's or a page's frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PhysAddr(pub u64);

/// The size of the pages that a range is counted in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PageSize {
    /// 4 KiB: mapped by a page-table entry.
    Size4K,
    /// 2 MiB: mapped by a page-directory entry.
    Size2M,
    /// 1 GiB: mapped by a page-directory-pointer-table entry.
    Size1G,
}

impl PageSize {
    /// Returns the binary logarithm of the size in bytes.
    pub const fn shift(self) -> u32 {
        match self {
            PageSize::Size4K => 12,
            PageSize::Size2M => 21,
            PageSize::Size1G => 30,
        }
    }
}

/// A run of pages of one size.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageRange {
    /// The first page's address; bits below the page size are ignored.
    pub start: VirtAddr,
    /// How many pages, each of `size`.
    pub len_pages: u64,
    /// The size of each page: one INVLPG a page. It is the smallest in which any of the range may be *cached*, not
    /// the one in which it is mapped now: after 512 small pages have become a large one, that is 4 KiB, because
    /// one INVLPG drops of the small ones only the one that it names (H13).
    pub size: PageSize,
}

impl PageRange {
    /// Names one 4 KiB page.
    pub const fn page(addr: VirtAddr) -> Self {
        PageRange {
            start: addr,
            len_pages: 1,
            size: PageSize::Size4K,
        }
    }

    /// Returns the addresses of the pages, lowest first.
    pub fn pages(self) -> impl Iterator<Item = VirtAddr> {
        let first = self.start.0 >> self.size.shift();
        (0..self.len_pages).map(move |n| VirtAddr((first + n) << self.size.shift()))
    }

    /// Says whether `addr` lies in the range.
    pub fn contains(self, addr: VirtAddr) -> bool {
        let first = self.start.0 >> self.size.shift();
        (addr.0 >> self.size.shift()).wrapping_sub(first) < self.len_pages
    }
}

/// What a flush covers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FlushRange {
    /// The whole address space.
    All,
    /// These pages only; everything if they are more than the ceiling of [`crate::Tlb`].
    Pages(PageRange),
}

/// Page counts from here on do not fit into a request and become [`FlushRange::All`].
const PACKED_PAGES_LIMIT: u64 = 1 << 12;
/// A request's bits: 0..2 page size, 2..14 pages (none means all), 14..64 the 4 KiB page number's
/// low 50 bits: more than the 45 that five-level paging translates.
const PAGES_SHIFT: u32 = 2;
const NUMBER_SHIFT: u32 = 14;

impl FlushRange {
    /// Names one 4 KiB page.
    pub const fn page(addr: VirtAddr) -> Self {
        FlushRange::Pages(PageRange::page(addr))
    }

    /// Says whether `addr` is covered.
    pub fn contains(self, addr: VirtAddr) -> bool {
        match self {
            FlushRange::All => true,
            FlushRange::Pages(range) => range.contains(addr),
        }
    }

    /// Returns a range that covers both and what lies between; everything, if they are not in pages of
    /// one size.
    pub fn union(self, other: FlushRange) -> FlushRange {
        let (FlushRange::Pages(a), FlushRange::Pages(b)) = (self, other) else {
            return FlushRange::All;
        };
        if a.size != b.size {
            return FlushRange::All;
        }
        let shift = a.size.shift();
        let (a_first, b_first) = (a.start.0 >> shift, b.start.0 >> shift);
        let first = a_first.min(b_first);
        let end = (a_first + a.len_pages).max(b_first + b.len_pages);
        FlushRange::Pages(PageRange {
            start: VirtAddr(first << shift),
            len_pages: end - first,
            size: a.size,
        })
    }

    /// Packs the range into one word of a shootdown request. A range of 4096 pages and more, which
    /// any ceiling turns into a full flush anyhow, and one of none, widen to everything.
    pub fn pack(self) -> u64 {
        match self {
            FlushRange::Pages(range) if (1..PACKED_PAGES_LIMIT).contains(&range.len_pages) => {
                let size = match range.size {
                    PageSize::Size4K => 0,
                    PageSize::Size2M => 1,
                    PageSize::Size1G => 2,
                };
                size | range.len_pages << PAGES_SHIFT | (range.start.0 >> 12) << NUMBER_SHIFT
            }
            _ => 0,
        }
    }

    /// Unpacks what [`FlushRange::pack`] packed, with the start sign-extended to a canonical address.
    pub fn unpack(word: u64) -> FlushRange {
        let len_pages = (word >> PAGES_SHIFT) & (PACKED_PAGES_LIMIT - 1);
        let size = match word & 3 {
            0 => PageSize::Size4K,
            1 => PageSize::Size2M,
            _ => PageSize::Size1G,
        };
        if len_pages == 0 {
            return FlushRange::All;
        }
        let number = (word >> NUMBER_SHIFT) << NUMBER_SHIFT;
        // The page number's 50 bits plus 12 of offset are 62: an arithmetic shift restores the sign.
        let start = VirtAddr(((number.cast_signed() >> (NUMBER_SHIFT - 12)) as u64) & !0xfff);
        FlushRange::Pages(PageRange {
            start,
            len_pages,
            size,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_a_range_keeps_it() {
        for start in [
            0,
            0x1000,
            0x7fff_ffff_f000,
            0xffff_ffff_8000_0000,
            0xff10_0000_0000_0000,
        ] {
            for (len_pages, size) in [
                (1, PageSize::Size4K),
                (33, PageSize::Size2M),
                (4095, PageSize::Size1G),
            ] {
                let range = FlushRange::Pages(PageRange {
                    start: VirtAddr(start),
                    len_pages,
                    size,
                });
                assert_eq!(FlushRange::unpack(range.pack()), range);
            }
        }
        assert_eq!(FlushRange::unpack(FlushRange::All.pack()), FlushRange::All);
    }

    #[test]
    fn a_range_too_long_to_pack_widens_to_everything() {
        let range = PageRange {
            start: VirtAddr(0),
            len_pages: 4096,
            size: PageSize::Size4K,
        };
        assert_eq!(
            FlushRange::unpack(FlushRange::Pages(range).pack()),
            FlushRange::All
        );
    }

    #[test]
    fn a_union_covers_both_sides_and_the_gap() {
        let a = FlushRange::page(VirtAddr(0x3000));
        let b = FlushRange::page(VirtAddr(0x5000));
        let both = a.union(b);
        assert!(
            [0x3000, 0x4000, 0x5fff]
                .iter()
                .all(|&at| both.contains(VirtAddr(at)))
        );
        assert!(!both.contains(VirtAddr(0x6000)) && !both.contains(VirtAddr(0x2fff)));
        assert_eq!(a.union(FlushRange::All), FlushRange::All);
    }
}
