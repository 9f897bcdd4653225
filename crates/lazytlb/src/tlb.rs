//! The protocol's handle: a kernel's storage and the policy chosen at boot.

use core::sync::atomic::{AtomicU8, Ordering};

use crate::cpu_set::CpuId;
use crate::kernel::Kernel;
use crate::policy::Policy;

/// The protocol, as a kernel embeds it: one value for the whole machine, shared by all CPUs.
///
/// | entry point | interrupts | waits for other CPUs | in a handler |
/// | --- | --- | --- | --- |
/// | [`Tlb::switch_mm`], [`Tlb::enter_lazy`] | any; off inside | no | no |
/// | [`Tlb::flush`], [`Tlb::flush_kernel`] | any | yes | yes |
/// | [`Tlb::start`], [`Tlb::add`], [`Tlb::send`] | any | no | yes |
/// | [`Tlb::wait`] | any | yes | yes |
/// | [`Tlb::gather`], [`Tlb::gather_kernel`] | any | no | yes |
/// | [`Gather::free`](crate::Gather::free), if the storage is full; [`Gather::finish`](crate::Gather::finish) | any | yes | yes |
/// | [`Tlb::retire`], [`Tlb::reap`], [`Tlb::has_retired`] | any; off inside | no | yes |
/// | [`Tlb::release_held`], [`Tlb::holds_tables`] | any; off inside | no | yes |
/// | [`Tlb::reclaim_now`] | any | yes | yes |
/// | [`Tlb::walk`] | any; off until the guard is dropped | no | yes |
/// | [`Tlb::handle_flush_ipi`] | off, asserted | no | it is one |
/// | [`Tlb::serve_inbox`] | off, asserted | no | yes |
/// | [`Tlb::cpu_online`], [`Tlb::cpu_offline`] | any; off inside | no | no |
/// | [`Tlb::user_half`] | off, asserted, until it is loaded | no | on its way back to user mode |
/// | [`Tlb::kernel_half`] | off, asserted | no | on its way in |
/// | [`Tlb::may_touch_user_memory`] | any | no | yes, and in an NMI |
///
/// Preemption is off in all of them; no other may be called from an NMI. Where one waits, a CPU whose interrupts are off serves
/// others meanwhile, and no lock may be held that a handler takes, or that another CPU spins for with interrupts off without
/// [`Tlb::serve_inbox`]. They panic where that is said of them, and where a CPU's number is past [`Kernel::cpu_words`].
#[derive(Debug)]
pub struct Tlb<K, const WORDS: usize = 8, const SLOTS: usize = 6> {
    pub(crate) kernel: K,
    /// An index into [`Policy::ALL`]. Set before a second CPU comes.
    policy: AtomicU8,
    single_page_ceiling: u16,
}

/// The greatest ceiling that can be set: longer ranges do not fit into a request.
const MAX_SINGLE_PAGE_CEILING: u16 = 4095;

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Pages, at most, that a flush invalidates one by one; beyond, it flushes everything. An INVLPG is
    /// about 100 ns and a refill about as much an entry, so some thirty balance a full flush.
    /// Source: Linux, `tlb_single_page_flush_ceiling`.
    pub const DEFAULT_SINGLE_PAGE_CEILING: u16 = 33;

    /// Makes the protocol for a kernel, with the default ceiling. For a `static`, too: [`Tlb::set_policy`] at boot.
    pub const fn new(kernel: K, policy: Policy) -> Self {
        Tlb {
            kernel,
            policy: AtomicU8::new(policy.index()),
            single_page_ceiling: Self::DEFAULT_SINGLE_PAGE_CEILING,
        }
    }

    /// Sets the ceiling of pages invalidated one by one; 0 makes every flush a full one.
    ///
    /// # Panics
    /// If it is over 4095.
    pub const fn with_single_page_ceiling(mut self, pages: u16) -> Self {
        assert!(
            pages <= MAX_SINGLE_PAGE_CEILING,
            "a request holds at most 4095 single pages"
        );
        self.single_page_ceiling = pages;
        self
    }

    /// Sets the policy: once, at boot, before a second CPU comes to the protocol, and before this one goes lazy. Later it
    /// would hold for some CPUs and not for others.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.store(policy.index(), Ordering::Relaxed);
    }

    /// Returns the kernel that was handed over.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// Returns the policy.
    #[inline]
    pub fn policy(&self) -> Policy {
        Policy::of_index(self.policy.load(Ordering::Relaxed))
    }

    /// Returns how many words of a CPU set are looked at.
    #[inline]
    pub(crate) fn cpu_words(&self) -> usize {
        self.kernel.cpu_words().min(WORDS)
    }

    /// Refuses a CPU whose word nobody looks at: flushes would not find it in a cpumask, nor handlers its requests.
    #[inline]
    pub(crate) fn assert_in_use(&self, cpu: CpuId) {
        let (word, _) = cpu.word_and_bit();
        assert!(
            word < self.cpu_words(),
            "CPU number past the words of CPU sets that are in use: see `Kernel::cpu_words`"
        );
    }

    /// Returns the ceiling in pages.
    pub fn single_page_ceiling(&self) -> u16 {
        self.single_page_ceiling
    }
}
