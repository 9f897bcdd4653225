//! Freeing memory in the only safe order: unhook, then flush, then free.

use crate::addr::{FlushRange, PhysAddr, VirtAddr};
use crate::kernel::Kernel;
use crate::mm::MmHandle;
use crate::policy::Tables;
use crate::shootdown::Flushed;
use crate::tlb::Tlb;

/// What an entry stood for that was just removed from a page table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unhooked {
    /// A mapping of memory that stays in use elsewhere: nothing is freed.
    Mapping,
    /// A page whose frame is to be freed.
    Page(PhysAddr),
    /// A page table whose frame is to be freed.
    Table(PhysAddr),
}

/// Takes back what a [`Gather`] frees.
pub trait FrameSink {
    /// Says that this range is about to be flushed; every entry in it is unhooked.
    fn flushing(&mut self, range: FlushRange) {
        let _ = range;
    }
    /// Says that the flush has returned and what it did, before the first frame is released.
    fn flushed(&mut self, report: Flushed) {
        let _ = report;
    }
    /// Takes a page's frame: no CPU can reach it through this space any more.
    fn release_page(&mut self, frame: PhysAddr);
    /// Takes a page table's frame: no CPU can walk it any more.
    fn release_table(&mut self, frame: PhysAddr);
}

/// Frames that one batch holds before it is flushed on the way; a batch costs 16 bytes of stack each.
const BATCH_FRAMES: usize = 32;

/// Unmaps a part of one space: see [`Tlb::gather`].
#[derive(Debug)]
pub struct Gather<'a, K: Kernel<WORDS, SLOTS>, S, const WORDS: usize = 8, const SLOTS: usize = 6> {
    tlb: &'a Tlb<K, WORDS, SLOTS>,
    hw: &'a K::Hw,
    mm: MmHandle,
    sink: &'a mut S,
    /// I7: each frame here was unhooked, and the flush that covers it has not begun.
    batch: [Unhooked; BATCH_FRAMES],
    batch_len: usize,
    range: Option<FlushRange>,
}

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Unmaps with `unhook`, then flushes, then frees, on every path.
    ///
    /// `unhook` removes entries through [`Gather::unhook`]. A batch that fills up is flushed and freed
    /// on the way; the rest when `unhook` returns. If it unwinds, the frames of the batch are leaked,
    /// never freed early.
    ///
    /// Cost: one [`Tlb::flush`] for each 32 frames, none if nothing was unhooked. Interrupts must be
    /// enabled and preemption off, as for a flush; page-table locks may be held if no handler takes them.
    ///
    /// # Panics
    /// If interrupts are disabled.
    ///
    /// Checked by: programs `reference-3`, `reference-4`.
    ///
    /// ```
    /// # mod machine { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/machine/mod.rs")); } use machine::*;
    /// use lazytlb::{FrameSink, PhysAddr, Policy, Unhooked, VirtAddr};
    /// struct Freed(Vec<PhysAddr>);
    /// impl FrameSink for Freed {
    ///     fn release_page(&mut self, frame: PhysAddr) { self.0.push(frame) }
    ///     fn release_table(&mut self, frame: PhysAddr) { self.0.push(frame) }
    /// }
    /// let (machine, tlb) = (Machine::default(), boot(Policy::Ipi));
    /// let mut freed = Freed(Vec::new());
    /// tlb.gather(&machine, USER, &mut freed, |gather| {
    ///     gather.unhook(VirtAddr(0x1000), Unhooked::Page(PhysAddr(0x9000)), |_hw| {
    ///         // The kernel writes its page-table entry here.
    ///     });
    /// });
    /// assert_eq!(freed.0, [PhysAddr(0x9000)]);
    /// ```
    pub fn gather<S: FrameSink, R>(
        &self,
        hw: &K::Hw,
        mm: MmHandle,
        sink: &mut S,
        unhook: impl FnOnce(&mut Gather<'_, K, S, WORDS, SLOTS>) -> R,
    ) -> R {
        let batch = [Unhooked::Mapping; BATCH_FRAMES];
        let mut gather = Gather {
            tlb: self,
            hw,
            mm,
            sink,
            batch,
            batch_len: 0,
            range: None,
        };
        let result = unhook(&mut gather);
        gather.flush_and_free();
        result
    }
}

impl<K, S, const WORDS: usize, const SLOTS: usize> Gather<'_, K, S, WORDS, SLOTS>
where
    K: Kernel<WORDS, SLOTS>,
    S: FrameSink,
{
    /// Removes one entry with `clear`, and frees what it stood for after the next flush.
    ///
    /// `addr` is the page's address; for a table, any address that it translates. One INVLPG of it
    /// drops every paging-structure-cache entry that leads there, but no other page's TLB entry: unhook
    /// the pages that a table maps before the table.
    ///
    /// Source: SDM 3A, "Operations that Invalidate TLBs and Paging-Structure Caches", INVLPG; APM 2,
    /// EFER.TCE.
    pub fn unhook(&mut self, addr: VirtAddr, what: Unhooked, clear: impl FnOnce(&K::Hw)) {
        if self.batch_len == BATCH_FRAMES {
            self.flush_and_free();
        }
        let page = FlushRange::page(addr);
        self.range = Some(self.range.map_or(page, |range| range.union(page)));
        clear(self.hw);
        if what != Unhooked::Mapping {
            self.batch[self.batch_len] = what;
            self.batch_len += 1;
        }
    }

    /// Flushes what was unhooked so far and frees it: the one path to [`FrameSink`] (I7).
    fn flush_and_free(&mut self) {
        let batch = &self.batch[..self.batch_len];
        let frees_table = batch.iter().any(|what| matches!(what, Unhooked::Table(_)));
        let tables = if frees_table {
            Tables::Freed
        } else {
            Tables::Kept
        };
        if let Some(range) = self.range.take() {
            self.sink.flushing(range);
            let report = self.tlb.flush(self.hw, self.mm, range, tables);
            self.sink.flushed(report);
        }
        for what in batch {
            match *what {
                Unhooked::Mapping => {}
                Unhooked::Page(frame) => self.sink.release_page(frame),
                Unhooked::Table(frame) => self.sink.release_table(frame),
            }
        }
        self.batch_len = 0;
    }
}
