//! Address spaces with PCIDs: CR3 loads and INVPCID, by the manuals' names.
//!
//! [`lazytlb::Pcids`] is made of them; a kernel that uses PCIDs for its own purposes finds the instructions here, with the
//! rules that they follow.

use lazytlb::{Cr3Load, PhysAddr, VirtAddr};
use x86_64::instructions::tlb::{InvPcidCommand, flush_pcid};
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::PhysFrame;

pub use x86_64::instructions::tlb::Pcid;

/// Loads CR3 with a root and a PCID (H15). A serializing instruction.
///
/// Source: SDM 3A, "Operations that Invalidate TLBs and Paging-Structure Caches", MOV to CR3.
///
/// # Safety
/// CR4.PCIDE must be 1 (or the PCID 0 and `load` a flush), and the tables at `root` must map everything
/// that this CPU uses. With [`Cr3Load::Keep`], what is cached under the PCID must belong to this root.
pub unsafe fn load_cr3(root: PhysAddr, pcid: Pcid, load: Cr3Load) {
    let frame = PhysFrame::containing_address(x86_64::PhysAddr::new_truncate(root.0));
    // SAFETY: the caller's promise, word for word.
    unsafe {
        match load {
            Cr3Load::Flush => Cr3::write_pcid(frame, pcid),
            Cr3Load::Keep => Cr3::write_pcid_no_flush(frame, pcid),
        }
    }
}

/// What INVPCID invalidates (H14).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invpcid {
    /// Type 0: one page of one PCID, not global; of the paging-structure caches only what led there.
    Page(Pcid, VirtAddr),
    /// Type 1: everything of one PCID, not global, with its paging-structure caches.
    Space(Pcid),
    /// Type 2: everything of every PCID, global entries too.
    AllWithGlobal,
    /// Type 3: everything of every PCID but global entries.
    AllButGlobal,
}

impl From<lazytlb::Invpcid> for Invpcid {
    fn from(what: lazytlb::Invpcid) -> Invpcid {
        match what {
            lazytlb::Invpcid::Address(pcid, addr) => Invpcid::Page(tag(pcid), addr),
            lazytlb::Invpcid::Pcid(pcid) => Invpcid::Space(tag(pcid)),
            lazytlb::Invpcid::AllWithGlobals => Invpcid::AllWithGlobal,
            lazytlb::Invpcid::AllNonGlobal => Invpcid::AllButGlobal,
        }
    }
}

/// Returns a PCID as this module's instructions take it.
pub fn tag(pcid: lazytlb::Pcid) -> Pcid {
    Pcid::new(pcid.number()).expect("both have 12 bits")
}

/// Invalidates with INVPCID. A serializing instruction.
///
/// # Safety
/// Ring 0, and the CPU must have it ([`crate::detect::Features::invpcid`]): else #UD. A PCID other than
/// 0 needs CR4.PCIDE = 1, and an address must be canonical: else #GP.
pub unsafe fn invpcid(what: Invpcid) {
    let command = match what {
        Invpcid::Page(pcid, addr) => {
            // SAFETY: the address goes to the instruction as it is: truncating it would invalidate
            // another page. One that is not canonical raises #GP, which the caller excludes.
            let addr = unsafe { x86_64::VirtAddr::new_unsafe(addr.0) };
            InvPcidCommand::Address(addr, pcid)
        }
        Invpcid::Space(pcid) => InvPcidCommand::Single(pcid),
        Invpcid::AllWithGlobal => InvPcidCommand::All,
        Invpcid::AllButGlobal => InvPcidCommand::AllExceptGlobal,
    };
    // SAFETY: the caller's promise; invalidating too much is always allowed (H18).
    unsafe { flush_pcid(command) }
}
