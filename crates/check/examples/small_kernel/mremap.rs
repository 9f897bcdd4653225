//! Mremap: pages move, none is freed.

use lazytlb::{Entry, FlushRange, MmHandle, PageRange, Promise, Tables, VirtAddr};

use super::kernel::{Forgets, Machine, PreemptionOff, SmallKernel};
use super::page_tables::PageShare;

/// A page under way: where it goes, and what is promised of where it was.
struct Moving {
    to: VirtAddr,
    share: PageShare,
    promise: Promise,
}

impl<H: Machine, const SLOTS: usize> SmallKernel<H, SLOTS> {
    /// Moves pages, each from one address to another where none is mapped.
    pub(crate) fn mremap(&self, hw: &H, space: MmHandle, moves: &[(VirtAddr, VirtAddr)]) {
        self.locked(hw, space, || {
            let taken: Vec<(VirtAddr, Moving)> = moves
                .iter()
                .filter_map(|&(from, to)| Some((from, self.take(hw, space, from, to)?)))
                .collect();
            let from: Vec<VirtAddr> = taken.iter().map(|&(from, _)| from).collect();
            let moving = taken.into_iter().map(|(_, moving)| moving).collect();
            self.flush_and_put(hw, space, &from, moving);
        });
    }

    /// Removes a page from where it is mapped.
    fn take(&self, hw: &H, space: MmHandle, from: VirtAddr, to: VirtAddr) -> Option<Moving> {
        let root = self.space(space).mm.root();
        let (table, index) = self.place(hw, root, from)?;
        let entry = hw.read_entry(table, index);
        if !entry.is_present() {
            return None;
        }
        hw.write_entry(table, index, Entry::ABSENT);
        Some(Moving {
            to,
            share: PageShare::of_entry(entry),
            promise: hw.promise_begins(self.spaces(space), FlushRange::page(from)),
        })
    }

    /// One shootdown for all of them; only then are they mapped elsewhere, where somebody may unmap and free them.
    fn flush_and_put(&self, hw: &H, space: MmHandle, from: &[VirtAddr], moving: Vec<Moving>) {
        let guard = PreemptionOff;
        let mut shootdown = self.tlb.start(hw, &guard, moving);
        let adds = match self.forgets {
            Forgets::SecondAdd => 1,
            _ => usize::MAX,
        };
        for &addr in from.iter().take(adds) {
            let page = FlushRange::Pages(PageRange::page(addr));
            self.tlb.add(hw, &mut shootdown, space, page, Tables::Kept);
        }
        self.tlb.send(hw, &mut shootdown);
        let (moving, _report) = self.tlb.wait(hw, shootdown);
        for moved in moving {
            hw.promise_kept(moved.promise);
            self.map(hw, space, moved.to, moved.share);
        }
    }
}
