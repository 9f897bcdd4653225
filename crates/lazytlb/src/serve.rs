//! Flushing, on the target's side: what a CPU does when others wait for it.

use crate::addr::{FlushRange, PageRange, PageSize};
use crate::cpu_set::members_of_word;
use crate::generation::{NextGen, TlbGen};
use crate::hw::{Cr3Load, Hw, Interrupts};
use crate::kernel::Kernel;
use crate::mm::{Mm, MmId};
use crate::pcids::{Invpcid, Pcids};
use crate::per_cpu::PerCpu;
use crate::policy::Tables;
use crate::requests::Removed;
use crate::slots::{Halves, SlotIndex};
use crate::tlb::Tlb;

/// What catching up did on one CPU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Served {
    /// Another space is loaded than the one that was flushed.
    OtherSpace,
    /// The CPU had missed nothing of what it has loaded.
    #[default]
    UpToDate,
    /// The space was loaded lazily, or is retired: the CPU left for init_mm with one CR3 load.
    LeftForInitMm,
    /// The pages that were removed were invalidated one by one.
    InvalidatedPages,
    /// Everything of the space was invalidated with one CR3 load.
    FlushedAll,
    /// The space has got a PCID that is the same on every CPU, and was loaded under that with one CR3 load: what was cached is of no use any more.
    MovedToGlobalId,
    /// What was removed is invalidated by broadcast, as on every CPU.
    Broadcast,
}

/// What serving the inbox did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Interrupted {
    /// How many initiators were answered. With none, [`Tlb::serve_inbox`] did nothing else; an interrupt catches up all the
    /// same.
    pub answered: u32,
    /// What was done in the loaded space.
    pub served: Served,
    /// What was done about kernel ranges.
    pub kernel: Served,
    /// With PCIDs, spaces that this CPU was elsewhere from and behind in, whose cpumask it has left.
    pub left_behind: u32,
}

impl Interrupted {
    /// Adds what was done next.
    fn then(self, next: Interrupted) -> Interrupted {
        let later = |before, then| match then {
            Served::UpToDate => before,
            then => then,
        };
        Interrupted {
            answered: self.answered + next.answered,
            served: later(self.served, next.served),
            kernel: later(self.kernel, next.kernel),
            left_behind: self.left_behind + next.left_behind,
        }
    }
}

/// What is known of what generations removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<F> {
    of: Generations,
    find: F,
}

/// Of how many generations something is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Generations {
    One,
    Any,
}

impl<F: Fn(MmId, NextGen) -> Option<Removed>> Known<F> {
    /// Of one generation, which this CPU has raised itself: told apart, so that the compiler makes no loop of it.
    #[inline(always)]
    pub(crate) fn of_one(find: F) -> Self {
        let of = Generations::One;
        Known { of, find }
    }

