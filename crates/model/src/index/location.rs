//! The words of shared memory, and where they and other things lie in a state.

use super::numbered::{Number, byte};
use crate::call::AtomicCell;

/// A word of shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Location {
    Cell(AtomicCell),
    Entry(EntryId),
}

impl Location {
    /// Returns the page-table entry, if it is one.
    pub(crate) fn entry(self) -> Option<EntryId> {
        match self {
            Location::Cell(_) => None,
            Location::Entry(entry) => Some(entry),
        }
    }
}

/// The number of a page-table entry, among those that were ever written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct EntryId(u8);

impl Number for EntryId {
    #[inline]
    fn from_index(index: usize) -> Self {
        EntryId(byte(index))
    }
    #[inline]
    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// How a state numbers the words of shared memory: cells first, then page-table entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Locations(u8);

impl Locations {
    pub(crate) fn with_cells(cells: usize) -> Locations {
        Locations(byte(cells))
    }

    /// Returns the number of cells.
    pub(crate) fn cells(self) -> usize {
        usize::from(self.0)
    }

    /// Returns the byte that stands for a location; the value of the location lies at that index.
    #[inline]
    pub(crate) fn to_byte(self, location: Location) -> u8 {
        match location {
            Location::Cell(cell) => cell.0,
            Location::Entry(entry) => self.0 + entry.0,
        }
    }

    /// Returns the location that a byte stands for.
    #[inline]
    pub(crate) fn at_byte(self, byte: u8) -> Location {
        match byte.checked_sub(self.0) {
            None => Location::Cell(AtomicCell(byte)),
            Some(entry) => Location::Entry(EntryId(entry)),
        }
    }
}

/// Where something lies in a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Offset(usize);

impl Offset {
    #[inline]
    pub(crate) const fn at(bytes: usize) -> Offset {
        Offset(bytes)
    }

    /// Returns how many bytes stand before it.
    #[inline]
    pub(crate) const fn bytes(self) -> usize {
        self.0
    }

    /// Returns the place so many bytes behind it.
    #[inline]
    #[must_use]
    pub(crate) const fn plus(self, bytes: usize) -> Offset {
        Offset(self.0 + bytes)
    }
}
