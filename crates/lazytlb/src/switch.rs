//! Switching spaces, and entering and leaving lazy TLB mode.

use crate::addr::VirtAddr;
use crate::hw::{Cr3Load, Hw};
use crate::interrupts::InterruptsOff;
use crate::kernel::Kernel;
use crate::mm::{Mm, MmHandle};
use crate::pcids::{Pcid, Pcids};
use crate::per_cpu::PerCpu;
use crate::policy::Policy;
use crate::slots::SlotIndex;
use crate::tlb::Tlb;

/// How a switch came about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Switched {
    /// The space was loaded and in use: nothing happened.
    AlreadyRunning,
    /// The space was loaded lazily, and nothing was missed: no CR3 load.
    ResumedUpToDate,
    /// The space was loaded lazily, and flushes were missed: one CR3 load that flushes.
    ResumedBehind,
    /// Another space was loaded: one CR3 load that flushes.
    Loaded,
    /// Another space was loaded that this CPU has a PCID for, and flushes were missed: one CR3 load that flushes.
    LoadedBehind,
    /// Another space was loaded that this CPU has a PCID for, and nothing was missed: one CR3 load that keeps what is
    /// cached.
    Kept,
}

/// What entering lazy mode did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum EnteredLazy {
    /// The kernel's own space was loaded already.
    InInitMm,
    /// The user space stays loaded, and this CPU is lazy in it.
    StaysLoaded,
    /// This CPU left for the kernel's own space (policy `init-mm`).
    LeftForInitMm,
}

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Switches this CPU to the space `next`, which a task is about to run in.
    ///
    /// If `next` is loaded already, lazily, this leaves lazy mode and catches up on the flushes missed
    /// meanwhile. If this CPU has a PCID for it, what is cached stays unless flushes were missed. Cost: at most one CR3
    /// load; when the space changes, a locked instruction or a fence on the way in and, unless the load kept what is
    /// cached, one on the way out; an INVLPG on the way to init_mm with PCIDs; one fence when lazy mode ends.
    ///
    /// Preemption must be off. Interrupts may be in either state, and are off inside.
    ///
    /// Source: SDM 3A, "Operations that Invalidate TLBs and Paging-Structure Caches", MOV to CR3.
    /// Checked by: programs `reference-3`, `no-table-free`.
    ///
    /// ```
    /// # mod machine { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/machine/mod.rs")); } use machine::*;
    /// use lazytlb::{FlushRange, GarbageWalksAccepted, Policy, Switched, Tables};
    /// let (machine, tlb) = (Machine::default(), boot(Policy::Ipi));
    /// assert_eq!(tlb.switch_mm(&machine, USER), Switched::Loaded);
    /// assert_eq!(tlb.switch_mm(&machine, USER), Switched::AlreadyRunning);
    /// tlb.enter_lazy(&machine);
    /// assert_eq!(tlb.switch_mm(&machine, USER), Switched::ResumedUpToDate);
    /// ```
    pub fn switch_mm(&self, hw: &K::Hw, next: MmHandle) -> Switched {
        let _off = InterruptsOff::new(hw);
        let me = self.kernel.this_cpu(hw);
        let prev = me.loaded_mm(hw);
        if prev == next {
            return self.resume(hw, me, next);
        }
        self.load(hw, me, prev, next)
    }

    /// Says whether user memory may be touched on this CPU now: a user space is loaded and in use, and no switch and no
    /// catching up is under way. For NMI handlers, which may run in the middle of one.
    ///
    /// Cost: two loads. In any context.
    ///
    /// Checked by: program `nmi`.
    pub fn may_touch_user_memory(&self, hw: &K::Hw) -> bool {
        let me = self.kernel.this_cpu(hw);
        me.has_user_space(hw, self.kernel.init_mm()) && !me.is_lazy(hw)
    }

    /// Enters lazy TLB mode: this CPU is about to run a kernel thread, or to idle.
    ///
    /// Under `init-mm` it leaves for the kernel's own space at the cost of a CR3 load and a locked
    /// instruction; under every other policy one locked exchange marks it lazy, and drains what it has
    /// written and nobody can see yet: stores in write-combining buffers included.
    ///
    /// Preemption must be off. Interrupts may be in either state, and are off inside.
    ///
    /// Checked by: programs `reference-3`, `no-table-free`.
    pub fn enter_lazy(&self, hw: &K::Hw) -> EnteredLazy {
        let _off = InterruptsOff::new(hw);
        let me = self.kernel.this_cpu(hw);
        let loaded = me.loaded_mm(hw);
        if loaded == self.kernel.init_mm() {
            return EnteredLazy::InInitMm;
        }
        if self.policy() == Policy::InitMm {
            self.load(hw, me, loaded, self.kernel.init_mm());
            return EnteredLazy::LeftForInitMm;
        }
        // I8. A locked exchange, where a plain store would do for ordinary stores: they drain in order, so
        // whoever sees us lazy sees them too. But non-temporal stores, and those to write-combining memory,
        // leave their buffers in any order, and a flush that skips us interrupts nothing that would drain
        // them. XCHG does (the thread's first danger; SDM 3A, "Buffering of Write Combining Memory
        // Locations").
        me.set_lazy(hw);
        EnteredLazy::StaysLoaded
    }

    /// Uses the loaded space (again), and catches up on the flushes missed in lazy mode.
    fn resume(&self, hw: &K::Hw, me: &PerCpu<K::Hw, WORDS, SLOTS>, handle: MmHandle) -> Switched {
        if !me.is_lazy(hw) {
            return Switched::AlreadyRunning;
        }
        // Not lazy any more, and not caught up yet: an NMI in between would use what was flushed.
        me.set_unusable(hw);
        me.clear_lazy(hw);
        // I4. Store, then load: needs a full fence; pairs with `Mm::bump_tlb_gen`. Either we read the
        // new generation here, or the initiator reads `is_lazy` as clear and interrupts us, or both.
        // Without it:  CPU 1: is_lazy = 0 (buffered)          CPU 0:
        //              CPU 1: reads tlb_gen: 1                tlb_gen = 2; reads is_lazy: 1, skips us
        //              CPU 1: back in user mode with the translation that CPU 0 thinks gone.
        hw.fence();
        let mm = self.kernel.mm(handle);
        let current = mm.tlb_gen(hw);
        let slot = me.slots.current(hw);
        if current == me.slots.flushed_to(hw, slot) {
            me.set_usable(hw, handle);
            return Switched::ResumedUpToDate;
        }
        self.load_root(hw, mm, slot, Cr3Load::Flush);
        me.slots.set_flushed_to(hw, slot, current);
        me.set_usable(hw, handle);
        Switched::ResumedBehind
    }

    /// Replaces the loaded space. Interrupts are off.
    pub(crate) fn load(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        prev: MmHandle,
        next: MmHandle,
    ) -> Switched {
        // I4: visible before the CR3 load, which serializes. Or an initiator in `next` might still take us
        // for lazy, and skip us after we have filled our TLB.
        if me.is_lazy(hw) {
            // Before that, for an NMI that came in between: it would use what was flushed meanwhile.
            me.set_unusable(hw);
            me.clear_lazy(hw);
        }
        me.set_switching(hw);
        let switched = if next == self.kernel.init_mm() {
            self.load_init_mm(hw, me);
            Switched::Loaded
        } else {
            self.load_user(hw, me, self.kernel.mm(next))
        };
        me.set_loaded_mm(hw, next);
        // I2: only now. Before the CR3 load, an initiator that misses our bit would free tables that we
        // can still walk. After one that kept what was cached, a walk that began before may still be under way: the bit
        // stays, until we come back or a flush that frees tables finds us elsewhere.
        if switched != Switched::Kept && prev != self.kernel.init_mm() {
            self.kernel.mm(prev).leave(hw, hw.cpu());
        }
        switched
    }

    /// Loads a user space under the PCID of its slot, and keeps what is cached there if nothing was missed.
    fn load_user(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        next: &Mm<K::Hw, WORDS>,
    ) -> Switched {
        self.enter_cpumask(hw, next);
        // I3: read before the load. What is removed later is not covered by it.
        let current = next.tlb_gen(hw);
        let found = me.slots.find(hw, next.id());
        let slot = found.unwrap_or_else(|| me.slots.recycle(hw, next.id()));
        me.slots.set_current(hw, slot);
        if found.is_some() && me.slots.flushed_to(hw, slot) == current {
            self.load_root(hw, next, slot, Cr3Load::Keep);
            return Switched::Kept;
        }
        self.load_root(hw, next, slot, Cr3Load::Flush);
        me.slots.set_flushed_to(hw, slot, current);
        match found {
            Some(_) => Switched::LoadedBehind,
            None => Switched::Loaded,
        }
    }

    /// Enters the cpumask of the space that is loaded next. A full fence.
    fn enter_cpumask(&self, hw: &K::Hw, next: &Mm<K::Hw, WORDS>) {
        self.assert_in_use(hw.cpu());
        if hw.pcids_are_on() && next.has_joined(hw, hw.cpu()) {
            // I9. The bit is still there from the last time, and so there is nothing to write. But without a fence
            // "switching" waits in the store buffer while the generation is read, and an initiator that raises it in
            // between takes us for elsewhere: Linux 6.14, CVE-2025-40174.
            hw.fence();
        } else {
            next.join(hw, hw.cpu());
        }
    }

    /// Loads the kernel's own space, and leaves the former one for good.
    fn load_init_mm(&self, hw: &K::Hw, me: &PerCpu<K::Hw, WORDS, SLOTS>) {
        let init_mm = self.kernel.mm(self.kernel.init_mm());
        if hw.pcids_are_on() {
            hw.load_cr3_pcid(init_mm.root(), Pcid::KERNEL, Cr3Load::Keep);
            self.end_walks(hw);
        } else {
            hw.load_cr3(init_mm.root(), Cr3Load::Flush);
            // The slot is nobody's now. It does not matter what it says, but that it says the same each time.
            let slot = me.slots.current(hw);
            me.slots.set_flushed_to(hw, slot, init_mm.tlb_gen(hw));
        }
    }

    /// Ends every walk that began before the last CR3 load, if that kept what was cached (H12a).
    ///
    /// Any invalidation does. INVLPG costs the upper levels that are cached of the loaded space, too, and exists on
    /// every CPU.
    pub(crate) fn end_walks(&self, hw: &K::Hw) {
        hw.invlpg(VirtAddr(0));
    }

    /// Loads CR3 with a user space's root, under the PCID of its slot if there are PCIDs.
    pub(crate) fn load_root(
        &self,
        hw: &K::Hw,
        mm: &Mm<K::Hw, WORDS>,
        slot: SlotIndex,
        load: Cr3Load,
    ) {
        if hw.pcids_are_on() {
            hw.load_cr3_pcid(mm.root(), slot.pcid(), load);
        } else {
            hw.load_cr3(mm.root(), Cr3Load::Flush);
        }
    }
}
