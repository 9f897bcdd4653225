//! The figures of a storm: every counter of the kernel, read at one moment.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::freeing::TOTALS;
use crate::machine::EFFECTS;
use crate::sched::SWITCHES;
use crate::trap::HANDLED;

/// The counters, since the start or since another moment.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub changes: u64,
    pub flushes: u64,
    pub ipis: u64,
    pub interrupted: u64,
    pub requests: u64,
    pub left_for_init_mm: u64,
    pub lazy_skipped: u64,
    pub tables_freed: u64,
    pub spaces_ended: u64,
    pub cr3_loads: u64,
    pub kept_loads: u64,
    pub recycled_pcids: u64,
    pub invlpgs: u64,
    pub loaded: u64,
    pub loaded_behind: u64,
    pub kept: u64,
    pub resumed_up_to_date: u64,
    pub resumed_behind: u64,
    pub stayed_lazy: u64,
}

impl Figures {
    /// Reads the counters.
    pub fn now() -> Self {
        let get = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Figures {
            changes: get(&TOTALS.changes),
            flushes: get(&TOTALS.flushes),
            ipis: get(&EFFECTS.ipis),
            interrupted: get(&TOTALS.interrupted),
            requests: get(&HANDLED.requests),
            left_for_init_mm: get(&HANDLED.left_for_init_mm),
            lazy_skipped: get(&TOTALS.lazy_skipped),
            tables_freed: get(&TOTALS.tables_freed),
            spaces_ended: get(&TOTALS.spaces_ended),
            cr3_loads: get(&EFFECTS.cr3_loads),
            kept_loads: get(&EFFECTS.kept_loads),
            recycled_pcids: get(&EFFECTS.recycled_pcids),
            invlpgs: get(&EFFECTS.invlpgs),
            loaded: get(&SWITCHES.loaded),
            loaded_behind: get(&SWITCHES.loaded_behind),
            kept: get(&SWITCHES.kept),
            resumed_up_to_date: get(&SWITCHES.resumed_up_to_date),
            resumed_behind: get(&SWITCHES.resumed_behind),
            stayed_lazy: get(&SWITCHES.stayed_lazy),
        }
    }

    /// Returns what was counted since another moment.
    pub fn since(self, before: Figures) -> Figures {
        Figures {
            changes: self.changes - before.changes,
            flushes: self.flushes - before.flushes,
            ipis: self.ipis - before.ipis,
            interrupted: self.interrupted - before.interrupted,
            requests: self.requests - before.requests,
            left_for_init_mm: self.left_for_init_mm - before.left_for_init_mm,
            lazy_skipped: self.lazy_skipped - before.lazy_skipped,
            tables_freed: self.tables_freed - before.tables_freed,
            spaces_ended: self.spaces_ended - before.spaces_ended,
            cr3_loads: self.cr3_loads - before.cr3_loads,
            kept_loads: self.kept_loads - before.kept_loads,
            recycled_pcids: self.recycled_pcids - before.recycled_pcids,
            invlpgs: self.invlpgs - before.invlpgs,
            loaded: self.loaded - before.loaded,
            loaded_behind: self.loaded_behind - before.loaded_behind,
            kept: self.kept - before.kept,
            resumed_up_to_date: self.resumed_up_to_date - before.resumed_up_to_date,
            resumed_behind: self.resumed_behind - before.resumed_behind,
            stayed_lazy: self.stayed_lazy - before.stayed_lazy,
        }
    }

    /// Returns the figures with their names, in the order in which they are printed.
    pub fn rows(self) -> [(&'static str, u64); 19] {
        let Figures {
            changes,
            flushes,
            ipis,
            interrupted,
            requests,
            left_for_init_mm,
            lazy_skipped,
            tables_freed,
            spaces_ended,
            cr3_loads,
            kept_loads,
            recycled_pcids,
            invlpgs,
            loaded,
            loaded_behind,
            kept,
            resumed_up_to_date,
            resumed_behind,
            stayed_lazy,
        } = self;
        [
            ("changes", changes),
            ("flushes", flushes),
            ("ipis", ipis),
            ("interrupted", interrupted),
            ("requests", requests),
            ("left_for_init_mm", left_for_init_mm),
            ("lazy_skipped", lazy_skipped),
            ("tables_freed", tables_freed),
            ("spaces_ended", spaces_ended),
            ("cr3_loads", cr3_loads),
            ("kept_loads", kept_loads),
            ("recycled_pcids", recycled_pcids),
            ("invlpgs", invlpgs),
            ("loaded", loaded),
            ("loaded_behind", loaded_behind),
            ("kept", kept),
            ("resumed_up_to_date", resumed_up_to_date),
            ("resumed_behind", resumed_behind),
            ("stayed_lazy", stayed_lazy),
        ]
    }
}
