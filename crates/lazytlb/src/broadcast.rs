//! Broadcast invalidation: INVLPGB reaches every CPU without an interrupt, and TLBSYNC waits for it.

use core::num::NonZeroU16;

use crate::addr::{PageRange, PageSize, VirtAddr};
use crate::hw::Hw;
use crate::pcids::Pcid;

/// From one of a broadcast's addresses to the next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stride {
    /// 4 KiB.
    Size4K,
    /// 2 MiB. What goes is what is *cached* with one of the addresses inside: small pages between two of them stay,
    /// though the range covers them (H30).
    Size2M,
}

impl Stride {
    /// Returns the binary logarithm of the stride in bytes.
    pub const fn shift(self) -> u32 {
        match self {
            Stride::Size4K => 12,
            Stride::Size2M => 21,
        }
    }
}

/// A run of addresses that one INVLPGB names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Strides {
    /// The first address; bits below the stride are ignored.
    pub start: VirtAddr,
    /// How many addresses: at most [`Broadcast::most_addresses`].
    pub count: NonZeroU16,
    /// From one to the next.
    pub stride: Stride,
}

impl Strides {
    /// Names the page of one address, of whatever size it is.
    pub const fn page(addr: VirtAddr) -> Strides {
        Strides {
            start: addr,
            count: NonZeroU16::MIN,
            stride: Stride::Size4K,
        }
    }

    /// Splits a range of pages into runs of `most` addresses and fewer, lowest first: an INVLPGB each.
    pub fn over(range: PageRange, most: NonZeroU16) -> impl Iterator<Item = Strides> {
        let (stride, most) = match range.size {
            PageSize::Size4K => (Stride::Size4K, most),
            PageSize::Size2M => (Stride::Size2M, most),
            // There is no such stride: one address of each page.
            PageSize::Size1G => (Stride::Size2M, NonZeroU16::MIN),
        };
        let (shift, step) = (range.size.shift(), u64::from(most.get()));
        let first = range.start.0 >> shift;
        (0..range.len_pages.div_ceil(step)).map_while(move |run| {
            let done = run * step;
            let left = u16::try_from(range.len_pages - done).unwrap_or(u16::MAX);
            Some(Strides {
                start: VirtAddr(first.wrapping_add(done) << shift),
                count: NonZeroU16::new(left)?.min(most),
                stride,
            })
        })
    }

    /// Returns the addresses, lowest first.
    pub fn addresses(self) -> impl Iterator<Item = VirtAddr> {
        let shift = self.stride.shift();
        let first = self.start.0 >> shift;
        (0..u64::from(self.count.get())).map(move |n| VirtAddr(first.wrapping_add(n) << shift))
    }
}

/// Whether global entries are invalidated, too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Globals {
    /// They stay.
    Kept,
    /// They go as others do.
    Included,
}

/// Whether the paging-structure caches are invalidated, too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UpperLevels {
    /// They stay: only final translations go. Right where no page table is freed.
    Kept,
    /// They go, those at least that lead to an address which is named.
    Included,
}

/// What INVLPGB invalidates on every CPU: what meets all that is said here.
///
/// The operand's ASID is not here: it tells a hypervisor's guests apart, and the kernel's own is meant.
///
/// Source: APM 3, "INVLPGB".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Invlpgb {
    /// What is cached for one of these addresses; without them, for any.
    pub addresses: Option<Strides>,
    /// What is cached under this PCID; without it, under any.
    pub pcid: Option<Pcid>,
    /// Whether global entries go.
    pub globals: Globals,
    /// Whether the paging-structure caches go.
    pub upper_levels: UpperLevels,
}

impl Invlpgb {
    /// Everything in every PCID, with global entries and paging-structure caches.
    pub const EVERYTHING: Invlpgb = Invlpgb {
        addresses: None,
        pcid: None,
        globals: Globals::Included,
        upper_levels: UpperLevels::Included,
    };
}

