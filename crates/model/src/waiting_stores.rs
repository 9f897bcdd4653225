//! What waits in a CPU's buffers, for people: counterexamples name the store that becomes visible.

use lazytlb::{Entry, PhysAddr};

use crate::call::AtomicCell;
use crate::index::{Cpu, EntryId, Location, Way};
use crate::machine::Machine;
use crate::settle::Settled;
use crate::slot::{Data, Slot};
use crate::state::State;

/// A store that waits, or a fence that waits among the stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitingStore {
    /// A store to a cell.
    Cell {
        /// The cell.
        cell: AtomicCell,
        /// The bytes of it, a bit each.
        bytes: u8,
        /// What they get; other bytes are 0.
        value: u64,
    },
    /// A store to a page-table entry.
    Entry {
        /// The frame of the table.
        table: PhysAddr,
        /// Which of its entries.
        index: u16,
        /// What it gets.
        entry: Entry,
    },
    /// A store to a cell that gets its translation only now (H41).
    Translated {
        /// The cell.
        cell: AtomicCell,
        /// The bytes of it, a bit each.
        bytes: u8,
        /// What they get; other bytes are 0.
        value: u64,
    },
    /// The A bit of a page-table entry, which an access owes (H41).
    Accessed {
        /// The frame of the table.
        table: PhysAddr,
        /// Which of its entries.
        index: u16,
    },
    /// The D bit, and A with it, of a page-table entry, which an access owes (H41).
    Dirty {
        /// The frame of the table.
        table: PhysAddr,
        /// Which of its entries.
        index: u16,
    },
    /// A store of user code, to memory whose data nobody looks at.
    User,
    /// An SFENCE.
    StoreFence,
    /// An MFENCE (H36).
    FullFence,
}

impl Machine {
    /// Returns what a CPU's store buffer drains next.
    pub fn oldest_store(&self, state: &State, cpu: impl Into<Cpu>) -> Option<WaitingStore> {
        let view = self.view(state, cpu.into());
        self.waiting(view.buffered().next()?)
    }

    /// Returns what waits in a slot of a store buffer; `None` if it must get its translation first (H41).
    pub(crate) fn waiting(&self, slot: Slot) -> Option<WaitingStore> {
        Some(match slot {
            Slot::Cell(store) => WaitingStore::Cell {
                cell: store.cell,
                bytes: store.bytes.to_byte(),
                value: self.values.decode(store.value),
            },
            Slot::Entry(store) => self.entry_store(store.entry, self.values.decode(store.value)),
            Slot::User(_) => WaitingStore::User,
            Slot::Late(_) => return None,
            Slot::StoreFence => WaitingStore::StoreFence,
            Slot::FullFence => WaitingStore::FullFence,
        })
    }

    /// Returns what leaves a CPU's write-combining buffers in one of the ways of [`Machine::drain_combining`].
    pub fn combining_store(
        &self,
        state: &State,
        cpu: impl Into<Cpu>,
        way: impl Into<Way>,
    ) -> Option<WaitingStore> {
        let leaving = self.view(state, cpu.into()).leaving(way.into())?;
        Some(match leaving.data {
            Data::Word {
                location: Location::Cell(cell),
                value,
                bytes,
            } => WaitingStore::Cell {
                cell,
                bytes: bytes.to_byte(),
                value: self.values.decode(value),
            },
            Data::Word {
                location: Location::Entry(entry),
                value,
                ..
            } => self.entry_store(entry, self.values.decode(value)),
            Data::User => WaitingStore::User,
        })
    }

    /// Returns what a CPU settles in one of the ways of [`Machine::settle`].
    pub fn store_that_settles(
        &self,
        state: &State,
        cpu: impl Into<Cpu>,
        way: impl Into<Way>,
    ) -> Option<WaitingStore> {
        let way: Way = way.into();
        let cpu = self.view(state, cpu.into());
        let settled = cpu.to_settle().ok()?;
        Some(match settled.get(way.index())? {
            Settled::Translated { store, .. } => WaitingStore::Translated {
                cell: store.cell,
                bytes: store.bytes.to_byte(),
                value: self.values.decode(store.value),
            },
            Settled::Update(entry) => {
                let at = self.entries.get(*entry);
                let (table, index) = (at.table.addr(), at.index.number());
                match cpu.owes_dirty(*entry) {
                    true => WaitingStore::Dirty { table, index },
                    false => WaitingStore::Accessed { table, index },
                }
            }
            Settled::Stale(_) => return None,
        })
    }

    fn entry_store(&self, entry: EntryId, value: u64) -> WaitingStore {
        let at = self.entries.get(entry);
        WaitingStore::Entry {
            table: at.table.addr(),
            index: at.index.number(),
            entry: Entry(value),
        }
    }
}
