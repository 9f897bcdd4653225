//! Store buffers, and memory as a CPU sees it through its own.
//!
//! Rules: H25, and H5 for page-table entries: a store to one changes what walks read, and nothing that is
//! cached. Write-combining buffers have their own file, `combining`.

use crate::call::{AtomicCell, mask_of};
use crate::machine::{Machine, MemoryModel, Outcome, Stop};
use crate::mutant::{Mutant, broken};
use crate::state::{BARRIER, Buffered, CacheSet, FENCE, FrameUse, State};
use crate::translation::Limit;
use crate::versions::{FIRST_PENDING, is_pending};

impl Machine {
    /// Drains the oldest store of a CPU's buffer; returns whether there was one.
    ///
    /// # Errors
    /// As [`Machine::call`].
    pub fn drain(&self, state: &mut State, cpu: usize) -> Result<bool, Stop> {
        let Some(store) = self.layout.buffered(state, cpu).next() else {
            return Ok(false);
        };
        let waits = match store.location {
            BARRIER => !self.empties_combining(state, cpu, |readings| readings.sfence),
            FENCE => !self.empties_combining(state, cpu, |readings| readings.mfence),
            _ => false,
        };
        if waits {
            return Ok(false);
        }
        self.layout.pop_buffered(state, cpu);
        // From there on, locations are no places in memory.
        if store.location < FENCE {
            self.write(state, cpu, store)?;
        }
        Ok(true)
    }

    pub(crate) fn load(&self, state: &State, cpu: usize, cell: AtomicCell) -> u64 {
        self.values.decode(self.read_location(state, cpu, cell.0))
    }

    /// Reads a location as a CPU sees it: its own newest buffered store, or memory; a word of whose bytes
    /// only some are in the buffer is put together.
    pub(crate) fn read_location(&self, state: &State, cpu: usize, location: u8) -> u8 {
        let in_memory = state[self.layout.location(location)];
        if broken(Mutant::NoForwarding) {
            return in_memory;
        }
        if self.has_more_buffers && self.layout.combining_len(state, cpu) > 0 {
            return self.read_through_buffers(state, cpu, location);
        }
        let is_cell = self.layout.entry_of_location(location).is_none();
        let newest = self
            .layout
            .buffered(state, cpu)
            .rfind(|store| store.location == location);
        match newest {
            None => in_memory,
            Some(store) if !is_cell || store.version == 0 => store.value,
            Some(_) => self
                .layout
                .buffered(state, cpu)
                .filter(|store| store.location == location)
                .fold(in_memory, |word, store| self.merged(word, store)),
        }
    }

    /// As [`Machine::read_location`], with what waits to be combined: it is older than what waits in the
    /// store buffer, because a store to one place waits for those of the other kind.
    fn read_through_buffers(&self, state: &State, cpu: usize, location: u8) -> u8 {
        let combining = self.layout.combining(state, cpu).into_iter();
        let combining = combining.map(|store| Buffered {
            location: store.location,
            value: store.value,
            version: store.bytes,
        });
        let is_entry = self.layout.entry_of_location(location).is_some();
        combining
            .chain(self.layout.buffered(state, cpu))
            .filter(|store| store.location == location)
            .fold(
                state[self.layout.location(location)],
                |word, store| match is_entry {
                    true => store.value,
                    false => self.merged(word, store),
                },
            )
    }

    /// Puts the bytes of a store into a cell's word, as codes.
    pub(crate) fn merged(&self, word: u8, store: Buffered) -> u8 {
        if store.version == 0 {
            return store.value;
        }
        let mask = mask_of(store.version);
        let merged = self.values.decode(word) & !mask | self.values.decode(store.value) & mask;
        // The tables of values only grow, and a read-modify-write has made room for each word before.
        self.values.encode(merged).unwrap_or(store.value)
    }

    pub(crate) fn store(
        &self,
        state: &mut State,
        cpu: usize,
        location: u8,
        value: u8,
    ) -> Result<Outcome, Stop> {
        self.store_bytes(state, cpu, location, 0, value)
    }

    /// Stores some bytes of a cell, 0 for all, or a page-table entry.
    pub(crate) fn store_bytes(
        &self,
        state: &mut State,
        cpu: usize,
        location: u8,
        bytes: u8,
        value: u8,
    ) -> Result<Outcome, Stop> {
        match self.memory {
            MemoryModel::Tso { buffer_depth } if !broken(Mutant::NoStoreBuffer) => {
                if self.layout.buffered_len(state, cpu) == usize::from(buffer_depth) {
                    return Ok(Outcome::Blocked);
                }
                let version = self.slot_version(state, cpu, location, bytes);
                let store = Buffered {
                    location,
                    value,
                    version,
                };
                self.layout.push_buffered(state, cpu, store);
                if self.layout.entry_of_location(location).is_some() {
                    // H25: this CPU's own walks may see the store already.
                    self.close(state, cpu)?;
                }
            }
            _ => self.write(
                state,
                cpu,
                Buffered {
                    location,
                    value,
                    version: bytes,
                },
            )?,
        }
        Ok(Outcome::NOTHING)
    }

    /// Makes a store visible to everyone. A page-table entry gets its next version, and what this CPU has
    /// read from the store before is known by that from now on.
    pub(crate) fn write(&self, state: &mut State, cpu: usize, store: Buffered) -> Result<(), Stop> {
        let at = self.layout.location(store.location);
        let Some(entry) = self.layout.entry_of_location(store.location) else {
            if store.version != 0 {
                // Fails here, and not in a read that puts the word together, if there is no room.
                let mask = mask_of(store.version);
                let word = self.values.decode(state[at]) & !mask;
                let word = word | self.values.decode(store.value) & mask;
                state[at] = self.values.encode(word)?;
            } else {
                state[at] = store.value;
            }
            return Ok(());
        };
        state[at] = store.value;
        let version = state[self.layout.version_of_location(store.location)] + 1;
        if version == FIRST_PENDING {
            let most = usize::from(FIRST_PENDING) - 1;
            let what = "stores to one page-table entry";
            return Err(Limit { what, most }.into());
        }
        state[self.layout.version_of_location(store.location)] = version;
        let (table, _) = self.entries.get(entry);
        if self.layout.frame_use(state, table) != FrameUse::Table {
            let what = format!("wrote a page-table entry into frame {table}, which is no table");
            return Err(self.misuse(cpu, what));
        }
        if is_pending(store.version) {
            self.rename_version(state, cpu, store.version, version)?;
            self.move_up_pending(state, cpu)?;
        }
        if broken(Mutant::StoreInvalidates) {
            self.forget_all(state)?;
        }
        self.close_readers_of(state, table)?;
        self.forget_revoked(state, cpu);
        Ok(())
    }

    /// H5, broken: memory that changes takes the cached entries with it.
    fn forget_all(&self, state: &mut State) -> Result<(), Stop> {
        for cpu in 0..self.layout.cpus() {
            for set in [CacheSet::Cached, CacheSet::Tainted] {
                self.layout.put_set(state, cpu, set, 0);
            }
            self.close(state, cpu)?;
        }
        Ok(())
    }
}
