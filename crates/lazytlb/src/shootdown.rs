//! Flushing: the initiator's side, the interrupt handler, and the end of a space.
//!
//! ```text
//! initiator                                target
//! page tables changed
//! tlb_gen += 1            (full fence)
//! read cpumask, is_lazy: choose targets
//! write request, unacknowledged
//! target's inbox |= me    (full fence)
//! IPI  ─────────────────────────────────▶  take inbox
//! flush own TLB                            read request; invalidate; flushed_to = gen
//! wait until unacknowledged = 0  ◀───────  initiator's unacknowledged &= !me
//! ```

use crate::addr::{FlushRange, PageRange};
use crate::cpu_set::CpuSet;
use crate::hw::{Cr3Load, Hw, Interrupts};
use crate::interrupts::InterruptsOff;
use crate::kernel::Kernel;
use crate::mm::{Mm, MmHandle};
use crate::per_cpu::{PerCpu, Request};
use crate::policy::LazyTargets;
pub use crate::policy::Tables;
use crate::tlb::Tlb;

/// What serving one request did on one CPU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Served {
    /// Another space is loaded: nothing to invalidate.
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

impl<K: Kernel<WORDS>, const WORDS: usize> Tlb<K, WORDS> {
    /// Flushes `range` of the space `mm` on every CPU that may use it.
    ///
    /// The page-table changes must be written before. When it returns, no CPU uses a translation that
    /// they removed; with [`Tables::Freed`], no CPU can walk a table that they unhooked, except lazy ones under
    /// [`crate::Policy::Defer`] and, where no erratum is detected, [`crate::Policy::DeferUnlessQuirk`].
    /// [`Tlb::gather`] is the safer way to free.
    ///
    /// Cost: one locked instruction, one load and one locked instruction a target, one IPI to all
    /// targets, and a wait until each has acknowledged.
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
        let lazy = self.policy().lazy_targets(hw.quirks(), tables);
        self.shoot_down(hw, self.kernel.mm(mm), range, lazy)
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
        let mm = self.kernel.mm(mm);
        let report = self.shoot_down(hw, mm, FlushRange::All, LazyTargets::Interrupt);
        assert!(
            mm.cpumask(hw).is_empty(),
            "a CPU still runs in the space that is retired"
        );
        report
    }

    /// Serves every request that waits for this CPU: the body of the flush interrupt's handler.
    ///
    /// Cost: a locked instruction for each word of CPUs, one for each request, and at most one CR3
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
        let (cpu, mut done) = (hw.cpu(), Interrupted::default());
        let me = self.kernel.per_cpu(cpu);
        for word in 0..WORDS {
            for initiator in me.take_inbox(hw, word) {
                let initiator = self.kernel.per_cpu(initiator);
                let request = initiator.request(hw);
                done.count(self.serve(hw, me, request));
                // Only now: the initiator takes it for "that CPU uses nothing of this any more".
                initiator.acknowledge(hw, cpu);
            }
        }
        done
    }

    fn shoot_down(
        &self,
        hw: &K::Hw,
        mm: &Mm<K::Hw, WORDS>,
        range: FlushRange,
        lazy: LazyTargets,
    ) -> Flushed {
        assert!(
            hw.interrupts() == Interrupts::Enabled,
            "a flush waits for other CPUs: interrupts must be enabled"
        );
        let me = self.kernel.per_cpu(hw.cpu());
        let request = Request {
            mm: mm.id(),
            new_gen: mm.bump_tlb_gen(hw),
            range,
        };
        let (targets, lazy_skipped) = self.choose_targets(hw, mm, lazy);
        if !targets.is_empty() {
            me.post(hw, request, &targets);
            for target in targets.iter() {
                self.kernel.per_cpu(target).notify(hw, hw.cpu());
            }
            hw.send_ipi(&targets);
        }
        // The handler shares this CPU's words; it must not come in between.
        let off = InterruptsOff::new(hw);
        let local = self.serve(hw, me, request);
        drop(off);
        me.wait_for_acknowledgements(hw, &targets);
        Flushed {
            interrupted: targets.len(),
            lazy_skipped,
            local,
        }
    }

    /// Chooses whom to interrupt, after the generation was raised: whoever is not chosen either caches
    /// nothing of the space, or will see the raised generation before it uses it.
    fn choose_targets(
        &self,
        hw: &K::Hw,
        mm: &Mm<K::Hw, WORDS>,
        lazy: LazyTargets,
    ) -> (CpuSet<WORDS>, u32) {
        let (mut targets, mut lazy_skipped) = (CpuSet::EMPTY, 0);
        for cpu in mm.cpumask(hw).iter().filter(|&cpu| cpu != hw.cpu()) {
            if lazy == LazyTargets::Skip && self.kernel.per_cpu(cpu).is_lazy(hw) {
                lazy_skipped += 1;
            } else {
                targets.insert(cpu);
            }
        }
        (targets, lazy_skipped)
    }

    /// Does on this CPU what a request asks for. Interrupts are off.
    fn serve(&self, hw: &K::Hw, me: &PerCpu<K::Hw, WORDS>, request: Request) -> Served {
        let loaded = me.loaded_mm(hw);
        let mm = self.kernel.mm(loaded);
        if mm.id() != request.mm {
            return Served::OtherSpace;
        }
        if me.is_lazy(hw) {
            // Leaving costs as much as a flush, and spares the next interrupt.
            self.load(hw, me, loaded, self.kernel.init_mm());
            return Served::LeftForInitMm;
        }
        let flushed_to = me.flushed_to(hw);
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
                me.set_flushed_to(hw, current);
                Served::InvalidatedPages
            }
            _ => {
                hw.load_cr3(mm.root(), Cr3Load::Flush);
                me.set_flushed_to(hw, current);
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
