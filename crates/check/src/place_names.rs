//! What people call the places of a program's memory: entries, addresses and frames, in counterexamples.

use std::collections::BTreeMap;
use std::sync::Arc;

use lazytlb::{Entry, PhysAddr, VirtAddr};
use lazytlb_model::machine::entry_for_people;

/// Says what an entry is, in a program's own words.
pub(crate) type EntryTeller = Arc<dyn Fn(Entry) -> String + Send + Sync>;

/// Names that a program has given to places.
#[derive(Clone, Default)]
pub(crate) struct PlaceNames {
    pub(crate) teller: Option<EntryTeller>,
    pub(crate) entries: BTreeMap<(PhysAddr, u16), String>,
    pub(crate) addresses: BTreeMap<VirtAddr, String>,
    pub(crate) frames: BTreeMap<PhysAddr, String>,
}

impl PlaceNames {
    /// Returns what an entry is called.
    pub(crate) fn entry_at(&self, table: PhysAddr, index: u16) -> String {
        match self.entries.get(&(table, index)) {
            Some(name) => name.clone(),
            None => format!("{}[{index}]", self.frame(table)),
        }
    }

    /// Returns what an entry's value is called.
    pub(crate) fn entry(&self, entry: Entry) -> String {
        match &self.teller {
            Some(tell) => tell(entry),
            None => entry_for_people(entry),
        }
    }

    /// Returns what a virtual address is called.
    pub(crate) fn address(&self, addr: VirtAddr) -> String {
        match self.addresses.get(&addr) {
            Some(name) => name.clone(),
            None => format!("{:#x}", addr.0),
        }
    }

    /// Returns what a frame is called, as a root in CR3.
    pub(crate) fn frame(&self, frame: PhysAddr) -> String {
        let frame = PhysAddr(frame.0 & !0xfff);
        match self.frames.get(&frame) {
            Some(name) => name.clone(),
            None => format!("frame {}", frame_number(frame)),
        }
    }
}

/// Returns a frame's number.
pub(crate) fn frame_number(frame: PhysAddr) -> u64 {
    frame.0 >> 12
}
