//! The functions inside which callgrind counts: one call of the protocol each.

use lazytlb::{CpuId, EnteredLazy, FlushRange, Flushed, Interrupted, MmHandle, Switched, Tables};

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

/// The CPU that answers flushes.
pub(crate) const TARGET: CpuId = CpuId(1);
