//! The paging-structure caches of a CPU: one list for all levels.

use crate::entry;
use crate::memory::Frame;
use crate::tlb::Permissions;

/// A cached entry of an upper level (H9). It is never global (H8, H38).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PscEntry {
    pub(crate) pcid: u16,
    /// An address that the entry leads to.
    pub(crate) address: u64,
    /// The level of the entry.
    pub(crate) level: u8,
    /// The next table.
    pub(crate) table: Frame,
    /// What this level and those above permit.
    pub(crate) permissions: Permissions,
    /// How many of its CPU's stores the walk saw that read it: no walk that starts here sees fewer (H25).
    pub(crate) seen: u64,
}

impl PscEntry {
    /// Says whether it leads to an address.
    pub(crate) fn leads_to(&self, address: u64) -> bool {
        let bits = entry::span_bits(self.level);
        self.address >> bits == address >> bits
    }
}

/// The paging-structure caches.
#[derive(Clone, Default, Debug)]
pub(crate) struct Psc {
    entries: Vec<PscEntry>,
}

impl Psc {
    /// Caches an entry.
    pub(crate) fn fill(&mut self, filled: PscEntry) {
        if !self.entries.contains(&filled) {
            self.entries.push(filled);
        }
    }

    /// Lists where a walk for an address may start under a PCID (H11).
    pub(crate) fn matching(&self, pcid: u16, address: u64) -> impl Iterator<Item = &PscEntry> {
        let of_pcid = self.entries.iter().filter(move |entry| entry.pcid == pcid);
        of_pcid.filter(move |entry| entry.leads_to(address))
    }

    /// Drops entries.
    pub(crate) fn drop_where(&mut self, is_dropped: impl Fn(&PscEntry) -> bool) {
        self.entries.retain(|entry| !is_dropped(entry));
    }

    /// Evicts an entry, which needs no reason (H5).
    pub(crate) fn evict(&mut self, number: usize) {
        if !self.entries.is_empty() {
            let index = number % self.entries.len();
            self.entries.swap_remove(index);
        }
    }
}
