//! What a promise about a flush is about: spaces, and a range of addresses.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use lazytlb::{FlushRange, PhysAddr, Spaces};

use crate::extent::Extent;
use crate::index::SubjectId;
use crate::translation::Translation;

/// What a promise is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Subject {
    pub(crate) spaces: Spaces,
    range: FlushRange,
    pub(crate) known_by: KnownBy,
}

/// How whoever keeps a promise names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KnownBy {
    /// By the number that beginning it answered.
    Number,
    /// By the root of its one space.
    Root,
}

impl Subject {
    pub(crate) fn numbered(spaces: Spaces, range: FlushRange) -> Subject {
        Subject {
            spaces,
            range,
            known_by: KnownBy::Number,
        }
    }

    pub(crate) fn of_root(root: PhysAddr, range: FlushRange) -> Subject {
        Subject {
            spaces: Spaces::one(root),
            range,
            known_by: KnownBy::Root,
        }
    }

    /// Returns the addresses that it is about, if there are any.
    pub(crate) fn extent(&self) -> Option<Extent> {
        Extent::of_flush(self.range)
    }

    /// Says whether any address of an entry is meant.
    pub(crate) fn is_about(&self, entry: &Translation) -> bool {
        let extent = self
            .extent()
            .and_then(|extent| entry.extent().common(extent));
        self.spaces.contain(entry.root.addr()) && extent.is_some()
    }
}

/// What some promise was about that covered an entry which a CPU might have cached: threads share it, and it only
/// grows.
#[derive(Default, Debug)]
pub(crate) struct ReliedOn(Mutex<BTreeSet<SubjectId>>);

impl ReliedOn {
    pub(crate) fn contains(&self, subject: SubjectId) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.contains(&subject)
    }

    pub(crate) fn add(&self, subject: SubjectId) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(subject);
    }
}
