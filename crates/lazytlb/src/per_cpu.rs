//! A CPU's state: what it has loaded, whether it is lazy, who has asked it for something, and what it asks of others.

use core::sync::atomic::AtomicU64;

use crate::batches::Batches;
use crate::cpu_set::CpuId;
use crate::generation::OwnGen;
use crate::global_id::GlobalId;
use crate::hw::{Cells, Hw};
use crate::mm::{MmHandle, NO_SPACE, handle_in, word_of};
use crate::pcids::Pcids;
use crate::requests::Requests;
use crate::slots::Slots;
use crate::words::ProtocolWord;

/// One CPU's part of the protocol's state, on cache lines by who writes it.
#[derive(Debug)]
#[repr(C)]
pub struct PerCpu<H: Hw, const WORDS: usize = 8, const SLOTS: usize = 6> {
    _own: CacheLine,
    /// The space whose root is in CR3, or [`SWITCHING`]. Accessed by this CPU with interrupts off only, and by its NMI
    /// handlers.
    loaded_mm: H::Local,
    /// The space that this CPU retired last and that is not reaped yet: the first of a list that goes on in `Mm`.
    retired: H::Local,
    pub(crate) slots: Slots<H, SLOTS>,
    /// This CPU has flushed the kernel ranges that generations of init_mm up to this one removed (as I3).
    pub(crate) kernel_flushed_to: OwnGen<H>,
    /// The tables that this CPU holds back.
    pub(crate) batches: Batches<H, WORDS, SLOTS>,

    _written_here_read_by_initiators: CacheLine,
    /// 1 in lazy mode. I4: seen cleared by everyone before this CPU reads a generation to come back, or
    /// loads another root.
    is_lazy: H::Atomic,
    /// With PCIDs, what `loaded_mm` says, for others: initiators spare a CPU that is elsewhere. I9: it says
    /// [`SWITCHING`], for everyone to see, before this CPU reads the generation of the space that it comes to, and the
    /// space only when that is loaded.
    whereabouts: H::Atomic,
    /// 1 while software walks page tables on this CPU (I19).
    is_walking: H::Atomic,
    /// The global id under which the loaded space is used, or none. Written before `whereabouts` when another space is loaded.
    loaded_global: H::Atomic,

    _written_by_initiators: CacheLine,
    /// The initiators that wait for this CPU: a bit each. I5: cleared only after this CPU has caught up with generations
    /// that it read after it had seen the bit.
    inbox: [H::Atomic; WORDS],

    _written_here_read_by_targets: CacheLine,
    /// What this CPU has asked for last.
    pub(crate) requests: Requests<H>,
}

/// Begins a cache line: it takes no room, and what is declared after it is written by others than what stands before.
#[derive(Debug)]
#[repr(align(64))]
struct CacheLine;

/// What stands for the loaded space while this CPU is between two: it may use either, so both take it for inside.
const SWITCHING: u64 = u64::MAX;

/// Where a CPU is, as seen from another one: a hint that [`PerCpu::set_switching`] makes safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whereabouts {
    /// It has the space loaded, or is switching.
    Inside,
    /// It has another space loaded. If it has kept what it had cached, a walk may still be under way.
    Elsewhere,
}

impl<H: Hw<Atomic = AtomicU64, Local = AtomicU64>, const WORDS: usize, const SLOTS: usize>
    PerCpu<H, WORDS, SLOTS>
{
    /// Makes the state of a CPU, as [`PerCpu::new`], in a constant expression: for a `static`, on machines whose words are
    /// plain.
    pub const fn in_static(init_mm: MmHandle) -> Self {
        PerCpu {
            _own: CacheLine,
            _written_here_read_by_initiators: CacheLine,
            _written_by_initiators: CacheLine,
            _written_here_read_by_targets: CacheLine,
            loaded_mm: AtomicU64::new(init_mm.0),
            retired: AtomicU64::new(NO_SPACE),
            whereabouts: AtomicU64::new(init_mm.0),
            slots: Slots::in_static(),
            kernel_flushed_to: OwnGen::of(AtomicU64::new(1)),
            batches: Batches::in_static(),
            is_lazy: AtomicU64::new(0),
            is_walking: AtomicU64::new(0),
            loaded_global: AtomicU64::new(0),
            inbox: [const { AtomicU64::new(0) }; WORDS],
            requests: Requests::in_static(),
        }
    }
}

