//! Which of the disputed behaviours the machine has.

/// The behaviours of the rules that were amended, each on its own. All are what HARDWARE.md allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Amended {
    /// H40: a fetch's walk may be older than what MFENCE and LOCK order.
    pub early_fetches: bool,
    /// H41: a load may pass the walk of an older store.
    pub late_translations: bool,
    /// H41: updates of A and D are seen after later loads and stores.
    pub late_updates: bool,
    /// H41: an update of A or D that is late finds the entry that it read but for A and D, which software has
    /// cleared meanwhile, and sets them again.
    pub updates_after_clears: bool,
    /// H42: D is set in an entry that has just lost W.
    pub dirty_without_writable: bool,
    /// H43: a load from uncached memory does not wait for the store buffer.
    pub unordered_uncached_loads: bool,
    /// H12a: a walk goes on across a load of CR3 with bit 63.
    pub walks_across_bit_63: bool,
    /// H12a: a walk goes on across a page fault.
    pub walks_across_faults: bool,
}

impl Amended {
    /// Everything that the rules allow.
    pub const WEAKEST: Amended = Amended {
        early_fetches: true,
        late_translations: true,
        late_updates: true,
        updates_after_clears: true,
        dirty_without_writable: true,
        unordered_uncached_loads: true,
        walks_across_bit_63: true,
        walks_across_faults: true,
    };
}
