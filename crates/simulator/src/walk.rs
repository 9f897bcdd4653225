//! A page walk, between two levels.

use crate::entry;
use crate::memory::{Frame, Word};
use crate::tlb::Permissions;

/// A walk that has read some levels and is about to read the next (H12a).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    pub(crate) address: u64,
    /// The PCID that it began under.
    pub(crate) pcid: u16,
    /// The table that it reads next.
    pub(crate) table: Frame,
    /// The level of that table's entries.
    pub(crate) level: u8,
    /// What the levels above permit.
    pub(crate) permissions: Permissions,
    /// How many of its CPU's stores it sees; it never goes back (H25).
    pub(crate) seen: u64,
}

impl Walk {
    /// Returns the entry that it reads next.
    pub(crate) fn entry(&self) -> Word {
        Word::entry(self.table, entry::index(self.address, self.level))
    }

    /// Goes on below an entry.
    pub(crate) fn descend(&mut self, entry: u64, table: Frame) {
        self.permissions = self.permissions.below(entry);
        self.table = table;
        self.level -= 1;
    }
}
