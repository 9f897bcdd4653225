//! Compare-exchange, for protocols that decide by a word's former value whether they write.

use crate::hw::Hw;

/// A machine whose atomics can be compared and exchanged in one step.
///
/// Why a trait of its own: every x86 CPU has it, but this crate's protocol does not need it, and what a protocol
/// does not need shall not be in what a port must write and a reader must believe. Locks, claims of a slot and lists
/// of requests do.
///
/// ```
/// use lazytlb::{CompareExchange, Poll};
///
/// /// Takes a lock, with interrupts as they are.
/// fn lock<H: CompareExchange + Poll>(hw: &H, lock: &H::Atomic) {
///     hw.poll(|hw| hw.compare_exchange(lock, 0, 1).ok());
/// }
/// ```
pub trait CompareExchange: Hw {
    /// Writes `new` if the atomic holds `current`, in one step. Returns what it held: as `Ok` if that was `current`,
    /// else as `Err`, with nothing written. It fails for no other reason.
    ///
    /// A full fence whether or not it writes, because the locked instruction is one.
    ///
    /// # Errors
    /// What the atomic holds, if that is not `current`.
    ///
    /// Source: SDM 2A, "CMPXCHG"; SDM 3A, "Memory Ordering".
    fn compare_exchange(&self, atomic: &Self::Atomic, current: u64, new: u64) -> Result<u64, u64>;
}
