//! Flushing: the initiator's side, the interrupt handler, and the end of a space.
//!
//! ```text
//! initiator                                target
//! page tables changed
//! tlb_gen += 1            (full fence)
//! read cpumask, whereabouts, is_lazy: choose targets
//! write request, unacknowledged
//! target's inbox |= me    (full fence)
//! IPI  ─────────────────────────────────▶  take inbox
//! flush own TLB                            read request; invalidate; flushed_to = gen
//! wait until unacknowledged = 0  ◀───────  initiator's unacknowledged &= !me
//! ```

use crate::addr::{FlushRange, PageRange};
use crate::cpu_set::{CpuId, CpuSet, members_of_word};
use crate::hw::{Cr3Load, Hw, Interrupts};
use crate::interrupts::InterruptsOff;
use crate::kernel::Kernel;
use crate::mm::{Mm, MmHandle};
use crate::pcids::{Pcid, Pcids};
use crate::per_cpu::{PerCpu, Request, Whereabouts};
use crate::policy::LazyTargets;
pub use crate::policy::Tables;
use crate::tlb::Tlb;

/// What serving one request did on one CPU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Served {
    /// Another space is loaded: nothing to invalidate. With PCIDs, a CPU that was still in the cpumask ended its walks
    /// with one INVLPG, and left it.
    OtherSpace,
    /// The space was loaded lazily: the CPU left for init_mm with one CR3 load.
    LeftForInitMm,
    /// The CPU had flushed that far already.
    UpToDate,
    /// The pages of the range were invalidated one by one.
    InvalidatedPages,
    /// Everything of the space was invalidated with one CR3 load.
    FlushedAll,
}

/// What a flush did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Flushed {
    /// CPUs that were sent the interrupt and have acknowledged.
    pub interrupted: u32,
    /// Lazy CPUs that the policy spared; they catch up when they come back.
    pub lazy_skipped: u32,
    /// What it did on this CPU.
    pub local: Served,
}

/// What one run of the interrupt handler did: how many requests ended in which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Interrupted {
    /// Requests that ended in [`Served::OtherSpace`].
    pub other_space: u32,
    /// Requests that ended in [`Served::LeftForInitMm`].
    pub left_for_init_mm: u32,
    /// Requests that ended in [`Served::UpToDate`].
    pub up_to_date: u32,
    /// Requests that ended in [`Served::InvalidatedPages`].
    pub invalidated_pages: u32,
    /// Requests that ended in [`Served::FlushedAll`].
    pub flushed_all: u32,
}

impl Interrupted {
    fn count(&mut self, served: Served) {
        *match served {
            Served::OtherSpace => &mut self.other_space,
            Served::LeftForInitMm => &mut self.left_for_init_mm,
            Served::UpToDate => &mut self.up_to_date,
            Served::InvalidatedPages => &mut self.invalidated_pages,
            Served::FlushedAll => &mut self.flushed_all,
        } += 1;
    }
}

/// What a shootdown is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Occasion {
    Flush,
    EndOfSpace,
}

