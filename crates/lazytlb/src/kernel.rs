//! The storage seam: how the protocol reaches the spaces and the per-CPU state that a kernel owns.

use crate::broadcast::Broadcast;
use crate::cpu_set::CpuId;
use crate::global_id::GlobalIdWord;
use crate::hw::{Hw, Poll};
use crate::mm::{Mm, MmHandle};
use crate::pcids::Pcids;
use crate::per_cpu::PerCpu;

/// Whether a kernel has code that walks page tables without a lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SoftwareWalks {
    /// None: flushes that free tables look for nobody.
    Never,
    /// All of it walks under a [`crate::WalkGuard`].
    Guarded,
}

/// The kernel that embeds the protocol. It owns all storage.
///
/// The protocol, its interrupt handler included, holds no pointer: per-CPU words keep an
/// [`MmHandle`], and this trait turns it into a reference. A kernel with an array of spaces
/// needs no `unsafe` for that; one whose handles are pointers keeps its `unsafe` here, and may rely on
/// this: the protocol asks only for handles between the creation of the space and its return from
/// [`crate::Tlb::reap`] (invariant I6).
///
/// `WORDS` is the capacity of CPU sets in units of 64 CPUs, `SLOTS` the number of spaces whose translations a CPU with
/// PCIDs keeps.
pub trait Kernel<const WORDS: usize = 8, const SLOTS: usize = 6> {
    /// The machine. One without PCIDs implements [`Pcids`] with an empty body, one without INVLPGB [`Broadcast`].
    type Hw: Pcids + Broadcast + Poll;

    /// Returns a CPU's protocol state. Called for any CPU that is in a cpumask.
    ///
    /// # Panics
    /// May panic if there is no such CPU: the protocol names only CPUs that called it.
    fn per_cpu(&self, cpu: CpuId) -> &PerCpu<Self::Hw, WORDS, SLOTS>;

    /// Returns the state of the CPU that runs. A kernel that keeps a pointer to it where no index is needed (behind the
    /// GS segment) overrides this.
    #[inline]
    fn this_cpu(&self, hw: &Self::Hw) -> &PerCpu<Self::Hw, WORDS, SLOTS> {
        self.per_cpu(hw.cpu())
    }

    /// Returns how many words of a CPU set can have members: every CPU's number is below 64 times this. Words beyond
    /// are not looked at. A kernel that learns at boot how many CPUs there can be overrides this; the number must not
    /// change once a second CPU uses the protocol, and a CPU beyond it is refused when it switches to a space.
    #[inline]
    fn cpu_words(&self) -> usize {
        WORDS
    }

    /// Returns the space behind a handle.
    ///
    /// # Panics
    /// May panic if the handle was never given out, or its space was reaped.
    fn mm(&self, handle: MmHandle) -> &Mm<Self::Hw, WORDS>;

    /// Returns the handle of the kernel's own space, which has no user mappings, and is never retired. A flush of it is
    /// one of kernel ranges, in every space: [`crate::Tlb::flush_kernel`].
    fn init_mm(&self) -> MmHandle;

    /// Says whether every page that [`crate::Tlb::flush_kernel`] may be asked for is mapped as global. Then a flush of kernel
    /// pages costs the other PCIDs nothing. With page-table isolation they are not.
    #[inline]
    fn kernel_pages_are_global(&self) -> bool {
        false
    }

    /// Says whether the kernel has code that walks page tables without a lock: it must walk under a [`crate::WalkGuard`] then. The same on
    /// every CPU, and as long as the kernel runs.
    #[inline]
    fn software_walks(&self) -> SoftwareWalks {
        SoftwareWalks::Never
    }

    /// Returns how many page tables of one space may be held back under [`crate::Policy::Quarantine`], on all CPUs together. May
    /// change at any time; what is held already stays.
    #[inline]
    fn held_tables_of_a_space(&self) -> u64 {
        64
    }

    /// Returns the words of the global ids that there are: PCIDs which mean the same space on every CPU. Where a machine has PCIDs and
    /// [broadcasts](Broadcast::most_addresses), a space that is used on several CPUs gets one, and flushes of it interrupt nobody from then on; flushes of kernel
    /// ranges are broadcast, too. Spaces that find none left are flushed as without.
    ///
    /// There are none unless a kernel says otherwise, and then this protocol never broadcasts. It must return the same words each time.
    #[inline]
    fn global_ids(&self) -> &[GlobalIdWord<Self::Hw>] {
        &[]
    }

    /// Returns how many CPUs in a space a flush must have interrupted for the space to get a global id. A broadcast reaches every CPU of the machine, also those
    /// that the space was never on. Source: Linux 6.15, `consider_global_asid`, has the same number.
    #[inline]
    fn broadcasts_from(&self) -> u32 {
        3
    }

    /// Returns how many page tables may be held back in all: 4 MiB, unless a kernel says otherwise.
    #[inline]
    fn held_tables_in_all(&self) -> u64 {
        1024
    }
}
