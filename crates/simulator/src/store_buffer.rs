//! The store buffer of a CPU: first in, first out (H25).

use std::collections::VecDeque;

use crate::memory::{Bytes, Word};

/// A store that has left its instruction and not yet reached memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Store {
    /// Its number among the stores of its CPU, in program order, from 1.
    pub(crate) number: u64,
    /// Where it goes; `None`: its address is not translated yet (H41).
    pub(crate) to: Option<Word>,
    pub(crate) bytes: Bytes,
    /// The value, as in a register.
    pub(crate) value: u64,
}

/// The store buffer.
#[derive(Clone, Default, Debug)]
pub(crate) struct StoreBuffer {
    stores: VecDeque<Store>,
}

impl StoreBuffer {
    /// Puts a store behind all others.
    pub(crate) fn push(&mut self, store: Store) {
        self.stores.push_back(store);
    }

    /// Says whether everything has left it.
    pub(crate) fn is_empty(&self) -> bool {
        self.stores.is_empty()
    }

    /// Returns the store that leaves next.
    pub(crate) fn oldest(&self) -> Option<&Store> {
        self.stores.front()
    }

    /// Takes the oldest store out.
    pub(crate) fn leave(&mut self) {
        self.stores.pop_front();
    }

    /// Returns the youngest store.
    pub(crate) fn youngest_mut(&mut self) -> Option<&mut Store> {
        self.stores.back_mut()
    }

    /// Lists the stores to a word, the oldest first.
    pub(crate) fn to_word(&self, word: Word) -> impl Iterator<Item = &Store> {
        self.stores
            .iter()
            .filter(move |store| store.to == Some(word))
    }

    /// Says whether a store up to this number is still here.
    pub(crate) fn holds_up_to(&self, number: u64) -> bool {
        self.stores
            .front()
            .is_some_and(|store| store.number <= number)
    }
}
