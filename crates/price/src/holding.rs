//! What a flush that frees page tables does where they may be held back, under [`Policy::Quarantine`]: the kernel's part of it.
//!
//! A recording tells that a flush frees page tables, and not how many. So a replay takes one end: a flush frees [`Freed::Fewest`], one table, or
//! [`Freed::Most`], every one whose reach its range touches, on four levels; and of one of everything, more than may be held
//! of a space. What lies between is not replayed.
//!
//! A CPU gives up what it may of what it holds when it goes lazy, and before a flush of its that frees page tables; where the
//! bound is reached, the protocol tries, too. Until then tables stay held, though nobody could walk them any more. The bounds are the
//! protocol's own, 64 of a space and 1,024 in all.

use lazytlb::{FlushRange, Flushed, FrameSink, HeldBatch, Kernel, MmHandle, PageRange, Released};

use crate::counts::Effect;
use crate::gathered::Table;
use crate::machine::CountingMachine;
use crate::pcids_on::Cpus;
use crate::spaces::INIT_MM;

/// How many page tables a flush frees, of which it is known that it frees some.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Freed {
    /// One.
    Fewest,
    /// As many as its range may have.
    Most,
}

/// The bits of an address below what one page table maps: of the lowest level, the next, and the third of four.
const REACHES: [u32; 3] = [21, 30, 39];

/// Locked instructions by which a gather counts itself in its space, and then not any more.
const LOCKED_OF_A_GATHER: u64 = 2;

impl Freed {
    /// Returns the number for a range, of which no more than `enough` matter.
    fn tables(self, range: FlushRange, enough: u64) -> u64 {
        match (self, range) {
            (Freed::Fewest, _) => 1,
            (Freed::Most, FlushRange::All) => enough,
            (Freed::Most, FlushRange::Pages(range)) => reached(range).min(enough),
        }
    }
}

/// Returns how many page tables a range touches the reach of.
fn reached(range: PageRange) -> u64 {
    let first = range.start.0;
    let bytes = range.len_pages.checked_shl(range.size.shift());
    let last = first.saturating_add(bytes.unwrap_or(u64::MAX).saturating_sub(1));
    let of_level = |shift| (last >> shift) - (first >> shift) + 1;
    REACHES
        .into_iter()
        .map(of_level)
        .fold(0, u64::saturating_add)
}

/// Counts what comes back at once, what is held, and what comes back later.
struct Sink<'a, C: Cpus, const WORDS: usize> {
    machine: &'a CountingMachine<C, WORDS>,
    report: Option<Flushed>,
}

impl<C: Cpus, const WORDS: usize> FrameSink for Sink<'_, C, WORDS> {
    type Item = Table;

    fn flushed(&mut self, report: Flushed) {
        self.report = Some(report);
    }

    fn release(&mut self, _table: Table) {}

    fn room(&self) -> u64 {
        // Of numbers there can be any: the bounds are the kernel's.
        u64::MAX
    }

    fn hold(&mut self, batch: HeldBatch, _table: Table) {
        let held = self.machine.held(batch);
        held.set(held.get() + 1);
        self.machine.may_give_up().set(true);
        self.machine.tally().count(Effect::TableHeld);
    }

    fn take_held(&mut self, batch: HeldBatch) -> Option<Table> {
        let held = self.machine.held(batch);
        held.set(held.get().checked_sub(1)?);
        if held.get() == 0 {
            self.machine.tally().count(Effect::BatchReleased);
        }
        Some(Table)
    }
}

impl<C: Cpus, const WORDS: usize> CountingMachine<C, WORDS> {
    /// Flushes a range of a space and frees page tables of it: within a gather, as a kernel has to that holds them back.
    ///
    /// What the gather itself costs is left out, since the flushes of other policies are replayed without one.
    pub(crate) fn flush_and_hold(&self, mm: MmHandle, range: FlushRange, freed: Freed) -> Flushed {
        let tally = self.tally();
        let before = tally.ipis_to_lazy_cpus();
        let (tlb, sink) = (
            self.tlb(),
            Sink {
                machine: self,
                report: None,
            },
        );
        let most_of_a_space = tlb.kernel().held_tables_of_a_space();
        let mut gather = tlb.gather(self, mm, self.gathered().take(), sink);
        match range {
            FlushRange::All => gather.everything(),
            FlushRange::Pages(pages) => gather.unhooked(pages),
        }
        for _ in 0..freed.tables(range, most_of_a_space + 1) {
            gather.free(self, Table);
        }
        let (sink, gathered) = gather.finish(self);
        self.gathered().set(gathered);
        tally.leave_out(Effect::Locked, LOCKED_OF_A_GATHER);
        // Lazy CPUs are spared, unless nothing more may be held.
        if tally.ipis_to_lazy_cpus() > before {
            tally.count(Effect::HoldFallback);
        }
        let held = |mm| self.spaces().get(mm).held_tables(self);
        tally.raise(Effect::TablesHeldPeak, held(INIT_MM));
        tally.raise(Effect::TablesHeldPeakOfASpace, held(mm));
        sink.report.expect("a gather flushes what was unhooked")
    }

    /// Gives up what the current CPU holds and nobody can walk any more.
    pub(crate) fn release_held(&self) -> Released {
        let tlb = self.tlb();
        let mut sink = Sink {
            machine: self,
            report: None,
        };
        self.giving_up(|| tlb.release_held(self, &mut sink))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lazytlb::{PageSize, VirtAddr};

    #[test]
    fn a_range_reaches_a_table_of_each_level_for_each_piece_that_it_touches() {
        let range = |start, len_pages, size| PageRange {
            start: VirtAddr(start),
            len_pages,
            size,
        };
        for (range, tables) in [
            (range(0x1000, 1, PageSize::Size4K), 3),
            (range(0x1f_f000, 2, PageSize::Size4K), 4),
            (range(0x3fff_f000, 2, PageSize::Size4K), 5),
            (range(0x7f_ffff_f000, 2, PageSize::Size4K), 6),
            (range(0, 512, PageSize::Size2M), 514),
            (range(0x1000, 1, PageSize::Size2M), 4),
        ] {
            assert_eq!(reached(range), tables, "{range:?}");
            let pages = FlushRange::Pages(range);
            assert_eq!(Freed::Fewest.tables(pages, 65), 1);
            assert_eq!(Freed::Most.tables(pages, 65), tables.min(65));
        }
        assert_eq!(Freed::Most.tables(FlushRange::All, 65), 65);
        // However great: no overflow.
        reached(range(u64::MAX, u64::MAX, PageSize::Size1G));
    }
}