/// Whom a flush interrupts.
struct Chosen<const WORDS: usize> {
    targets: CpuSet<WORDS>,
    /// How many they are.
    count: u32,
    /// Lazy CPUs that the policy spares.
    lazy_skipped: u32,
}

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Flushes `range` of the space `mm` on every CPU that may use it.
    ///
    /// The page-table changes must be written before. When it returns, no CPU uses a translation that
    /// they removed; with [`Tables::Freed`], no CPU can walk a table that they unhooked, except lazy ones under
    /// [`crate::Policy::Defer`] and, where no erratum is detected, [`crate::Policy::DeferUnlessQuirk`].
    /// [`Tlb::gather`] is the safer way to free.
    ///
    /// Cost: one locked instruction, two loads and one locked instruction a target, one IPI to all
    /// targets, and a wait until each has acknowledged. With PCIDs, CPUs that have gone on to another space are spared,
    /// unless tables are freed: then each is interrupted once.
    ///
    /// Interrupts must be enabled, preemption off; no lock may be held that an interrupt handler takes,
    /// or that a CPU holds which waits with interrupts off.
    ///
    /// # Panics
    /// If interrupts are disabled: two initiators would wait for each other for ever.
    ///
    /// Source: SDM 3A, "Propagation of Paging-Structure Changes to Multiple Processors".
    /// Checked by: every program.
    ///
    /// ```
    /// # mod machine { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/machine/mod.rs")); } use machine::*;
    /// use lazytlb::{FlushRange, Policy, Served, Tables, VirtAddr};
    /// let (machine, tlb) = (Machine::default(), boot(Policy::Ipi));
    /// tlb.switch_mm(&machine, USER);
    /// let report = tlb.flush(&machine, USER, FlushRange::page(VirtAddr(0x1000)), Tables::Kept);
    /// assert_eq!(report.local, Served::InvalidatedPages);
    /// ```
    pub fn flush(&self, hw: &K::Hw, mm: MmHandle, range: FlushRange, tables: Tables) -> Flushed {
        self.shoot_down(hw, mm, range, tables, Occasion::Flush)
    }

    /// Ends a space: makes every CPU that has it loaded lazily leave for init_mm, whatever the policy.
    ///
    /// No task may run in it any more, on this CPU neither (this CPU may be lazy in it). When this
    /// returns, the root and all tables may be freed, and the handle is dead. No reference count keeps a
    /// space alive for lazy CPUs. Cost: as [`Tlb::flush`], with an IPI to each lazy CPU.
    ///
    /// # Panics
    /// If interrupts are disabled, or if a CPU still runs in the space.
    ///
    /// Checked by: program `exit`.
    pub fn retire(&self, hw: &K::Hw, mm: MmHandle) -> Flushed {
        let (range, occasion) = (FlushRange::All, Occasion::EndOfSpace);
        let report = self.shoot_down(hw, mm, range, Tables::Freed, occasion);
        if hw.pcids_are_on() {
            self.trim_cpus_in_init_mm(hw, mm);
        }
        assert!(
            self.kernel.mm(mm).cpumask(hw).is_empty(),
            "a CPU still runs in the space that is retired"
        );
        report
    }

    /// Serves every request that waits for this CPU: the body of the flush interrupt's handler.
    ///
    /// Cost: a locked instruction for each word of CPUs in use ([`Kernel::cpu_words`]), one for each request, and at most one CR3
    /// load or [`Tlb::single_page_ceiling`] INVLPGs for each; one more where a lazy CPU leaves the space.
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
        let mut done = Interrupted::default();
        for word in 0..self.cpu_words() {
            for initiator in me.take_inbox(hw, word) {
                self.serve_initiator(hw, me, initiator, &mut done);
            }
        }
        done
    }

    /// Serves the request of an initiator whose bit was in the inbox. Interrupts are off. Not inlined, so that a look at
    /// a word without one costs four instructions.
    #[inline(never)]
    fn serve_initiator(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        initiator: CpuId,
        done: &mut Interrupted,
    ) {
        let initiator = self.kernel.per_cpu(initiator);
        let request = initiator.request(hw);
        let served = self.serve(hw, me, request);
        if served == Served::OtherSpace && hw.pcids_are_on() {
            self.leave_behind(hw, self.kernel.mm(initiator.requested_mm(hw)));
        }
        done.count(served);
        // Only now: the initiator takes it for "that CPU uses nothing of this any more".
        initiator.acknowledge(hw, hw.cpu());
    }

    fn shoot_down(
        &self,
        hw: &K::Hw,
        handle: MmHandle,
        range: FlushRange,
        tables: Tables,
        occasion: Occasion,
    ) -> Flushed {
        assert!(
            hw.interrupts() == Interrupts::Enabled,
            "a flush waits for other CPUs: interrupts must be enabled"
        );
        let (me, mm) = (self.kernel.this_cpu(hw), self.kernel.mm(handle));
        let request = Request {
            mm: mm.id(),
            new_gen: mm.bump_tlb_gen(hw),
            range,
        };
        let chosen = self.choose_targets(hw, handle, mm, tables, occasion);
        if chosen.count > 0 {
            self.interrupt(hw, me, handle, request, &chosen.targets);
        }
        // The handler shares this CPU's words; it must not come in between.
        let off = InterruptsOff::new(hw);
        let local = self.serve(hw, me, request);
        if local == Served::OtherSpace && tables == Tables::Freed && hw.pcids_are_on() {
            self.leave_behind(hw, mm);
        }
        drop(off);
        if chosen.count > 0 {
            me.wait_for_acknowledgements(hw, &chosen.targets);
        }
        Flushed {
            interrupted: chosen.count,
            lazy_skipped: chosen.lazy_skipped,
            local,
        }
    }

    /// Sends a request to its targets. Not inlined: most flushes find none, and shall not pay for this one's registers.
    #[inline(never)]
    fn interrupt(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        mm: MmHandle,
        request: Request,
        targets: &CpuSet<WORDS>,
    ) {
        self.assert_in_use(hw.cpu());
        me.post(hw, mm, request, targets);
        for target in targets.iter() {
            self.kernel.per_cpu(target).notify(hw, hw.cpu());
        }
        hw.send_ipi(targets);
    }

    /// Chooses whom to interrupt, after the generation was raised: whoever is not chosen either caches
    /// nothing of the space, or will see the raised generation before it uses it.
    fn choose_targets(
        &self,
        hw: &K::Hw,
        handle: MmHandle,
        mm: &Mm<K::Hw, WORDS>,
        tables: Tables,
        occasion: Occasion,
    ) -> Chosen<WORDS> {
        let mut chosen = Chosen {
            targets: CpuSet::EMPTY,
            count: 0,
            lazy_skipped: 0,
        };
        let this_cpu = hw.cpu();
        for word in 0..self.cpu_words() {
            let members = mm.cpumask_word(hw, word);
            if members == 0 {
                continue;
            }
            let others = members_of_word(word, members).filter(|&cpu| cpu != this_cpu);
            for cpu in others {
                self.choose(hw, handle, cpu, tables, occasion, &mut chosen);
            }
        }
        chosen
    }

    /// Chooses whether to interrupt a CPU of the cpumask. Not inlined, for the same reason.
    #[inline(never)]
    fn choose(
        &self,
        hw: &K::Hw,
        mm: MmHandle,
        cpu: CpuId,
        tables: Tables,
        occasion: Occasion,
        chosen: &mut Chosen<WORDS>,
    ) {
        let other = self.kernel.per_cpu(cpu);
        match other.whereabouts(hw, mm, self.kernel.init_mm()) {
            Whereabouts::InInitMm => {}
            // It catches up when it comes back. But a walk that began before it left may still be under way.
            Whereabouts::Elsewhere if tables == Tables::Kept => {}
            Whereabouts::Inside
                if self.lazy_targets(hw, tables, occasion) == LazyTargets::Skip
                    && other.is_lazy(hw) =>
            {
                chosen.lazy_skipped += 1;
            }
            Whereabouts::Inside | Whereabouts::Elsewhere => {
                chosen.targets.insert(cpu);
                chosen.count += 1;
            }
        }
    }

    /// Says what a flush does about lazy targets. Asked for each: most flushes have none.
    fn lazy_targets(&self, hw: &K::Hw, tables: Tables, occasion: Occasion) -> LazyTargets {
        match occasion {
            Occasion::Flush => self.policy().lazy_targets(hw.quirks(), tables),
            Occasion::EndOfSpace => LazyTargets::Interrupt,
        }
    }

    /// Removes the CPUs that are in init_mm from the cpumask of a space that nobody comes to any more.
    fn trim_cpus_in_init_mm(&self, hw: &K::Hw, mm: MmHandle) {
        let (init_mm, ended) = (self.kernel.init_mm(), self.kernel.mm(mm));
        for cpu in ended.cpumask(hw).iter() {
            let whereabouts = self.kernel.per_cpu(cpu).whereabouts(hw, mm, init_mm);
            if whereabouts == Whereabouts::InInitMm {
                ended.leave(hw, cpu);
            }
        }
    }

    /// Ends what walks of a space may be under way on this CPU, which has another one loaded, and leaves its cpumask.
    /// Interrupts are off.
    fn leave_behind(&self, hw: &K::Hw, mm: &Mm<K::Hw, WORDS>) {
        if mm.has_joined(hw, hw.cpu()) {
            self.end_walks(hw);
            mm.leave(hw, hw.cpu());
        }
    }

    /// Does on this CPU what a request asks for. Interrupts are off.
    #[inline(always)]
    fn serve(&self, hw: &K::Hw, me: &PerCpu<K::Hw, WORDS, SLOTS>, request: Request) -> Served {
        let loaded = me.loaded_mm(hw);
        let mm = self.kernel.mm(loaded);
        if mm.id() != request.mm {
            return Served::OtherSpace;
        }
        if hw.pcids_are_on() && loaded == self.kernel.init_mm() {
            // No slot is its own: the current one is that of the user space before.
            hw.load_cr3_pcid(mm.root(), Pcid::KERNEL, Cr3Load::Flush);
            return Served::FlushedAll;
        }
        if me.is_lazy(hw) {
            // Leaving costs as much as a flush, and spares the next interrupt.
            self.load(hw, me, loaded, self.kernel.init_mm());
            return Served::LeftForInitMm;
        }
        let slot = me.slots.current(hw);
        let flushed_to = me.slots.flushed_to(hw, slot);
        if flushed_to >= request.new_gen {
            return Served::UpToDate;
        }
        // I3: read before the invalidation. What is removed later is not covered by it.
        let current = mm.tlb_gen(hw);
        match self.single_pages(request.range) {
            // Exactly the next generation: a skipped one would be lost. The newest one: if there are
            // more, one full flush serves them all.
            Some(range) if request.new_gen == flushed_to.next() && current == request.new_gen => {
                range.pages().for_each(|page| hw.invlpg(page));
                me.slots.set_flushed_to(hw, slot, current);
                Served::InvalidatedPages
            }
            _ => {
                self.load_root(hw, mm, slot, Cr3Load::Flush);
                me.slots.set_flushed_to(hw, slot, current);
                Served::FlushedAll
            }
        }
    }

    /// Returns the pages to invalidate one by one, or `None` where a full flush is cheaper.
    fn single_pages(&self, range: FlushRange) -> Option<PageRange> {
        match range {
            FlushRange::Pages(range)
                if range.len_pages <= u64::from(self.single_page_ceiling()) =>
            {
                Some(range)
            }
            _ => None,
        }
    }
}
