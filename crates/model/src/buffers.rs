//! Store buffers, and memory as a CPU sees it through its own.
//!
//! Rules: H25, and H5 for page-table entries: a store to one changes what walks read, and nothing that is
//! cached. Write-combining buffers have their own file, `combining`.
//!
//! An example: two CPUs, each with a buffer, and the cells `x` and `y`, 0 at first.
//!
//! ```text
//!  CPU 0          CPU 1          buffer of CPU 0   buffer of CPU 1   x, y in memory
//!  x = 1                         x = 1                               0, 0
//!                 y = 1          x = 1             y = 1             0, 0
//!  reads y: 0     reads x: 0     x = 1             y = 1             0, 0
//!  reads x: 1                    x = 1             y = 1             0, 0
//!  (drains)                                        y = 1             1, 0
//! ```
//!
//! Each CPU sees its own store before the other does. A store to a page-table entry waits just so; the walks
//! of its own CPU may see it already, or not yet.

use std::ops::Deref;

use crate::byte_mask::ByteMask;
use crate::call::AtomicCell;
use crate::index::{EntryAt, EntryId, Location};
use crate::limit::Limit;
use crate::progress::{Progress, Stop};
use crate::slot::{CellStore, Data, EntryStore, Slot};
use crate::spec::MemoryModel;
use crate::state::{FrameUse, State};
use crate::values::ValueCode;
use crate::version::Version;
use crate::view::{CpuIn, CpuMut};

impl<S: Deref<Target = State>> CpuIn<'_, S> {
    /// Loads a cell as the CPU sees it.
    #[inline]
    pub(crate) fn load(&self, cell: AtomicCell) -> u64 {
        self.read(Location::Cell(cell))
    }

    /// Reads a location as the CPU sees it: its own newest buffered store, or memory; a word of whose bytes
    /// only some are in the buffer is put together.
    #[inline]
    pub(crate) fn read(&self, location: Location) -> u64 {
        if self.machine.has_more_buffers && self.combining_len() > 0 {
            return self.read_through_buffers(location);
        }
        let in_memory = self.value_in_memory(location);
        match self.buffered().rfind(|slot| slot.is_to(location)) {
            Some(Slot::Cell(store)) if !store.bytes.is_all() => {
                self.put_together(location, in_memory)
            }
            Some(Slot::Cell(CellStore { value, .. }) | Slot::Entry(EntryStore { value, .. })) => {
                self.machine.values.decode(value)
            }
            None | Some(Slot::User(_) | Slot::Late(_) | Slot::StoreFence | Slot::FullFence) => {
                in_memory
            }
        }
    }

    /// As [`CpuIn::read`], with what waits to be combined: it is older than what waits in the store buffer,
    /// because a store to one place waits for those of the other kind.
    fn read_through_buffers(&self, location: Location) -> u64 {
        let in_memory = self.value_in_memory(location);
        let combining = self.combining().into_iter();
        let older = combining.fold(in_memory, |word, store| match store.data {
            Data::Word {
                location: to,
                value,
                bytes,
            } if to == location => bytes.merge(word, self.machine.values.decode(value)),
            Data::Word { .. } | Data::User => word,
        });
        self.put_together(location, older)
    }

    /// Puts the stores to a location that wait in the store buffer into a word, oldest first.
    fn put_together(&self, location: Location, word: u64) -> u64 {
        let values = &self.machine.values;
        let stores = self.buffered().filter(|slot| slot.is_to(location));
        stores.fold(word, |word, slot| match slot {
            Slot::Cell(store) => store.bytes.merge(word, values.decode(store.value)),
            Slot::Entry(store) => values.decode(store.value),
            Slot::User(_) | Slot::Late(_) | Slot::StoreFence | Slot::FullFence => word,
        })
    }
}