impl<H: Pcids, const WORDS: usize, const SLOTS: usize> PerCpu<H, WORDS, SLOTS> {
    /// Makes the state of a CPU that has the kernel's own space loaded and was never interrupted.
    pub fn new(init_mm: MmHandle, cells: &mut impl Cells<H>) -> Self {
        PerCpu {
            _own: CacheLine,
            _written_here_read_by_initiators: CacheLine,
            _written_by_initiators: CacheLine,
            _written_here_read_by_targets: CacheLine,
            loaded_mm: cells.protocol_local(ProtocolWord::LoadedMm, init_mm.0),
            retired: cells.protocol_local(ProtocolWord::Retired, word_of(None)),
            whereabouts: cells.protocol_atomic(ProtocolWord::Whereabouts, init_mm.0),
            slots: Slots::new(cells),
            kernel_flushed_to: OwnGen::of(cells.protocol_local(ProtocolWord::KernelFlushedTo, 1)),
            batches: Batches::new(cells),
            is_lazy: cells.protocol_atomic(ProtocolWord::IsLazy, 0),
            is_walking: cells.protocol_atomic(ProtocolWord::IsWalking, 0),
            loaded_global: cells.protocol_atomic(ProtocolWord::LoadedGlobal, 0),
            inbox: core::array::from_fn(|_| cells.protocol_atomic(ProtocolWord::Inbox, 0)),
            requests: Requests::new(cells),
        }
    }

    /// Returns where this CPU says whether software walks page tables on it.
    pub(crate) fn is_walking(&self) -> &H::Atomic {
        &self.is_walking
    }

    /// Reads the loaded space. On this CPU only, with interrupts off, and not from an NMI.
    pub fn loaded_mm(&self, hw: &H) -> MmHandle {
        MmHandle(hw.load_local(&self.loaded_mm))
    }

    /// Says which space is loaded, once it is. A plain store: whoever sees it finds this CPU out of the former space.
    pub(crate) fn set_loaded_mm(&self, hw: &H, mm: MmHandle) {
        self.set_usable(hw, mm);
        if hw.pcids_are_on() {
            hw.store(&self.whereabouts, mm.0);
        }
    }

    /// Says that this CPU is between two spaces. A plain store: [`crate::Mm::join`] orders it before the loads that
    /// follow.
    pub(crate) fn set_switching(&self, hw: &H) {
        self.set_unusable(hw);
        if hw.pcids_are_on() {
            hw.store(&self.whereabouts, SWITCHING);
        }
    }

    /// Says, to this CPU's NMI handlers alone, that what it has loaded is not to be used now.
    pub(crate) fn set_unusable(&self, hw: &H) {
        hw.store_local(&self.loaded_mm, SWITCHING);
    }

    /// Takes [`PerCpu::set_unusable`] back.
    pub(crate) fn set_usable(&self, hw: &H, mm: MmHandle) {
        hw.store_local(&self.loaded_mm, mm.0);
    }

    /// Says whether a user space is loaded, also from an NMI: while this CPU is between two, none is.
    pub(crate) fn has_user_space(&self, hw: &H, init_mm: MmHandle) -> bool {
        let loaded = hw.load_local(&self.loaded_mm);
        loaded != SWITCHING && loaded != init_mm.0
    }

    /// Says, from another CPU, where this one is that is in a space's cpumask. An initiator asks after it has raised the
    /// generation: whoever is elsewhere then will see the raised one before it uses the space. Without PCIDs, whoever
    /// leaves a space leaves its cpumask.
    pub(crate) fn whereabouts(&self, hw: &H, mm: MmHandle) -> Whereabouts {
        if !hw.pcids_are_on() {
            return Whereabouts::Inside;
        }
        match hw.load(&self.whereabouts) {
            SWITCHING => Whereabouts::Inside,
            loaded if loaded == mm.0 => Whereabouts::Inside,
            _ => Whereabouts::Elsewhere,
        }
    }

