//! What a state holds, for people and for what collects the ends of a program.

use lazytlb::PhysAddr;

use crate::call::AtomicCell;
use crate::entry::bits;
use crate::index::{Cpu, EntryAt, Frame, Location, TableIndex};
use crate::machine::Machine;
use crate::state::State;
use crate::translation::Translation;
use crate::values::ValueCode;

impl Machine {
    /// Returns everything that a CPU may cache, for people to read.
    pub fn cached(&self, state: &State, cpu: impl Into<Cpu>) -> Vec<Translation> {
        let cpu = self.view(state, cpu.into());
        cpu.translations(cpu.may_be_cached()).copied().collect()
    }

    /// Returns the shared cells' values in memory.
    pub fn atomic_values(&self, state: &State) -> Vec<u64> {
        (0..self.writers.len())
            .map(|cell| self.value_in_memory(state, Location::Cell(AtomicCell(cell as u8))))
            .collect()
    }

    /// Returns each CPU's own cells' values.
    pub fn own_values(&self, state: &State) -> Vec<Vec<u64>> {
        let value = |&code: &u8| self.values.decode(ValueCode::from_byte(code));
        self.layout
            .every_cpu()
            .map(|cpu| {
                self.layout
                    .own_cells(state, cpu)
                    .iter()
                    .map(value)
                    .collect()
            })
            .collect()
    }

    /// Returns what page-table entries may hold in memory: as many answers as there are, where speculation
    /// may have set A or not.
    pub fn entry_values(&self, state: &State, wanted: &[(PhysAddr, u16)]) -> Vec<Vec<u64>> {
        let mut answers = vec![Vec::new()];
        for &(table, index) in wanted {
            let value = self.entry_value(state, table, TableIndex::from(index));
            let clear = value & !bits::MAYBE_ACCESSED;
            let mut values = vec![clear];
            if clear != value {
                values.push(clear | bits::ACCESSED);
            }
            let longer = |answer: Vec<u64>| {
                let longer = values
                    .iter()
                    .map(move |&value| [&answer[..], &[value]].concat());
                longer.collect::<Vec<_>>()
            };
            answers = answers.into_iter().flat_map(longer).collect();
        }
        answers
    }

    /// Returns the value of a page-table entry in memory, absent if it was never written.
    fn entry_value(&self, state: &State, table: PhysAddr, index: TableIndex) -> u64 {
        let at = Frame::at(table).map(|table| EntryAt { table, index });
        let entry = at.and_then(|at| self.entries.find(&at));
        entry.map_or(0, |entry| {
            self.value_in_memory(state, Location::Entry(entry))
        })
    }
}
