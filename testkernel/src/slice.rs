//! Time slices: the tick that ends one, and the scheduler that asks.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::cpu::{self, MAX_CPUS};

/// Set by a tick: the task that runs has had its time.
static TIME_IS_UP: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

/// Begins a slice on this CPU.
pub fn begin() {
    TIME_IS_UP[cpu::current()].store(false, Ordering::Relaxed);
}

/// Ends the running task's slice.
pub fn end() {
    TIME_IS_UP[cpu::current()].store(true, Ordering::Relaxed);
}

/// Says whether the slice that began last on this CPU is over.
pub fn is_over() -> bool {
    TIME_IS_UP[cpu::current()].load(Ordering::Relaxed)
}
