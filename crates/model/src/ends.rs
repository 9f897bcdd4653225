//! What a state holds, for people and for whoever collects the ends of a program.

use lazytlb::PhysAddr;

use crate::entry::bits;
use crate::machine::Machine;
use crate::state::{State, members};
use crate::translation::{Translation, frame_number};

impl Machine {
    /// Returns everything that a CPU may cache, for people to read.
    pub fn cached(&self, state: &State, cpu: usize) -> Vec<Translation> {
        members(self.may_be_cached(state, cpu))
            .map(|n| self.translations.get(n))
            .collect()
    }

    /// Returns the shared cells' values in memory.
    pub fn atomic_values(&self, state: &State) -> Vec<u64> {
        (0..self.writers.len())
            .map(|cell| self.values.decode(state[self.layout.location(cell as u8)]))
            .collect()
    }

    /// Returns each CPU's own cells' values.
    pub fn own_values(&self, state: &State) -> Vec<Vec<u64>> {
        (0..self.layout.cpus())
            .map(|cpu| {
                let cells = self.layout.own_cells(state, cpu).iter();
                cells.map(|&code| self.values.decode(code)).collect()
            })
            .collect()
    }

    /// Returns what page-table entries may hold in memory: as many answers as there are, where speculation
    /// may have set A or not.
    pub fn entry_values(&self, state: &State, wanted: &[(PhysAddr, u16)]) -> Vec<Vec<u64>> {
        let mut answers = vec![Vec::new()];
        for &(table, index) in wanted {
            let table = frame_number(table) as u8;
            let number = self.entries.iter().find(|&(_, at)| at == (table, index));
            let value = number.map_or(0, |(number, _)| {
                let location = self.layout.entry_location(number);
                self.values.decode(state[self.layout.location(location)])
            });
            let plain = value & !bits::MAYBE_ACCESSED;
            let mut values = vec![plain];
            if plain != value {
                values.push(plain | bits::ACCESSED);
            }
            answers = answers
                .into_iter()
                .flat_map(|answer: Vec<u64>| {
                    values
                        .iter()
                        .map(move |&value| {
                            let mut longer = answer.clone();
                            longer.push(value);
                            longer
                        })
                        .collect::<Vec<_>>()
                })
                .collect();
        }
        answers
    }
}
