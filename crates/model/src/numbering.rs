//! Things numbered as they turn up.
//!
//! A state of the machine is plain bytes, so everything in it has a small number. Which translations
//! and values a program brings forth is not known before; a table here numbers them in the order of
//! their first appearance, and only grows, so that many threads can read it.
//!
//! In a search for ever the same translations turn up again and again, because versions are renamed to few canonical
//! names after each step (`renumber.rs`), and each translation keeps its number; so none is ever taken back. Of
//! 255 that are possible, `lazytlb check --policy ipi-on-table-free --any map,unmap,free,switch,touch,lazy --cpus 3`
//! uses 16, with `switch:2,map:2,unmap:2,free:2,touch:2` added and `--cpus 2` 204 (102 with `--memory sc`), and of the
//! 64 that programs with an end have, those that ship use 20 at most (`--policy ipi`; `reference-4` was not measured).

use std::marker::PhantomData;
use std::sync::{Mutex, OnceLock};

use crate::index::Number;
use crate::limit::Limit;

/// Numbers things by their first appearance: reads need no lock.
#[derive(Debug)]
pub(crate) struct Numbering<N, T> {
    slots: Box<[OnceLock<T>]>,
    inserting: Mutex<()>,
    what: &'static str,
    number: PhantomData<N>,
}

impl<N: Number, T: Copy + PartialEq> Numbering<N, T> {
    pub(crate) fn new(what: &'static str, most: usize) -> Self {
        Numbering {
            slots: (0..most).map(|_| OnceLock::new()).collect(),
            inserting: Mutex::new(()),
            what,
            number: PhantomData,
        }
    }

    /// Returns the thing with this number.
    #[inline]
    pub(crate) fn get(&self, number: N) -> &T {
        let slot = self.slots[number.index()].get();
        slot.expect("numbers are given out together with their things")
    }

    /// Lists all things so far, in the order of their numbers.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (N, &T)> + '_ {
        let things = self.slots.iter().map_while(OnceLock::get);
        things
            .enumerate()
            .map(|(index, thing)| (N::from_index(index), thing))
    }

    /// Returns the number of a thing, if it has one.
    #[inline]
    pub(crate) fn find(&self, thing: &T) -> Option<N> {
        let mut things = self.slots.iter().map_while(OnceLock::get);
        things.position(|known| known == thing).map(N::from_index)
    }

    /// Returns the number of a thing, a new one if need be.
    #[inline]
    pub(crate) fn number(&self, thing: &T) -> Result<N, Limit> {
        match self.find(thing) {
            Some(number) => Ok(number),
            None => self.insert(thing),
        }
    }

    #[cold]
    fn insert(&self, thing: &T) -> Result<N, Limit> {
        let _inserting = self
            .inserting
            .lock()
            .expect("no holder of this lock panics");
        if let Some(number) = self.find(thing) {
            return Ok(number);
        }
        let index = self.slots.iter().map_while(OnceLock::get).count();
        let Some(slot) = self.slots.get(index) else {
            return Err(Limit {
                what: self.what,
                most: self.slots.len(),
            });
        };
        slot.get_or_init(|| *thing);
        Ok(N::from_index(index))
    }
}
