//! What a CPU settles by itself: a late store gets its translation, an owed update of D or A is made.
//!
//! Rule: H41. These are steps of hardware, each possible at any time.

use std::ops::Deref;

use lazytlb::VirtAddr;

use crate::accessed::Use;
use crate::combining::CacheHint;
use crate::index::{Cpu, EntryId, Location, Way};
use crate::machine::Machine;
use crate::progress::Stop;
use crate::slot::{CellStore, Slot};
use crate::state::State;
use crate::through::Through;
use crate::translation::Translation;
use crate::updates::OwnWalk;
use crate::view::{CpuIn, CpuMut};
use crate::virtual_access::{Operation, VirtualAccess};
use crate::writers::Write;

/// Something that is settled.
pub(crate) enum Settled<'m> {
    /// The store behind so many older ones goes through this entry, to this location.
    Translated {
        older: usize,
        through: Through<'m>,
        addr: VirtAddr,
        store: CellStore,
    },
    /// The store goes through an entry that must not be used.
    Stale(&'m Translation),
    /// What an entry is owed is set in it: A, and D if it is owed that.
    Update(EntryId),
}

impl Machine {
    /// Says whether CPUs of this program ever have something to settle.
    pub fn settles(&self) -> bool {
        self.stores_may_be_late() || self.features.accessed_dirty
    }

    /// Says whether a CPU may have something to settle now.
    #[inline]
    pub fn may_settle(&self, state: &State, cpu: impl Into<Cpu>) -> bool {
        let cpu = self.view(state, cpu.into());
        !cpu.owes_nothing() || cpu.has_late_store()
    }

    /// Lets a CPU settle something, in one way for each that it has; says whether there are more ways, or `None`
    /// if there is not even this one.
    ///
    /// # Errors
    /// As [`Machine::call`].
    pub fn settle(
        &self,
        state: &mut State,
        cpu: impl Into<Cpu>,
        way: impl Into<Way>,
    ) -> Result<Option<bool>, Stop> {
        self.on(state, cpu.into()).settle(way.into())
    }

    /// Says whether a store waits for a translation that it may never find. If nothing can happen any more, the
    /// state belongs to no execution: the store's walk was taken before, and faulted (H41).
    pub fn waits_untranslated(&self, state: &State) -> bool {
        let mut cpus = self.layout.every_cpu();
        self.stores_may_be_late() && cpus.any(|cpu| self.view(state, cpu).has_late_store())
    }
}

impl<'m, S: Deref<Target = State>> CpuIn<'m, S> {
    /// Lists what the CPU can settle now.
    pub(crate) fn to_settle(&self) -> Result<Vec<Settled<'m>>, Stop> {
        let mut all = Vec::new();
        if self.has_late_store() {
            for (older, slot) in self.buffered().enumerate() {
                if let Slot::Late(_) = slot {
                    self.translations_of_late(older, slot, &mut all)?;
                }
            }
        }
        if !self.owes_nothing() {
            all.extend(self.owed_entries().map(Settled::Update));
        }
        Ok(all)
    }

    /// Lists the ways in which a late store gets its translation.
    fn translations_of_late(
        &self,
        older: usize,
        slot: Slot,
        all: &mut Vec<Settled<'m>>,
    ) -> Result<(), Stop> {
        let Slot::Late(late) = slot else {
            return Ok(());
        };
        let store = self.late_store(late.store);
        if self.is_on_the_way_of_younger(older, store.addr) {
            return Ok(());
        }
        let value = self.machine.values.decode(store.value);
        let access = VirtualAccess {
            addr: store.addr,
            privilege: store.privilege,
            operation: Operation::store(store.bytes, value, CacheHint::Temporal),
        };
        if let Some(stale) = self.stale_match(&access) {
            all.push(Settled::Stale(stale));
            return Ok(());
        }
        for through in self.stores_through(&access)? {
            let used = through.used;
            let location = self.machine.data_location(used.frame)?;
            let Location::Cell(cell) = location else {
                continue;
            };
            if self.may_go_to(late.passed, location, used.memory_type)? {
                all.push(Settled::Translated {
                    older,
                    through,
                    addr: store.addr,
                    store: CellStore {
                        cell,
                        value: store.value,
                        bytes: store.bytes,
                    },
                });
            }
        }
        Ok(())
    }
}

impl CpuMut<'_> {
    fn settle(&mut self, way: Way) -> Result<Option<bool>, Stop> {
        let all = self.to_settle()?;
        let more = way.index() + 1 < all.len();
        let Some(settled) = all.into_iter().nth(way.index()) else {
            return Ok(None);
        };
        match settled {
            Settled::Translated {
                older,
                through,
                addr,
                store,
            } => {
                self.refuse_foreign(through.used)?;
                self.owe_through(through, Use::Writes, OwnWalk::InOrder)?;
                self.notes_write(store.cell, Write::Any);
                self.put_buffered(older, Slot::Cell(store));
                self.notes_data_through(older, through.used, addr)?;
            }
            Settled::Stale(entry) => return Err(self.stale_use(entry)),
            Settled::Update(entry) => self.update(entry)?,
        }
        Ok(Some(more))
    }
}
