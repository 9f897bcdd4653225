//! An address space, as far as TLB coherence is concerned.

use crate::addr::PhysAddr;
use crate::cpu_set::{CpuId, CpuSet};
pub use crate::generation::TlbGen;
use crate::generation::{NextGen, SharedGen};
use crate::hw::{Cells, Hw};
use crate::words::ProtocolWord;

/// An address space's identity: never reused, unlike handles and roots (Linux: `ctx_id`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MmId(pub u64);

/// A kernel's name for an [`Mm`] that fits into a word: an index, or a pointer of its own. `u64::MAX` is no handle: it
/// stands for a CPU that is between two spaces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MmHandle(pub u64);

/// An address space.
#[derive(Debug)]
pub struct Mm<H: Hw, const WORDS: usize = 8> {
    id: MmId,
    root: PhysAddr,
    /// I1: raised after page tables were changed and before any target is chosen.
    tlb_gen: SharedGen<H>,
    /// I2: a CPU's bit is set before the CPU can load the root, and cleared only by this CPU, once it has loaded another
    /// one and invalidated something since. So a CPU outside the mask walks nothing of this space: neither from CR3
    /// nor on a walk that began before.
    cpumask: [H::Atomic; WORDS],
}

impl<H: Hw, const WORDS: usize> Mm<H, WORDS> {
    /// Makes a space that no CPU has loaded.
    ///
    /// `id` must be unlike that of every space that ever was: requests name spaces by it, and an
    /// old request must not match a new space.
    pub fn new(id: MmId, root: PhysAddr, cells: &mut impl Cells<H>) -> Self {
        Mm {
            id,
            root,
            tlb_gen: SharedGen::of_space(cells),
            cpumask: core::array::from_fn(|_| cells.protocol_atomic(ProtocolWord::Cpumask, 0)),
        }
    }

    /// Returns the identity.
    pub fn id(&self) -> MmId {
        self.id
    }

    /// Returns the frame of the root table.
    pub fn root(&self) -> PhysAddr {
        self.root
    }

    /// Reads the generation.
    pub fn tlb_gen(&self, hw: &H) -> TlbGen {
        self.tlb_gen.load(hw)
    }

    /// Raises the generation and returns the new one.
    ///
    /// A full fence: it orders the caller's page-table writes, and this raise, before the loads of the
    /// cpumask, of `whereabouts` and of `is_lazy` that choose the targets. Its partners are [`Mm::join`] and the fence
    /// in `Tlb::resume`: either the initiator sees the CPU there, or the CPU sees the change.
    pub(crate) fn bump_tlb_gen(&self, hw: &H) -> NextGen {
        self.tlb_gen.raise(hw)
    }

    /// Adds a CPU to the cpumask, before it loads the root (I2).
    ///
    /// Locked, because other CPUs change the same word. A full fence, which pairs with [`Mm::bump_tlb_gen`]: an initiator
    /// that misses the bit has written its page tables, and raised the generation, before this CPU reads that.
    pub(crate) fn join(&self, hw: &H, cpu: CpuId) {
        let (word, bit) = cpu.word_and_bit();
        hw.fetch_or(&self.cpumask[word], bit);
    }

    /// Says whether a CPU is in the cpumask.
    pub(crate) fn has_joined(&self, hw: &H, cpu: CpuId) -> bool {
        let (word, bit) = cpu.word_and_bit();
        hw.load(&self.cpumask[word]) & bit != 0
    }

    /// Removes this CPU from the cpumask, after it has loaded another root and invalidated something (I2).
    pub(crate) fn leave(&self, hw: &H, cpu: CpuId) {
        let (word, bit) = cpu.word_and_bit();
        hw.fetch_and(&self.cpumask[word], !bit);
    }

    /// Reads the set of CPUs that may cache something of this space. One load a word, so a set
    /// that changes meanwhile is seen in pieces.
    pub fn cpumask(&self, hw: &H) -> CpuSet<WORDS> {
        CpuSet::from_words(core::array::from_fn(|word| hw.load(&self.cpumask[word])))
    }

    /// Reads one word of the cpumask.
    pub(crate) fn cpumask_word(&self, hw: &H, word: usize) -> u64 {
        hw.load(&self.cpumask[word])
    }
}
