//! Flushing by broadcast: no CPU is interrupted, lazy or not, and none is asked where it is.
//!
//! INVLPGB reaches every CPU some time later; TLBSYNC, on the same CPU, waits until each has done it (H29). In between, preemption is off. What is
//! received ends the walks under way on that CPU, too, of whichever PCID (H12a): so a CPU that has gone on to another space, or is lazy, need neither be
//! interrupted nor awaited when page tables are freed, and nothing is held back for it.
//!
//! But a CPU that walks by itself, in software with interrupts off, is not held up by that, as it would be by an interrupt that must be answered: such
//! walks are waited for ([`crate::software_walks`]). And it sends off nothing that a CPU has written to a device: a change for which that matters (I14) interrupts
//! everybody besides.

use core::num::NonZeroU16;

use crate::addr::{FlushRange, PageRange, PageSize};
use crate::broadcast::{Broadcast, Globals, Invlpgb, Strides, UpperLevels};
use crate::cpu_set::{CpuId, CpuSet, members_of_word};
use crate::global_id::{Global, GlobalId, Phase};
use crate::hw::Hw;
use crate::interrupts::InterruptsOff;
use crate::kernel::Kernel;
use crate::mm::{Mm, MmHandle};
use crate::per_cpu::Whereabouts;
use crate::policy::{LazyTargets, Tables};
use crate::requests::Removed;
use crate::serve::{Served, short};
use crate::shootdown::Flushed;
use crate::targets::{Chosen, Occasion};
use crate::tlb::Tlb;

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Flushes a space that has a global id, after its generation was raised. Not inlined: other flushes shall not pay for its registers.
    #[inline(never)]
    pub(crate) fn flush_global(
        &self,
        hw: &K::Hw,
        handle: MmHandle,
        global: Global,
        removed: Removed,
    ) -> Flushed {
        let mut chosen = Chosen::nobody();
        let how = (removed, Occasion::Flush);
        self.begin_broadcast(hw, handle, global, how, &mut chosen);
        let mut local = Served::Broadcast;
        if global.phase == Phase::Moving {
            local = self.move_others(hw, handle, global, &chosen);
        }
        hw.tlbsync();
        if removed.tables == Tables::Freed {
            self.wait_for_walks(hw);
        }
        Flushed {
            interrupted: chosen.count,
            elsewhere: 0,
            lazy_skipped: chosen.lazy_skipped,
            local,
        }
    }

    /// Chooses whom to interrupt of those that do not use a space under its global id yet, and broadcasts. [`Broadcast::tlbsync`] is to follow on
    /// this CPU.
    pub(crate) fn begin_broadcast(
        &self,
        hw: &K::Hw,
        handle: MmHandle,
        global: Global,
        (removed, occasion): (Removed, Occasion),
        chosen: &mut Chosen<WORDS>,
    ) {
        let mm = self.kernel.mm(handle);
        if global.phase == Phase::Moving {
            self.choose_stragglers(hw, handle, mm, global.id, removed.tables, chosen);
        }
        // After they were chosen: a CPU that was not, because it had left, may have begun a walk until then.
        self.broadcast(hw, mm, global.id, removed);
        if occasion != Occasion::Flush {
            // A broadcast sends off nothing that a CPU has written (I14): an interrupt does, but not what is written after it. So nobody can
            // write any more before the first is sent.
            hw.tlbsync();
            self.choose_targets(hw, handle, mm, removed.tables, occasion, chosen);
        }
    }

    /// Interrupts those that do not use a space under its global id yet, and waits until they do. Returns what was done on this CPU.
    fn move_others(
        &self,
        hw: &K::Hw,
        handle: MmHandle,
        global: Global,
        chosen: &Chosen<WORDS>,
    ) -> Served {
        let cpu = hw.cpu();
        let mut again = CpuSet::EMPTY;
        if chosen.count > 0 {
            again = self.tell(hw, cpu, &chosen.targets);
        }
        let local = self.move_here(hw, handle, global.id);
        if chosen.count > 0 {
            self.wait_for(hw, cpu, &chosen.targets, again);
        }
        if chosen.lazy_skipped == 0 {
            // Who was inside or switching is under the id now, and who was elsewhere finds it when it comes.
            self.settle(hw, handle, global);
        }
        local
    }

    /// Settles a space of which every CPU was found under its global id, or elsewhere: a shootdown in steps does not know the space any more when it has
    /// waited for those that were not.
    pub(crate) fn settle_if_nobody_is_left(
        &self,
        hw: &K::Hw,
        handle: MmHandle,
        global: Global,
        chosen: &Chosen<WORDS>,
    ) {
        if global.phase == Phase::Settled || chosen.count + chosen.lazy_skipped > 0 {
            return;
        }
        let _off = InterruptsOff::new(hw);
        let me = self.kernel.this_cpu(hw);
        // This CPU does not find itself.
        if me.loaded_mm(hw) != handle
            || me.slots.global(hw, me.slots.current(hw)) == Some(global.id)
        {
            self.settle(hw, handle, global);
        }
    }

    /// I17.
    fn settle(&self, hw: &K::Hw, handle: MmHandle, global: Global) {
        let phase = Phase::Settled;
        let settled = Global { phase, ..global };
        self.kernel.mm(handle).global.store(hw, settled);
    }

    /// Uses a space under its global id from here on, if this CPU has it loaded.
    fn move_here(&self, hw: &K::Hw, handle: MmHandle, id: GlobalId) -> Served {
        let _off = InterruptsOff::new(hw);
        let me = self.kernel.this_cpu(hw);
        if me.loaded_mm(hw) != handle {
            return Served::Broadcast;
        }
        match self.catch_up_global(hw, me, handle, id) {
            Served::UpToDate => Served::Broadcast,
            done => done,
        }
    }

    /// Chooses whom to interrupt in a space that CPUs move to a global id: who may use it otherwise, but for lazy CPUs that the policy spares.
    fn choose_stragglers(
        &self,
        hw: &K::Hw,
        handle: MmHandle,
        mm: &Mm<K::Hw, WORDS>,
        id: GlobalId,
        tables: Tables,
        chosen: &mut Chosen<WORDS>,
    ) {
        let this_cpu = hw.cpu();
        for word in 0..self.cpu_words() {
            let members = members_of_word(word, mm.cpumask_word(hw, word));
            for cpu in members.filter(|&cpu| cpu != this_cpu) {
                self.choose_straggler(hw, handle, id, tables, cpu, chosen);
            }
        }
    }

    fn choose_straggler(
        &self,
        hw: &K::Hw,
        handle: MmHandle,
        id: GlobalId,
        tables: Tables,
        cpu: CpuId,
        chosen: &mut Chosen<WORDS>,
    ) {
        let other = self.kernel.per_cpu(cpu);
        // A broadcast ends the walks of who is elsewhere; when it comes back, it finds the id.
        if other.whereabouts(hw, handle) == Whereabouts::Elsewhere
            || other.loaded_global(hw) == Some(id)
        {
            return;
        }
        let lazy_targets = self.policy().lazy_targets(hw.quirks(), tables);
        if lazy_targets == LazyTargets::Skip && other.is_lazy(hw) {
            chosen.lazy_skipped += 1;
            if tables == Tables::Held {
                // I11, as for a flush without a global id.
                self.kernel.mm(handle).spare(hw, cpu);
            }
            return;
        }
        chosen.targets.insert(cpu);
        chosen.count += 1;
    }

    /// Broadcasts what was removed of a space, under its global id: from both halves, if there are two.
    fn broadcast(
        &self,
        hw: &K::Hw,
        mm: &Mm<K::Hw, WORDS>,
        id: GlobalId,
        Removed { range, tables }: Removed,
    ) {
        let most = hw.most_addresses();
        let most = most.expect("a space has a global id only where there are broadcasts");
        let pages = self.named_by_a_broadcast(range);
        let upper_levels = match tables {
            Tables::Kept => UpperLevels::Kept,
            Tables::Freed | Tables::Held => UpperLevels::Included,
        };
        for pcid in self.pcids_of(id, mm) {
            let what = Invlpgb {
                addresses: None,
                pcid: Some(pcid),
                globals: Globals::Kept,
                upper_levels,
            };
            broadcast_pages(hw, what, pages, most);
        }
    }

    /// Returns the pages of a range whose addresses a broadcast names, or `None` where it is for everything.
    ///
    /// It goes by the size of what is cached (H30). So of a large page that is held in pieces it takes those alone whose addresses it names, and no manual
    /// says that all go, as they do with INVLPG (H6).
    fn named_by_a_broadcast(&self, range: FlushRange) -> Option<PageRange> {
        let pages = short(range, u64::from(self.single_page_ceiling()));
        pages.filter(|pages| pages.size == PageSize::Size4K)
    }

    /// Broadcasts what was removed of what the kernel maps for itself. [`Broadcast::tlbsync`] is to follow on this CPU.
    pub(crate) fn broadcast_kernel(
        &self,
        hw: &K::Hw,
        Removed { range, tables }: Removed,
        most: NonZeroU16,
    ) {
        // No generation is raised, which would order this after the page-table changes.
        hw.fence();
        let pages = self.named_by_a_broadcast(range);
        match tables {
            Tables::Kept => {
                let what = Invlpgb {
                    upper_levels: UpperLevels::Kept,
                    ..Invlpgb::EVERYTHING
                };
                broadcast_pages(hw, what, pages, most);
            }
            // A table may lie below pages' upper levels in every PCID.
            Tables::Freed | Tables::Held => hw.invlpgb(Invlpgb::EVERYTHING),
        }
    }

    /// Returns how many addresses a broadcast may name, if what the kernel maps for itself is flushed so.
    #[inline(always)]
    pub(crate) fn broadcasts_kernel_ranges(&self, hw: &K::Hw) -> Option<NonZeroU16> {
        match self.has_global_ids() {
            true => hw.most_addresses(),
            false => None,
        }
    }
}

/// Broadcasts an invalidation of pages, in as few runs as there may be; of everything, if it is not known of which.
fn broadcast_pages<H: Broadcast>(
    hw: &H,
    what: Invlpgb,
    pages: Option<PageRange>,
    most: NonZeroU16,
) {
    match pages {
        // No page is no broadcast, and walks go on: but where tables are freed, they must not.
        Some(pages) if pages.len_pages > 0 => {
            for run in Strides::over(pages, most) {
                let addresses = Some(run);
                hw.invlpgb(Invlpgb { addresses, ..what });
            }
        }
        _ => hw.invlpgb(what),
    }
}