    /// Reads the global id under which this CPU uses the space that it has loaded, or had last, from any CPU.
    pub(crate) fn loaded_global(&self, hw: &H) -> Option<GlobalId> {
        GlobalId::in_word(hw.load(&self.loaded_global))
    }

    /// Says it. A plain store, after the CR3 load: whoever sees it finds this CPU under the id.
    pub(crate) fn set_loaded_global(&self, hw: &H, id: Option<GlobalId>) {
        hw.store(&self.loaded_global, GlobalId::word_of(id));
    }

    /// Reads whether the CPU is lazy. From another CPU, a hint: see [`crate::shootdown`].
    pub fn is_lazy(&self, hw: &H) -> bool {
        hw.load(&self.is_lazy) != 0
    }

    /// Sets the flag. The exchange also drains this CPU's write-combining buffers: see
    /// [`crate::Tlb::enter_lazy`].
    pub(crate) fn set_lazy(&self, hw: &H) {
        hw.swap(&self.is_lazy, 1);
    }

    /// Clears the flag. A plain store: who needs it seen before a load must fence.
    pub(crate) fn clear_lazy(&self, hw: &H) {
        hw.store(&self.is_lazy, 0);
    }

    /// Tells this CPU (the target) that `initiator` waits for it; says whether it was told so before, and has not answered.
    ///
    /// A full fence: what was raised and requested is visible before the bit, and the bit before the IPI that follows,
    /// which orders nothing itself.
    pub(crate) fn notify(&self, hw: &H, initiator: CpuId) -> bool {
        let (word, bit) = initiator.word_and_bit();
        hw.fetch_or(&self.inbox[word], bit) & bit != 0
    }

    /// Says, on another CPU, whether this one has yet to answer `initiator`.
    pub(crate) fn is_awaited(&self, hw: &H, initiator: CpuId) -> bool {
        let (word, bit) = initiator.word_and_bit();
        hw.load(&self.inbox[word]) & bit != 0
    }

    /// Reads one word of the inbox: the initiators that wait for this CPU.
    pub(crate) fn inbox(&self, hw: &H, word: usize) -> u64 {
        hw.load(&self.inbox[word])
    }

    /// Answers initiators: they take it for "that CPU uses nothing any more of what I have removed". A full fence.
    pub(crate) fn answer(&self, hw: &H, word: usize, initiators: u64) {
        hw.fetch_and(&self.inbox[word], !initiators);
    }

    /// Returns the space that this CPU retired last, and that is not reaped yet.
    pub(crate) fn last_retired(&self, hw: &H) -> Option<MmHandle> {
        handle_in(hw.load_local(&self.retired))
    }

    /// Sets it.
    pub(crate) fn set_last_retired(&self, hw: &H, mm: Option<MmHandle>) {
        hw.store_local(&self.retired, word_of(mm));
    }
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    extern crate std;

    use super::*;
    use crate::addr::{PhysAddr, VirtAddr};
    use crate::cpu_set::CpuSet;
    use crate::hw::{Cr3Load, Interrupts, Quirks, Until};
    use crate::mm::{Mm, MmId};

    /// A machine that nobody makes: only the size of its words matters.
    #[derive(Debug)]
    enum Paper {}

