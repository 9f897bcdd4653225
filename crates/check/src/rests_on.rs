//! What a verdict rests on: where in the code promises were kept, interrupts handled, tables freed.
//!
//! Counted are *places* of the automaton, each once: a place is a seam call after certain answers. So the
//! counts do not hang on which steps are merged, nor on how often a search comes by. A place counts once an
//! explored step shows it; what a violation or a limit cut off shows nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use lazytlb_model::Call;

/// What a verdict rests on: places in the checked code, each counted once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RestsOn {
    /// Places that kept a promise about a flush which covered an entry that some CPU might have cached when it
    /// began: without one, nothing is proved about flushes. Where stale uses are not looked at
    /// ([`crate::Program::ignore`]), only those that covered a device's entry: they bear on nothing else.
    pub promises_kept: u64,
    /// Places of interrupts' handlers, NMIs included: calls that one made.
    pub interrupts_taken: u64,
    /// Places that freed a page table.
    pub tables_freed: u64,
    /// What was tested of code that starts for ever, so that generations count as names; `None` for programs that end.
    pub stretched: Option<Stretched>,
}

/// Places that were come to once more, with generations that compare alike and lie elsewhere: the code did the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stretched {
    /// Places whose code has got generations before.
    pub places: u64,
    /// Runs of the code, each with other gaps between generations.
    pub runs: u64,
}

/// What a place can show, and whether it has.
#[derive(Debug)]
pub(crate) struct Exhibit {
    kind: Kind,
    /// Whether a step is still to show it.
    waits: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Nothing,
    BeginsPromise,
    KeepsPromise,
    FreesTable,
}

impl Exhibit {
    /// Returns what a place can show whose code makes this call next, if it makes one.
    pub(crate) fn of(call: Option<&Call>) -> Exhibit {
        let kind = match call {
            Some(Call::PromiseBegins(..) | Call::FlushBegins(..)) => Kind::BeginsPromise,
            Some(Call::PromiseKept(_) | Call::FlushReturned(_)) => Kind::KeepsPromise,
            Some(Call::FreeFrame(_)) => Kind::FreesTable,
            Some(_) | None => Kind::Nothing,
        };
        let waits = AtomicBool::new(kind != Kind::Nothing);
        Exhibit { kind, waits }
    }

    /// Says whether it is still to be shown.
    #[inline]
    pub(crate) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// Notes that a step has shown it.
    #[cold]
    pub(crate) fn is_shown(&self) {
        self.waits.store(false, Ordering::Relaxed);
    }

    /// Says whether a promise begins here.
    pub(crate) fn begins_promise(&self) -> bool {
        self.kind == Kind::BeginsPromise
    }

    /// Says whether a promise begins here, and never covered an entry that some CPU might have cached.
    pub(crate) fn covers_nothing(&self) -> bool {
        self.begins_promise() && self.waits()
    }

    fn was_shown(&self, kind: Kind) -> bool {
        self.kind == kind && !self.waits()
    }
}

impl RestsOn {
    /// Counts what a place has shown.
    pub(crate) fn count(&mut self, exhibit: &Exhibit) {
        self.promises_kept += u64::from(exhibit.was_shown(Kind::KeepsPromise));
        self.tables_freed += u64::from(exhibit.was_shown(Kind::FreesTable));
    }
}
