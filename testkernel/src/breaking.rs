//! How the chosen promise is broken: behind the seam, or around the protocol's calls; the protocol itself is
//! never touched.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::breaks::Break;
use crate::cpu::MAX_CPUS;
use crate::{clock, cpu, inbox, options};

/// How much a break widens its own window.
pub const WINDOW_MICROSECONDS: u64 = 50;

/// Says whether this promise is to be broken.
pub fn is(broken: Break) -> bool {
    options::get().broken == Some(broken)
}

/// Says whether no CPU waits for another one.
pub fn skips_waits() -> bool {
    is(Break::SkipIpis) || is(Break::DoNotWait)
}

/// Says whether a word is to be read as 0: another CPU's inbox, if nobody waits for that; or this one's outside the handler,
/// if nobody serves it there.
pub fn hides(word: &AtomicU64) -> bool {
    let outside = || !IN_HANDLER[cpu::current()].load(Ordering::Relaxed);
    (skips_waits() && inbox::is_others(word))
        || (is(Break::WaitWithoutServing) && outside() && inbox::is_own(word))
}

/// CPUs in the flush interrupt's handler, and those that owe an invalidation (`acknowledge-early`).
static IN_HANDLER: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
static OWES: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

/// Runs the flush interrupt's handler with what the chosen break adds.
pub fn around_handler(handler: impl FnOnce()) {
    if is(Break::DoNotWait) {
        clock::wait_microseconds(WINDOW_MICROSECONDS);
    }
    let inside = &IN_HANDLER[cpu::current()];
    inside.store(true, Ordering::Relaxed);
    handler();
    inside.store(false, Ordering::Relaxed);
}

/// Says whether an invalidation is to be left out now, and remembers it if it is to come later.
pub fn defers_invalidation() -> bool {
    let me = cpu::current();
    let defers = is(Break::AcknowledgeEarly) && IN_HANDLER[me].load(Ordering::Relaxed);
    if defers {
        OWES[me].store(true, Ordering::Relaxed);
    }
    defers
}

/// Says, at a tick, whether this CPU owes an invalidation, and forgives it.
pub fn takes_debt() -> bool {
    OWES[cpu::current()].swap(false, Ordering::Relaxed)
}
