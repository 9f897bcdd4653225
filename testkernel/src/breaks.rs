//! Promises to break, one at a time: the storms must notice. [`crate::breaking`] breaks them.
//!
//! An emulator without paging-structure caches and PCID tags shows stale TLB entries, and frames that are
//! reused too early. It cannot show a walk of a freed table through a cached upper level, nor the
//! barrier that leaves lazy mode (its store buffers are the host's, so that may happen, but rarely).

/// A broken promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Break {
    /// No flush interrupt is sent, and nobody waits for the answer. Masks every bug of the handler.
    SkipIpis,
    /// INVLPG does nothing. Masks errors in the choice between single pages and a full flush.
    ForgetInvlpg,
    /// A CR3 load of the root that is loaded already does nothing. Masks errors of catching up.
    ForgetCr3Reload,
    /// Pages are freed before the flush; the window is widened by [`crate::breaking::WINDOW_MICROSECONDS`].
    FreeBeforeFlush,
    /// The handler acknowledges and returns to ring 3; it invalidates at the next tick only. Masks the
    /// bugs of [`Break::DoNotWait`] and, since ticks flush, those that a tick would end.
    AcknowledgeEarly,
    /// The initiator does not wait for the answers. Targets answer late by [`crate::breaking::WINDOW_MICROSECONDS`]. Masks
    /// lost acknowledgements.
    DoNotWait,
    /// A PCID that goes to another space is not flushed. Only [`crate::tags`] sees it, and the next: neither emulator has
    /// a TLB with tags.
    KeepOnRecycling,
    /// What is cached of a space that missed flushes while another one was loaded is not flushed.
    KeepWhenBehind,
    /// Of two spaces whose pages change in one shootdown, the second is not added.
    LoseAdd,
    /// A CPU that waits with interrupts off does not serve those who wait for it.
    WaitWithoutServing,
    /// A CPU that spins for a lock with interrupts off does not serve those who wait for it.
    LockWithoutServing,
    /// With page-table isolation, a user half that is due for a flush is kept. [`crate::user_tags`] sees this and the next two.
    ForgetUserHalf,
    /// INVPCID does nothing: what was removed stays in the user half. Masks errors in what is due there.
    ForgetInvpcid,
    /// What to load for ring 3 is asked before interrupts are off for good; the window is widened by [`crate::breaking::WINDOW_MICROSECONDS`].
    AskUserHalfEarly,
    /// A space's root, tables and pages are freed when it is retired, not when it is reaped. [`crate::tags`] sees it.
    FreeOnRetire,
    /// Under `quarantine`, page tables that are to be held back are freed as soon as the flush has returned. [`crate::walkers`] sees it:
    /// no emulator walks a freed table.
    FreeHeldAtOnce,
    /// Under `quarantine`, the kernel says that any number of page tables may be held back. [`crate::holding`] counts them.
    ForgetHoldBound,
    /// Under `quarantine`, the kernel says that it has no room to hold anything back, so lazy CPUs are interrupted. [`crate::holding`] sees
    /// that there was.
    DenyHoldRoom,
    /// Small pages that become a large one are named in their new size: INVLPG drops one of them.
    NameNewSize,
    /// A page's type changes by make, flush.
    RetypeInPlace,
    /// The protocol is told of no errata; other CPUs come online with those that they have.
    ForgetErrata,
    /// Software walks page tables with nothing but interrupts off; the window is widened by [`crate::breaking::WINDOW_MICROSECONDS`]. Masks
    /// nothing.
    WalkUnguarded,
}

impl Break {
    const NAMES: [(&'static str, Break); 22] = [
        ("skip-ipis", Break::SkipIpis),
        ("forget-invlpg", Break::ForgetInvlpg),
        ("forget-cr3-reload", Break::ForgetCr3Reload),
        ("free-before-flush", Break::FreeBeforeFlush),
        ("acknowledge-early", Break::AcknowledgeEarly),
        ("do-not-wait", Break::DoNotWait),
        ("keep-on-recycling", Break::KeepOnRecycling),
        ("keep-when-behind", Break::KeepWhenBehind),
        ("lose-add", Break::LoseAdd),
        ("wait-without-serving", Break::WaitWithoutServing),
        ("lock-without-serving", Break::LockWithoutServing),
        ("free-on-retire", Break::FreeOnRetire),
        ("forget-user-half", Break::ForgetUserHalf),
        ("forget-invpcid", Break::ForgetInvpcid),
        ("ask-user-half-early", Break::AskUserHalfEarly),
        ("free-held-at-once", Break::FreeHeldAtOnce),
        ("forget-hold-bound", Break::ForgetHoldBound),
        ("deny-hold-room", Break::DenyHoldRoom),
        ("name-new-size", Break::NameNewSize),
        ("retype-in-place", Break::RetypeInPlace),
        ("forget-errata", Break::ForgetErrata),
        ("walk-unguarded", Break::WalkUnguarded),
    ];

    /// Finds a break by the name that people type.
    pub fn by_name(name: &str) -> Option<Break> {
        Some(Self::NAMES.iter().find(|(other, _)| *other == name)?.1)
    }

    /// Says whether there is nothing to break without PCIDs.
    pub fn needs_pcids(self) -> bool {
        matches!(self, Break::KeepOnRecycling | Break::KeepWhenBehind) || self.needs_isolation()
    }

    /// Says whether there is nothing to break without page-table isolation.
    pub fn needs_isolation(self) -> bool {
        matches!(
            self,
            Break::ForgetUserHalf | Break::ForgetInvpcid | Break::AskUserHalfEarly
        )
    }

    /// Says whether there is nothing to break unless page tables are held back.
    pub fn is_of_holding(self) -> bool {
        matches!(
            self,
            Break::FreeHeldAtOnce | Break::ForgetHoldBound | Break::DenyHoldRoom
        )
    }

    /// Returns the name that people type.
    pub fn name(self) -> &'static str {
        let row = Self::NAMES.iter().find(|(_, broken)| *broken == self);
        row.expect("every break has a name").0
    }
}
