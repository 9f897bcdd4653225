//! Freeing memory in the only safe order: remove, then flush, then free.

use core::mem::ManuallyDrop;

use crate::addr::{FlushRange, PageRange};
use crate::batches::{HeldBatch, NotHeld};
use crate::kernel::Kernel;
use crate::mm::MmHandle;
use crate::pinned::PreemptionIsOff;
use crate::policy::Tables;
use crate::ranges::Ranges;
use crate::shootdown::Flushed;
use crate::tlb::Tlb;

/// Something of the kernel's that is to be freed after a flush: a frame, as a type of its own.
///
/// Only a [`Gather`] makes these, and only a flush that has returned opens them. Dropped, it leaks what is in it.
///
/// ```compile_fail
/// fn take_early(frame: lazytlb::Unflushed<u64>) -> u64 { frame.into_inner() }
/// ```
/// ```compile_fail
/// fn take_early(frame: lazytlb::Unflushed<u64>) -> u64 { *frame }
/// ```
/// ```compile_fail
/// fn make(frame: u64) -> lazytlb::Unflushed<u64> { lazytlb::Unflushed(frame) }
/// ```
#[derive(Debug)]
#[must_use = "dropped, it leaks"]
pub struct Unflushed<T> {
    item: ManuallyDrop<T>,
    walked: Walked,
}

/// Whether a CPU may read an item as a page table, or by way of one that goes with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Walked {
    Perhaps,
    Never,
}

impl<T> Unflushed<T> {
    fn into_inner(self) -> T {
        ManuallyDrop::into_inner(self.item)
    }
}

/// Where a [`Gather`] keeps what is to be freed: the kernel's memory, of any size.
///
/// One storage serves one gather at a time. What it gives back must be what it was given, in any order.
pub trait Storage<T> {
    /// Keeps an item.
    ///
    /// # Errors
    /// If it is full, the item comes back, and the gather flushes on the way.
    fn put(&mut self, item: Unflushed<T>) -> Result<(), Unflushed<T>>;

    /// Gives an item back, or `None` if it has none.
    fn take(&mut self) -> Option<Unflushed<T>>;
}

impl<T, S: Storage<T>> Storage<T> for &mut S {
    fn put(&mut self, item: Unflushed<T>) -> Result<(), Unflushed<T>> {
        (**self).put(item)
    }

    fn take(&mut self) -> Option<Unflushed<T>> {
        (**self).take()
    }
}

/// A storage for `N` items, in one piece: for kernels that cannot allocate while they unmap.
#[derive(Debug)]
pub struct Batch<T, const N: usize> {
    items: [Option<Unflushed<T>>; N],
    len: usize,
}

impl<T, const N: usize> Batch<T, N> {
    /// Makes an empty one.
    pub const fn new() -> Self {
        const { assert!(N > 0, "a batch has room for an item") };
        Batch {
            items: [const { None }; N],
            len: 0,
        }
    }
}

impl<T, const N: usize> Default for Batch<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> Storage<T> for Batch<T, N> {
    fn put(&mut self, item: Unflushed<T>) -> Result<(), Unflushed<T>> {
        match self.items.get_mut(self.len) {
            Some(place) => {
                *place = Some(item);
                self.len += 1;
                Ok(())
            }
            None => Err(item),
        }
    }

    fn take(&mut self) -> Option<Unflushed<T>> {
        self.len = self.len.checked_sub(1)?;
        self.items.get_mut(self.len)?.take()
    }
}

/// Takes back what a [`Gather`] frees.
pub trait FrameSink {
    /// What is freed: a frame.
    type Item;

    /// Says that this range is about to be flushed, once for each piece; every entry in it is removed.
    fn flushing(&mut self, range: FlushRange) {
        let _ = range;
    }
    /// Says that the flush has returned and what it did, before the first item is released.
    fn flushed(&mut self, report: Flushed) {
        let _ = report;
    }
    /// Takes an item: no CPU can reach it through this space any more, neither as memory nor as a page table.
    fn release(&mut self, item: Self::Item);

    /// Returns how many items more it could [hold](FrameSink::hold) on this CPU. With none, which is what it says if it is not asked to say otherwise, a flush after
    /// page tables were unhooked interrupts lazy CPUs under every policy.
    fn room(&self) -> u64 {
        0
    }
    /// Keeps an item that is not free yet, until [`FrameSink::take_held`] asks for it: under [`crate::Policy::Quarantine`], where a lazy CPU
    /// was spared that may walk it. Called as often as there was room, at most. Nothing may be written into it meanwhile, no link
    /// of a list either: that would be the garbage which is to be avoided.
    ///
    /// Other than what a [`Storage`] is given, it comes as it is: it may wait in words of any kind, longer than a gather lives.
    fn hold(&mut self, batch: HeldBatch, item: Self::Item) {
        let _ = (batch, item);
    }
    /// Says that the flush that comes next interrupts lazy CPUs, because what they may walk cannot be held back: for counters.
    fn cannot_hold(&mut self, why: NotHeld) {
        let _ = why;
    }
    /// Gives an item of a batch back, which is [released](FrameSink::release) next, or `None` if there is none.
    fn take_held(&mut self, batch: HeldBatch) -> Option<Self::Item> {
        let _ = batch;
        None
    }
}

