//! The write-combining buffers of a CPU: non-temporal stores, and stores to write-combining memory. They leave
//! in any order (H26, H27a), but those to one word in theirs.

use crate::memory::Word;
use crate::store_buffer::Store;

/// A store in a write-combining buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Combined {
    pub(crate) store: Store,
    pub(crate) to: Word,
    /// It goes to a device, where it may be on its way for long (H27).
    pub(crate) to_device: bool,
    /// It is on its way.
    pub(crate) started: bool,
}

/// What an event that empties the buffers means for a write to a device (H27).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// The write has started.
    Started,
    /// It has arrived.
    Retired,
}

/// The readings, one for each kind of event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readings {
    pub(crate) sfence: Reading,
    pub(crate) mfence: Reading,
    pub(crate) locked: Reading,
    pub(crate) serializing: Reading,
    pub(crate) interrupt: Reading,
    pub(crate) uncached: Reading,
}

impl Readings {
    /// One reading for all.
    pub(crate) fn all(reading: Reading) -> Readings {
        Readings {
            sfence: reading,
            mfence: reading,
            locked: reading,
            serializing: reading,
            interrupt: reading,
            uncached: reading,
        }
    }
}

/// The buffers.
#[derive(Clone, Default, Debug)]
pub(crate) struct WriteCombining {
    stores: Vec<Combined>,
}

impl WriteCombining {
    /// Takes a store.
    pub(crate) fn push(&mut self, store: Combined) {
        self.stores.push(store);
    }

    /// Says whether everything has arrived.
    pub(crate) fn is_empty(&self) -> bool {
        self.stores.is_empty()
    }

    /// Says whether an event need wait no longer, by its reading.
    pub(crate) fn is_done(&self, reading: Reading) -> bool {
        self.is_done_up_to(u64::MAX, reading)
    }

    /// Says whether a barrier before the store of this number need wait no longer, by its reading.
    pub(crate) fn is_done_up_to(&self, number: u64, reading: Reading) -> bool {
        let older = self
            .stores
            .iter()
            .filter(|held| held.store.number <= number);
        let mut left = older.filter(|held| reading == Reading::Retired || !held.started);
        left.next().is_none()
    }

    /// Lists the stores to a word, the oldest first.
    pub(crate) fn to_word(&self, word: Word) -> impl Iterator<Item = &Store> {
        let held = self.stores.iter().filter(move |held| held.to == word);
        held.map(|held| &held.store)
    }

    /// Lists all, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Combined> {
        self.stores.iter()
    }

    /// Sends a store on its way.
    pub(crate) fn start(&mut self, number: u64) {
        let held = self.stores.iter_mut();
        for held in held.filter(|held| held.store.number == number) {
            held.started = true;
        }
    }

    /// Takes a store out.
    pub(crate) fn leave(&mut self, number: u64) {
        self.stores.retain(|held| held.store.number != number);
    }
}
