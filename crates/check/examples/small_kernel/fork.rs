//! Fork, and copy on write.

use lazytlb::{
    Batch, Entry, FlushRange, FrameKind, MmHandle, PageRange, PhysAddr, Tables, VirtAddr,
};

use super::kernel::{Forgets, Machine, SmallKernel};
use super::page_tables::{ENTRIES, PageShare, USER_ENTRIES, Unmapped};

impl<H: Machine, const SLOTS: usize> SmallKernel<H, SLOTS> {
    /// Copies a space into one that has no user mappings and that nobody knows yet. Both see the same pages, and neither may write them.
    pub(crate) fn fork(&self, hw: &H, parent: MmHandle, child: MmHandle) {
        let from = self.space(parent).mm.root();
        self.locked(hw, parent, || {
            for index in 0..USER_ENTRIES {
                let hooked = hw.read_entry(from, index);
                if hooked.is_present() {
                    let copy = hw.alloc_frame(FrameKind::Table);
                    self.share_pages(hw, hooked.frame(), copy);
                    self.hook(hw, child, index, Entry::to(copy));
                }
            }
            // Threads of the parent may have its pages cached as writable. Until that is over, nobody may rely on the copy.
            let promise = hw.promise_begins(self.spaces(parent), FlushRange::All);
            if self.forgets != Forgets::FlushOfFork {
                self.tlb.flush(hw, parent, FlushRange::All, Tables::Kept);
            }
            hw.promise_kept(promise);
        });
    }

    fn share_pages(&self, hw: &H, from: PhysAddr, to: PhysAddr) {
        for index in 0..ENTRIES {
            let entry = hw.read_entry(from, index);
            if entry.is_present() {
                self.share(hw, entry);
                let read_only = Entry::read_only(entry.frame());
                hw.write_entry(from, index, read_only);
                hw.write_entry(to, index, read_only);
            }
        }
    }

    /// Handles a fault on a write: gives the space a page of its own.
    pub(crate) fn write_fault(&self, hw: &H, space: MmHandle, addr: VirtAddr) {
        self.locked(hw, space, || {
            let root = self.space(space).mm.root();
            let mut gather = self
                .tlb
                .gather(hw, space, Batch::<_, 1>::new(), self.sink(hw, space));
            if let Some((table, index)) = self.place(hw, root, addr) {
                let entry = hw.read_entry(table, index);
                if entry.is_present() && !entry.is_writable() {
                    if self.is_shared(hw, entry) {
                        // A kernel copies the page's bytes here.
                        let own = self.new_page(hw);
                        hw.write_entry(table, index, own.into_entry());
                        gather.unmapped(PageRange::page(addr));
                        let old = PageShare::of_entry(entry);
                        match self.forgets {
                            Forgets::ShareUntilFlushed => self.give_up(hw, old),
                            _ => gather.free(hw, Unmapped::Page(old)),
                        }
                    } else {
                        // It allows more: no flush.
                        hw.write_entry(table, index, Entry::to(entry.frame()));
                    }
                }
            }
            gather.finish(hw);
        });
    }
}
