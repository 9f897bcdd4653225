//! Page-table isolation: to user mode and back.

use lazytlb::{Cr3, Cr3Load, Pcid, PhysAddr};

use super::kernel::{Forgets, Machine, SmallKernel};

/// The bits of a CR3 value.
const PCID: u64 = 0xfff;
const KEEP: u64 = 1 << 63;

/// What the entry code does with a value of [`Cr3::raw`].
fn load(hw: &impl Machine, raw: u64) {
    let load = match raw & KEEP {
        0 => Cr3Load::Flush,
        _ => Cr3Load::Keep,
    };
    let root = PhysAddr(raw & !(KEEP | PCID));
    hw.load_cr3_pcid(root, Pcid::new((raw & PCID) as u16), load);
}

impl<H: Machine, const SLOTS: usize> SmallKernel<H, SLOTS> {
    /// Runs user code. Without a second root there is nothing to load.
    pub(crate) fn in_user_mode(&self, hw: &H, user: impl FnOnce()) {
        let mut former = hw.disable_interrupts();
        let user_half = self.tlb.user_half(hw);
        if self.forgets == Forgets::InterruptsOff {
            hw.restore_interrupts(former);
            former = hw.disable_interrupts();
        }
        self.leave_kernel(hw, user_half);
        hw.restore_interrupts(former);
        user();
        let former = hw.disable_interrupts();
        self.enter_kernel(hw);
        hw.restore_interrupts(former);
    }

    /// The flush interrupt, from wherever it comes.
    pub(crate) fn flush_interrupt(&self, hw: &H) {
        let from_user = self.enter_kernel(hw);
        self.tlb.handle_flush_ipi(hw);
        if from_user {
            self.leave_kernel(hw, self.tlb.user_half(hw));
        }
    }

    /// Loads the user half, and leaves the other where the entry code finds it. Interrupts are off.
    fn leave_kernel(&self, hw: &H, user_half: Option<Cr3>) {
        if let (Some(kernel), Some(user)) = (self.tlb.kernel_half(hw), user_half) {
            hw.store_local(self.entry_cr3(hw), kernel.raw());
            load(hw, user.raw());
        }
    }

    /// Loads the kernel half, if the user's is loaded. Interrupts are off. Says whether it was.
    fn enter_kernel(&self, hw: &H) -> bool {
        let entry_cr3 = hw.load_local(self.entry_cr3(hw));
        if entry_cr3 == 0 {
            return false;
        }
        load(hw, entry_cr3);
        hw.store_local(self.entry_cr3(hw), 0);
        true
    }
}
