//! Promises to break, one at a time: the storms must notice. Each is broken behind the seam, or around the
//! protocol's calls; the protocol itself is never touched.
//!
//! An emulator without paging-structure caches and PCID tags shows stale TLB entries, and frames that are
//! reused too early. It cannot show a walk of a freed table through a cached upper level, nor the
//! barrier that leaves lazy mode (its store buffers are the host's, so that may happen, but rarely).

use core::sync::atomic::{AtomicBool, Ordering};

use crate::cpu::MAX_CPUS;
use crate::{clock, cpu, options};

/// A broken promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Break {
    /// No flush interrupt is sent, and nobody waits for the answer. Masks every bug of the handler.
    SkipIpis,
    /// INVLPG does nothing. Masks errors in the choice between single pages and a full flush.
    ForgetInvlpg,
    /// A CR3 load of the root that is loaded already does nothing. Masks errors of catching up.
    ForgetCr3Reload,
    /// Pages are freed before the flush; the window is widened by [`WINDOW_MICROSECONDS`].
    FreeBeforeFlush,
    /// The handler acknowledges and returns to ring 3; it invalidates at the next tick only. Masks the
    /// bugs of [`Break::DoNotWait`] and, since ticks flush, those that a tick would end.
    AcknowledgeEarly,
    /// The initiator does not wait for the answers. Targets answer late by [`WINDOW_MICROSECONDS`]. Masks
    /// lost acknowledgements.
    DoNotWait,
}

/// How much a break widens its own window.
pub const WINDOW_MICROSECONDS: u64 = 50;

impl Break {
    const NAMES: [(&'static str, Break); 6] = [
        ("skip-ipis", Break::SkipIpis),
        ("forget-invlpg", Break::ForgetInvlpg),
        ("forget-cr3-reload", Break::ForgetCr3Reload),
        ("free-before-flush", Break::FreeBeforeFlush),
        ("acknowledge-early", Break::AcknowledgeEarly),
        ("do-not-wait", Break::DoNotWait),
    ];

    /// Finds a break by the name that people type.
    pub fn by_name(name: &str) -> Option<Break> {
        Some(Self::NAMES.iter().find(|(other, _)| *other == name)?.1)
    }

    /// Returns the name that people type.
    pub fn name(self) -> &'static str {
        let row = Self::NAMES.iter().find(|(_, broken)| *broken == self);
        row.expect("every break has a name").0
    }
}

/// Says whether this promise is to be broken.
pub fn is(broken: Break) -> bool {
    options::get().broken == Some(broken)
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