/// A machine that may have INVLPGB and TLBSYNC. Every method is provided for one that has not.
///
/// Why a trait of its own: few CPUs have it (AMD's from Zen 3 on), and this crate's protocol does not need it. What is
/// broadcast reaches every CPU, lazy ones and those in deep idle included, and interrupts none; but it goes by PCID, so
/// a kernel that uses it for user spaces gives a space the same PCID on every CPU, which per-CPU slots do not.
///
/// ```
/// use core::num::NonZeroU16;
/// use lazytlb::{Broadcast, Globals, Invlpgb, Strides, VirtAddr};
///
/// /// Flushes a page of the kernel's, or says that this machine cannot.
/// fn flush_kernel_page<H: Broadcast>(hw: &H, addr: VirtAddr) -> Option<()> {
///     hw.most_addresses()?;
///     let addresses = Some(Strides::page(addr));
///     hw.invlpgb(Invlpgb { addresses, ..Invlpgb::EVERYTHING });
///     hw.tlbsync();
///     Some(())
/// }
/// ```
pub trait Broadcast: Hw {
    /// Returns how many addresses one INVLPGB may name; `None` where the machine has no broadcasts. It is the same on
    /// every CPU, and does not change after boot.
    fn most_addresses(&self) -> Option<NonZeroU16> {
        None
    }

    /// Broadcasts an invalidation: every CPU, this one too, does it at some time from now on. Weakly ordered: several
    /// may arrive in any order, and later code of this CPU may run before any of them (H29). It is not a fence: the
    /// code that changed a page-table entry orders that before, by a locked instruction or [`Hw::fence`].
    ///
    /// # Panics
    /// As provided, for a machine without: ask [`Broadcast::most_addresses`] before.
    fn invlpgb(&self, what: Invlpgb) {
        panic!("{what:?} by INVLPGB, on a machine without it");
    }

    /// Waits until every CPU has done what *this* CPU has broadcast (H29): between the two, code must not migrate.
    ///
    /// # Panics
    /// As [`Broadcast::invlpgb`].
    fn tlbsync(&self) {
        panic!("TLBSYNC, on a machine without it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_by_the_stride_and_ignore_what_lies_below_it() {
        let three = NonZeroU16::new(3).expect("it is 3");
        let strides = |start, stride| Strides {
            start: VirtAddr(start),
            count: three,
            stride,
        };
        assert!(
            strides(0x1234, Stride::Size4K)
                .addresses()
                .eq([0x1000, 0x2000, 0x3000].map(VirtAddr))
        );
        assert!(
            strides(0x20_1234, Stride::Size2M)
                .addresses()
                .eq([0x20_0000, 0x40_0000, 0x60_0000].map(VirtAddr))
        );
        assert!(
            Strides::page(VirtAddr(0x5678))
                .addresses()
                .eq([VirtAddr(0x5000)])
        );
    }

    #[test]
    fn a_range_is_split_into_runs_that_name_each_page_once() {
        let most = NonZeroU16::new(8).expect("it is 8");
        for size in [PageSize::Size4K, PageSize::Size2M, PageSize::Size1G] {
            for len_pages in [0, 1, 7, 8, 9, 16, 70_000] {
                let start = VirtAddr(5 << 30);
                let range = PageRange {
                    start,
                    len_pages,
                    size,
                };
                let runs = || Strides::over(range, most);
                assert!(runs().all(|run| run.count <= most));
                assert!(runs().flat_map(Strides::addresses).eq(range.pages()));
            }
        }
    }

    #[test]
    fn a_run_that_passes_the_last_address_begins_again_at_the_first() {
        let two = NonZeroU16::new(2).expect("it is 2");
        let run = Strides {
            start: VirtAddr(u64::MAX),
            count: two,
            stride: Stride::Size4K,
        };
        assert!(run.addresses().eq([VirtAddr(!0xfff), VirtAddr(0)]));
    }
}
