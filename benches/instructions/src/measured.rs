//! The functions inside which callgrind counts: one call of the protocol each.

use lazytlb::{
    CpuId, EnteredLazy, FlushRange, Flushed, Interrupted, MmHandle, Pinned, Retired, Switched,
    Tables,
};

use crate::null::{HasPcids, Null, NullTlb};

/// Switches to a space.
#[inline(never)]
pub(crate) fn switch<P: HasPcids, const WORDS: usize, const IN_USE: usize>(
    tlb: &NullTlb<P, WORDS, IN_USE>,
    hw: &Null<P>,
    next: MmHandle,
) -> Switched {
    tlb.switch_mm(hw, next)
}

/// Enters lazy mode.
#[inline(never)]
pub(crate) fn enter_lazy<P: HasPcids, const WORDS: usize, const IN_USE: usize>(
    tlb: &NullTlb<P, WORDS, IN_USE>,
    hw: &Null<P>,
) -> EnteredLazy {
    tlb.enter_lazy(hw)
}

/// Flushes.
#[inline(never)]
pub(crate) fn flush<P: HasPcids, const WORDS: usize, const IN_USE: usize>(
    tlb: &NullTlb<P, WORDS, IN_USE>,
    hw: &Null<P>,
    mm: MmHandle,
    range: FlushRange,
) -> Flushed {
    tlb.flush(hw, mm, range, Tables::Kept)
}

/// Serves requests.
#[inline(never)]
pub(crate) fn handle<P: HasPcids, const WORDS: usize, const IN_USE: usize>(
    tlb: &NullTlb<P, WORDS, IN_USE>,
    hw: &Null<P>,
) -> Interrupted {
    tlb.handle_flush_ipi(hw)
}

/// Nothing preempts this program.
struct NeverPreempted;

impl Pinned for NeverPreempted {}

/// Flushes in steps.
#[inline(never)]
pub(crate) fn shootdown<P: HasPcids, const WORDS: usize, const IN_USE: usize>(
    tlb: &NullTlb<P, WORDS, IN_USE>,
    hw: &Null<P>,
    mm: MmHandle,
    range: FlushRange,
) -> Flushed {
    let mut shootdown = tlb.start(hw, &NeverPreempted, ());
    tlb.add(hw, &mut shootdown, mm, range, Tables::Kept);
    tlb.send(hw, &mut shootdown);
    let ((), report) = tlb.wait(hw, shootdown);
    report
}

/// Runs what is not counted, in the middle of what is: callgrind counts from the entry of a function of this file to the
/// entry of the next, or the return.
#[inline(never)]
pub(crate) fn uncounted(work: &dyn Fn()) {
    work();
}

/// Looks into the inbox.
#[inline(never)]
pub(crate) fn serve<P: HasPcids, const WORDS: usize, const IN_USE: usize>(
    tlb: &NullTlb<P, WORDS, IN_USE>,
    hw: &Null<P>,
) -> Interrupted {
    tlb.serve_inbox(hw)
}

/// Retires a space.
#[inline(never)]
pub(crate) fn retire<P: HasPcids, const WORDS: usize, const IN_USE: usize>(
    tlb: &NullTlb<P, WORDS, IN_USE>,
    hw: &Null<P>,
    mm: MmHandle,
) -> Retired {
    tlb.retire(hw, mm)
}

/// The CPU that answers flushes.
pub(crate) const TARGET: CpuId = CpuId(1);
