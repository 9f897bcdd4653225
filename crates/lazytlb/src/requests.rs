//! What a CPU asks of others: hints, by which whoever is interrupted invalidates pages instead of everything.
//!
//! Nothing hangs on that a request is read: a target catches up with the newest generation of what it has loaded, whoever
//! asked. So nobody waits for room. A request that is overwritten, or read while it is written, is not found, and costs a
//! full flush.

use core::marker::PhantomData;
use core::sync::atomic::AtomicU64;

use crate::addr::FlushRange;
use crate::generation::{NextGen, SharedGen};
use crate::hw::{Cells, Hw};
use crate::mm::MmId;
use crate::policy::Tables;
use crate::words::ProtocolWord;

/// Requests that one CPU can have under way before the first is overwritten.
const REQUESTS: usize = 8;

/// The last requests of one CPU. Written by it alone, with interrupts off.
///
/// Each time that one is written is counted twice: before, and after. Who reads looks at these in the other order. If they are equal, nothing was
/// written meanwhile. Neither the space nor its generation would tell: both may be there again.
#[derive(Debug)]
pub(crate) struct Requests<H: Hw> {
    writes_begun: SharedGen<H>,
    writes_done: SharedGen<H>,
    requests: [Request<H>; REQUESTS],
    /// `Debug` needs that of the words.
    _words: PhantomData<H::Atomic>,
}

/// What one generation of a space removed.
#[derive(Debug)]
struct Request<H: Hw> {
    /// The space, by an identity that is never reused.
    mm: H::Atomic,
    new_gen: SharedGen<H>,
    /// What was removed: [`Removed::pack`].
    removed: H::Atomic,
}

/// What a generation of a space removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Removed {
    pub(crate) range: FlushRange,
    pub(crate) tables: Tables,
}

impl Removed {
    /// Packs it into a word. The range's own word has a sign bit more than it needs.
    fn pack(self) -> u64 {
        self.range.pack() << 1 | u64::from(self.tables.are_unhooked())
    }

    fn unpack(word: u64) -> Removed {
        Removed {
            range: FlushRange::unpack((word.cast_signed() >> 1).cast_unsigned()),
            tables: match word & 1 {
                0 => Tables::Kept,
                _ => Tables::Freed,
            },
        }
    }
}

/// No space's identity.
const NO_SPACE: u64 = u64::MAX;

impl<H: Hw<Atomic = AtomicU64>> Requests<H> {
    /// As [`Requests::new`], in a constant expression.
    pub(crate) const fn in_static() -> Self {
        Requests {
            writes_begun: SharedGen::of(AtomicU64::new(1)),
            writes_done: SharedGen::of(AtomicU64::new(1)),
            requests: [const {
                Request {
                    mm: AtomicU64::new(NO_SPACE),
                    new_gen: SharedGen::of(AtomicU64::new(1)),
                    removed: AtomicU64::new(0),
                }
            }; REQUESTS],
            _words: PhantomData,
        }
    }
}

impl<H: Hw> Requests<H> {
    /// Makes the requests of a CPU that has made none.
    pub(crate) fn new(cells: &mut impl Cells<H>) -> Self {
        Requests {
            writes_begun: SharedGen::of(cells.protocol_atomic(ProtocolWord::RequestsBegun, 1)),
            writes_done: SharedGen::of(cells.protocol_atomic(ProtocolWord::RequestsDone, 1)),
            requests: core::array::from_fn(|_| Request {
                mm: cells.protocol_atomic(ProtocolWord::RequestMm, NO_SPACE),
                new_gen: SharedGen::of(cells.protocol_atomic(ProtocolWord::RequestNewGen, 1)),
                removed: cells.protocol_atomic(ProtocolWord::RequestRemoved, 0),
            }),
            _words: PhantomData,
        }
    }

    /// Writes the `number`-th request of a shootdown. With interrupts off, on the CPU whose requests these are. Plain stores.
    pub(crate) fn write(
        &self,
        hw: &H,
        number: usize,
        mm: MmId,
        new_gen: NextGen,
        removed: Removed,
    ) {
        let this_write = self.writes_begun.load::<true>(hw).next();
        self.writes_begun.store(hw, this_write);
        let request = &self.requests[number % REQUESTS];
        hw.store(&request.mm, mm.0);
        request.new_gen.store(hw, new_gen);
        hw.store(&request.removed, removed.pack());
        self.writes_done.store(hw, this_write);
    }

    /// Looks for what a generation of a space removed, from any CPU.
    ///
    /// Inlined, so that only as much is unpacked as is looked at.
    #[inline(always)]
    pub(crate) fn find(&self, hw: &H, mm: MmId, new_gen: NextGen) -> Option<Removed> {
        let done = self.writes_done.load::<false>(hw);
        let mut requests = self.requests.iter();
        let request = requests.find(|request| request.is_about(hw, mm, new_gen))?;
        let removed = Removed::unpack(hw.load(&request.removed));
        (self.writes_begun.load::<false>(hw) == done).then_some(removed)
    }
}

impl<H: Hw> Request<H> {
    /// Says whether the request is about this generation of this space.
    fn is_about(&self, hw: &H, mm: MmId, new_gen: NextGen) -> bool {
        hw.load(&self.mm) == mm.0 && self.new_gen.load::<false>(hw) == new_gen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{PageRange, PageSize, VirtAddr};

    #[test]
    fn packing_keeps_what_was_removed() {
        for start in [
            0,
            0x1000,
            0x7fff_ffff_f000,
            0xffff_ffff_8000_0000,
            0xff10_0000_0000_0000,
        ] {
            for tables in [Tables::Kept, Tables::Freed] {
                let range = FlushRange::Pages(PageRange {
                    start: VirtAddr(start),
                    len_pages: 4095,
                    size: PageSize::Size1G,
                });
                for range in [range, FlushRange::All] {
                    let removed = Removed { range, tables };
                    assert_eq!(Removed::unpack(removed.pack()), removed);
                }
            }
        }
    }
}
