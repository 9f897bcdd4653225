//! Notes ([`ModelHw::note`](crate::ModelHw::note)) of the outcomes that the protocol's entry points can have, each once.

/// The space was loaded and in use.
pub const ALREADY_RUNNING: &str = "switch: already running";
/// It was loaded lazily, and nothing was missed.
pub const RESUMED_UP_TO_DATE: &str = "switch: resumed from lazy mode, up to date";
/// It was loaded lazily, and flushes were missed.
pub const RESUMED_BEHIND: &str = "switch: resumed from lazy mode, caught up with a flush";
/// Another space was loaded.
pub const LOADED: &str = "switch: loaded";
/// One that has a PCID was loaded, and flushes were missed.
pub const LOADED_BEHIND: &str = "switch: loaded, its PCID was behind";
/// One that has a PCID was loaded, and nothing was missed.
pub const KEPT: &str = "switch: loaded, its PCID was kept";
/// The space is retired.
pub const RETIRED: &str = "switch: the space was retired, left for init_mm";
/// It goes lazy, and the space stays loaded.
pub const STAYS_LOADED: &str = "lazy: stays loaded";
/// It goes lazy, and leaves.
pub const LEFT_FOR_INIT_MM: &str = "lazy: left for init_mm";
/// It was lazy, is interrupted, and leaves.
pub const INTERRUPT_LEFT_FOR_INIT_MM: &str = "interrupt: lazy, left for init_mm";
/// It is interrupted, and has missed nothing.
pub const UP_TO_DATE: &str = "interrupt: up to date already";
/// It is interrupted, and invalidates pages.
pub const INVALIDATED_PAGES: &str = "interrupt: invalidated pages";
/// It is interrupted, and flushes everything.
pub const FLUSHED_ALL: &str = "interrupt: flushed everything";
/// It is interrupted, and leaves the cpumask of another space.
pub const LEFT_BEHIND: &str = "interrupt: left a space that it was elsewhere from";
/// It is interrupted, and moves to the global id.
pub const MOVED: &str = "interrupt: moved to the global id";
/// A flush interrupts nobody: it is broadcast.
pub const BROADCAST: &str = "flush: by broadcast alone";

/// Every outcome: those that only PCIDs bring at the end, then those that only global ids bring.
pub const ALL: &[&str] = &[
    ALREADY_RUNNING,
    RESUMED_UP_TO_DATE,
    RESUMED_BEHIND,
    LOADED,
    STAYS_LOADED,
    LEFT_FOR_INIT_MM,
    INTERRUPT_LEFT_FOR_INIT_MM,
    UP_TO_DATE,
    INVALIDATED_PAGES,
    FLUSHED_ALL,
    RETIRED,
    LOADED_BEHIND,
    KEPT,
    LEFT_BEHIND,
    MOVED,
    BROADCAST,
];
/// Those that CPUs with PCIDs bring, without global ids.
pub const WITHOUT_GLOBAL_IDS: &[&str] = ALL.split_at(ALL.len() - 2).0;
/// Those that CPUs without PCIDs bring.
pub const WITHOUT_PCIDS: &[&str] = ALL.split_at(ALL.len() - 5).0;
