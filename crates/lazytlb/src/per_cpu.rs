//! A CPU's state: what it has loaded, whether it is lazy, and its two mailboxes.

use crate::addr::FlushRange;
use crate::cpu_set::{CpuId, CpuSet};
use crate::generation::{NextGen, SharedGen};
use crate::hw::{Cells, Hw, Until};
use crate::mm::{MmHandle, MmId};
use crate::pcids::Pcids;
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
    pub(crate) slots: Slots<H, SLOTS>,

    _written_here_read_by_initiators: CacheLine,
    /// 1 in lazy mode. I4: seen cleared by everyone before this CPU reads a generation to come back, or
    /// loads another root.
    is_lazy: H::Atomic,
    /// With PCIDs, what `loaded_mm` says, for others: initiators spare a CPU that is elsewhere. I9: it says
    /// [`SWITCHING`], for everyone to see, before this CPU reads the generation of the space that it comes to, and the
    /// space only when that is loaded.
    whereabouts: H::Atomic,

    _written_by_initiators: CacheLine,
    /// The initiators whose requests wait to be served here: a bit each.
    inbox: [H::Atomic; WORDS],

    _written_by_targets: CacheLine,
    /// The targets of this CPU's own request that have not served it yet: a bit each.
    unacknowledged: [H::Atomic; WORDS],

    _written_here_read_by_targets: CacheLine,
    /// This CPU's own request. I5: not rewritten before every target has acknowledged; an initiator
    /// has one at a time, because it waits with preemption off and handlers send none.
    request: RequestCells<H>,
}

/// Begins a cache line: it takes no room, and what is declared after it is written by others than what stands before.
#[derive(Debug)]
#[repr(align(64))]
struct CacheLine;

/// The words that hold a [`Request`].
#[derive(Debug)]
struct RequestCells<H: Hw> {
    mm: H::Atomic,
    /// With PCIDs, the handle of the same space, which lives until every target has acknowledged.
    handle: H::Atomic,
    new_gen: SharedGen<H>,
    range: H::Atomic,
}

/// A shootdown request: what an initiator asks of its targets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    /// The space to flush, by an identity that is never reused.
    pub(crate) mm: MmId,
    /// The generation that this flush completes.
    pub(crate) new_gen: NextGen,
    /// What was removed.
    pub(crate) range: FlushRange,
}

/// What stands for the loaded space while this CPU is between two: it may use either, so both take it for inside.
const SWITCHING: u64 = u64::MAX;

/// Where a CPU is, as seen from another one: a hint that [`PerCpu::set_switching`] makes safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whereabouts {
    /// It has the space loaded, or is switching.
    Inside,
    /// It has another user space loaded. If it has kept what it had cached, a walk may still be under way.
    Elsewhere,
    /// It has the kernel's own space loaded, and has ended every walk since.
    InInitMm,
}

