//! What a program turned out to use although its features do not say so.
//!
//! Some parts of the machine cost states, and only a few programs need them. Nobody has to say so: a program that
//! turns out to is explored once more, by a machine that has them.

use std::sync::OnceLock;

use crate::features::Features;
use crate::machine::Machine;

/// What turned up so far.
#[derive(Default, Debug)]
pub(crate) struct TurnedUp {
    fetches: OnceLock<()>,
    data_stores: OnceLock<()>,
}

impl Machine {
    /// Notes that the program fetches instructions.
    pub(crate) fn notes_fetch(&self) {
        if !self.features.fetches {
            self.turned_up.fetches.get_or_init(|| ());
        }
    }

    /// Notes that the program stores data by virtual address into buffers, where promises are made.
    pub(crate) fn notes_data_store(&self) {
        if !self.features.data_stores && self.features.promises > 0 {
            self.turned_up.data_stores.get_or_init(|| ());
        }
    }

    /// Says whether the program uses what its features do not say: then what was explored lacks something, and
    /// the search must start again, with [`Machine::features_that_turned_up`].
    pub fn needs_more_features(&self) -> bool {
        let TurnedUp {
            fetches,
            data_stores,
        } = &self.turned_up;
        fetches.get().is_some() || data_stores.get().is_some()
    }

    /// Returns the features of the program, with those that it turned out to use.
    pub fn features_that_turned_up(&self) -> Features {
        Features {
            fetches: self.features.fetches || self.turned_up.fetches.get().is_some(),
            data_stores: self.features.data_stores || self.turned_up.data_stores.get().is_some(),
            ..self.features
        }
    }
}
