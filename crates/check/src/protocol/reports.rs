//! Notes what the protocol reports of itself, by the names that verdicts use. As `adapter.rs`, it is compiled more than once.

// Where the protocol is a module beside this one, its reports have no variants that are not known here.
#![allow(unreachable_patterns)]

use lazytlb as protocol;

use lazytlb_check::{ModelHw, notes};
use protocol::serve::{Interrupted, Served};
use protocol::shootdown::Flushed;
use protocol::switch::{EnteredLazy, Switched};

/// Notes how a CPU came to a space.
pub(super) fn note_switch(hw: &ModelHw, done: Switched) {
    hw.note(match done {
        Switched::AlreadyRunning => notes::ALREADY_RUNNING,
        Switched::ResumedUpToDate => notes::RESUMED_UP_TO_DATE,
        Switched::ResumedBehind => notes::RESUMED_BEHIND,
        Switched::Loaded => notes::LOADED,
        Switched::LoadedBehind => notes::LOADED_BEHIND,
        Switched::Kept => notes::KEPT,
        Switched::Retired => notes::RETIRED,
        other => unreachable!("a way to switch that the checker does not know: {other:?}"),
    });
}

/// Notes how a CPU went lazy.
pub(super) fn note_lazy(hw: &ModelHw, done: EnteredLazy) {
    match done {
        EnteredLazy::InInitMm => {}
        EnteredLazy::StaysLoaded => hw.note(notes::STAYS_LOADED),
        EnteredLazy::LeftForInitMm => hw.note(notes::LEFT_FOR_INIT_MM),
        other => unreachable!("a lazy mode that the checker does not know: {other:?}"),
    }
}

/// Notes what a flush interrupt did.
pub(super) fn note_interrupt(hw: &ModelHw, done: Interrupted) {
    if done.left_behind > 0 {
        hw.note(notes::LEFT_BEHIND);
    }
    hw.note(match done.served {
        Served::LeftForInitMm => notes::INTERRUPT_LEFT_FOR_INIT_MM,
        Served::UpToDate => notes::UP_TO_DATE,
        Served::InvalidatedPages => notes::INVALIDATED_PAGES,
        Served::FlushedAll => notes::FLUSHED_ALL,
        Served::MovedToGlobalId => notes::MOVED,
        other => unreachable!("an interrupt that the checker does not know: {other:?}"),
    });
}

/// Notes a flush that was done by broadcast alone.
pub(super) fn note_broadcast(hw: &ModelHw, done: Flushed) {
    if done.local == Served::Broadcast && done.interrupted == 0 {
        hw.note(notes::BROADCAST);
    }
}