impl<H: Pcids, const WORDS: usize, const SLOTS: usize> PerCpu<H, WORDS, SLOTS> {
    /// Makes the state of a CPU that has the kernel's own space loaded and was never interrupted.
    pub fn new(init_mm: MmHandle, cells: &mut impl Cells<H>) -> Self {
        PerCpu {
            _own: CacheLine,
            _written_here_read_by_initiators: CacheLine,
            _written_by_initiators: CacheLine,
            _written_by_targets: CacheLine,
            _written_here_read_by_targets: CacheLine,
            loaded_mm: cells.protocol_local(ProtocolWord::LoadedMm, init_mm.0),
            whereabouts: cells.protocol_atomic(ProtocolWord::Whereabouts, init_mm.0),
            slots: Slots::new(cells),
            is_lazy: cells.protocol_atomic(ProtocolWord::IsLazy, 0),
            inbox: core::array::from_fn(|_| cells.protocol_atomic(ProtocolWord::Inbox, 0)),
            unacknowledged: core::array::from_fn(|_| {
                cells.protocol_atomic(ProtocolWord::Unacknowledged, 0)
            }),
            request: RequestCells {
                mm: cells.protocol_atomic(ProtocolWord::RequestMm, 0),
                handle: cells.protocol_atomic(ProtocolWord::RequestHandle, 0),
                new_gen: SharedGen::of_request(cells),
                range: cells.protocol_atomic(ProtocolWord::RequestRange, 0),
            },
        }
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
    pub(crate) fn whereabouts(&self, hw: &H, mm: MmHandle, init_mm: MmHandle) -> Whereabouts {
        if !hw.pcids_are_on() {
            return Whereabouts::Inside;
        }
        match hw.load(&self.whereabouts) {
            SWITCHING => Whereabouts::Inside,
            loaded if loaded == mm.0 => Whereabouts::Inside,
            loaded if loaded == init_mm.0 => Whereabouts::InInitMm,
            _ => Whereabouts::Elsewhere,
        }
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

    /// Writes this CPU's request and the set of targets that owe an acknowledgement. Plain
    /// stores: [`PerCpu::notify`] orders them.
    pub(crate) fn post(&self, hw: &H, mm: MmHandle, request: Request, targets: &CpuSet<WORDS>) {
        hw.store(&self.request.mm, request.mm.0);
        if hw.pcids_are_on() {
            hw.store(&self.request.handle, mm.0);
        }
        self.request.new_gen.store(hw, request.new_gen);
        hw.store(&self.request.range, request.range.pack());
        for (word, &bits) in self.unacknowledged.iter().zip(targets.words()) {
            if bits != 0 {
                hw.store(word, bits);
            }
        }
    }

    /// Tells this CPU (the target) that `initiator` has a request for it. A full fence: the
    /// initiator's request is visible before the bit, and the bit before the IPI that follows, which
    /// orders nothing itself. Pairs with [`PerCpu::take_inbox`].
    pub(crate) fn notify(&self, hw: &H, initiator: CpuId) {
        let (word, bit) = initiator.word_and_bit();
        hw.fetch_or(&self.inbox[word], bit);
    }

    /// Takes one word of the inbox: the initiators to serve. Pairs with [`PerCpu::notify`].
    pub(crate) fn take_inbox(
        &self,
        hw: &H,
        word: usize,
    ) -> impl Iterator<Item = CpuId> + use<H, WORDS, SLOTS> {
        crate::cpu_set::members_of_word(word, hw.swap(&self.inbox[word], 0))
    }

    /// Reads this CPU's (the initiator's) request.
    pub(crate) fn request(&self, hw: &H) -> Request {
        Request {
            mm: MmId(hw.load(&self.request.mm)),
            new_gen: self.request.new_gen.load(hw),
            range: FlushRange::unpack(hw.load(&self.request.range)),
        }
    }

    /// Reads the handle of the space that this CPU's (the initiator's) request is about: with PCIDs only, and until it is
    /// acknowledged.
    pub(crate) fn requested_mm(&self, hw: &H) -> MmHandle {
        MmHandle(hw.load(&self.request.handle))
    }

    /// Tells this CPU (the initiator) that `target` has served its request.
    pub(crate) fn acknowledge(&self, hw: &H, target: CpuId) {
        let (word, bit) = target.word_and_bit();
        hw.fetch_and(&self.unacknowledged[word], !bit);
    }

    /// Waits until every target of this CPU's request has acknowledged. Interrupts must be enabled.
    #[inline(never)]
    pub(crate) fn wait_for_acknowledgements(&self, hw: &H, targets: &CpuSet<WORDS>) {
        for (word, &bits) in self.unacknowledged.iter().zip(targets.words()) {
            if bits != 0 {
                hw.pause_until(word, Until::Zero);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;
    use core::sync::atomic::AtomicU64;

    use super::*;
    use crate::addr::{PhysAddr, VirtAddr};
    use crate::hw::{Cr3Load, Interrupts, Quirks};

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

    /// Returns the offsets of whatever is written by others than what stands before it, then the size.
    fn bounds<const WORDS: usize, const SLOTS: usize>() -> [usize; 6] {
        type Cpu<const WORDS: usize, const SLOTS: usize> = PerCpu<Paper, WORDS, SLOTS>;
        [
            offset_of!(Cpu<WORDS, SLOTS>, loaded_mm),
            offset_of!(Cpu<WORDS, SLOTS>, is_lazy),
            offset_of!(Cpu<WORDS, SLOTS>, inbox),
            offset_of!(Cpu<WORDS, SLOTS>, unacknowledged),
            offset_of!(Cpu<WORDS, SLOTS>, request),
            size_of::<Cpu<WORDS, SLOTS>>(),
        ]
    }

    #[test]
    fn who_writes_something_has_its_cache_lines_for_himself() {
        for bounds in [bounds::<1, 1>(), bounds::<1, 6>(), bounds::<8, 6>()] {
            assert!(bounds.is_sorted_by(|left, right| left < right));
            assert!(bounds.iter().all(|bound| bound % 64 == 0));
        }
        // Two lines of its own words, and one each for the other four.
        assert_eq!(bounds::<8, 6>(), [0, 128, 192, 256, 320, 384]);
    }

    #[test]
    fn what_an_initiator_asks_about_a_cpu_lies_on_one_line() {
        let lazy = offset_of!(PerCpu<Paper, 8, 6>, is_lazy);
        assert_eq!(lazy / 64, offset_of!(PerCpu<Paper, 8, 6>, whereabouts) / 64);
    }
}
