//! What only CPUs with process-context identifiers have: CR3 loads that keep what is cached, and INVPCID.
//!
//! It stands beside the seam [`Hw`], because not every CPU has it, and not every kernel enables it. A machine without
//! implements [`Pcids`] with an empty body.

use crate::addr::{PhysAddr, VirtAddr};
use crate::hw::{Cr3Load, Hw};

/// A process-context identifier: 12 bits that tag what a CPU caches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pcid(u16);

impl Pcid {
    /// The kernel's own space has it, and every space on a machine without PCIDs.
    pub const KERNEL: Pcid = Pcid(0);
    /// One more than the greatest.
    pub const COUNT: u16 = 1 << 12;

    /// Makes one of its number.
    ///
    /// # Panics
    /// If the number is not below [`Pcid::COUNT`].
    pub const fn new(number: u16) -> Pcid {
        assert!(number < Pcid::COUNT, "a PCID has 12 bits");
        Pcid(number)
    }

    /// Returns its number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// What INVPCID invalidates.
///
/// Source: SDM 2A, "INVPCID".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Invpcid {
    /// Type 0: one address in one PCID, not global; of the paging-structure caches only what led there, unlike INVLPG.
    Address(Pcid, VirtAddr),
    /// Type 1: everything in one PCID, not global, with its paging-structure caches.
    Pcid(Pcid),
    /// Type 2: everything in every PCID, with global entries.
    AllWithGlobals,
    /// Type 3: everything in every PCID, but global entries.
    AllNonGlobal,
}

/// A machine that may have PCIDs. Every method is provided for one that has none.
pub trait Pcids: Hw {
    /// Says whether PCIDs are on (CR4.PCIDE = 1). It is the same on every CPU, and does not change after boot.
    fn pcids_are_on(&self) -> bool {
        false
    }

    /// Loads CR3 with a space's root table and PCID. With [`Cr3Load::Keep`], what is cached under the PCID stays; it
    /// must belong to this root. Where PCIDs are off, every load flushes.
    ///
    /// A serializing instruction. But one that keeps ends no walk that is under way: only an invalidation does (H12a).
    ///
    /// Source: SDM 3A, "Operations that Invalidate TLBs and Paging-Structure Caches", MOV to CR3.
    fn load_cr3_pcid(&self, root: PhysAddr, pcid: Pcid, load: Cr3Load) {
        let (Pcid(_), Cr3Load::Flush | Cr3Load::Keep) = (pcid, load);
        self.load_cr3(root, Cr3Load::Flush);
    }

    /// Invalidates everything of every PCID, global entries included: INVPCID of type 2, or CR4.PGE cleared and set
    /// again. A serializing instruction. [`crate::Tlb::flush_kernel`] and [`crate::Tlb::cpu_online`] need it: a machine that lacks INVPCID
    /// and has a kernel that calls these implements it.
    ///
    /// Source: SDM 3A, "Operations that Invalidate TLBs and Paging-Structure Caches", MOV to CR4.
    ///
    /// # Panics
    /// As provided, for a machine that does not implement [`Pcids::invpcid`] either. There is no sound default: CR3 loads leave global entries, INVLPG
    /// drops one page's, and the seam has no other way to them. A CPU comes online before its kernel flushes kernel ranges, so this shows at boot.
    fn flush_everything(&self) {
        self.invpcid(Invpcid::AllWithGlobals);
    }

    /// Invalidates with INVPCID. A serializing instruction.
    ///
    /// # Panics
    /// As provided, for a machine whose PCIDs are off, it knows an address only: ask [`Pcids::pcids_are_on`] before.
    fn invpcid(&self, what: Invpcid) {
        match what {
            Invpcid::Address(_, addr) => self.invlpg(addr),
            Invpcid::AllWithGlobals => {
                panic!("kernel ranges need a machine that implements `Pcids::flush_everything`")
            }
            Invpcid::Pcid(_) | Invpcid::AllNonGlobal => {
                panic!("INVPCID of more than an address, on a machine whose PCIDs are off")
            }
        }
    }
}
