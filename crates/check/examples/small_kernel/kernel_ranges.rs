//! What the kernel maps for itself, in every space.

use lazytlb::{Access, Entry, FlushRange, MmHandle, PhysAddr, Spaces, Tables, VirtAddr};

use super::kernel::{Forgets, INIT_MM, Machine, SmallKernel};
use super::page_tables::PageShare;

impl<H: Machine, const SLOTS: usize> SmallKernel<H, SLOTS> {
    /// Unmaps a page of the kernel's and frees it. Its table is hooked into every root, and stays.
    pub(crate) fn vfree(&self, hw: &H, addr: VirtAddr, in_its_view: MmHandle) {
        let root: PhysAddr = self.space(INIT_MM).mm.root();
        let (table, index) = self
            .place(hw, root, addr)
            .expect("the kernel's tables stay");
        let page = PageShare::of_entry(hw.read_entry(table, index));
        hw.write_entry(table, index, Entry::ABSENT);
        let range = FlushRange::page(addr);
        let promise = hw.promise_begins(Spaces::All, range);
        match self.forgets {
            Forgets::OtherSpaces => self.tlb.flush(hw, in_its_view, range, Tables::Kept),
            _ => self.tlb.flush_kernel(hw, range, Tables::Kept),
        };
        hw.promise_kept(promise);
        self.give_up(hw, page);
    }

    /// A CPU comes online: before it uses anything of the kernel's that may be unmapped.
    pub(crate) fn come_online(&self, hw: &H, used: VirtAddr) {
        if self.forgets == Forgets::OnlineFirst {
            hw.touch(used, Access::Load);
        }
        self.tlb.cpu_online(hw);
        hw.touch(used, Access::Load);
    }
}
