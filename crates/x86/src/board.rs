//! What a kernel supplies to the machine, and what it may replace.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use lazytlb::{
    CpuId, CpuSet, Cr3Load, Interrupts, Invlpgb, Invpcid, Pcid, PhysAddr, Until, VirtAddr,
};

use crate::{broadcast, instructions, pcid};

/// A kernel's part of the seam.
///
/// Two methods must be supplied: who this CPU is, and how others are interrupted. All others are what the machine
/// [`X86`](crate::X86) does; each can be replaced by itself, by a kernel that counts, traces, waits in a way of its own, or
/// runs on a hypervisor. What a replacement wants of the original is a function of [`instructions`], [`pcid`] or
/// [`broadcast`].
///
/// ```
/// use core::sync::atomic::{AtomicU64, Ordering};
/// use lazytlb::{CpuId, CpuSet, VirtAddr};
/// use lazytlb_x86::{Board, instructions};
///
/// /// A kernel that counts INVLPGs.
/// struct Counting {
///     invlpgs: AtomicU64,
/// }
///
/// impl Board for Counting {
///     fn cpu(&self) -> CpuId {
///         CpuId(0)
///     }
///     fn send_flush_ipi<const WORDS: usize>(&self, _targets: &CpuSet<WORDS>) {}
///
///     fn invlpg(&self, addr: VirtAddr) {
///         self.invlpgs.fetch_add(1, Ordering::Relaxed);
///         instructions::invlpg(addr);
///     }
/// }
/// ```
pub trait Board {
    /// Returns the CPU that runs this code: from GS, RDPID, the APIC's id. Called often, with
    /// preemption off.
    fn cpu(&self) -> CpuId;

    /// Sends the interrupt whose handler calls [`lazytlb::Tlb::handle_flush_ipi`] to each CPU of the set.
    ///
    /// [`crate::LocalApic::send_to_set`] does it. Need not be a fence, but must not return before
    /// each interrupt is on its way.
    fn send_flush_ipi<const WORDS: usize>(&self, targets: &CpuSet<WORDS>);

    /// Called in each round of a wait, before PAUSE: a place to look for a CPU that never answers.
    fn waiting(&self) {}
    /// Ends each round of a wait.
    fn pause(&self) {
        core::hint::spin_loop();
    }
    /// As [`lazytlb::Hw::pause_until`]: interrupts must stay on.
    fn pause_until(&self, atomic: &AtomicU64, until: Until) {
        while !until.holds(self.load(atomic)) {
            self.waiting();
            self.pause();
        }
    }

    /// As [`lazytlb::Hw::load`].
    fn load(&self, atomic: &AtomicU64) -> u64 {
        atomic.load(Ordering::Acquire)
    }
    /// As [`lazytlb::Hw::store`].
    fn store(&self, atomic: &AtomicU64, value: u64) {
        atomic.store(value, Ordering::Release);
    }
    /// As [`lazytlb::Hw::fetch_add`].
    fn fetch_add(&self, atomic: &AtomicU64, value: u64) -> u64 {
        atomic.fetch_add(value, Ordering::SeqCst)
    }
    /// As [`lazytlb::Hw::fetch_or`].
    fn fetch_or(&self, atomic: &AtomicU64, bits: u64) -> u64 {
        atomic.fetch_or(bits, Ordering::SeqCst)
    }
    /// As [`lazytlb::Hw::fetch_and`].
    fn fetch_and(&self, atomic: &AtomicU64, bits: u64) -> u64 {
        atomic.fetch_and(bits, Ordering::SeqCst)
    }
    /// As [`lazytlb::Hw::swap`].
    fn swap(&self, atomic: &AtomicU64, value: u64) -> u64 {
        atomic.swap(value, Ordering::SeqCst)
    }
    /// As [`lazytlb::CompareExchange::compare_exchange`]: LOCK CMPXCHG, a full fence though it fails.
    ///
    /// # Errors
    /// What the atomic holds, if that is not `current`.
    fn compare_exchange(&self, atomic: &AtomicU64, current: u64, new: u64) -> Result<u64, u64> {
        atomic.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst)
    }
    // Acquire and release cost nothing on x86, and keep the compiler from moving a local's access
    // past a neighbouring seam call, which H39 takes for granted.
    /// As [`lazytlb::Hw::load_local`].
    fn load_local(&self, local: &AtomicU64) -> u64 {
        local.load(Ordering::Acquire)
    }
    /// As [`lazytlb::Hw::store_local`].
    fn store_local(&self, local: &AtomicU64, value: u64) {
        local.store(value, Ordering::Release);
    }
    /// As [`lazytlb::Hw::fence`].
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }

    /// As [`lazytlb::Hw::interrupts`].
    fn interrupts(&self) -> Interrupts {
        instructions::interrupts()
    }
    /// As [`lazytlb::Hw::disable_interrupts`].
    fn disable_interrupts(&self) -> Interrupts {
        instructions::disable_interrupts()
    }
    /// As [`lazytlb::Hw::restore_interrupts`].
    fn restore_interrupts(&self, former: Interrupts) {
        instructions::restore_interrupts(former);
    }

    /// As [`lazytlb::Hw::load_cr3`], flushing.
    ///
    /// # Safety
    /// As [`instructions::load_cr3`].
    unsafe fn load_cr3(&self, root: PhysAddr) {
        // SAFETY: the caller's promise.
        unsafe { instructions::load_cr3(root) }
    }
    /// As [`lazytlb::Hw::invlpg`].
    fn invlpg(&self, addr: VirtAddr) {
        instructions::invlpg(addr);
    }

    /// As [`lazytlb::Pcids::load_cr3_pcid`]. Called only where PCIDs are on.
    ///
    /// # Safety
    /// As [`pcid::load_cr3`].
    unsafe fn load_cr3_pcid(&self, root: PhysAddr, pcid: Pcid, load: Cr3Load) {
        // SAFETY: the caller's promise.
        unsafe { pcid::load_cr3(root, pcid::tag(pcid), load) }
    }
    /// As [`lazytlb::Pcids::invpcid`].
    ///
    /// # Safety
    /// As [`pcid::invpcid`].
    unsafe fn invpcid(&self, what: Invpcid) {
        // SAFETY: the caller's promise.
        unsafe { pcid::invpcid(what.into()) }
    }

    /// As [`lazytlb::Pcids::flush_everything`]: by CR4.PGE, which every CPU has.
    ///
    /// # Safety
    /// As [`instructions::flush_everything`].
    unsafe fn flush_everything(&self) {
        // SAFETY: the caller's promise.
        unsafe { instructions::flush_everything() }
    }

    /// As [`lazytlb::Broadcast::invlpgb`]. Called only where broadcasts are on.
    ///
    /// # Safety
    /// As [`broadcast::invlpgb`].
    unsafe fn invlpgb(&self, what: Invlpgb) {
        // SAFETY: the caller's promise.
        unsafe { broadcast::invlpgb(what) }
    }
    /// As [`lazytlb::Broadcast::tlbsync`]. Called only where broadcasts are on.
    ///
    /// # Safety
    /// As [`broadcast::tlbsync`].
    unsafe fn tlbsync(&self) {
        // SAFETY: the caller's promise.
        unsafe { broadcast::tlbsync() }
    }
}
