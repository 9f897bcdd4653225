//! How much fits into the model: the bounds of its numbers, and the error of a program that outgrows one.

use std::fmt;

/// A program brought forth more than the model has numbers for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Of what there are too many.
    pub what: &'static str,
    /// How many fit.
    pub most: usize,
}

impl Limit {
    /// Passes a number on that fits.
    pub(crate) fn check(what: &'static str, most: usize, used: usize) -> Result<usize, Limit> {
        match used > most {
            true => Err(Limit { what, most }),
            false => Ok(used),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the program uses more than {} {}: the model has no room",
            self.most, self.what
        )
    }
}

impl std::error::Error for Limit {}

/// CPUs that a machine can have: a bit each in a byte.
pub const MOST_CPUS: usize = 8;
/// Stores that a store buffer holds at most.
pub const MOST_BUFFER_DEPTH: u8 = 63;
/// Separate pieces of a large page that a cached entry can be without: pieces that touch are one.
pub const MOST_PIECES_GONE: usize = 2;
/// Separate parts of one cached large page that may be stale while the rest is not.
pub const MOST_STALE_PARTS: usize = 2;
/// Promises of one CPU that may be open at one time, at most.
pub const MOST_PROMISES: usize = 8;
/// Different subjects (spaces and ranges) that a program's promises may have: a byte names one.
pub(crate) const MOST_SUBJECTS: usize = 254;
/// Bytes that name a location or a frame leave room for this many cells.
pub(crate) const MOST_CELLS: usize = 200;
/// The most levels of page tables.
pub(crate) const MOST_LEVELS: usize = 5;
/// Values of page-table entries that a CPU remembers, because a fetch may still read them.
pub(crate) const MOST_FORMER: usize = 16;
/// Different broadcast invalidations that a program may issue: a bit each in a byte.
pub(crate) const MOST_BROADCASTS: usize = 8;