impl CpuMut<'_> {
    /// Drains the oldest store of the CPU's buffer; returns whether there was one that could.
    pub(crate) fn drain(&mut self) -> Result<bool, Stop> {
        let Some(oldest) = self.buffered().next() else {
            return Ok(false);
        };
        let waits = match oldest {
            Slot::StoreFence => !self.empties_combining(|readings| readings.sfence),
            Slot::FullFence => !self.empties_combining(|readings| readings.mfence),
            // H41: it gets its translation first.
            Slot::Late(_) => true,
            Slot::Cell(_) | Slot::Entry(_) | Slot::User(_) => false,
        };
        if waits {
            return Ok(false);
        }
        self.pop_buffered();
        match oldest {
            Slot::Cell(store) => self.write_cell(store)?,
            Slot::Entry(store) => self.drain_entry(store)?,
            Slot::FullFence => self.fence_serializes()?,
            // Nobody looks at what they do to memory.
            Slot::User(_) | Slot::StoreFence => {}
            Slot::Late(_) => unreachable!("it waits"),
        }
        Ok(true)
    }

    /// Stores some bytes of a cell.
    #[inline]
    pub(crate) fn store_cell(&mut self, store: CellStore) -> Result<Progress<()>, Stop> {
        match self.machine.memory {
            MemoryModel::Tso { .. } => Ok(self.buffer(Slot::Cell(store))),
            MemoryModel::Sc => {
                self.write_cell(store)?;
                Ok(Progress::DONE)
            }
        }
    }

    /// Stores a page-table entry.
    pub(crate) fn store_entry(
        &mut self,
        entry: EntryId,
        value: ValueCode,
    ) -> Result<Progress<()>, Stop> {
        match self.machine.memory {
            MemoryModel::Tso { .. } => {
                if !self.has_buffer_room() {
                    return Ok(Progress::Blocked);
                }
                let version = self.next_pending_version()?;
                self.push_buffered(Slot::Entry(EntryStore {
                    entry,
                    value,
                    version,
                }));
                // H25: this CPU's own walks may see the store already.
                self.close()?;
            }
            MemoryModel::Sc => self.write_entry(entry, value)?,
        }
        Ok(Progress::DONE)
    }

    /// Puts a store into the buffer, which must have room for it.
    #[inline]
    pub(crate) fn buffer(&mut self, slot: Slot) -> Progress<()> {
        if !self.has_buffer_room() {
            return Progress::Blocked;
        }
        self.push_buffered(slot);
        Progress::DONE
    }

    /// Makes a store to a location visible to everyone.
    pub(crate) fn write(
        &mut self,
        location: Location,
        value: ValueCode,
        bytes: ByteMask,
    ) -> Result<(), Stop> {
        match location {
            Location::Cell(cell) => Ok(self.write_cell(CellStore { cell, value, bytes })?),
            Location::Entry(entry) if !bytes.is_all() => {
                self.write_entry_bytes(entry, bytes, self.machine.values.decode(value))
            }
            Location::Entry(entry) => self.write_entry(entry, value),
        }
    }

    /// Makes a store to a cell visible to everyone.
    #[inline]
    pub(crate) fn write_cell(&mut self, store: CellStore) -> Result<(), Limit> {
        let cell = Location::Cell(store.cell);
        let value = match store.bytes.is_all() {
            true => store.value,
            false => {
                let values = &self.machine.values;
                let word = self.value_in_memory(cell);
                values.encode(store.bytes.merge(word, values.decode(store.value)))?
            }
        };
        self.put_in_memory(cell, value);
        Ok(())
    }

    /// Makes a store to a page-table entry visible to everyone.
    pub(crate) fn write_entry(&mut self, entry: EntryId, value: ValueCode) -> Result<(), Stop> {
        self.put_entry(entry, value)?;
        self.entry_has_changed(entry)
    }

    /// Makes a buffered store to a page-table entry visible to everyone. What this CPU has read from the
    /// buffer is known by the store's version in memory from now on.
    fn drain_entry(&mut self, store: EntryStore) -> Result<(), Stop> {
        let version = self.put_entry(store.entry, store.value)?;
        self.rename_version(store.version, version)?;
        self.move_up_pending()?;
        self.entry_has_changed(store.entry)
    }

    /// Puts a page-table entry into memory, which gets its next version.
    fn put_entry(&mut self, entry: EntryId, value: ValueCode) -> Result<Version, Stop> {
        let machine = self.machine;
        let EntryAt { table, index } = *machine.entries.get(entry);
        self.notes_entry_write(index);
        self.update_before_change(entry, machine.values.decode(value))?;
        let version = self.in_memory(entry).version.next_in_memory()?;
        self.remember_former(entry)?;
        self.put_in_memory(Location::Entry(entry), value);
        self.put_version(entry, version);
        self.put_parts_together(entry)?;
        if self.frame_use(table) != FrameUse::Table {
            let what = format!("wrote a page-table entry into frame {table}, which is no table");
            return Err(self.machine.misuse(self.cpu, what));
        }
        Ok(version)
    }

    /// Lets walks see what a page-table entry holds now.
    fn entry_has_changed(&mut self, entry: EntryId) -> Result<(), Stop> {
        self.close_readers_of(self.machine.entries.get(entry).table)?;
        self.forget_revoked();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::call::{AtomicCell, Call};
    use crate::features::Features;
    use crate::machine::Machine;
    use crate::progress::Progress;
    use crate::spec::{MachineSpec, MemoryModel};

    #[test]
    fn a_load_puts_a_word_together_for_which_no_number_is_left() {
        let cell = AtomicCell(0);
        let mut spec = MachineSpec::smallest(Features::small(), MemoryModel::TSO);
        spec.atomics = vec![1];
        let machine = Machine::new(&spec).unwrap();
        let mut state = machine.initial();
        let store = Call::StoreBytes {
            cell,
            bytes: 0b10,
            value: 0x200,
        };
        machine.call(&mut state, 0, &store, 0).unwrap();
        for large in 0x1000.. {
            if machine.values.encode(large).is_err() {
                break;
            }
        }
        let loaded = machine.call(&mut state, 0, &Call::Load(cell), 0).unwrap();
        assert_eq!(loaded, Progress::answer(0x201));
    }
}