    impl Hw for Paper {
        type Atomic = AtomicU64;
        type Local = AtomicU64;
        fn cpu(&self) -> CpuId {
            match *self {}
        }
        fn load(&self, _: &AtomicU64) -> u64 {
            match *self {}
        }
        fn store(&self, _: &AtomicU64, _: u64) {
            match *self {}
        }
        fn fetch_add(&self, _: &AtomicU64, _: u64) -> u64 {
            match *self {}
        }
        fn fetch_or(&self, _: &AtomicU64, _: u64) -> u64 {
            match *self {}
        }
        fn fetch_and(&self, _: &AtomicU64, _: u64) -> u64 {
            match *self {}
        }
        fn swap(&self, _: &AtomicU64, _: u64) -> u64 {
            match *self {}
        }
        fn load_local(&self, _: &AtomicU64) -> u64 {
            match *self {}
        }
        fn store_local(&self, _: &AtomicU64, _: u64) {
            match *self {}
        }
        fn fence(&self) {
            match *self {}
        }
        fn interrupts(&self) -> Interrupts {
            match *self {}
        }
        fn disable_interrupts(&self) -> Interrupts {
            match *self {}
        }
        fn restore_interrupts(&self, _: Interrupts) {
            match *self {}
        }
        fn send_ipi<const WORDS: usize>(&self, _: &CpuSet<WORDS>) {
            match *self {}
        }
        fn pause_until(&self, _: &AtomicU64, _: Until) {
            match *self {}
        }
        fn load_cr3(&self, _: PhysAddr, _: Cr3Load) {
            match *self {}
        }
        fn invlpg(&self, _: VirtAddr) {
            match *self {}
        }
        fn quirks(&self) -> Quirks {
            match *self {}
        }
    }

    impl Pcids for Paper {}
    impl crate::broadcast::Broadcast for Paper {}

    /// Returns the offsets of whatever is written by others than what stands before it, then the size.
    fn bounds<const WORDS: usize, const SLOTS: usize>() -> [usize; 5] {
        type Cpu<const WORDS: usize, const SLOTS: usize> = PerCpu<Paper, WORDS, SLOTS>;
        [
            offset_of!(Cpu<WORDS, SLOTS>, loaded_mm),
            offset_of!(Cpu<WORDS, SLOTS>, is_lazy),
            offset_of!(Cpu<WORDS, SLOTS>, inbox),
            offset_of!(Cpu<WORDS, SLOTS>, requests),
            size_of::<Cpu<WORDS, SLOTS>>(),
        ]
    }

    #[test]
    fn who_writes_something_has_its_cache_lines_for_himself() {
        for bounds in [bounds::<1, 1>(), bounds::<1, 6>(), bounds::<8, 6>()] {
            assert!(bounds.is_sorted_by(|left, right| left < right));
            assert!(bounds.iter().all(|bound| bound % 64 == 0));
        }
        // Twelve lines of its own words, eight of them for what it holds back, one each for the next two, and four for its
        // requests.
        assert_eq!(bounds::<8, 6>(), [0, 768, 832, 896, 1152]);
    }

    #[test]
    fn what_stands_in_a_static_is_what_is_made_at_boot() {
        struct Words;
        impl Cells<Paper> for Words {
            fn atomic(&mut self, _: &'static str, value: u64) -> AtomicU64 {
                AtomicU64::new(value)
            }
            fn local(&mut self, _: &'static str, value: u64) -> AtomicU64 {
                AtomicU64::new(value)
            }
        }
        static CPU: PerCpu<Paper, 2, 3> = PerCpu::in_static(MmHandle(7));
        static SPACE: Mm<Paper, 2> = Mm::in_static(MmId(1), PhysAddr(0x1000));
        let cpu = PerCpu::<Paper, 2, 3>::new(MmHandle(7), &mut Words);
        let space = Mm::<Paper, 2>::new(MmId(1), PhysAddr(0x1000), &mut Words);
        assert_eq!(std::format!("{CPU:?}"), std::format!("{cpu:?}"));
        assert_eq!(std::format!("{SPACE:?}"), std::format!("{space:?}"));
    }

    #[test]
    fn what_an_initiator_asks_about_a_cpu_lies_on_one_line() {
        let lazy = offset_of!(PerCpu<Paper, 8, 6>, is_lazy);
        assert_eq!(lazy / 64, offset_of!(PerCpu<Paper, 8, 6>, whereabouts) / 64);
    }
}