    /// Of any number of them.
    #[inline(always)]
    pub(crate) fn of_any(find: F) -> Self {
        let of = Generations::Any;
        Known { of, find }
    }
}

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Does what other CPUs wait for, and catches up if nobody waits: the body of the flush interrupt's handler.
    ///
    /// Cost: as [`Tlb::serve_inbox`] if somebody waits.
    ///
    /// # Panics
    /// If interrupts are enabled: it shares this CPU's words with the code that it interrupts.
    ///
    /// Checked by: every program.
    pub fn handle_flush_ipi(&self, hw: &K::Hw) -> Interrupted {
        assert!(
            hw.interrupts() == Interrupts::Disabled,
            "the flush interrupt's handler needs interrupts off"
        );
        let me = self.kernel.this_cpu(hw);
        let mut awaited_by = self.awaited_by(hw, me);
        let Some((word, initiators)) = awaited_by.next() else {
            // Who retires a space waits for nobody, and its bit may have been answered with that of a flush before.
            return self.catch_up_unasked(hw, me);
        };
        let done = self.serve(hw, me, word, initiators);
        self.serve_words(hw, me, awaited_by, done)
    }

    /// Does what other CPUs wait for, outside the interrupt handler: for loops with interrupts off that wait for another CPU,
    /// which may wait for this one.
    ///
    /// Cost: a load for each word of CPUs in use ([`Kernel::cpu_words`]). If somebody waits, one locked instruction for each word with members, and
    /// at most one CR3 load, or [`Tlb::single_page_ceiling`] INVLPGs for each request; with PCIDs a load for each slot, one INVLPG,
    /// and a locked instruction for each space that is left.
    ///
    /// # Panics
    /// If interrupts are enabled: the handler shares this CPU's words with it.
    ///
    /// Checked by: programs `waits-with-interrupts-off`, `lock-and-flush`.
    pub fn serve_inbox(&self, hw: &K::Hw) -> Interrupted {
        assert!(
            hw.interrupts() == Interrupts::Disabled,
            "the inbox is served with interrupts off"
        );
        self.serve_if_awaited(hw)
    }

    /// As [`Tlb::serve_inbox`], where interrupts are known to be off.
    pub(crate) fn serve_if_awaited(&self, hw: &K::Hw) -> Interrupted {
        let me = self.kernel.this_cpu(hw);
        let awaited_by = self.awaited_by(hw, me);
        self.serve_words(hw, me, awaited_by, Interrupted::default())
    }

    /// Serves the initiators of some words of the inbox, after what is done.
    #[inline(always)]
    fn serve_words(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        awaited_by: impl Iterator<Item = (usize, u64)>,
        done: Interrupted,
    ) -> Interrupted {
        awaited_by.fold(done, |done, (word, initiators)| {
            done.then(self.serve_outlined(hw, me, word, initiators))
        })
    }

    /// Reads the inbox, and returns the words with initiators that wait.
    #[inline(always)]
    fn awaited_by<'a>(
        &self,
        hw: &'a K::Hw,
        me: &'a PerCpu<K::Hw, WORDS, SLOTS>,
    ) -> impl Iterator<Item = (usize, u64)> + 'a {
        let words = (0..self.cpu_words()).map(move |word| (word, me.inbox(hw, word)));
        words.filter(|&(_, initiators)| initiators != 0)
    }

    /// As [`Tlb::serve`]. Not inlined, so that a look at a word without an initiator costs four instructions.
    #[inline(never)]
    fn serve_outlined(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        word: usize,
        initiators: u64,
    ) -> Interrupted {
        self.serve(hw, me, word, initiators)
    }

    /// Serves the initiators of one word of the inbox.
    #[inline(always)]
    fn serve(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        word: usize,
        initiators: u64,
    ) -> Interrupted {
        let done = self.catch_up_all(hw, me, word, initiators);
        // Only now: the initiators take it for "that CPU uses nothing of this any more".
        me.answer(hw, word, initiators);
        done
    }

    /// Catches up with everything, by nobody's hints. Not inlined: who serves an initiator shall not pay for its registers.
    #[inline(never)]
    fn catch_up_unasked(&self, hw: &K::Hw, me: &PerCpu<K::Hw, WORDS, SLOTS>) -> Interrupted {
        self.catch_up_all(hw, me, 0, 0)
    }

    /// Catches up with everything, by the hints of some initiators.
    #[inline(always)]
    fn catch_up_all(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        word: usize,
        initiators: u64,
    ) -> Interrupted {
        let find = |mm, new_gen| {
            members_of_word(word, initiators).find_map(|initiator| {
                let requests = &self.kernel.per_cpu(initiator).requests;
                requests.find(hw, mm, new_gen)
            })
        };
        let kernel = self.catch_up_kernel(hw, me, find);
        let served = self.catch_up(hw, me, Known::of_any(find));
        let left_behind = self.leave_behind(hw, me);
        Interrupted {
            answered: count_of_word(initiators),
            served,
            kernel,
            left_behind,
        }
    }

    /// Catches up with the newest generation of the loaded user space. Interrupts are off.
    ///
    /// Where it is not known what a generation removed, everything is flushed.
    #[inline(always)]
    pub(crate) fn catch_up(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        known: Known<impl Fn(MmId, NextGen) -> Option<Removed>>,
    ) -> Served {
        let loaded = me.loaded_mm(hw);
        if loaded == self.kernel.init_mm() {
            return Served::UpToDate;
        }
        let mm = self.kernel.mm(loaded);
        if let Some(global) = self.global_of(hw, mm) {
            return self.catch_up_global(hw, me, loaded, global.id);
        }
        let slot = me.slots.current(hw);
        // I3: read before the invalidation. What is removed later is not covered by it.
        let current = mm.tlb_gen(hw);
        if me.slots.flushed_to(hw, slot) == current {
            return Served::UpToDate;
        }
        // Leaving costs as much as a flush, and spares the next interrupt.
        if me.is_lazy(hw) || mm.is_retired(hw) {
            self.leave_for_init_mm(hw, me, loaded);
            return Served::LeftForInitMm;
        }
        if self.invalidate_pages(hw, me, mm, slot, current, known) {
            return Served::InvalidatedPages;
        }
        self.flush_all(hw, me, mm, slot, current)
    }

    /// Flushes everything of the loaded space. Not inlined: who invalidates pages shall not pay for its registers.
    #[inline(never)]
    fn flush_all(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        mm: &Mm<K::Hw, WORDS>,
        slot: SlotIndex,
        current: TlbGen,
    ) -> Served {
        self.load_root(hw, me, mm, slot, Cr3Load::Flush);
        me.slots.set_flushed_to(hw, slot, current);
        Served::FlushedAll
    }

    /// Invalidates what each generation removed that this CPU has missed, page by page, if all of that is known and short.
    #[inline(always)]
    fn invalidate_pages(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        mm: &Mm<K::Hw, WORDS>,
        slot: SlotIndex,
        current: TlbGen,
        known: Known<impl Fn(MmId, NextGen) -> Option<Removed>>,
    ) -> bool {
        let mut pages_left = u64::from(self.single_page_ceiling());
        loop {
            // Exactly the next generation: a skipped one would be lost.
            let next = me.slots.flushed_to(hw, slot).next();
            let Some(Removed { range, tables }) = (known.find)(mm.id(), next) else {
                return false;
            };
            let Some(range) = short(range, pages_left) else {
                return false;
            };
            range.pages().for_each(|page| hw.invlpg(page));
            if mm.user_root().is_some() {
                self.invalidate_user_half(hw, me, slot, range, tables);
            }
            // A CPU that comes back from lazy mode after it was spared flushes everything. But its bit may be set after that: by an initiator
            // that saw it lazy before. The next flush of the kind clears it, or it would stay for as long as this CPU does.
            if tables.are_unhooked() {
                self.walks_nothing_removed(hw, mm);
            }
            pages_left -= range.len_pages;
            me.slots.set_flushed_to(hw, slot, next);
            if current == next {
                return true;
            }
            if known.of == Generations::One {
                return false;
            }
        }
    }

    /// Invalidates in the user half, which is not loaded, what was removed from both. Without PCIDs, every load flushes.
    fn invalidate_user_half(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        slot: SlotIndex,
        pages: PageRange,
        tables: Tables,
    ) {
        if !hw.pcids_are_on() {
            return;
        }
        match tables {
            Tables::Kept if pages.size == PageSize::Size4K => pages.pages().for_each(|page| {
                hw.invpcid(Invpcid::Address(slot.pcid_of_user_half::<SLOTS>(), page));
            }),
            // Of a large page that is held in pieces no manual says that all go, as they do with INVLPG (H6).
            Tables::Kept => me.slots.set_due(hw, slot, Halves::USER),
            // INVPCID of an address drops only the upper levels that lead to it, on every CPU. Here others may lead to a table
            // that is freed.
            Tables::Freed | Tables::Held => me.slots.set_due(hw, slot, Halves::USER),
        }
    }
}

/// Returns the pages to invalidate one by one, or `None` where a full flush is cheaper.
pub(crate) fn short(range: FlushRange, most: u64) -> Option<PageRange> {
    match range {
        FlushRange::Pages(range) if range.len_pages <= most => Some(range),
        _ => None,
    }
}

/// Counts the members of a word that has few, mostly one: without POPCNT, that is cheaper than to count all bits at once.
fn count_of_word(word: u64) -> u32 {
    members_of_word(0, word).map(|_| 1).sum()
}
