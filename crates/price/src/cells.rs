//! The counting machine's words: each knows what there is to count when it is used.

use std::cell::Cell;

use lazytlb::{Cells, CpuId, Hw, ProtocolWord};

/// Words of 64 CPUs that a CPU set has at most.
pub(crate) const MOST_WORDS: usize = 8;
/// Slots for PCIDs that a CPU has here: as many as in Linux.
pub(crate) const SLOTS: usize = 6;

/// A word that every CPU may access.
#[derive(Debug)]
pub(crate) struct CountedAtomic {
    pub(crate) value: Cell<u64>,
    pub(crate) role: Role,
}

/// What is special about a word, as far as counting goes. A bit for each kind, not an enum: every read asks, and a `match`
/// would become a jump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Role {
    kinds: Kinds,
    /// The CPU whose own reads are not counted.
    owner: Option<CpuId>,
}

/// Kinds of words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kinds(u8);

impl Kinds {
    /// Those of which a CPU's reads are counted wherever it is in the protocol.
    pub(crate) const COUNTED_ALWAYS: Kinds = Kinds(1);
    /// And where it gives up held tables.
    pub(crate) const COUNTED_AS_TABLES_ARE_GIVEN_UP: Kinds = Kinds(1 | 2);
}

impl Role {
    /// Nothing.
    const PLAIN: Role = Role {
        kinds: Kinds(0),
        owner: None,
    };
    /// It tells which CPUs were spared in a space: every read is counted.
    const SPARED: Role = Role {
        kinds: Kinds(1),
        owner: None,
    };
    /// It tells which CPUs are in a space's cpumask: reads are counted where held tables are given up, and not where a flush,
    /// as under every policy, looks for its targets.
    const CPUMASK: Role = Role {
        kinds: Kinds(2),
        owner: None,
    };

    /// It tells which space this CPU has loaded, or whether it is lazy: others' reads of it are counted.
    const fn whereabouts_of(cpu: CpuId) -> Role {
        Role {
            kinds: Kinds(1),
            owner: Some(cpu),
        }
    }

    /// Says whether a read by this CPU is counted, where words of these kinds are.
    #[inline]
    pub(crate) fn is_counted(self, counted: Kinds, reader: CpuId) -> bool {
        self.kinds.0 & counted.0 != 0 && self.owner != Some(reader)
    }
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
                Role::whereabouts_of(cpu)
            }
            (ProtocolWord::IsLazy | ProtocolWord::Whereabouts, Owner::Space) => {
                unreachable!("a space has loaded none, and is not lazy")
            }
            (ProtocolWord::Spared, _) => Role::SPARED,
            (ProtocolWord::Cpumask, _) => Role::CPUMASK,
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
                | ProtocolWord::IsWalking
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
            ) => Role::PLAIN,
        }
    }
}

fn atomic(role: Role, value: u64) -> CountedAtomic {
    let value = Cell::new(value);
    CountedAtomic { value, role }
}

impl<H: Hw<Atomic = CountedAtomic, Local = Cell<u64>>> Cells<H> for CountedCells {
    fn atomic(&mut self, _name: &'static str, value: u64) -> CountedAtomic {
        atomic(Role::PLAIN, value)
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
    use crate::pcids_on::WithoutPcids;

    type Machine = CountingMachine<WithoutPcids, 1>;

    #[test]
    fn a_words_role_follows_from_which_word_it_is_not_from_its_name() {
        let cpu = CpuId(3);
        let role = |word| {
            let cells = &mut CountedCells(Owner::Cpu(cpu));
            Cells::<Machine>::protocol_atomic(cells, word, 0).role
        };
        assert_eq!(role(ProtocolWord::IsLazy), Role::whereabouts_of(cpu));
        assert_eq!(role(ProtocolWord::Inbox), Role::PLAIN);
        assert_eq!(role(ProtocolWord::RequestMm), Role::PLAIN);
        let cells = &mut CountedCells(Owner::Cpu(cpu));
        let namesake = Cells::<Machine>::atomic(cells, "is_lazy", 0);
        assert_eq!(namesake.role, Role::PLAIN);
    }
}
