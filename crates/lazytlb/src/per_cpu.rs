//! A CPU's state: what it has loaded, whether it is lazy, and its two mailboxes.

use crate::addr::FlushRange;
use crate::cpu_set::{CpuId, CpuSet};
use crate::generation::{Generation, NextGen, OwnGen, SharedGen, TlbGen};
use crate::hw::{Cells, Hw, Until};
use crate::mm::{MmHandle, MmId};
use crate::words::ProtocolWord;

/// One CPU's part of the protocol's state.
#[derive(Debug)]
pub struct PerCpu<H: Hw, const WORDS: usize = 8> {
    /// The space whose root is in CR3. Accessed by this CPU with interrupts off only.
    loaded_mm: H::Local,
    /// I3: this CPU has flushed everything of the loaded space that generations up to this one
    /// removed. Raised only after the invalidation, never past a generation read before it.
    flushed_to: OwnGen<H>,
    /// 1 in lazy mode. I4: seen cleared by everyone before this CPU reads a generation to come back, or
    /// loads another root.
    is_lazy: H::Atomic,
    /// The initiators whose requests wait to be served here: a bit each.
    inbox: [H::Atomic; WORDS],
    /// The targets of this CPU's own request that have not served it yet: a bit each.
    unacknowledged: [H::Atomic; WORDS],
    /// This CPU's own request. I5: not rewritten before every target has acknowledged; an initiator
    /// has one at a time, because it waits with preemption off and handlers send none.
    request: RequestCells<H>,
}

/// The words that hold a [`Request`].
#[derive(Debug)]
struct RequestCells<H: Hw> {
    mm: H::Atomic,
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

impl<H: Hw, const WORDS: usize> PerCpu<H, WORDS> {
    /// Makes the state of a CPU that has the kernel's own space loaded and was never interrupted.
    pub fn new(init_mm: MmHandle, cells: &mut impl Cells<H>) -> Self {
        PerCpu {
            loaded_mm: cells.protocol_local(ProtocolWord::LoadedMm, init_mm.0),
            flushed_to: OwnGen::of_cpu(cells),
            is_lazy: cells.protocol_atomic(ProtocolWord::IsLazy, 0),
            inbox: core::array::from_fn(|_| cells.protocol_atomic(ProtocolWord::Inbox, 0)),
            unacknowledged: core::array::from_fn(|_| {
                cells.protocol_atomic(ProtocolWord::Unacknowledged, 0)
            }),
            request: RequestCells {
                mm: cells.protocol_atomic(ProtocolWord::RequestMm, 0),
                new_gen: SharedGen::of_request(cells),
                range: cells.protocol_atomic(ProtocolWord::RequestRange, 0),
            },
        }
    }

    /// Reads the loaded space. On this CPU only, with interrupts off.
    pub fn loaded_mm(&self, hw: &H) -> MmHandle {
        MmHandle(hw.load_local(&self.loaded_mm))
    }

    pub(crate) fn flushed_to(&self, hw: &H) -> TlbGen {
        self.flushed_to.load(hw)
    }

    pub(crate) fn set_loaded_mm(&self, hw: &H, mm: MmHandle) {
        hw.store_local(&self.loaded_mm, mm.0);
    }

    pub(crate) fn set_flushed_to<const HAS_NEXT: bool>(
        &self,
        hw: &H,
        tlb_gen: Generation<HAS_NEXT>,
    ) {
        self.flushed_to.store(hw, tlb_gen);
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
    pub(crate) fn post(&self, hw: &H, request: Request, targets: &CpuSet<WORDS>) {
        hw.store(&self.request.mm, request.mm.0);
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
    ) -> impl Iterator<Item = CpuId> + use<H, WORDS> {
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

    /// Tells this CPU (the initiator) that `target` has served its request.
    pub(crate) fn acknowledge(&self, hw: &H, target: CpuId) {
        let (word, bit) = target.word_and_bit();
        hw.fetch_and(&self.unacknowledged[word], !bit);
    }

    /// Waits until every target of this CPU's request has acknowledged. Interrupts must be enabled.
    pub(crate) fn wait_for_acknowledgements(&self, hw: &H, targets: &CpuSet<WORDS>) {
        for (word, &bits) in self.unacknowledged.iter().zip(targets.words()) {
            if bits != 0 {
                hw.pause_until(word, Until::Zero);
            }
        }
    }
}
