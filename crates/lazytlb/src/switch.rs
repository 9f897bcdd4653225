//! Switching spaces, and entering and leaving lazy TLB mode.

use crate::hw::{Cr3Load, Hw};
use crate::interrupts::InterruptsOff;
use crate::kernel::Kernel;
use crate::mm::MmHandle;
use crate::per_cpu::PerCpu;
use crate::policy::Policy;
use crate::tlb::Tlb;

/// How a switch came about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Switched {
    /// The space was loaded and in use: nothing happened.
    AlreadyRunning,
    /// The space was loaded lazily, and nothing was missed: no CR3 load.
    ResumedUpToDate,
    /// The space was loaded lazily, and flushes were missed: one CR3 load that flushes.
    ResumedBehind,
    /// Another space was loaded: one CR3 load that flushes.
    Loaded,
}

/// What entering lazy mode did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EnteredLazy {
    /// The kernel's own space was loaded already.
    InInitMm,
    /// The user space stays loaded, and this CPU is lazy in it.
    StaysLoaded,
    /// This CPU left for the kernel's own space (policy `init-mm`).
    LeftForInitMm,
}

impl<K: Kernel<WORDS>, const WORDS: usize> Tlb<K, WORDS> {
    /// Switches this CPU to the space `next`, which a task is about to run in.
    ///
    /// If `next` is loaded already, lazily, this leaves lazy mode and catches up on the flushes missed
    /// meanwhile. Cost: at most one CR3 load; two locked instructions when the space changes, one
    /// fence when lazy mode ends.
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
        let me = self.kernel.per_cpu(hw.cpu());
        let prev = me.loaded_mm(hw);
        if prev == next {
            return self.resume(hw, me, next);
        }
        self.load(hw, me, prev, next);
        Switched::Loaded
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
        let me = self.kernel.per_cpu(hw.cpu());
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

    /// Uses the loaded space `mm` (again), and catches up on the flushes missed in lazy mode.
    fn resume(&self, hw: &K::Hw, me: &PerCpu<K::Hw, WORDS>, mm: MmHandle) -> Switched {
        if !me.is_lazy(hw) {
            return Switched::AlreadyRunning;
        }
        me.clear_lazy(hw);
        // I4. Store, then load: needs a full fence; pairs with `Mm::bump_tlb_gen`. Either we read the
        // new generation here, or the initiator reads `is_lazy` as clear and interrupts us, or both.
        // Without it:  CPU 1: is_lazy = 0 (buffered)          CPU 0:
        //              CPU 1: reads tlb_gen: 1                tlb_gen = 2; reads is_lazy: 1, skips us
        //              CPU 1: back in user mode with the translation that CPU 0 thinks gone.
        hw.fence();
        let mm = self.kernel.mm(mm);
        let current = mm.tlb_gen(hw);
        if current == me.flushed_to(hw) {
            return Switched::ResumedUpToDate;
        }
        hw.load_cr3(mm.root(), Cr3Load::Flush);
        me.set_flushed_to(hw, current);
        Switched::ResumedBehind
    }

    /// Replaces the loaded space. Interrupts are off.
    pub(crate) fn load(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS>,
        prev: MmHandle,
        next: MmHandle,
    ) {
        let init_mm = self.kernel.init_mm();
        let (cpu, next_mm) = (hw.cpu(), self.kernel.mm(next));
        // I4: visible before the CR3 load, which serializes. Or an initiator in `next` might still take us
        // for lazy, and skip us after we have filled our TLB.
        if me.is_lazy(hw) {
            me.clear_lazy(hw);
        }
        if next != init_mm {
            next_mm.join(hw, cpu);
        }
        let current = next_mm.tlb_gen(hw);
        hw.load_cr3(next_mm.root(), Cr3Load::Flush);
        me.set_loaded_mm(hw, next);
        me.set_flushed_to(hw, current);
        // I2: only now. Before the CR3 load, an initiator that misses our bit would free tables that we
        // can still walk.
        if prev != init_mm {
            self.kernel.mm(prev).leave(hw, cpu);
        }
    }
}
