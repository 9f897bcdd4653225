//! An address space, as far as TLB coherence is concerned.

use core::sync::atomic::AtomicU64;

use crate::addr::PhysAddr;
use crate::cpu_set::{CpuId, CpuSet};
pub use crate::generation::TlbGen;
use crate::generation::{NextGen, SharedGen};
use crate::global_id::GlobalOfMm;
use crate::hw::{Cells, Hw};
use crate::words::ProtocolWord;

/// An address space's identity: never reused, unlike handles and roots (Linux: `ctx_id`). `u64::MAX` is none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MmId(pub u64);

/// A kernel's name for an [`Mm`] that fits into a word: an index, or a pointer of its own. `u64::MAX` is no handle: it
/// stands for a CPU that is between two spaces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MmHandle(pub u64);

/// No handle, in a word that may hold one.
pub(crate) const NO_SPACE: u64 = u64::MAX;

/// Reads a word that holds a handle or none.
pub(crate) fn handle_in(word: u64) -> Option<MmHandle> {
    (word != NO_SPACE).then_some(MmHandle(word))
}

/// Returns the word for a handle or none.
pub(crate) fn word_of(mm: Option<MmHandle>) -> u64 {
    mm.map_or(NO_SPACE, |mm| mm.0)
}

/// An address space.
#[derive(Debug)]
pub struct Mm<H: Hw, const WORDS: usize = 8> {
    id: MmId,
    root: PhysAddr,
    /// With page-table isolation, the root that is loaded in user mode.
    user_root: Option<PhysAddr>,
    /// I1: raised after page tables were changed and before any target is chosen.
    tlb_gen: SharedGen<H>,
    /// I2: a CPU's bit is set before the CPU can load the root, and cleared only by this CPU, once it has loaded another
    /// one and invalidated something since. So a CPU outside the mask walks nothing of this space: neither from CR3
    /// nor on a walk that began before.
    cpumask: [H::Atomic; WORDS],
    /// Gathers that were begun, and are not finished. Counted before the first entry is removed, until the flush has
    /// returned.
    open_gathers: H::Atomic,
    /// 1 once it is retired. I10: set before the generation is raised for the last time, so whoever comes to a retired
    /// space finds itself behind, and this set.
    is_retired: H::Atomic,
    /// Once it is retired, the space that the same CPU had retired before.
    retired_before: H::Atomic,
    /// Tables that are held back, or are about to be. I13: raised before they are unhooked for good, lowered after they
    /// were given up; in `init_mm`, those of all spaces.
    held_tables: H::Atomic,
    /// CPUs that were spared, lazy, by a flush after tables were unhooked. I11: a CPU's bit is set before those tables are held,
    /// and cleared by that CPU alone, after an invalidation that covers them.
    spared: [H::Atomic; WORDS],
    /// The PCID that the space has on every CPU, if it has one. I17: settled only when no CPU uses the space under another one, or ever will.
    pub(crate) global: GlobalOfMm<H>,
}

