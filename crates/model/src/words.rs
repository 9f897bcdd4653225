//! The words of a state, for whoever gives their values other names.

use crate::call::{AtomicCell, LocalCell};
use crate::index::{Cpu, Location};
use crate::limit::Limit;
use crate::machine::Machine;
use crate::slot::{CellStore, Slot};
use crate::state::State;
use crate::values::ValueCode;

impl Machine {
    /// Replaces the values of some shared words by what a function makes of them: in memory, and where they wait in
    /// a store buffer.
    ///
    /// # Errors
    /// If a value has no number any more.
    pub fn map_shared_words(
        &self,
        state: &mut State,
        words: &[AtomicCell],
        mut change: impl FnMut(AtomicCell, u64) -> u64,
    ) -> Result<(), Limit> {
        for &word in words {
            let at = self.layout.location(Location::Cell(word)).bytes();
            let code = ValueCode::from_byte(state[at]);
            state[at] = self.changed(code, |value| change(word, value))?.to_byte();
        }
        for cpu in self.layout.every_cpu() {
            self.on(state, cpu).map_buffered(|_, slot| match slot {
                Slot::Cell(store) if words.contains(&store.cell) => {
                    let value = self.changed(store.value, |value| change(store.cell, value))?;
                    Ok::<_, Limit>(Slot::Cell(CellStore { value, ..store }))
                }
                other => Ok(other),
            })?;
        }
        Ok(())
    }

    /// Puts a value into shared words in memory, whatever waits in store buffers.
    ///
    /// # Errors
    /// If the value has no number any more.
    pub fn put_words(
        &self,
        state: &mut State,
        words: impl IntoIterator<Item = AtomicCell>,
        value: u64,
    ) -> Result<(), Limit> {
        let code = self.values.encode(value)?.to_byte();
        for word in words {
            let at = self.layout.location(Location::Cell(word)).bytes();
            state[at] = code;
        }
        Ok(())
    }

    /// Replaces the values of some CPUs' own words by what a function makes of them.
    ///
    /// # Errors
    /// If a value has no number any more.
    pub fn map_own_words(
        &self,
        state: &mut State,
        words: &[LocalCell],
        mut change: impl FnMut(u64) -> u64,
    ) -> Result<(), Limit> {
        for &word in words {
            let at = self.layout.own_cell(word).bytes();
            let code = ValueCode::from_byte(state[at]);
            state[at] = self.changed(code, &mut change)?.to_byte();
        }
        Ok(())
    }

    fn changed(
        &self,
        code: ValueCode,
        change: impl FnOnce(u64) -> u64,
    ) -> Result<ValueCode, Limit> {
        let value = self.values.decode(code);
        let changed = change(value);
        match changed == value {
            true => Ok(code),
            false => self.values.encode(changed),
        }
    }

    /// Returns what a CPU reads in a shared word: its own newest store to it, if one waits, or what memory holds.
    pub fn word_as_read(&self, state: &State, cpu: impl Into<Cpu>, word: AtomicCell) -> u64 {
        self.view(state, cpu.into()).read(Location::Cell(word))
    }

    /// Returns what a CPU's own word holds.
    pub fn own_word(&self, state: &State, word: LocalCell) -> u64 {
        let code = state[self.layout.own_cell(word).bytes()];
        self.values.decode(ValueCode::from_byte(code))
    }

    /// Says whether a store to a shared word waits in some CPU's buffer.
    pub fn is_word_buffered(&self, state: &State, word: AtomicCell) -> bool {
        let is_to = |slot: Slot| slot.is_to(Location::Cell(word));
        let mut cpus = self.layout.every_cpu();
        cpus.any(|cpu: Cpu| self.view(state, cpu).buffered().any(is_to))
    }
}
