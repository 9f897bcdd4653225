//! Pages that stay mapped and change their type or their size: break, flush, make.
//!
//! Neither may be cached both ways at once. Memory that is reached as two *types* is beyond what the manuals define (H28), on every
//! CPU: what a flush after the change removes was usable beside the new entry until then. Two *sizes* are allowed by the architecture (H7), and
//! end in a machine check on some CPUs: any access with erratum 383 (H31), an instruction fetch with CVE-2018-12207 (H31a).
//!
//! ```text
//!  break, flush, make                        make, flush
//!  entries = absent                          entries = new
//!  flush, lazy CPUs too  ─▶ let go of old    ...              uses old, or new
//!  entries = new                             flush         ─▶ lets go of old
//! ```
//!
//! So the order is this file's, and the kernel supplies the steps. A lazy CPU is interrupted under every policy where it breaks: it would
//! otherwise cache the new entry beside the old one, by speculation alone.

use crate::addr::{FlushRange, PageRange};
use crate::gather::{FrameSink, Gather, Storage};
use crate::hw::{Fetched, Hw};
use crate::kernel::Kernel;
use crate::mm::MmHandle;
use crate::pinned::PreemptionIsOff;
use crate::policy::Tables;
use crate::shootdown::Flushed;
use crate::targets::Occasion;
use crate::tlb::Tlb;

/// Evidence that no CPU can use any more what was mapped: for a kernel's function that writes entries of another memory type.
///
/// Only [`Tlb::change_type`] makes one, and lends it to the step that makes the new entries. A function which asks for it is called there, or
/// nowhere:
///
/// ```compile_fail,E0423
/// fn write_with_type(entry: &mut u64, type_bits: u64, _: &lazytlb::OutOfUse) { *entry |= type_bits }
/// write_with_type(&mut 0, 1 << 3, &lazytlb::OutOfUse(()));
/// ```
#[derive(Debug)]
pub struct OutOfUse(());

/// A change of size: [`Gather::change_size`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SizeChange {
    /// The pages, in the size that they had.
    pub pages: PageRange,
    /// Whether instructions may be fetched from there.
    pub fetched: Fetched,
    /// Whether the change unhooks page tables that are to be freed: small pages become a large one. They are handed to
    /// [`Gather::free`] after it.
    pub tables: Tables,
}

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Changes the type of memory (write-back, write-combining, uncached): clears its entries, flushes, then makes the new ones.
    /// Returns what `make` does, and what the flush did.
    ///
    /// `mappings` are *all* that lead to the memory: pages of user spaces, and of the kernel's own space if it maps them. `clear` writes absent entries into
    /// all of them, and `make` the new ones; both run on this CPU, once, and no lock may be given back in between by which others
    /// could write entries. What the CPUs' *caches* hold of the memory is the kernel's to write back, in `make`, before it writes entries.
    ///
    /// Cost: as one [`Tlb::flush`] of it all; lazy CPUs are interrupted under every policy, and with PCIDs those that have gone on to another space, once.
    /// Interrupts and locks are as for [`Tlb::flush`].
    ///
    /// # Panics
    /// As [`Tlb::flush_kernel`], if the kernel's own space is among the mappings.
    ///
    /// Source: SDM 3A, chapter "Memory Cache Control".
    /// Checked by: programs `type-change`, `type-change-elsewhere`.
    ///
    /// ```
    /// # mod machine { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/machine/mod.rs")); } use machine::*;
    /// use lazytlb::{OutOfUse, PageRange, Policy, VirtAddr};
    /// use std::cell::Cell;
    ///
    /// const WRITE_COMBINING: u64 = 1 << 7;
    /// /// The kernel's one way to write an entry of another type.
    /// fn write_with_type(entry: &Cell<u64>, value: u64, _: &OutOfUse) { entry.set(value | WRITE_COMBINING) }
    ///
    /// let (machine, tlb, entry) = (Machine::default(), boot(Policy::Ipi), Cell::new(0x9003_u64));
    /// let former = entry.get();
    /// let mappings = [(USER, PageRange::page(VirtAddr(0x1000)))];
    /// let make = |out_of_use: &OutOfUse| write_with_type(&entry, former, out_of_use);
    /// let ((), report) = tlb.change_type(&machine, &mappings, || entry.set(0), make);
    /// assert_eq!((entry.get(), report.lazy_skipped), (0x9083, 0));
    /// ```
    pub fn change_type<R>(
        &self,
        hw: &K::Hw,
        mappings: &[(MmHandle, PageRange)],
        clear: impl FnOnce(),
        make: impl FnOnce(&OutOfUse) -> R,
    ) -> (R, Flushed) {
        clear();
        let mut shootdown = self.start(hw, &PreemptionIsOff, ());
        for &(mm, pages) in mappings {
            let (range, how) = (FlushRange::Pages(pages), (Tables::Kept, Occasion::Change));
            self.add_for(hw, &mut shootdown, mm, range, how);
        }
        self.send(hw, &mut shootdown);
        let ((), report) = self.wait(hw, shootdown);
        (make(&OutOfUse(())), report)
    }
}

