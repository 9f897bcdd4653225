//! The instructions that every x86-64 CPU has, each as a function: what [`crate::Board`]'s methods are made of.
//!
//! Those that not every CPU has are in [`crate::pcid`] and [`crate::broadcast`].

use lazytlb::{Interrupts, PhysAddr, VirtAddr};
use x86_64::instructions::{interrupts as flag, tlb};
use x86_64::registers::control::{Cr3, Cr3Flags, Cr4, Cr4Flags};
use x86_64::structures::paging::PhysFrame;

/// Returns whether this CPU takes interrupts (PUSHF).
#[inline]
pub fn interrupts() -> Interrupts {
    if flag::are_enabled() {
        Interrupts::Enabled
    } else {
        Interrupts::Disabled
    }
}

/// Disables interrupts and returns the former state (PUSHF, CLI).
#[inline]
pub fn disable_interrupts() -> Interrupts {
    let former = interrupts();
    flag::disable();
    former
}

/// Enables interrupts if they were enabled (STI).
#[inline]
pub fn restore_interrupts(former: Interrupts) {
    if former == Interrupts::Enabled {
        flag::enable();
    }
}

/// Invalidates everything of every PCID, global entries included, by changing CR4.PGE and changing it back (MOV to CR4). A
/// serializing instruction, on every CPU.
///
/// Source: SDM 3A, "Operations that Invalidate TLBs and Paging-Structure Caches", MOV to CR4.
///
/// # Safety
/// Ring 0, with interrupts off, and nothing else of this CPU changes CR4 meanwhile: an NMI handler neither.
#[inline]
pub unsafe fn flush_everything() {
    let cr4 = Cr4::read();
    // SAFETY: the caller's promise; whether pages are global is no matter of memory safety.
    unsafe {
        Cr4::write(cr4 ^ Cr4Flags::PAGE_GLOBAL);
        Cr4::write(cr4);
    }
}

/// Loads CR3 with a root, under PCID 0, and flushes (MOV to CR3). A serializing instruction.
///
/// # Safety
/// Ring 0, and the tables at `root` must map everything that this CPU uses.
#[inline]
pub unsafe fn load_cr3(root: PhysAddr) {
    let frame = PhysFrame::containing_address(x86_64::PhysAddr::new_truncate(root.0));
    // SAFETY: the caller's promise, word for word.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) }
}

/// Invalidates one page of the loaded space, with its paging-structure caches (INVLPG). A serializing instruction.
#[inline]
pub fn invlpg(addr: VirtAddr) {
    // SAFETY: only the instruction sees the address, and INVLPG of one that is not canonical does
    // nothing. Truncating it to 48 bits would invalidate another page under five-level paging.
    tlb::flush(unsafe { x86_64::VirtAddr::new_unsafe(addr.0) });
}
