//! The watchdog's sign of life: changes of address spaces and reads of pages, on all CPUs.

use core::sync::atomic::{AtomicU64, Ordering};

static PROGRESS: AtomicU64 = AtomicU64::new(0);

/// Counts one change or read.
pub fn count() {
    PROGRESS.fetch_add(1, Ordering::Relaxed);
}

/// Returns how many there were.
pub fn so_far() -> u64 {
    PROGRESS.load(Ordering::Relaxed)
}
