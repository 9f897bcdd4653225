//! The calls of the seam, as data: what one step of a CPU asks of the machine.

use lazytlb::{
    Access, Cr3Load, Entry, FlushRange, FrameKind, Interrupts, PhysAddr, Until, VirtAddr,
};

/// An atomic of the modelled machine: its index among the shared cells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
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
    /// Replaces.
    Swap,
}

impl Rmw {
    /// Returns what the cell holds afterwards.
    pub const fn apply(self, old: u64, operand: u64) -> u64 {
        match self {
            Rmw::Add => old.wrapping_add(operand),
            Rmw::Or => old | operand,
            Rmw::And => old & operand,
            Rmw::Swap => operand,
        }
    }
}

/// One call of the seam ([`lazytlb::Hw`]) or of the trait beside it ([`lazytlb::Memory`]).
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
    FlushBegins(PhysAddr, FlushRange),
    FlushReturned(PhysAddr),
}