impl<K, S, B, const WORDS: usize, const SLOTS: usize> Gather<'_, K, S, B, WORDS, SLOTS>
where
    K: Kernel<WORDS, SLOTS>,
    S: FrameSink,
    B: Storage<S::Item>,
{
    /// Changes the size of pages that stay mapped: small pages become a large one, or a large one small ones.
    ///
    /// To the same frames, or to others, which `make` fills. Then the former ones are handed to [`Gather::free_page`] after it, and what a
    /// CPU writes to them before the flush is lost: whoever copies takes the right to write away first.
    ///
    /// Where two sizes may not be cached at once ([`crate::Quirks::forbid_two_sizes`]): calls `clear`, flushes what the gather has so far, lazy CPUs too under
    /// every policy, then calls `make`. Elsewhere it is cheaper: `make` alone, which overwrites, and the flush is [`Gather::finish`]'s, with all
    /// that is unmapped besides. `clear` writes absent entries and `make` the new ones, under one lock.
    ///
    /// Cost: with the quirk one flush; else nothing here. Interrupts and locks are as for [`Tlb::flush`].
    ///
    /// Source: SDM 3A, "Recommended Invalidation"; AMD revision guide for family 10h, erratum 383; Intel, CVE-2018-12207.
    /// Checked by: programs `promote`, `promote-data`, `split`.
    ///
    /// ```
    /// # mod machine { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/machine/mod.rs")); } use machine::*;
    /// use lazytlb::{Batch, Fetched, FrameSink, PageRange, PageSize, Policy, SizeChange, Tables, VirtAddr};
    /// use std::cell::Cell;
    /// struct Freed(Vec<u64>);
    /// impl FrameSink for Freed {
    ///     type Item = u64;
    ///     fn release(&mut self, table: u64) { self.0.push(table) }
    /// }
    ///
    /// let (machine, tlb, entry) = (Machine::default(), boot(Policy::Ipi), Cell::new(0x7003_u64));
    /// let mut gather = tlb.gather(&machine, USER, Batch::<_, 32>::new(), Freed(Vec::new()));
    /// let small = PageRange { start: VirtAddr(0), len_pages: 512, size: PageSize::Size4K };
    /// let change = SizeChange { pages: small, fetched: Fetched::Perhaps, tables: Tables::Freed };
    /// gather.change_size(&machine, change, || entry.set(0), || entry.set(0x0020_0083));
    /// gather.free(&machine, 0x7000);
    /// let (freed, _batch) = gather.finish(&machine);
    /// assert_eq!((freed.0, entry.get()), (vec![0x7000], 0x0020_0083));
    /// ```
    pub fn change_size(
        &mut self,
        hw: &K::Hw,
        change: SizeChange,
        clear: impl FnOnce(),
        make: impl FnOnce(),
    ) {
        if !hw.quirks().forbid_two_sizes(change.fetched) {
            make();
            self.changed(change);
            return;
        }
        clear();
        self.changed(change);
        self.flush_now(hw, Occasion::Change);
        make();
    }

    fn changed(&mut self, change: SizeChange) {
        match change.tables {
            Tables::Kept => self.unmapped(change.pages),
            Tables::Freed | Tables::Held => self.unhooked(change.pages),
        }
    }
}