impl<H: Hw<Atomic = AtomicU64>, const WORDS: usize> Mm<H, WORDS> {
    /// Makes a space that no CPU has loaded, as [`Mm::new`], in a constant expression: for a `static`, on machines whose
    /// words are plain.
    pub const fn in_static(id: MmId, root: PhysAddr) -> Self {
        Mm {
            id,
            root,
            user_root: None,
            tlb_gen: SharedGen::of(AtomicU64::new(1)),
            cpumask: [const { AtomicU64::new(0) }; WORDS],
            open_gathers: AtomicU64::new(0),
            is_retired: AtomicU64::new(0),
            retired_before: AtomicU64::new(NO_SPACE),
            held_tables: AtomicU64::new(0),
            spared: [const { AtomicU64::new(0) }; WORDS],
            global: GlobalOfMm::of(AtomicU64::new(0)),
        }
    }
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
            user_root: None,
            tlb_gen: SharedGen::of(cells.protocol_atomic(ProtocolWord::TlbGen, 1)),
            cpumask: core::array::from_fn(|_| cells.protocol_atomic(ProtocolWord::Cpumask, 0)),
            open_gathers: cells.protocol_atomic(ProtocolWord::OpenGathers, 0),
            is_retired: cells.protocol_atomic(ProtocolWord::IsRetired, 0),
            retired_before: cells.protocol_atomic(ProtocolWord::RetiredBefore, word_of(None)),
            held_tables: cells.protocol_atomic(ProtocolWord::HeldTables, 0),
            spared: core::array::from_fn(|_| cells.protocol_atomic(ProtocolWord::Spared, 0)),
            global: GlobalOfMm::of(cells.protocol_atomic(ProtocolWord::GlobalIdOfMm, 0)),
        }
    }

    /// Gives the space a second root, for user mode: page-table isolation. What is mapped for the user is mapped
    /// under both; entries of either count as removed only when both are.
    #[must_use]
    pub const fn with_user_root(mut self, user_root: PhysAddr) -> Self {
        self.user_root = Some(user_root);
        self
    }

    /// Returns the identity.
    pub fn id(&self) -> MmId {
        self.id
    }

    /// Returns the frame of the root table.
    pub fn root(&self) -> PhysAddr {
        self.root
    }

    /// Returns the frame of the root table for user mode, if it is another one.
    pub fn user_root(&self) -> Option<PhysAddr> {
        self.user_root
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

    /// Counts a gather that is begun. A full fence: whoever sees an entry that it removes sees it counted.
    pub(crate) fn open_gather(&self, hw: &H) {
        hw.fetch_add(&self.open_gathers, 1);
    }

    /// Counts one less.
    pub(crate) fn close_gather(&self, hw: &H) {
        hw.fetch_add(&self.open_gathers, 1_u64.wrapping_neg());
    }

    /// Returns how many gathers are begun and not finished.
    pub(crate) fn open_gathers(&self, hw: &H) -> u64 {
        hw.load(&self.open_gathers)
    }

    /// Says that a CPU was spared which may still walk what was unhooked.
    pub(crate) fn spare(&self, hw: &H, cpu: CpuId) {
        let (word, bit) = cpu.word_and_bit();
        hw.fetch_or(&self.spared[word], bit);
    }

    /// Says whether this CPU was spared, and has not said since that it walks nothing of that.
    pub(crate) fn is_spared(&self, hw: &H, cpu: CpuId) -> bool {
        let (word, bit) = cpu.word_and_bit();
        hw.load(&self.spared[word]) & bit != 0
    }

    /// Says, on this CPU, that it walks nothing any more of what was unhooked.
    pub(crate) fn clear_spared(&self, hw: &H, cpu: CpuId) {
        let (word, bit) = cpu.word_and_bit();
        hw.fetch_and(&self.spared[word], !bit);
    }

    /// Reads one word of the set of CPUs that may still walk what was unhooked: those that were spared and are in the
    /// cpumask. As long as a CPU may, both bits are set, so in either order.
    pub(crate) fn spared_word(&self, hw: &H, word: usize) -> u64 {
        match hw.load(&self.spared[word]) {
            0 => 0,
            spared => spared & hw.load(&self.cpumask[word]),
        }
    }

    /// Of the kernel's own space: says whether a CPU has ever walked page tables by software. Its tables are never held back, so
    /// that nobody is spared in it, and the same words tell this.
    pub(crate) fn has_walker(&self, hw: &H, cpu: CpuId) -> bool {
        self.is_spared(hw, cpu)
    }

    /// Says so. A full fence.
    pub(crate) fn add_walker(&self, hw: &H, cpu: CpuId) {
        self.spare(hw, cpu);
    }

    /// Reads one word of the set of CPUs that have.
    pub(crate) fn walkers_word(&self, hw: &H, word: usize) -> u64 {
        hw.load(&self.spared[word])
    }

    /// Counts tables that are to be held back, if there are not more than `most` then; else says how many there are without.
    pub(crate) fn hold(&self, hw: &H, tables: u64, most: u64) -> Result<(), u64> {
        let before = hw.fetch_add(&self.held_tables, tables);
        if before.saturating_add(tables) <= most {
            return Ok(());
        }
        self.give_up(hw, tables);
        Err(before)
    }

    /// Counts some less.
    pub(crate) fn give_up(&self, hw: &H, tables: u64) {
        hw.fetch_add(&self.held_tables, tables.wrapping_neg());
    }

    /// Returns how many tables of the space are held back.
    pub fn held_tables(&self, hw: &H) -> u64 {
        hw.load(&self.held_tables)
    }

    /// Says whether the space is retired.
    pub(crate) fn is_retired(&self, hw: &H) -> bool {
        hw.load(&self.is_retired) != 0
    }

    /// Retires the space; says whether it was so before.
    pub(crate) fn set_retired(&self, hw: &H) -> bool {
        hw.swap(&self.is_retired, 1) != 0
    }

    /// Returns the space that the same CPU had retired before this one.
    pub(crate) fn retired_before(&self, hw: &H) -> Option<MmHandle> {
        handle_in(hw.load(&self.retired_before))
    }

    /// Sets it.
    pub(crate) fn set_retired_before(&self, hw: &H, mm: Option<MmHandle>) {
        hw.store(&self.retired_before, word_of(mm));
    }
}
