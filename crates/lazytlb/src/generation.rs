//! Generations, which are only compared: that they are numbers is known in this file alone. (`Debug` and `Hash`
//! are for people and for tables; the protocol uses neither.)

use core::cmp::Ordering;

use crate::hw::Hw;

/// A generation: of a space (how often a flush was asked for), or of a CPU (how far it has flushed).
pub type TlbGen = Generation<true>;
/// A generation that was made as the next of another. It has no next of its own: whoever counted on could tell
/// by how much two differ.
///
/// ```
/// # use lazytlb::{NextGen, TlbGen};
/// fn one_on(one: TlbGen) -> NextGen { one.next() }
/// fn is_behind(one: TlbGen, other: TlbGen) -> bool { one < other && other != one.next() }
/// ```
/// ```compile_fail
/// # use lazytlb::{NextGen, TlbGen};
/// fn two_on(one: TlbGen) -> NextGen { one.next().next() }
/// ```
/// ```compile_fail
/// # use lazytlb::{NextGen, TlbGen};
/// fn number_of(one: TlbGen) -> u64 { one.0 }
/// ```
/// ```compile_fail
/// # use lazytlb::{NextGen, TlbGen};
/// fn with_number(number: u64) -> NextGen { lazytlb::Generation(number) }
/// ```
pub type NextGen = Generation<false>;

/// A [`TlbGen`] or a [`NextGen`].
#[derive(Clone, Copy, Eq, Hash, Debug)]
pub struct Generation<const HAS_NEXT: bool>(u64);

impl TlbGen {
    /// Returns the one after this. At 10^9 flushes a second they wrap after five hundred years.
    pub const fn next(self) -> NextGen {
        Generation(self.0 + 1)
    }
}
impl<const LEFT: bool, const RIGHT: bool> PartialEq<Generation<RIGHT>> for Generation<LEFT> {
    fn eq(&self, other: &Generation<RIGHT>) -> bool {
        self.0 == other.0
    }
}
impl<const LEFT: bool, const RIGHT: bool> PartialOrd<Generation<RIGHT>> for Generation<LEFT> {
    fn partial_cmp(&self, other: &Generation<RIGHT>) -> Option<Ordering> {
        self.0.partial_cmp(&other.0)
    }
}
impl<const HAS_NEXT: bool> Ord for Generation<HAS_NEXT> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

/// A word for a generation that every CPU may access.
#[derive(Debug)]
pub(crate) struct SharedGen<H: Hw>(H::Atomic);

impl<H: Hw> SharedGen<H> {
    /// Takes a word that holds 1, the first generation.
    pub(crate) const fn of(word: H::Atomic) -> Self {
        SharedGen(word)
    }
    /// Reads it, as one with or without a next.
    pub(crate) fn load<const HAS_NEXT: bool>(&self, hw: &H) -> Generation<HAS_NEXT> {
        Generation(hw.load(&self.0))
    }
    /// Writes it.
    pub(crate) fn store<const HAS_NEXT: bool>(&self, hw: &H, value: Generation<HAS_NEXT>) {
        hw.store(&self.0, value.0);
    }
    /// Raises it to the next generation, and returns that. A full fence.
    pub(crate) fn raise(&self, hw: &H) -> NextGen {
        TlbGen::next(Generation(hw.fetch_add(&self.0, 1)))
    }
}

/// A word for a generation that is one CPU's own.
#[derive(Debug)]
pub(crate) struct OwnGen<H: Hw>(H::Local);

impl<H: Hw> OwnGen<H> {
    /// Takes a word that holds 0, for none, or 1.
    pub(crate) const fn of(word: H::Local) -> Self {
        OwnGen(word)
    }
    pub(crate) fn load(&self, hw: &H) -> TlbGen {
        Generation(hw.load_local(&self.0))
    }
    pub(crate) fn store<const HAS_NEXT: bool>(&self, hw: &H, value: Generation<HAS_NEXT>) {
        hw.store_local(&self.0, value.0);
    }
}
