//! The TLB of a CPU: an explicit list of entries.

use lazytlb_litmus_syntax::Caching;

use crate::entry;
use crate::memory::{Frame, Word};

/// What all levels of a translation permit together (H9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Permissions {
    pub(crate) writable: bool,
    pub(crate) user: bool,
    pub(crate) executable: bool,
}

impl Permissions {
    /// What a walk starts with at the root.
    pub(crate) const ALL: Permissions = Permissions {
        writable: true,
        user: true,
        executable: true,
    };

    /// Returns what is left below an entry.
    pub(crate) fn below(self, entry: u64) -> Permissions {
        Permissions {
            writable: self.writable && entry & entry::WRITABLE != 0,
            user: self.user && entry & entry::USER != 0,
            executable: self.executable && entry & entry::NO_EXECUTE == 0,
        }
    }
}

/// A cached translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TlbEntry {
    /// The PCID that it was made under (H2).
    pub(crate) pcid: u16,
    /// Usable under every PCID (H8).
    pub(crate) global: bool,
    /// An address in the page.
    pub(crate) address: u64,
    /// The level of the leaf: the page's size.
    pub(crate) level: u8,
    /// It serves one 4 KiB piece of a large page: that of `address` (H6).
    pub(crate) piece: bool,
    pub(crate) frame: Frame,
    pub(crate) permissions: Permissions,
    pub(crate) caching: Caching,
    /// D was set in the leaf.
    pub(crate) dirty: bool,
}

impl TlbEntry {
    /// Says whether the page in memory, whole, has an address in it.
    pub(crate) fn page_covers(&self, address: u64) -> bool {
        let bits = entry::span_bits(self.level);
        self.address >> bits == address >> bits
    }

    /// Says whether it serves an address: a piece is of 4 KiB.
    pub(crate) fn serves(&self, address: u64) -> bool {
        match self.piece {
            true => self.address >> 12 == address >> 12,
            false => self.page_covers(address),
        }
    }

    /// Returns the word that an address stands for. A frame stands for all of its page.
    pub(crate) fn word(&self, address: u64) -> Word {
        Word::at(self.frame, address)
    }
}

/// The TLB.
#[derive(Clone, Default, Debug)]
pub(crate) struct Tlb {
    entries: Vec<TlbEntry>,
}

impl Tlb {
    /// Caches a translation. Older ones for the same address stay, of whatever size (H7).
    pub(crate) fn fill(&mut self, filled: TlbEntry) {
        if !self.entries.contains(&filled) {
            self.entries.push(filled);
        }
    }

    /// Lists what may serve an address under a PCID (H2, H8).
    pub(crate) fn matching(&self, pcid: u16, address: u64) -> impl Iterator<Item = &TlbEntry> {
        let usable = move |entry: &&TlbEntry| entry.global || entry.pcid == pcid;
        let entries = self.entries.iter().filter(usable);
        entries.filter(move |entry| entry.serves(address))
    }

    /// Drops entries.
    pub(crate) fn drop_where(&mut self, is_dropped: impl Fn(&TlbEntry) -> bool) {
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
