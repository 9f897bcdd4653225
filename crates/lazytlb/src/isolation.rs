//! Page-table isolation: a space has two roots, one for the kernel and one for user mode, and a slot two PCIDs.
//!
//! The kernel's code runs under the kernel half, and this crate too: everything else here is about that. A kernel that isolates
//! loads the user half last, on its way back to user mode, and the kernel half first, when it is entered. What a flush removes is removed from
//! both: at once from the half that is loaded when it runs, the kernel's; from the user half by the load that comes to it.

use crate::addr::PhysAddr;
use crate::hw::{Cr3Load, Hw, Interrupts};
use crate::kernel::Kernel;
use crate::pcids::{Pcid, Pcids};
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
    /// Loads CR3 so.
    pub fn load<H: Pcids>(self, hw: &H) {
        hw.load_cr3_pcid(self.root, self.pcid, self.load);
    }
}

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Returns what to load into CR3 to go back to user mode in the space that is loaded, or `None` if it has one root only.
    ///
    /// Load it before interrupts are enabled again, or an interrupt in between flushes what is loaded then too early. Nothing else of this crate may
    /// be called until [`Tlb::kernel_half`] is loaded: neither from an interrupt handler.
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
            pcid: slot.pcid_of_user_half::<SLOTS>(),
            load,
        })
    }

    /// Returns what to load into CR3 when the kernel is entered from user mode, or `None` if the space has one root only.
    ///
    /// With interrupts off, before anything else of this crate is called. With PCIDs, it keeps what is cached.
    pub fn kernel_half(&self, hw: &K::Hw) -> Option<Cr3> {
        let me = self.kernel.this_cpu(hw);
        let mm = self.kernel.mm(me.loaded_mm(hw));
        mm.user_root()?;
        Some(match hw.pcids_are_on() {
            true => Cr3 {
                root: mm.root(),
                pcid: me.slots.current(hw).pcid(),
                load: Cr3Load::Keep,
            },
            false => Cr3 {
                root: mm.root(),
                pcid: Pcid::KERNEL,
                load: Cr3Load::Flush,
            },
        })
    }
}
