//! Retiring a space, in whatever context its last reference is dropped; and what is counted about that.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lazytlb::{Hw, Interrupts, MmHandle, PhysAddr};

use crate::cpu::{self, MAX_CPUS};
use crate::machine::{self, hw, tlb};
use crate::{ending, freeing, patience};

/// Where spaces ended, summed up.
pub struct Ends {
    pub with_interrupts_off: AtomicU64,
    pub in_handlers: AtomicU64,
    /// On a CPU that had them loaded.
    pub while_loaded: AtomicU64,
    /// Those that could not be reaped at the first attempt.
    pub reaped_late: AtomicU64,
}

pub static ENDS: Ends = Ends {
    with_interrupts_off: AtomicU64::new(0),
    in_handlers: AtomicU64::new(0),
    while_loaded: AtomicU64::new(0),
    reaped_late: AtomicU64::new(0),
};

/// Sets of spaces, one for each CPU.
pub struct Sets([AtomicU64; MAX_CPUS]);

impl Sets {
    pub const fn empty() -> Sets {
        Sets([const { AtomicU64::new(0) }; MAX_CPUS])
    }

    /// Returns that of this CPU.
    pub fn mine(&self) -> &AtomicU64 {
        &self.0[cpu::current()]
    }
}

/// Returns a space's bit in a set.
pub fn bit(mm: MmHandle) -> u64 {
    1 << mm.0
}

/// Spaces that this CPU has retired and not reaped, and those of them that it has tried to reap.
static WAITING: Sets = Sets::empty();
static LATE: Sets = Sets::empty();
/// CPUs whose handler drops references.
static IN_HANDLER: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

/// Runs the tail of an interrupt handler.
pub fn in_handler(tail: impl FnOnce()) {
    let inside = &IN_HANDLER[cpu::current()];
    inside.store(true, Ordering::Relaxed);
    tail();
    inside.store(false, Ordering::Relaxed);
}

/// Retires a space that nobody refers to any more. It never waits.
pub fn retire(mm: MmHandle, root: PhysAddr) {
    let counts = [
        (
            &ENDS.with_interrupts_off,
            hw().interrupts() == Interrupts::Disabled,
        ),
        (
            &ENDS.in_handlers,
            IN_HANDLER[cpu::current()].load(Ordering::Relaxed),
        ),
        (&ENDS.while_loaded, machine::loaded_root() == root),
    ];
    for (count, holds) in counts {
        count.fetch_add(holds.into(), Ordering::Relaxed);
    }
    WAITING.mine().fetch_or(bit(mm), Ordering::SeqCst);
    let before = patience::rounds();
    freeing::count_retired(tlb().retire(hw(), mm));
    if patience::rounds() != before {
        let cpu = cpu::current();
        ending::violation(format_args!(
            "CPU {cpu} waited as it retired root {:#x}",
            root.0
        ));
    }
}

/// Returns the spaces that this CPU has retired and not reaped.
pub fn waiting() -> u64 {
    WAITING.mine().load(Ordering::SeqCst)
}

/// Takes note that a space is reaped.
pub fn reaped(mm: MmHandle) {
    WAITING.mine().fetch_and(!bit(mm), Ordering::SeqCst);
    if LATE.mine().fetch_and(!bit(mm), Ordering::SeqCst) & bit(mm) != 0 {
        ENDS.reaped_late.fetch_add(1, Ordering::Relaxed);
    }
}

/// Takes note that this CPU has tried to reap the spaces of a set.
pub fn tried(spaces: u64) {
    LATE.mine().fetch_or(spaces & waiting(), Ordering::SeqCst);
}
