//! The calls of the seam, as data: what one step of a CPU asks of the machine.

use lazytlb::{
    Access, Cr3Load, Entry, FlushRange, FrameKind, Interrupts, PhysAddr, Spaces, Until, VirtAddr,
};

use crate::byte_mask::ByteMask;

/// An atomic of the modelled machine: its index among the shared cells.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AtomicCell(pub u8);

/// A private cell of the modelled machine: its owner, and its index among the owner's cells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LocalCell {
    /// The only CPU that may access it.
    pub owner: u8,
    /// The index among the owner's private cells.
    pub index: u8,
}

/// What a read-modify-write does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rmw {
    /// Adds, with wrap-around.
    Add,
    /// Sets bits.
    Or,
    /// Keeps only the operand's bits.
    And,
    /// Inverts the operand's bits.
    Xor,
    /// Replaces.
    Swap,
    /// Replaces if the cell holds this.
    SwapIf(u64),
}

impl Rmw {
    /// Returns what the cell holds afterwards.
    pub const fn apply(self, old: u64, operand: u64) -> u64 {
        match self {
            Rmw::Add => old.wrapping_add(operand),
            Rmw::Or => old | operand,
            Rmw::And => old & operand,
            Rmw::Xor => old ^ operand,
            Rmw::Swap => operand,
            Rmw::SwapIf(expected) if old == expected => operand,
            Rmw::SwapIf(_) => old,
        }
    }

    /// Applies it to some bytes of a word; returns what those held, at the low end, and the new word.
    pub(crate) fn apply_to_bytes(self, word: u64, bytes: ByteMask, operand: u64) -> (u64, u64) {
        let old = (word & bytes.bits()) >> bytes.shift();
        let new = bytes.merge(word, self.apply(old, operand) << bytes.shift());
        (old, new)
    }
}

/// The mode in which code accesses memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Privilege {
    /// Ring 3: only pages whose every entry has U/S set.
    User,
    /// Ring 0. Writes heed R/W (CR0.WP = 1).
    Supervisor,
}

/// The bits of CR4 that bear on translations.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Cr4(pub u8);

impl Cr4 {
    /// PGE: leaves may be global (H8).
    pub const PGE: Cr4 = Cr4(1);
    /// PCIDE: `CR3[11:0]` is the PCID (H1).
    pub const PCIDE: Cr4 = Cr4(1 << 1);
    /// SMEP: supervisor mode must not fetch from user pages.
    pub const SMEP: Cr4 = Cr4(1 << 2);

    /// Says whether all bits of another value are set.
    pub const fn has(self, bits: Cr4) -> bool {
        self.0 & bits.0 == bits.0
    }

    /// Returns the value with these bits set, or cleared.
    #[must_use]
    pub const fn with(self, bits: Cr4, set: bool) -> Cr4 {
        match set {
            true => Cr4(self.0 | bits.0),
            false => Cr4(self.0 & !bits.0),
        }
    }
}

/// What INVPCID invalidates (H14).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Invpcid {
    /// Type 0: an address in a PCID; no global entries.
    Address(u16, VirtAddr),
    /// Type 1: a PCID; no global entries.
    Pcid(u16),
    /// Type 2: everything, with global entries.
    AllWithGlobals,
    /// Type 3: everything but global entries.
    AllNonGlobal,
}

/// What code has done that no memory shows, and that it says of itself: it breaks a property.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Breach {
    /// It interrupts this CPU, which was lazy, with a flush that is to spare such CPUs.
    InterruptsLazy(u8),
    /// It has lost this frame, which it was given to be freed.
    Loses(PhysAddr),
}

/// What INVLPGB invalidates on every CPU (H29).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Broadcast {
    /// One address; without it, all. The pages that go are those that are cached with it inside, of
    /// whatever size they are, whatever stride the operand names (H30).
    pub addr: Option<VirtAddr>,
    /// One PCID; without it, all.
    pub pcid: Option<u16>,
    /// Global entries, too.
    pub globals: bool,
    /// Final translations only: paging-structure caches stay.
    pub final_only: bool,
}

/// What a virtual access answers where it faults: an access that reads this word itself ends the program
/// as a [`Limit`](crate::Limit).
pub const FAULT: u64 = 0xfa17_0000_fa17_fa17;

