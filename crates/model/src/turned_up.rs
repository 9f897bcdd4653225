//! What a program turned out to use although its features do not say so.
//!
//! Some parts of the machine cost states, and only a few programs need them. Nobody has to say so: a program that
//! turns out to is explored once more, by a machine that has them.

use std::sync::OnceLock;

use crate::features::Features;

/// What turned up so far.
#[derive(Default, Debug)]
pub(crate) struct TurnedUp {
    fetches: OnceLock<()>,
    data_stores: OnceLock<()>,
    many_places: OnceLock<()>,
}

impl TurnedUp {
    /// Notes that a program with these features fetches instructions.
    pub(crate) fn notes_fetch(&self, features: &Features) {
        if !features.fetches {
            self.fetches.get_or_init(|| ());
        }
    }

    /// Notes that a program with these features stores data by virtual address into buffers.
    pub(crate) fn notes_data_store(&self, features: &Features) {
        if !features.data_stores && features.promises > 0 {
            self.data_stores.get_or_init(|| ());
        }
    }

    /// Notes that a program has more places in its code than a state has room for.
    pub(crate) fn notes_many_places(&self) {
        self.many_places.get_or_init(|| ());
    }

    /// Says whether the program uses what its features do not say.
    pub(crate) fn is_anything(&self) -> bool {
        let TurnedUp {
            fetches,
            data_stores,
            many_places,
        } = self;
        let parts = [fetches, data_stores, many_places];
        parts.into_iter().any(|part| part.get().is_some())
    }

    /// Returns a program's features, with those that it turned out to use.
    pub(crate) fn added_to(&self, features: Features) -> Features {
        Features {
            fetches: features.fetches || self.fetches.get().is_some(),
            data_stores: features.data_stores || self.data_stores.get().is_some(),
            many_places: features.many_places || self.many_places.get().is_some(),
            ..features
        }
    }
}
