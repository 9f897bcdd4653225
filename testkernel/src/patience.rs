//! How long a CPU waits for another one with interrupts off: no tick of its own would notice that it hangs.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::console::println;
use crate::cpu::{self, MAX_CPUS};
use crate::ending::{self, Ending};
use crate::{clock, options};

/// A wait that takes longer is a hang.
const PATIENCE_MICROSECONDS: u64 = 5_000_000;

/// When this CPU's wait began, in microseconds; 0 while it waits for nobody.
static SINCE: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
/// Rounds of waits on each CPU that found nothing.
static ROUNDS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// Runs something that waits, and ends the run if that takes too long.
pub fn waiting<R>(wait: impl FnOnce() -> R) -> R {
    let since = &SINCE[cpu::current()];
    since.store(clock::microseconds(), Ordering::Relaxed);
    let found = wait();
    since.store(0, Ordering::Relaxed);
    found
}

/// Takes note of a round of a wait on this CPU that found nothing.
pub fn round() {
    let me = cpu::current();
    ROUNDS[me].fetch_add(1, Ordering::Relaxed);
    let since = SINCE[me].load(Ordering::Relaxed);
    if since != 0 && clock::microseconds() - since > PATIENCE_MICROSECONDS {
        println!(
            "HANG: CPU {me} has waited 5 s for another one; {}",
            options::get()
        );
        ending::end(Ending::Hang);
    }
}

/// Returns how many rounds there were on this CPU.
pub fn rounds() -> u64 {
    ROUNDS[cpu::current()].load(Ordering::Relaxed)
}
