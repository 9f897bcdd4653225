//! The counting machine's words: each knows what there is to count when it is used.

use std::cell::Cell;

use lazytlb::{Cells, CpuId, Hw, ProtocolWord};

/// Words of 64 CPUs that a CPU set has here.
pub(crate) const WORDS: usize = 8;
/// Slots for PCIDs that a CPU has here: as many as in Linux.
pub(crate) const SLOTS: usize = 6;

/// A word that every CPU may access.
#[derive(Debug)]
pub(crate) struct CountedAtomic {
    pub(crate) value: Cell<u64>,
    pub(crate) role: Role,
}

/// What is special about a word, as far as counting goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// It tells which space this CPU has loaded, or whether it is lazy: others' reads of it are counted.
    WhereaboutsOf(CpuId),
    /// It tells which CPUs were spared in a space: every read is counted.
    Spared,
    /// It tells which CPUs are in a space's cpumask: reads are counted where held tables are given up, and not where a flush,
    /// as under every policy, looks for its targets.
    Cpumask,
    /// Nothing.
    Plain,
}

/// Whose words are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    Cpu(CpuId),
    Space,
}

/// Makes the words of a CPU's state, or of a space.
pub(crate) struct CountedCells(pub(crate) Owner);

impl CountedCells {
    fn role(&self, word: ProtocolWord) -> Role {
        match (word, self.0) {
            (ProtocolWord::IsLazy | ProtocolWord::Whereabouts, Owner::Cpu(cpu)) => {
                Role::WhereaboutsOf(cpu)
            }
            (ProtocolWord::IsLazy | ProtocolWord::Whereabouts, Owner::Space) => {
                unreachable!("a space has loaded none, and is not lazy")
            }
            (ProtocolWord::Spared, _) => Role::Spared,
            (ProtocolWord::Cpumask, _) => Role::Cpumask,
            (
                ProtocolWord::TlbGen
                | ProtocolWord::LoadedMm
                | ProtocolWord::SlotMm
                | ProtocolWord::SlotJoined
                | ProtocolWord::FlushedTo
                | ProtocolWord::SlotDue
                | ProtocolWord::KernelDue
                | ProtocolWord::KernelFlushedTo
                | ProtocolWord::CurrentSlot
                | ProtocolWord::NextVictim
                | ProtocolWord::Inbox
                | ProtocolWord::RequestsBegun
                | ProtocolWord::RequestsDone
                | ProtocolWord::RequestMm
                | ProtocolWord::RequestNewGen
                | ProtocolWord::RequestRemoved
                | ProtocolWord::OpenGathers
                | ProtocolWord::IsRetired
                | ProtocolWord::RetiredBefore
                | ProtocolWord::Retired
                | ProtocolWord::HeldTables
                | ProtocolWord::BatchMm
                | ProtocolWord::BatchAwaits
                | ProtocolWord::BatchPins
                | ProtocolWord::GlobalIdOfMm
                | ProtocolWord::SlotGlobal
                | ProtocolWord::LoadedGlobal
                | ProtocolWord::GlobalIdsTaken,
                _,
            ) => Role::Plain,
        }
    }
}

fn atomic(role: Role, value: u64) -> CountedAtomic {
    let value = Cell::new(value);
    CountedAtomic { value, role }
}

impl<H: Hw<Atomic = CountedAtomic, Local = Cell<u64>>> Cells<H> for CountedCells {
    fn atomic(&mut self, _name: &'static str, value: u64) -> CountedAtomic {
        atomic(Role::Plain, value)
    }

    fn local(&mut self, _name: &'static str, value: u64) -> Cell<u64> {
        Cell::new(value)
    }

    fn protocol_atomic(&mut self, word: ProtocolWord, value: u64) -> CountedAtomic {
        atomic(self.role(word), value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::CountingMachine;

    #[test]
    fn a_words_role_follows_from_which_word_it_is_not_from_its_name() {
        let cpu = CpuId(3);
        let role = |word| {
            let cells = &mut CountedCells(Owner::Cpu(cpu));
            Cells::<CountingMachine>::protocol_atomic(cells, word, 0).role
        };
        assert_eq!(role(ProtocolWord::IsLazy), Role::WhereaboutsOf(cpu));
        assert_eq!(role(ProtocolWord::Inbox), Role::Plain);
        assert_eq!(role(ProtocolWord::RequestMm), Role::Plain);
        let cells = &mut CountedCells(Owner::Cpu(cpu));
        let namesake = Cells::<CountingMachine>::atomic(cells, "is_lazy", 0);
        assert_eq!(namesake.role, Role::Plain);
    }
}
