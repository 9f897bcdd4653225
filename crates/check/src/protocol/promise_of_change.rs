//! A promise about a flush that is begun in one step of a change and kept in another.

use std::cell::Cell;

use lazytlb::{FlushRange, PageRange, Promise, Promises, Spaces};

use crate::model_hw::ModelHw;

/// The promise of a change of pages: begun once the former entries are gone.
pub struct PromiseOfChange<'a> {
    hw: &'a ModelHw,
    spaces: Spaces,
    range: FlushRange,
    begun: Cell<Option<Promise>>,
}

impl std::fmt::Debug for PromiseOfChange<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PromiseOfChange").finish_non_exhaustive()
    }
}

impl<'a> PromiseOfChange<'a> {
    /// Makes one that is not begun.
    pub fn new(hw: &'a ModelHw, spaces: Spaces, pages: PageRange) -> Self {
        PromiseOfChange {
            hw,
            spaces,
            range: FlushRange::Pages(pages),
            begun: Cell::new(None),
        }
    }

    /// Begins it, if nothing has: the former entries are overwritten.
    pub fn begin(&self) {
        if self.begun.get().is_none() {
            let promise = self.hw.promise_begins(self.spaces, self.range);
            self.begun.set(Some(promise));
        }
    }

    /// Keeps it, if it is begun.
    pub fn keep(&self) {
        if let Some(promise) = self.begun.take() {
            self.hw.promise_kept(promise);
        }
    }
}
