//! Exec, exit, and the end of a space.

use lazytlb::{MmHandle, PhysAddr};

use super::kernel::{Forgets, Machine, SmallKernel};
use super::page_tables::{ENTRIES, PageShare, USER_ENTRIES};

/// A counted reference to a space. Whoever drops the last one, wherever that is, retires the space.
pub(crate) struct SpaceRef<'k, H: Machine, const SLOTS: usize> {
    kernel: &'k SmallKernel<H, SLOTS>,
    hw: &'k H,
    space: MmHandle,
}

impl<'k, H: Machine, const SLOTS: usize> SpaceRef<'k, H, SLOTS> {
    /// Takes over the reference that a task has had.
    pub(crate) fn of_task(kernel: &'k SmallKernel<H, SLOTS>, hw: &'k H, space: MmHandle) -> Self {
        SpaceRef { kernel, hw, space }
    }
}

impl<H: Machine, const SLOTS: usize> Drop for SpaceRef<'_, H, SLOTS> {
    fn drop(&mut self) {
        let (kernel, hw) = (self.kernel, self.hw);
        let space = kernel.space(self.space);
        if hw.fetch_add(&space.references, 1u64.wrapping_neg()) == 1 {
            kernel.tlb.retire(hw, self.space);
            if kernel.forgets == Forgets::Reap {
                kernel.free_tables(hw, space.mm.root());
            }
        }
    }
}

impl<H: Machine, const SLOTS: usize> SmallKernel<H, SLOTS> {
    /// A task goes on in a new space.
    pub(crate) fn exec(&self, hw: &H, old: SpaceRef<'_, H, SLOTS>, new: MmHandle) {
        self.tlb.switch_mm(hw, new);
        drop(old);
    }

    /// A task ends, and its last breath is with interrupts off.
    pub(crate) fn exit(&self, hw: &H, last: SpaceRef<'_, H, SLOTS>) {
        self.tlb.enter_lazy(hw);
        let former = hw.disable_interrupts();
        drop(last);
        hw.restore_interrupts(former);
    }

    /// Frees the spaces that this CPU has retired, where memory can be freed and nothing else is to be done. Returns how many there were.
    pub(crate) fn idle(&self, hw: &H) -> u64 {
        let mut freed = 0;
        while self.forgets != Forgets::Reap && self.tlb.has_retired(hw) {
            let reaped = hw.poll(|hw| self.tlb.reap(hw));
            self.free_tables(hw, reaped.root);
            if let Some(user_root) = reaped.user_root {
                hw.free_frame(user_root);
            }
            freed += 1;
        }
        freed
    }

    /// Frees the user's part of a space that no CPU can reach: without any flush.
    fn free_tables(&self, hw: &H, root: PhysAddr) {
        for index in 0..USER_ENTRIES {
            let hooked = hw.read_entry(root, index);
            if !hooked.is_present() {
                continue;
            }
            for index in 0..ENTRIES {
                let entry = hw.read_entry(hooked.frame(), index);
                if entry.is_present() {
                    self.give_up(hw, PageShare::of_entry(entry));
                }
            }
            hw.free_frame(hooked.frame());
        }
        hw.free_frame(root);
    }
}