/// Unmaps a part of one space: see [`Tlb::gather`].
#[derive(Debug)]
#[must_use = "what was removed is in use until `finish` has returned"]
pub struct Gather<
    'a,
    K: Kernel<WORDS, SLOTS>,
    S: FrameSink,
    B: Storage<S::Item>,
    const WORDS: usize = 8,
    const SLOTS: usize = 6,
> {
    tlb: &'a Tlb<K, WORDS, SLOTS>,
    mm: MmHandle,
    sink: S,
    /// I7: each item here was removed, and the flush that covers it has not begun.
    storage: B,
    ranges: Ranges,
    tables: Tables,
    /// How many items are in the storage, and how many of them a CPU may walk, if tables were unhooked.
    items: u64,
    walked: u64,
    /// Whether a subtree was detached at once, with whatever its tables lead to.
    detached: Detached,
    /// Whether the last flush spared lazy CPUs: what comes into the storage later may have been unhooked before it.
    has_spared: bool,
}

/// What was unhooked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Detached {
    /// Empty tables.
    Tables,
    /// Tables with entries in them.
    Subtrees,
}

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Begins to unmap a part of a space, before its first entry is removed.
    ///
    /// Remove entries, say which ([`Gather::unmapped`], [`Gather::unhooked`]), hand over what they stood for
    /// ([`Gather::free`]); [`Gather::finish`] flushes, and releases it all to the sink. `storage` holds it meanwhile: if it is full, it is flushed and
    /// released on the way. A gather that is not finished, because of an early return or because the code unwinds, leaks what it holds, and never
    /// frees it early; and every other gather in the space flushes everything from then on.
    ///
    /// *Nothing to flush is not nothing to wait for*: whoever finds entries removed by a gather that is not
    /// finished yet must not rely on that before they are flushed. So a gather that finds another one open flushes everything, even if it
    /// has removed nothing. Open one before you look at the entries, and finish it though you have changed none.
    ///
    /// Cost: two locked instructions, and one flush for each time that the storage is full. Preemption must be off where it may flush; interrupts and
    /// locks are as for [`Tlb::flush`].
    ///
    /// Checked by: programs `reference-3`, `reference-4`, `nothing-to-flush`.
    ///
    /// ```
    /// # mod machine { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/machine/mod.rs")); } use machine::*;
    /// use lazytlb::{Batch, FrameSink, PageRange, Policy, VirtAddr};
    ///
    /// /// A frame that the allocator has given out.
    /// struct Frame(u64);
    /// struct Freed(Vec<u64>);
    /// impl FrameSink for Freed {
    ///     type Item = Frame;
    ///     fn release(&mut self, frame: Frame) { self.0.push(frame.0) }
    /// }
    ///
    /// let (machine, tlb) = (Machine::default(), boot(Policy::Ipi));
    /// let mut gather = tlb.gather(&machine, USER, Batch::<Frame, 32>::new(), Freed(Vec::new()));
    /// // The kernel clears its page-table entry here.
    /// gather.unmapped(PageRange::page(VirtAddr(0x1000)));
    /// gather.free(&machine, Frame(0x9000));
    /// let (freed, _batch) = gather.finish(&machine);
    /// assert_eq!(freed.0, [0x9000]);
    /// ```
    pub fn gather<S: FrameSink, B: Storage<S::Item>>(
        &self,
        hw: &K::Hw,
        mm: MmHandle,
        storage: B,
        sink: S,
    ) -> Gather<'_, K, S, B, WORDS, SLOTS> {
        self.kernel.mm(mm).open_gather(hw);
        Gather {
            tlb: self,
            mm,
            sink,
            storage,
            ranges: Ranges::default(),
            tables: Tables::Kept,
            items: 0,
            walked: 0,
            detached: Detached::Tables,
            has_spared: false,
        }
    }
}

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Begins to unmap a part of what the kernel maps for itself, as [`Tlb::gather`] does of a user space: it flushes by [`Tlb::flush_kernel`],
    /// at its cost, and releases pages and tables when no CPU can reach them.
    ///
    /// After [`Gather::unhooked`] and [`Gather::everything`], every CPU that is online flushes everything.
    ///
    /// # Panics
    /// As [`Tlb::flush_kernel`], when it flushes.
    ///
    /// Checked by: the small kernel, `crates/check/examples/small_kernel`.
    ///
    /// ```
    /// # mod machine { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/machine/mod.rs")); } use machine::*;
    /// use lazytlb::{Batch, FrameSink, PageRange, Policy, VirtAddr};
    /// struct Freed(Vec<u64>);
    /// impl FrameSink for Freed {
    ///     type Item = u64;
    ///     fn release(&mut self, frame: u64) { self.0.push(frame) }
    /// }
    ///
    /// let (machine, tlb) = (Machine::default(), boot(Policy::Ipi));
    /// let mut gather = tlb.gather_kernel(&machine, Batch::<_, 32>::new(), Freed(Vec::new()));
    /// // The kernel clears its page-table entry here.
    /// gather.unmapped(PageRange::page(VirtAddr(0xffff_c900_0000_1000)));
    /// gather.free(&machine, 0x9000);
    /// let (freed, _batch) = gather.finish(&machine);
    /// assert_eq!(freed.0, [0x9000]);
    /// ```
    pub fn gather_kernel<S: FrameSink, B: Storage<S::Item>>(
        &self,
        hw: &K::Hw,
        storage: B,
        sink: S,
    ) -> Gather<'_, K, S, B, WORDS, SLOTS> {
        self.gather(hw, self.kernel.init_mm(), storage, sink)
    }
}

