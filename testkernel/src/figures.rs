//! The figures of a storm: every counter of the kernel, read at one moment.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::freeing::TOTALS;
use crate::isolation::LOADS;
use crate::machine::EFFECTS;
use crate::retirement::ENDS;
use crate::sched::SWITCHES;
use crate::sizes::Changed;
use crate::trap::HANDLED;

/// The counters, since the start or since another moment.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub changes: u64,
    pub flushes: u64,
    pub ipis: u64,
    pub joined_ipis: u64,
    pub interrupted: u64,
    pub answered: u64,
    pub answered_by_handler: u64,
    pub left_for_init_mm: u64,
    pub left_behind: u64,
    pub lazy_skipped: u64,
    pub tables_freed: u64,
    pub spaces_ended: u64,
    pub retired_with_interrupts_off: u64,
    pub retired_in_handlers: u64,
    pub retired_while_loaded: u64,
    pub reaped_late: u64,
    pub cr3_loads: u64,
    pub kept_loads: u64,
    pub recycled_pcids: u64,
    pub invlpgs: u64,
    pub invpcids: u64,
    pub user_halves_kept: u64,
    pub user_halves_flushed: u64,
    pub user_halves_due: u64,
    pub loaded: u64,
    pub loaded_behind: u64,
    pub kept: u64,
    pub resumed_up_to_date: u64,
    pub resumed_behind: u64,
    pub stayed_lazy: u64,
    pub changed: Changed,
}

impl Figures {
    /// Reads the counters.
    pub fn now() -> Self {
        let get = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Figures {
            changes: get(&TOTALS.changes),
            flushes: get(&TOTALS.flushes),
            ipis: get(&EFFECTS.ipis),
            joined_ipis: get(&EFFECTS.joined_ipis),
            interrupted: get(&TOTALS.interrupted),
            answered: get(&EFFECTS.answers),
            answered_by_handler: get(&HANDLED.by_handler),
            left_for_init_mm: get(&HANDLED.left_for_init_mm),
            left_behind: get(&HANDLED.left_behind),
            lazy_skipped: get(&TOTALS.lazy_skipped),
            tables_freed: get(&TOTALS.tables_freed),
            spaces_ended: get(&TOTALS.spaces_ended),
            retired_with_interrupts_off: get(&ENDS.with_interrupts_off),
            retired_in_handlers: get(&ENDS.in_handlers),
            retired_while_loaded: get(&ENDS.while_loaded),
            reaped_late: get(&ENDS.reaped_late),
            cr3_loads: get(&EFFECTS.cr3_loads),
            kept_loads: get(&EFFECTS.kept_loads),
            recycled_pcids: get(&EFFECTS.recycled_pcids),
            invlpgs: get(&EFFECTS.invlpgs),
            invpcids: get(&EFFECTS.invpcids),
            user_halves_kept: get(&LOADS.kept),
            user_halves_flushed: get(&LOADS.flushed),
            user_halves_due: get(&LOADS.due),
            loaded: get(&SWITCHES.loaded),
            loaded_behind: get(&SWITCHES.loaded_behind),
            kept: get(&SWITCHES.kept),
            resumed_up_to_date: get(&SWITCHES.resumed_up_to_date),
            resumed_behind: get(&SWITCHES.resumed_behind),
            stayed_lazy: get(&SWITCHES.stayed_lazy),
            changed: Changed::now(),
        }
    }

    /// Returns what was counted since another moment.
    pub fn since(self, before: Figures) -> Figures {
        Figures {
            changes: self.changes - before.changes,
            flushes: self.flushes - before.flushes,
            ipis: self.ipis - before.ipis,
            joined_ipis: self.joined_ipis - before.joined_ipis,
            interrupted: self.interrupted - before.interrupted,
            answered: self.answered - before.answered,
            answered_by_handler: self.answered_by_handler - before.answered_by_handler,
            left_for_init_mm: self.left_for_init_mm - before.left_for_init_mm,
            left_behind: self.left_behind - before.left_behind,
            lazy_skipped: self.lazy_skipped - before.lazy_skipped,
            tables_freed: self.tables_freed - before.tables_freed,
            spaces_ended: self.spaces_ended - before.spaces_ended,
            retired_with_interrupts_off: self.retired_with_interrupts_off
                - before.retired_with_interrupts_off,
            retired_in_handlers: self.retired_in_handlers - before.retired_in_handlers,
            retired_while_loaded: self.retired_while_loaded - before.retired_while_loaded,
            reaped_late: self.reaped_late - before.reaped_late,
            cr3_loads: self.cr3_loads - before.cr3_loads,
            kept_loads: self.kept_loads - before.kept_loads,
            recycled_pcids: self.recycled_pcids - before.recycled_pcids,
            invlpgs: self.invlpgs - before.invlpgs,
            invpcids: self.invpcids - before.invpcids,
            user_halves_kept: self.user_halves_kept - before.user_halves_kept,
            user_halves_flushed: self.user_halves_flushed - before.user_halves_flushed,
            user_halves_due: self.user_halves_due - before.user_halves_due,
            loaded: self.loaded - before.loaded,
            loaded_behind: self.loaded_behind - before.loaded_behind,
            kept: self.kept - before.kept,
            resumed_up_to_date: self.resumed_up_to_date - before.resumed_up_to_date,
            resumed_behind: self.resumed_behind - before.resumed_behind,
            stayed_lazy: self.stayed_lazy - before.stayed_lazy,
            changed: self.changed.since(before.changed),
        }
    }

    /// Returns the figures but for [`Changed`] with their names, in the order in which they are printed.
    pub fn rows(self) -> [(&'static str, u64); 30] {
        let Figures {
            changes,
            flushes,
            ipis,
            joined_ipis,
            interrupted,
            answered,
            answered_by_handler,
            left_for_init_mm,
            left_behind,
            lazy_skipped,
            tables_freed,
            spaces_ended,
            retired_with_interrupts_off,
            retired_in_handlers,
            retired_while_loaded,
            reaped_late,
            cr3_loads,
            kept_loads,
            recycled_pcids,
            invlpgs,
            invpcids,
            user_halves_kept,
            user_halves_flushed,
            user_halves_due,
            loaded,
            loaded_behind,
            kept,
            resumed_up_to_date,
            resumed_behind,
            stayed_lazy,
            changed: _,
        } = self;
        [
            ("changes", changes),
            ("flushes", flushes),
            ("ipis", ipis),
            ("joined_ipis", joined_ipis),
            ("interrupted", interrupted),
            ("answered", answered),
            ("answered_by_handler", answered_by_handler),
            ("left_for_init_mm", left_for_init_mm),
            ("left_behind", left_behind),
            ("lazy_skipped", lazy_skipped),
            ("tables_freed", tables_freed),
            ("spaces_ended", spaces_ended),
            ("retired_with_interrupts_off", retired_with_interrupts_off),
            ("retired_in_handlers", retired_in_handlers),
            ("retired_while_loaded", retired_while_loaded),
            ("reaped_late", reaped_late),
            ("cr3_loads", cr3_loads),
            ("kept_loads", kept_loads),
            ("recycled_pcids", recycled_pcids),
            ("invlpgs", invlpgs),
            ("invpcids", invpcids),
            ("user_halves_kept", user_halves_kept),
            ("user_halves_flushed", user_halves_flushed),
            ("user_halves_due", user_halves_due),
            ("loaded", loaded),
            ("loaded_behind", loaded_behind),
            ("kept", kept),
            ("resumed_up_to_date", resumed_up_to_date),
            ("resumed_behind", resumed_behind),
            ("stayed_lazy", stayed_lazy),
        ]
    }
}
