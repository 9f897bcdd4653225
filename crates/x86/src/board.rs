//! What a kernel supplies to the machine.

use lazytlb::{CpuId, CpuSet};

/// A kernel's part of the seam: who this CPU is, and how others are interrupted.
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
}
