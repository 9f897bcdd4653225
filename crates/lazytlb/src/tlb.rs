//! The protocol's handle: a kernel's storage and the policy chosen at boot.

use crate::cpu_set::CpuId;
use crate::kernel::Kernel;
use crate::policy::Policy;

/// The protocol, as a kernel embeds it: one value for the whole machine, shared by all CPUs.
///
/// | entry point | interrupts | may wait | re-entered |
/// | --- | --- | --- | --- |
/// | [`Tlb::switch_mm`], [`Tlb::enter_lazy`] | any; off inside | no | no |
/// | [`Tlb::flush`], [`Tlb::gather`], [`Tlb::retire`] | enabled | yes, for acknowledgements | no |
/// | [`Tlb::handle_flush_ipi`] | disabled | no | no |
/// | [`Tlb::may_touch_user_memory`] | any | no | yes, from an NMI too |
///
/// Preemption is off in all of them; no other may be called from an NMI. `ARCHITECTURE.md` has the
/// whole contract, with the locks that may be held.
#[derive(Debug)]
pub struct Tlb<K, const WORDS: usize = 8, const SLOTS: usize = 6> {
    pub(crate) kernel: K,
    policy: Policy,
    single_page_ceiling: u16,
}

/// The greatest ceiling that can be set: longer ranges do not fit into a request.
const MAX_SINGLE_PAGE_CEILING: u16 = 4095;

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Pages, at most, that a flush invalidates one by one; beyond, it flushes everything. An INVLPG is
    /// about 100 ns and a refill about as much an entry, so some thirty balance a full flush.
    /// Source: Linux, `tlb_single_page_flush_ceiling`.
    pub const DEFAULT_SINGLE_PAGE_CEILING: u16 = 33;

    /// Makes the protocol for a kernel, with the default ceiling.
    pub fn new(kernel: K, policy: Policy) -> Self {
        Tlb {
            kernel,
            policy,
            single_page_ceiling: Self::DEFAULT_SINGLE_PAGE_CEILING,
        }
    }

    /// Sets the ceiling of pages invalidated one by one; 0 makes every flush a full one.
    ///
    /// # Panics
    /// If it is over 4095.
    pub fn with_single_page_ceiling(self, pages: u16) -> Self {
        assert!(
            pages <= MAX_SINGLE_PAGE_CEILING,
            "a request holds at most 4095 single pages"
        );
        Tlb {
            single_page_ceiling: pages,
            ..self
        }
    }

    /// Returns the kernel that was handed over.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// Returns the policy.
    pub fn policy(&self) -> Policy {
        self.policy
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
