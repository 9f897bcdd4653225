//! Switching spaces, and entering and leaving lazy TLB mode.

use crate::addr::VirtAddr;
use crate::hw::{Cr3Load, Hw};
use crate::interrupts::InterruptsOff;
use crate::kernel::Kernel;
use crate::mm::{Mm, MmHandle, TlbGen};
use crate::pcids::{Pcid, Pcids};
use crate::per_cpu::PerCpu;
use crate::policy::Policy;
use crate::slots::{Halves, SlotIndex};
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
    /// The space is retired: this CPU has left for the kernel's own space.
    Retired,
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
            return match me.is_lazy(hw) {
                false => Switched::AlreadyRunning,
                true => self.resume(hw, me, next),
            };
        }
        if next == self.kernel.init_mm() {
            self.leave_for_init_mm(hw, me, prev);
            return Switched::Loaded;
        }
        self.begin_switch(hw, me);
        match hw.pcids_are_on() {
            true => self.load_user_with_pcid(hw, me, next),
            false => self.load_user(hw, me, prev, next),
        }
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
            self.leave_for_init_mm(hw, me, loaded);
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

    /// Uses the loaded space again, and catches up on the flushes missed in lazy mode.
    fn resume(&self, hw: &K::Hw, me: &PerCpu<K::Hw, WORDS, SLOTS>, handle: MmHandle) -> Switched {
        // Not lazy any more, and not caught up yet: an NMI in between would use what was flushed.
        me.set_unusable(hw);
        me.clear_lazy(hw);
        // I4, I17. Store, then load: needs a full fence; pairs with `Mm::bump_tlb_gen`. Either we read the
        // new generation here, or the initiator reads `is_lazy` as clear and interrupts us, or both.
        // Without it:  CPU 1: is_lazy = 0 (buffered)          CPU 0:
        //              CPU 1: reads tlb_gen: 1                tlb_gen = 2; reads is_lazy: 1, skips us
        //              CPU 1: back in user mode with the translation that CPU 0 thinks gone.
        hw.fence();
        let mm = self.kernel.mm(handle);
        if let Some(global) = self.global_of(hw, mm) {
            return self.resume_global(hw, me, handle, global.id);
        }
        let current = mm.tlb_gen(hw);
        let slot = me.slots.current(hw);
        if current == me.slots.flushed_to(hw, slot) {
            me.set_usable(hw, handle);
            return Switched::ResumedUpToDate;
        }
        self.resume_behind(hw, me, handle, slot, current)
    }

    /// Catches up on the flushes missed in lazy mode, and uses the loaded space. Not inlined: who has missed nothing shall
    /// not pay for its registers.
    #[inline(never)]
    fn resume_behind(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        handle: MmHandle,
        slot: SlotIndex,
        current: TlbGen,
    ) -> Switched {
        let mm = self.kernel.mm(handle);
        if mm.is_retired(hw) {
            self.leave_for_init_mm(hw, me, handle);
            return Switched::Retired;
        }
        self.load_root(hw, me, mm, slot, Cr3Load::Flush);
        me.slots.set_flushed_to(hw, slot, current);
        me.set_usable(hw, handle);
        Switched::ResumedBehind
    }

    /// Begins to replace the loaded space. Interrupts are off.
    #[inline(always)]
    fn begin_switch(&self, hw: &K::Hw, me: &PerCpu<K::Hw, WORDS, SLOTS>) {
        // I4: visible before the CR3 load, which serializes. Or an initiator in the next space might still take us
        // for lazy, and skip us after we have filled our TLB.
        if me.is_lazy(hw) {
            // Before that, for an NMI that came in between: it would use what was flushed meanwhile.
            me.set_unusable(hw);
            me.clear_lazy(hw);
        }
        me.set_switching(hw);
    }

    /// Leaves the loaded space for the kernel's own. Interrupts are off. Not inlined: a switch to a user space
    /// shall not pay for its registers.
    #[inline(never)]
    pub(crate) fn leave_for_init_mm(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        prev: MmHandle,
    ) {
        self.begin_switch(hw, me);
        self.load_init_mm(hw, me, prev);
    }

    /// Loads a user space without PCIDs: with a flush.
    fn load_user(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        prev: MmHandle,
        next: MmHandle,
    ) -> Switched {
        self.assert_in_use(hw.cpu());
        let mm = self.kernel.mm(next);
        mm.join(hw, hw.cpu());
        // I3: read before the load. What is removed later is not covered by it.
        let current = mm.tlb_gen(hw);
        if mm.is_retired(hw) {
            mm.leave(hw, hw.cpu());
            self.load_init_mm(hw, me, prev);
            return Switched::Retired;
        }
        let slot = me.slots.current(hw);
        self.load_root(hw, me, mm, slot, Cr3Load::Flush);
        me.slots.set_flushed_to(hw, slot, current);
        me.set_loaded_mm(hw, next);
        // I2: only now. Before the CR3 load, an initiator that misses our bit would free tables that we can still walk.
        if prev != self.kernel.init_mm() {
            self.leave(hw, Some(prev));
        }
        Switched::Loaded
    }

    /// Loads a user space under the PCID of its slot, and keeps what is cached there if nothing was missed.
    #[inline(always)]
    fn load_user_with_pcid(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        next: MmHandle,
    ) -> Switched {
        let mm = self.kernel.mm(next);
        let found = me.slots.find(hw, mm.id());
        self.enter_cpumask(hw, me, found, next, mm);
        // I17: read after that, as the generation is.
        if let Some(global) = self.global_of(hw, mm) {
            return self.load_global(hw, me, next, found, global.id);
        }
        // I3, as above.
        let current = mm.tlb_gen(hw);
        if let Some(slot) = found
            && me.slots.flushed_to(hw, slot) == current
            && !me.slots.due(hw, slot).contain(Halves::KERNEL)
        {
            me.slots.set_current(hw, slot);
            self.load_root(hw, me, mm, slot, Cr3Load::Keep);
            // I2. A walk of the former space that began before may still be under way: the bit there stays, until this
            // CPU comes back, or is interrupted and behind in it.
            self.set_loaded(hw, me, next, None);
            return Switched::Kept;
        }
        match found {
            Some(slot) => self.load_behind(hw, me, next, slot, current),
            None => self.load_anew(hw, me, next, current),
        }
    }

    /// Loads a space that this CPU has a PCID for, and has missed flushes of. Not inlined: who has missed nothing shall not pay
    /// for its registers.
    #[inline(never)]
    fn load_behind(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        next: MmHandle,
        slot: SlotIndex,
        current: TlbGen,
    ) -> Switched {
        self.load_flushing(hw, me, next, Some(slot), current)
    }

    /// Loads a space that gets another's PCID.
    #[inline(never)]
    fn load_anew(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        next: MmHandle,
        current: TlbGen,
    ) -> Switched {
        self.load_flushing(hw, me, next, None, current)
    }

    /// Loads a space under a PCID, with a flush, after its cpumask was entered.
    #[inline(always)]
    fn load_flushing(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        next: MmHandle,
        found: Option<SlotIndex>,
        current: TlbGen,
    ) -> Switched {
        let mm = self.kernel.mm(next);
        if mm.is_retired(hw) {
            return self.turn_back(hw, me, found, next);
        }
        let former = me.slots.current(hw);
        let slot = found.unwrap_or_else(|| me.slots.recycle(hw, mm.id()));
        if found.is_none() && self.has_global_ids() {
            me.slots.set_global(hw, slot, None);
        }
        me.slots.set_current(hw, slot);
        self.load_root(hw, me, mm, slot, Cr3Load::Flush);
        me.slots.set_flushed_to(hw, slot, current);
        self.set_loaded(hw, me, next, None);
        self.leave_former(hw, me, next, found, slot, former);
        match found {
            Some(_) => Switched::LoadedBehind,
            None => Switched::Loaded,
        }
    }

    /// Leaves a retired space that this CPU was just coming to, after its cpumask was entered.
    #[inline(always)]
    pub(crate) fn turn_back(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        found: Option<SlotIndex>,
        next: MmHandle,
    ) -> Switched {
        if let Some(slot) = found {
            me.slots.set_joined(hw, slot, None);
        }
        self.kernel.mm(next).leave(hw, hw.cpu());
        self.load_init_mm(hw, me, next);
        Switched::Retired
    }

    /// Leaves the cpumasks of the space whose slot another one got, and of the one that was loaded, once that other one is loaded and something
    /// was invalidated since (I2).
    #[inline(always)]
    pub(crate) fn leave_former(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        next: MmHandle,
        found: Option<SlotIndex>,
        slot: SlotIndex,
        former: SlotIndex,
    ) {
        if found.is_none() {
            let replaced = me.slots.joined(hw, slot);
            me.slots.set_joined(hw, slot, Some(next));
            self.leave(hw, replaced);
        }
        if former != slot {
            let left = me.slots.joined(hw, former);
            me.slots.set_joined(hw, former, None);
            self.leave(hw, left);
        }
    }

    /// Enters the cpumask of the space that is loaded next. A full fence.
    #[inline(always)]
    fn enter_cpumask(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        found: Option<SlotIndex>,
        handle: MmHandle,
        mm: &Mm<K::Hw, WORDS>,
    ) {
        let Some(slot) = found else {
            self.assert_in_use(hw.cpu());
            mm.join(hw, hw.cpu());
            return;
        };
        // It has been here before, so its number is in use.
        if me.slots.joined(hw, slot).is_some() {
            // I9. The bit is still there from the last time, and so there is nothing to write. But without a fence
            // "switching" waits in the store buffer while the generation is read, and an initiator that raises it in
            // between takes us for elsewhere: Linux 6.14, CVE-2025-40174.
            hw.fence();
        } else {
            mm.join(hw, hw.cpu());
            me.slots.set_joined(hw, slot, Some(handle));
        }
    }

    /// Leaves a cpumask: the last access to the space, which may go then.
    fn leave(&self, hw: &K::Hw, mm: Option<MmHandle>) {
        if let Some(mm) = mm {
            self.kernel.mm(mm).leave(hw, hw.cpu());
        }
    }

    /// Loads the kernel's own space, and leaves every other one for good.
    #[inline(never)]
    fn load_init_mm(&self, hw: &K::Hw, me: &PerCpu<K::Hw, WORDS, SLOTS>, prev: MmHandle) {
        let handle = self.kernel.init_mm();
        let init_mm = self.kernel.mm(handle);
        if hw.pcids_are_on() {
            let load = match me.slots.is_kernel_due(hw) {
                true => Cr3Load::Flush,
                false => Cr3Load::Keep,
            };
            hw.load_cr3_pcid(init_mm.root(), Pcid::KERNEL, load);
            if load == Cr3Load::Flush {
                me.slots.set_kernel_due(hw, false);
            }
            self.set_loaded(hw, me, handle, None);
            self.leave_spaces(hw, me, |_, _| true);
            return;
        }
        hw.load_cr3(init_mm.root(), Cr3Load::Flush);
        // The slot is nobody's now. It does not matter what it says, but that it says the same each time.
        let slot = me.slots.current(hw);
        me.slots.set_flushed_to(hw, slot, init_mm.tlb_gen(hw));
        me.set_loaded_mm(hw, handle);
        if prev != handle {
            self.leave(hw, Some(prev));
        }
    }

    /// Ends what walks may be under way of spaces that this CPU has kept something of, and leaves the cpumasks of those that
    /// are chosen among them, but never that of the loaded one. Returns how many there were. Interrupts are off; with PCIDs only.
    #[inline(always)]
    pub(crate) fn leave_spaces(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        chosen: impl Fn(SlotIndex, &Mm<K::Hw, WORDS>) -> bool,
    ) -> u32 {
        let loaded = me.loaded_mm(hw);
        let mut left = 0;
        me.slots.for_each_joined(hw, |slot, handle| {
            if handle != loaded {
                left += self.leave_space(hw, me, slot, handle, left, &chosen);
            }
        });
        left
    }

    /// Leaves one of them if it is chosen, after so many others; returns how many that were. Not inlined: most CPUs have kept nothing of any.
    #[inline(never)]
    fn leave_space(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        slot: SlotIndex,
        handle: MmHandle,
        left: u32,
        chosen: &impl Fn(SlotIndex, &Mm<K::Hw, WORDS>) -> bool,
    ) -> u32 {
        let mm = self.kernel.mm(handle);
        if !chosen(slot, mm) {
            return 0;
        }
        if left == 0 {
            self.end_walks(hw);
        }
        me.slots.set_joined(hw, slot, None);
        mm.leave(hw, hw.cpu());
        1
    }

    /// Ends every walk that began before the last CR3 load, if that kept what was cached (H12a).
    ///
    /// Any invalidation does. INVLPG costs the upper levels that are cached of the loaded space, too, and exists on
    /// every CPU.
    pub(crate) fn end_walks(&self, hw: &K::Hw) {
        hw.invlpg(VirtAddr(0));
    }

    /// Loads CR3 with the root of a user space without a global id, under the PCID of its slot if there are PCIDs. With page-table isolation it is
    /// that of the kernel half; if this one is flushed, the user half is when this CPU returns to it. After a flush, it walks nothing that
    /// was removed (I11).
    #[inline(always)]
    pub(crate) fn load_root(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        mm: &Mm<K::Hw, WORDS>,
        slot: SlotIndex,
        load: Cr3Load,
    ) {
        if !hw.pcids_are_on() {
            hw.load_cr3(mm.root(), Cr3Load::Flush);
            self.walks_nothing_removed(hw, mm);
            return;
        }
        hw.load_cr3_pcid(mm.root(), slot.pcid(), load);
        if load == Cr3Load::Flush {
            self.walks_nothing_removed(hw, mm);
            let due = match mm.user_root() {
                Some(_) => Halves::USER,
                None => Halves::NONE,
            };
            me.slots.set_due(hw, slot, due);
        }
    }
}
