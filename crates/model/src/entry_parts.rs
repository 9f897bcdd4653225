//! Stores to some bytes of a page-table entry.
//!
//! Rule: H25. Of such a store only its bytes are known before it drains: the others are what memory, or an older
//! store of its CPU, has then. A slot of the store buffer holds the whole entry as its CPU sees it now, and beside
//! it which bytes the store is about (`Layout::parts`). When another CPU's store to the entry becomes visible, the
//! other bytes are put together once more. An example: both CPUs store to `e`, which holds 0x1122 at first.
//!
//! ```text
//!  CPU 0              CPU 1          its slot: bytes, entry as it sees it   e in memory
//!  low byte of e = 5                 low, 0x1105                            0x1122
//!                     e = 0x3344     low, 0x1105                            0x1122
//!                     (drains)       low, 0x3305                            0x3344
//!  (drains)                                                                 0x3305
//! ```
//!
//! What CPU 0 has cached of 0x1105 stays cached (H5), but no entry holds any more what it was read from.

use std::ops::Deref;

use crate::byte_mask::ByteMask;
use crate::entry::bits;
use crate::index::{EntryId, Location};
use crate::limit::Limit;
use crate::progress::{Progress, Stop};
use crate::slot::{EntryStore, Slot};
use crate::spec::MemoryModel;
use crate::state::State;
use crate::view::{CpuIn, CpuMut};

impl ByteMask {
    /// Puts these bytes of `new` into a page-table entry. What is only *maybe* so of A is not in memory.
    fn merge_entry(self, old: u64, new: u64) -> u64 {
        self.merge(old & !bits::MAYBE_ACCESSED, new)
    }

    /// Says whether A and D are among the bytes.
    fn has_accessed_dirty(self) -> bool {
        let both = bits::ACCESSED | bits::DIRTY;
        self.bits() & both == both
    }
}

impl<S: Deref<Target = State>> CpuIn<'_, S> {
    /// Fails for a store to some bytes that the model does not have: one that leaves A and D to hardware, where
    /// they are tracked.
    fn refuse_without_accessed_dirty(&self, bytes: ByteMask) -> Result<(), Limit> {
        let is_known = !self.machine.features.accessed_dirty || bytes.has_accessed_dirty();
        is_known.then_some(()).ok_or(Limit {
            what: "stores without LOCK to bytes of an entry beside A and D, which are tracked",
            most: 0,
        })
    }
}

impl CpuMut<'_> {
    /// Stores some bytes of a page-table entry.
    pub(crate) fn store_entry_bytes(
        &mut self,
        entry: EntryId,
        bytes: ByteMask,
        value: u64,
    ) -> Result<Progress<()>, Stop> {
        let machine = self.machine;
        if bytes.is_all() {
            return self.store_entry(entry, machine.values.encode(value)?);
        }
        if machine.memory == MemoryModel::Sc {
            self.write_entry_bytes(entry, bytes, value)?;
            return Ok(Progress::DONE);
        }
        self.refuse_without_accessed_dirty(bytes)?;
        if self.layout().parts.is_none() {
            return Err(Stop::Limit(Limit {
                what: "stores to some bytes of an entry, without `Features::partial_entry_stores`",
                most: 0,
            }));
        }
        let seen = machine.values.decode(self.as_seen(entry).value);
        let whole = machine.values.encode(bytes.merge_entry(seen, value))?;
        let older = self.buffered_len();
        let done = self.store_entry(entry, whole)?;
        if done == Progress::DONE {
            self.put_part(older, bytes);
        }
        Ok(done)
    }

    /// Makes a store to some bytes of a page-table entry visible to everyone.
    pub(crate) fn write_entry_bytes(
        &mut self,
        entry: EntryId,
        bytes: ByteMask,
        value: u64,
    ) -> Result<(), Stop> {
        self.refuse_without_accessed_dirty(bytes)?;
        let in_memory = self.value_in_memory(Location::Entry(entry));
        let whole = bytes.merge_entry(in_memory, value);
        self.write_entry(entry, self.machine.values.encode(whole)?)
    }

    /// Puts the stores to some bytes of an entry that wait in any CPU's buffer together with what memory holds now.
    pub(crate) fn put_parts_together(&mut self, entry: EntryId) -> Result<(), Stop> {
        if self.layout().parts.is_none() {
            return Ok(());
        }
        for cpu in self.layout().every_cpu() {
            self.other_mut(cpu).put_own_parts_together(entry)?;
        }
        Ok(())
    }

    fn put_own_parts_together(&mut self, entry: EntryId) -> Result<(), Stop> {
        let machine = self.machine;
        let mut word = self.value_in_memory(Location::Entry(entry));
        let slots: Vec<Slot> = self.buffered().collect();
        for (older, slot) in slots.into_iter().enumerate() {
            let Some(store) = slot.entry_store().filter(|store| store.entry == entry) else {
                continue;
            };
            let former = machine.values.decode(store.value);
            word = self.part(older).merge_entry(word, former);
            if word == former {
                continue;
            }
            self.remember_own_former(store)?;
            let value = machine.values.encode(word)?;
            self.put_buffered(older, Slot::Entry(EntryStore { value, ..store }));
            self.forget_reads_of(store.version)?;
        }
        Ok(())
    }
}