/// One call of the seam ([`lazytlb::Hw`]), of the trait beside it ([`lazytlb::Memory`]), or of what only
/// some programs use: the instructions that the seam leaves out.
///
/// `bytes` says which bytes of a cell or of a page-table entry are meant, a bit each; values and operands lie in their place in the
/// cell, those of read-modify-writes at its low end.
///
/// `Hw::cpu`, `Hw::quirks` and `Hw::interrupts` are no steps: their answers follow from the code's
/// own past.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(
    missing_docs,
    reason = "each variant is the method of the same name, with its arguments"
)]
pub enum Call {
    Load(AtomicCell),
    Store(AtomicCell, u64),
    Rmw(AtomicCell, Rmw, u64),
    LoadLocal(LocalCell),
    StoreLocal(LocalCell, u64),
    Fence,
    DisableInterrupts,
    RestoreInterrupts(Interrupts),
    /// The targets, a bit each.
    SendIpi(u64),
    PauseUntil(AtomicCell, Until),
    LoadCr3(PhysAddr, Cr3Load),
    Invlpg(VirtAddr),
    ReadEntry(PhysAddr, u16),
    WriteEntry(PhysAddr, u16, Entry),
    AllocFrame(FrameKind),
    FreeFrame(PhysAddr),
    Touch(VirtAddr, Access),
    PromiseBegins(Spaces, FlushRange),
    /// The promise's number.
    PromiseKept(u64),
    /// As `PromiseBegins`, for a promise that is known by its space's root.
    FlushBegins(PhysAddr, FlushRange),
    FlushReturned(PhysAddr),
    StoreBytes {
        cell: AtomicCell,
        bytes: u8,
        value: u64,
    },
    RmwBytes {
        cell: AtomicCell,
        bytes: u8,
        rmw: Rmw,
        operand: u64,
    },
    RmwEntry(PhysAddr, u16, Rmw, u64),
    WriteEntryBytes {
        table: PhysAddr,
        index: u16,
        bytes: u8,
        value: u64,
    },
    RmwEntryBytes {
        table: PhysAddr,
        index: u16,
        bytes: u8,
        rmw: Rmw,
        operand: u64,
    },
    StoreFence,
    /// LFENCE: waits for the instructions before it, MFENCE among them.
    LoadFence,
    Serialize,
    WriteCr4(Cr4),
    /// Reads CR4, and writes it with some bits set and others cleared.
    ChangeCr4 {
        set: Cr4,
        clear: Cr4,
    },
    Invpcid(Invpcid),
    Invlpgb(Broadcast),
    Tlbsync,
    LoadVirtual(VirtAddr, Privilege),
    StoreVirtual {
        addr: VirtAddr,
        bytes: u8,
        value: u64,
        privilege: Privilege,
        non_temporal: bool,
    },
    RmwVirtual {
        addr: VirtAddr,
        bytes: u8,
        rmw: Rmw,
        operand: u64,
        privilege: Privilege,
    },
    Fetch(VirtAddr, Privilege),
    TouchNonTemporal(VirtAddr),
    ReadDevice(PhysAddr),
    SendNmi(u64),
    Halt,
    /// No instruction: see [`Breach`].
    Breaks(Breach),
}

/// What the machine must know of a call before it does it: whether it is local, whether it waits for what its
/// CPU has done before, and whether there are several ways to do it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    /// Accesses a private word.
    OwnWord,
    LoadsCell(AtomicCell),
    /// Stores to a cell, or modifies it.
    WritesCell(AtomicCell),
    WaitsForCell(AtomicCell, Until),
    DisablesInterrupts,
    RestoresInterrupts,
    /// MFENCE.
    FullFence,
    /// An IPI or an NMI, which overtakes an MFENCE that waits (H36).
    SendsInterrupt,
    /// The machine may do it in several ways.
    HasWays,
    /// Nothing of the above.
    Other,
}

impl Family {
    /// Returns the shared cell that a call accesses.
    pub(crate) const fn cell(self) -> Option<AtomicCell> {
        match self {
            Family::LoadsCell(cell) | Family::WritesCell(cell) | Family::WaitsForCell(cell, _) => {
                Some(cell)
            }
            Family::OwnWord
            | Family::DisablesInterrupts
            | Family::RestoresInterrupts
            | Family::FullFence
            | Family::SendsInterrupt
            | Family::HasWays
            | Family::Other => None,
        }
    }
}

impl Call {
    /// Says whether the machine may do the call in several ways.
    #[inline]
    pub const fn has_ways(&self) -> bool {
        matches!(self.family(), Family::HasWays)
    }

    /// Returns the family of the call.
    #[inline]
    pub(crate) const fn family(&self) -> Family {
        match *self {
            Call::LoadLocal(_) | Call::StoreLocal(..) => Family::OwnWord,
            Call::Load(cell) => Family::LoadsCell(cell),
            Call::Store(cell, _)
            | Call::StoreBytes { cell, .. }
            | Call::Rmw(cell, ..)
            | Call::RmwBytes { cell, .. } => Family::WritesCell(cell),
            Call::PauseUntil(cell, until) => Family::WaitsForCell(cell, until),
            Call::DisableInterrupts => Family::DisablesInterrupts,
            Call::RestoreInterrupts(_) => Family::RestoresInterrupts,
            Call::Fence => Family::FullFence,
            Call::SendIpi(_) | Call::SendNmi(_) => Family::SendsInterrupt,
            Call::Touch(..)
            | Call::TouchNonTemporal(_)
            | Call::LoadVirtual(..)
            | Call::StoreVirtual { .. }
            | Call::RmwVirtual { .. }
            | Call::Fetch(..)
            | Call::ReadEntry(..)
            | Call::RmwEntry(..)
            | Call::RmwEntryBytes { .. } => Family::HasWays,
            Call::WriteEntry(..)
            | Call::WriteEntryBytes { .. }
            | Call::AllocFrame(_)
            | Call::FreeFrame(_)
            | Call::ReadDevice(_)
            | Call::PromiseBegins(..)
            | Call::PromiseKept(_)
            | Call::FlushBegins(..)
            | Call::FlushReturned(_)
            | Call::StoreFence
            | Call::LoadFence
            | Call::Serialize
            | Call::LoadCr3(..)
            | Call::Invlpg(_)
            | Call::Invpcid(_)
            | Call::WriteCr4(_)
            | Call::ChangeCr4 { .. }
            | Call::Invlpgb(_)
            | Call::Tlbsync
            | Call::Halt
            | Call::Breaks(_) => Family::Other,
        }
    }
}