impl<K, S, B, const WORDS: usize, const SLOTS: usize> Gather<'_, K, S, B, WORDS, SLOTS>
where
    K: Kernel<WORDS, SLOTS>,
    S: FrameSink,
    B: Storage<S::Item>,
{
    /// Says that entries were removed, or changed so that they allow less: those of these pages, in their size.
    pub fn unmapped(&mut self, pages: PageRange) {
        self.ranges.insert(FlushRange::Pages(pages));
    }

    /// Says that page tables were unhooked, which are to be freed.
    ///
    /// `reach` has an address in the reach of each lowest table that went: a range in steps of 2 MiB, for tables of 4 KiB pages. One INVLPG
    /// drops the upper levels that are cached of the way to its address; on CPUs with TCE it drops no others. It drops no other
    /// page's TLB entry: say of the pages below that they are unmapped, too. Where that is not known, everything is flushed
    /// ([`Gather::everything`]).
    ///
    /// Source: SDM 3A, "Operations that Invalidate TLBs and Paging-Structure Caches", INVLPG; APM 2, EFER.TCE.
    pub fn unhooked(&mut self, reach: PageRange) {
        self.ranges.insert(FlushRange::Pages(reach));
        self.tables = Tables::Freed;
    }

    /// Says that anything may have been removed, tables included: a whole subtree, detached at once.
    pub fn everything(&mut self) {
        self.ranges.insert(FlushRange::All);
        self.tables = Tables::Freed;
        self.detached = Detached::Subtrees;
    }

    /// Hands over what is to be freed after the flush: a page, or a page table. What leads there is removed, and said to be.
    ///
    /// If the storage is full, all that it holds is flushed and released first. Under [`crate::Policy::Quarantine`], where page tables
    /// were unhooked, it may be held back: of what is no page table, say [`Gather::free_page`].
    pub fn free(&mut self, hw: &K::Hw, item: S::Item) {
        self.put(hw, item, Walked::Perhaps);
    }

    /// As [`Gather::free`], of what no CPU reads as a page table: it is never held back, unless a subtree was detached at once
    /// ([`Gather::everything`]), whose tables may still lead to it.
    pub fn free_page(&mut self, hw: &K::Hw, page: S::Item) {
        self.put(hw, page, Walked::Never);
    }

    fn put(&mut self, hw: &K::Hw, item: S::Item, walked: Walked) {
        let item = Unflushed {
            item: ManuallyDrop::new(item),
            walked,
        };
        let refused = match self.storage.put(item) {
            Ok(()) => None,
            Err(item) => {
                self.flush_and_release(hw);
                self.storage.put(item).err()
            }
        };
        let Some(item) = refused else {
            self.items += 1;
            self.walked += u64::from(walked == Walked::Perhaps);
            return;
        };
        // A storage without room for one item. It is flushed already, but by a flush that may have spared lazy CPUs.
        if core::mem::take(&mut self.has_spared) {
            self.ranges.insert(FlushRange::All);
            self.flush(hw, Tables::Freed);
        }
        self.sink.release(item.into_inner());
    }

    /// Flushes what was removed, and releases all to the sink. Gives back sink and storage.
    pub fn finish(mut self, hw: &K::Hw) -> (S, B) {
        let mm = self.tlb.kernel.mm(self.mm);
        if mm.open_gathers(hw) > 1 {
            // What the others have removed, and not flushed yet, we may have found removed.
            self.ranges.insert(FlushRange::All);
        }
        self.flush_and_release(hw);
        mm.close_gather(hw);
        (self.sink, self.storage)
    }

    /// Flushes what was removed so far, and releases it or holds it back: the one path to [`FrameSink`] (I7).
    fn flush_and_release(&mut self, hw: &K::Hw) {
        let tables = core::mem::replace(&mut self.tables, Tables::Kept);
        let (items, walked) = (
            core::mem::take(&mut self.items),
            core::mem::take(&mut self.walked),
        );
        let may_be_walked = tables.are_unhooked() || self.has_spared;
        if may_be_walked && self.tlb.holds_back(self.mm) {
            let to_hold = match self.detached {
                Detached::Tables => walked,
                Detached::Subtrees => items,
            };
            self.flush_and_hold(hw, to_hold);
        } else {
            self.flush(hw, tables);
        }
        // No CPU reaches the items any more. But code that walks page tables by itself may: with interrupts off it was safe from flushes that must be
        // answered by an interrupt, and is not from one that is broadcast. Whoever guards such walks has them waited for here, and in `flush_and_hold`, before
        // the first item is released.
        while let Some(item) = self.storage.take() {
            self.sink.release(item.into_inner());
        }
    }
}

