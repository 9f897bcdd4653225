//! What the kernel maps for itself, in every space.

use lazytlb::{Access, Batch, Entry, MmHandle, PageRange, PhysAddr, Spaces, VirtAddr};

use super::kernel::{Forgets, INIT_MM, Machine, SmallKernel};
use super::page_tables::{Freeing, PageShare, Unmapped};

impl<H: Machine, const SLOTS: usize> SmallKernel<H, SLOTS> {
    /// Unmaps a page of the kernel's and frees it. Its table is hooked into every root, and stays.
    pub(crate) fn vfree(&self, hw: &H, addr: VirtAddr, in_its_view: MmHandle) {
        let root: PhysAddr = self.space(INIT_MM).mm.root();
        let (table, index) = self
            .place(hw, root, addr)
            .expect("the kernel's tables stay");
        let sink = Freeing {
            kernel: self,
            hw,
            spaces: Spaces::All,
            promises: Vec::new(),
        };
        let storage = Batch::<_, 1>::new();
        let mut gather = match self.forgets {
            Forgets::OtherSpaces => self.tlb.gather(hw, in_its_view, storage, sink),
            _ => self.tlb.gather_kernel(hw, storage, sink),
        };
        let page = PageShare::of_entry(hw.read_entry(table, index));
        hw.write_entry(table, index, Entry::ABSENT);
        gather.unmapped(PageRange::page(addr));
        gather.free(hw, Unmapped::Page(page));
        gather.finish(hw);
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
