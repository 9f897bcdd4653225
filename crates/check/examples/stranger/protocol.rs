//! A stranger's protocol, generic over the seam: it names no machine.
//!
//! A lock by compare-exchange around the page tables; a shootdown by broadcast where the CPU has that, by interrupts
//! elsewhere. `main.rs` checks it, and `crates/x86/tests/stranger.rs` makes the same code for real CPUs.

use lazytlb::{
    Broadcast, CompareExchange, CpuSet, FlushRange, Globals, Hw, Invlpgb, PageRange, Poll, Strides,
    Until,
};

/// What may be left out, and must not be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LeftOut {
    /// All is there.
    Nothing,
    /// The fence between the changes and the broadcasts.
    Fence,
    /// The wait for the broadcasts.
    Tlbsync,
    /// All broadcasts but the first.
    OtherRuns,
    /// The one step in which the lock is found free and taken.
    OneStep,
}

/// The protocol's words, which are the machine's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shootdown<A> {
    /// 0 while it is free.
    pub(crate) lock: A,
    /// What is to be flushed, packed.
    pub(crate) request: A,
    /// Who has not flushed it yet, a bit each.
    pub(crate) pending: A,
    /// What is wrong with it.
    pub(crate) left_out: LeftOut,
}

impl<A> Shootdown<A> {
    /// Takes the lock. Interrupts must be on: the holder may wait for this CPU.
    pub(crate) fn lock<H>(&self, hw: &H)
    where
        H: Hw<Atomic = A> + CompareExchange + Poll,
    {
        hw.poll(|hw| match self.left_out {
            LeftOut::OneStep => (hw.load(&self.lock) == 0).then(|| hw.store(&self.lock, 1)),
            _ => hw.compare_exchange(&self.lock, 0, 1).ok().map(drop),
        });
    }

    /// Gives the lock back.
    pub(crate) fn unlock<H: Hw<Atomic = A>>(&self, hw: &H) {
        hw.store(&self.lock, 0);
    }

    /// Returns when no CPU uses what was removed from these pages. The caller holds the lock, and removed it before.
    pub(crate) fn flush<H>(&self, hw: &H, others: &CpuSet<1>, range: PageRange)
    where
        H: Hw<Atomic = A> + Broadcast,
    {
        let Some(most) = hw.most_addresses() else {
            return self.flush_by_interrupts(hw, others, range);
        };
        // A target that invalidates before it can see the changes would cache the old entries again.
        if self.left_out != LeftOut::Fence {
            hw.fence();
        }
        let runs = match self.left_out {
            LeftOut::OtherRuns => 1,
            _ => usize::MAX,
        };
        for run in Strides::over(range, most).take(runs) {
            hw.invlpgb(Invlpgb {
                addresses: Some(run),
                globals: Globals::Kept,
                ..Invlpgb::EVERYTHING
            });
        }
        if self.left_out != LeftOut::Tlbsync {
            hw.tlbsync();
        }
    }

    fn flush_by_interrupts<H>(&self, hw: &H, others: &CpuSet<1>, range: PageRange)
    where
        H: Hw<Atomic = A>,
    {
        hw.store(&self.request, FlushRange::Pages(range).pack());
        hw.store(
            &self.pending,
            others.iter().fold(0, |set, cpu| set | 1 << cpu.0),
        );
        // The interrupt orders nothing (H36).
        hw.fence();
        hw.send_ipi(others);
        range.pages().for_each(|page| hw.invlpg(page));
        hw.pause_until(&self.pending, Until::Zero);
    }

    /// The flush interrupt's handler.
    pub(crate) fn handle<H: Hw<Atomic = A>>(&self, hw: &H) {
        let me = 1 << hw.cpu().0;
        if hw.load(&self.pending) & me == 0 {
            return;
        }
        if let FlushRange::Pages(range) = FlushRange::unpack(hw.load(&self.request)) {
            range.pages().for_each(|page| hw.invlpg(page));
        }
        hw.fetch_and(&self.pending, !me);
    }
}