/// Under [`crate::Policy::Quarantine`].
impl<K, S, B, const WORDS: usize, const SLOTS: usize> Gather<'_, K, S, B, WORDS, SLOTS>
where
    K: Kernel<WORDS, SLOTS>,
    S: FrameSink,
    B: Storage<S::Item>,
{
    /// Flushes what was removed so far, and spares lazy CPUs, if what they may walk can be held back; else interrupts them.
    fn flush_and_hold(&mut self, hw: &K::Hw, to_hold: u64) {
        let batch = match self.reserve(hw, to_hold) {
            Ok(batch) => batch,
            Err(why) => return self.flush_and_hold_nothing(hw, why),
        };
        if let Some(report) = self.flush(hw, Tables::Held) {
            self.has_spared = report.lazy_skipped > 0;
        }
        let mut held = 0;
        if self.has_spared {
            self.tlb.await_spared(hw, self.mm, batch);
            while let Some(item) = self.storage.take() {
                if item.walked == Walked::Perhaps || self.detached == Detached::Subtrees {
                    self.sink.hold(batch, item.into_inner());
                    held += 1;
                } else {
                    self.sink.release(item.into_inner());
                }
            }
        }
        self.tlb.end_reservation(hw, self.mm, batch, to_hold - held);
    }

    /// Flushes what was removed so far, and interrupts lazy CPUs: one IPI for all that is held of the space.
    fn flush_and_hold_nothing(&mut self, hw: &K::Hw, why: NotHeld) {
        if core::mem::take(&mut self.has_spared) {
            // What an earlier flush of this gather unhooked is among it.
            self.ranges.insert(FlushRange::All);
        }
        self.sink.cannot_hold(why);
        self.flush(hw, Tables::Freed);
        // Everybody has left who could walk what is held of this space.
        self.tlb.release_held(hw, &mut self.sink);
    }

    /// Reserves room to hold back so many items; if there is none, gives up what nobody can walk any more, and tries again.
    fn reserve(&mut self, hw: &K::Hw, items: u64) -> Result<HeldBatch, NotHeld> {
        let reserve = |sink: &S| match sink.room() >= items {
            true => self.tlb.reserve(hw, self.mm, items),
            false => Err(NotHeld::NoRoom),
        };
        reserve(&self.sink).or_else(|_| {
            self.tlb.release_held(hw, &mut self.sink);
            reserve(&self.sink)
        })
    }
}

impl<K, S, B, const WORDS: usize, const SLOTS: usize> Gather<'_, K, S, B, WORDS, SLOTS>
where
    K: Kernel<WORDS, SLOTS>,
    S: FrameSink,
    B: Storage<S::Item>,
{
    fn flush(&mut self, hw: &K::Hw, tables: Tables) -> Option<Flushed> {
        let ranges = core::mem::take(&mut self.ranges);
        let ranges = ranges.within(self.tlb.single_page_ceiling());
        let report = match ranges.as_slice() {
            [] => return None,
            &[range] => {
                self.sink.flushing(range);
                self.tlb.flush(hw, self.mm, range, tables)
            }
            several => {
                let mut shootdown = self.tlb.start(hw, &PreemptionIsOff, ());
                for &range in several {
                    self.sink.flushing(range);
                    self.tlb.add(hw, &mut shootdown, self.mm, range, tables);
                }
                self.tlb.send(hw, &mut shootdown);
                self.tlb.wait(hw, shootdown).1
            }
        };
        self.sink.flushed(report);
        Some(report)
    }
}
