//! Page-table isolation: a space has two roots, one for the kernel and one for user mode, and a slot two PCIDs.
//!
//! The kernel's code runs under the kernel half, and this crate too: everything else here is about that. A kernel that isolates
//! loads the user half last, on its way back to user mode, and the kernel half first, when it is entered. What a flush removes is removed from
//! both: at once from the half that is loaded when it runs, the kernel's; from the user half by the load that comes to it.

use crate::addr::PhysAddr;
use crate::hw::{Cr3Load, Hw, Interrupts};
use crate::kernel::Kernel;
use crate::pcids::{Pcid, Pcids};
use crate::per_cpu::PerCpu;
use crate::slots::Halves;
use crate::tlb::Tlb;

/// A CR3 value: what `load_cr3_pcid` of [`Pcids`] is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Cr3 {
    /// The root.
    pub root: PhysAddr,
    /// Its PCID; [`Pcid::KERNEL`] where there are none.
    pub pcid: Pcid,
    /// Whether the load is to flush or to keep what is cached under the PCID.
    pub load: Cr3Load,
}

impl Cr3 {
    /// Bit 63 of a value that is written to CR3: what is cached under the PCID stays.
    const KEEPS: u64 = 1 << 63;

    /// Returns the value to write to CR3: root, PCID, and bit 63 if it keeps. For entry code that is not Rust.
    ///
    /// Where there are no PCIDs, it is the root alone: what [`Tlb::user_half`] and [`Tlb::kernel_half`] return then has
    /// [`Pcid::KERNEL`] and flushes. Bit 63 is reserved there. Never 0, but for a root at 0.
    ///
    /// Source: SDM 3A, "Control Registers", and "Operations that Invalidate TLBs and Paging-Structure Caches", MOV to CR3.
    ///
    /// ```compile_fail,E0639
    /// // Nobody makes one but this crate, so none keeps where there are no PCIDs.
    /// use lazytlb::{Cr3, Cr3Load, Pcid, PhysAddr};
    /// let cr3 = Cr3 { root: PhysAddr(0x1000), pcid: Pcid::KERNEL, load: Cr3Load::Keep };
    /// ```
    pub const fn raw(self) -> u64 {
        let keeps = match self.load {
            Cr3Load::Keep => Self::KEEPS,
            Cr3Load::Flush => 0,
        };
        self.root.0 | self.pcid.number() as u64 | keeps
    }

    /// Loads CR3 so.
    pub fn load<H: Pcids>(self, hw: &H) {
        hw.load_cr3_pcid(self.root, self.pcid, self.load);
    }
}

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Returns what to load into CR3 to go back to user mode in the space that is loaded, or `None` if it has one root only.
    ///
    /// Load it, and before interrupts are enabled again: what was due in the user half is not due any more once this has returned, so a value
    /// that is thrown away loses a flush, and an interrupt in between flushes what is loaded then too early. Nothing else of this crate may
    /// be called until [`Tlb::kernel_half`] is loaded: neither from an interrupt handler. Whoever needs both asks for the kernel half first.
    ///
    /// Cost: some loads, a store if the user half is flushed.
    ///
    /// # Panics
    /// If interrupts are enabled: a flush that comes after this would be lost.
    ///
    /// Checked by: programs `isolated`, `isolated-tables`.
    pub fn user_half(&self, hw: &K::Hw) -> Option<Cr3> {
        assert!(
            hw.interrupts() == Interrupts::Disabled,
            "what to load for user mode is asked with interrupts off"
        );
        let me = self.kernel.this_cpu(hw);
        let mm = self.kernel.mm(me.loaded_mm(hw));
        let root = mm.user_root()?;
        if !hw.pcids_are_on() {
            return Some(Cr3 {
                root,
                pcid: Pcid::KERNEL,
                load: Cr3Load::Flush,
            });
        }
        let slot = me.slots.current(hw);
        let load = match me.slots.due(hw, slot).contain(Halves::USER) {
            true => Cr3Load::Flush,
            false => Cr3Load::Keep,
        };
        if load == Cr3Load::Flush {
            // The kernel half is loaded, so it is not due.
            me.slots.set_due(hw, slot, Halves::NONE);
        }
        Some(Cr3 {
            root,
            pcid: match self.global_of_slot(hw, me, slot) {
                Some(id) => id.pcid_of_user_half::<SLOTS>(),
                None => slot.pcid_of_user_half::<SLOTS>(),
            },
            load,
        })
    }

    /// Returns what to load into CR3 when the kernel is entered from user mode, or `None` if the space has one root only.
    ///
    /// To be loaded with interrupts off, before anything else of this crate is called. With PCIDs, it keeps what is cached. It stays the same until this
    /// CPU goes to user mode and comes back: store its [`Cr3::raw`] on the way out, and the entry code looks nothing up.
    ///
    /// Cost: some loads.
    ///
    /// # Panics
    /// If interrupts are enabled: the flush interrupt may leave the space.
    ///
    /// Checked by: programs `isolated`, `isolated-tables`.
    pub fn kernel_half(&self, hw: &K::Hw) -> Option<Cr3> {
        assert!(
            hw.interrupts() == Interrupts::Disabled,
            "what to load for the kernel is asked with interrupts off"
        );
        let me = self.kernel.this_cpu(hw);
        let mm = self.kernel.mm(me.loaded_mm(hw));
        mm.user_root()?;
        Some(match hw.pcids_are_on() {
            true => Cr3 {
                root: mm.root(),
                pcid: self.pcid_of_kernel_half(hw, me),
                load: Cr3Load::Keep,
            },
            false => Cr3 {
                root: mm.root(),
                pcid: Pcid::KERNEL,
                load: Cr3Load::Flush,
            },
        })
    }

    fn pcid_of_kernel_half(&self, hw: &K::Hw, me: &PerCpu<K::Hw, WORDS, SLOTS>) -> Pcid {
        let slot = me.slots.current(hw);
        match self.global_of_slot(hw, me, slot) {
            Some(id) => id.pcid::<SLOTS>(),
            None => slot.pcid(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_value_has_root_and_pcid_and_says_whether_it_keeps() {
        let cr3 = |number, load| Cr3 {
            root: PhysAddr(0x1234_5000),
            pcid: Pcid::new(number),
            load,
        };
        assert_eq!(cr3(0, Cr3Load::Flush).raw(), 0x1234_5000);
        assert_eq!(cr3(0xfff, Cr3Load::Flush).raw(), 0x1234_5fff);
        assert_eq!(cr3(7, Cr3Load::Keep).raw(), 0x8000_0000_1234_5007);
    }
}
