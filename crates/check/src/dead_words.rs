//! Words that are dead between operations, in programs whose operations start for ever.
//!
//! A message ([`ValueKind::Message`]) is dead once the operation that sent it has ended: what it holds then is of the
//! past, and states that differ in nothing else are one. So memory holds *poison* there unless code under way has stored
//! it, and the store has arrived. That nobody reads a dead one hangs on what other CPUs do, so it is no claim that could
//! be tested beforehand: a call that comes to read poison ends the search, and a new one keeps that word as it is.

use std::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{CpuId, ValueKind};
use lazytlb_model::{AtomicCell, Call, Limit, Machine, State};

use crate::program::Program;

/// What a dead word holds. A program that stores this itself is searched as if it had been read: without dead words.
const POISON: u64 = 0xdead_dead_dead_dead;

/// The words that may be dead.
#[derive(Debug)]
pub(crate) struct DeadWords {
    words: Vec<AtomicCell>,
    /// Those of which one was read while it was dead, a bit each.
    kept: AtomicU64,
}

/// Words of a list, a bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Alive(u64);

impl Alive {
    const MOST: usize = u64::BITS as usize;

    pub(crate) fn union(self, other: Alive) -> Alive {
        Alive(self.0 | other.0)
    }
}

impl DeadWords {
    pub(crate) fn of(program: &Program) -> DeadWords {
        let words = program.atomics.iter().enumerate();
        let messages = words.filter(|(_, word)| matches!(word.kind, ValueKind::Message(_)));
        let words = match program.features.endless {
            false => Vec::new(),
            true => messages
                .take(Alive::MOST)
                .map(|(index, _)| AtomicCell(index as u8))
                .collect(),
        };
        DeadWords {
            words,
            kept: AtomicU64::new(0),
        }
    }

    /// Lists the words of which code has stored one along its log.
    pub(crate) fn stored_along(&self, log: &[(Call, u64)]) -> Alive {
        let stored = |word: &AtomicCell| {
            log.iter()
                .any(|(call, _)| matches!(call, Call::Store(to, _) if to == word))
        };
        let words = self.words.iter().enumerate();
        let alive = words.filter(|(_, word)| stored(word));
        Alive(alive.fold(0, |all, (index, _)| all | 1 << index))
    }

    /// Puts poison into the words that are dead in a state, given those that code under way has stored.
    ///
    /// # Errors
    /// If the machine has no room for another value.
    pub(crate) fn poison(
        &self,
        machine: &Machine,
        state: &mut State,
        stored: Alive,
    ) -> Result<(), Limit> {
        let kept = self.kept.load(Ordering::Relaxed);
        let words = self.words.iter().enumerate();
        for (index, &word) in words {
            let is_kept = kept >> index & 1 != 0;
            let has_arrived = stored.0 >> index & 1 != 0 && !machine.is_word_buffered(state, word);
            if !is_kept && !has_arrived {
                machine.put_word(state, word, POISON)?;
            }
        }
        Ok(())
    }

    /// Returns the dead word that a call would read, if it would.
    #[inline]
    pub(crate) fn read_by(
        &self,
        machine: &Machine,
        state: &State,
        cpu: CpuId,
        call: &Call,
    ) -> Option<AtomicCell> {
        let word = match *call {
            Call::Load(word)
            | Call::Rmw(word, ..)
            | Call::PauseUntil(word, _)
            | Call::StoreBytes { cell: word, .. }
            | Call::RmwBytes { cell: word, .. } => word,
            _ => return None,
        };
        let is_dead = self.words.contains(&word)
            && is_poison(machine.word_as_read(state, usize::from(cpu.0), word));
        is_dead.then_some(word)
    }

    /// Keeps a word as it is from now on: somebody read it while it was dead.
    pub(crate) fn keep(&self, word: AtomicCell) {
        let index = self.words.iter().position(|&dead| dead == word);
        let index = index.expect("it was read as a dead one");
        self.kept.fetch_or(1 << index, Ordering::Relaxed);
    }
}

/// Says whether a value is no value at all.
pub(crate) fn is_poison(value: u64) -> bool {
    value == POISON
}

#[cfg(test)]
mod tests {
    use lazytlb::{Payload, Until};
    use lazytlb_model::{MemoryModel, Rmw};

    use super::*;
    use crate::checker::Checker;
    use crate::menu::MenuItem;

    /// Whatever reads a word counts: claims, which refuse some of these, are no reason to look away.
    #[test]
    fn every_call_that_reads_a_dead_word_is_seen() {
        let mut program = Program::new("messages", 2);
        let kind = ValueKind::Message(Payload::Other);
        let message = program.atomic_of_kind(kind, "message", 0);
        let other = program.atomic("other", 0);
        program.offer(0, MenuItem::new("nothing", |_| {}));
        let checker = Checker::new().memory(MemoryModel::TSO);
        let exploration = checker.exploration(&program).unwrap();
        let machine = exploration.system.hardware.machine();
        let dead = DeadWords::of(&program);
        let mut state = machine.initial();
        let reads = |word: AtomicCell| {
            let (cell, bytes) = (word, 1);
            [
                Call::Load(word),
                Call::Rmw(word, Rmw::Swap, 1),
                Call::PauseUntil(word, Until::Zero),
                Call::StoreBytes {
                    cell,
                    bytes,
                    value: 1,
                },
                Call::RmwBytes {
                    cell,
                    bytes,
                    rmw: Rmw::Swap,
                    operand: 1,
                },
            ]
        };
        let read_by =
            |state: &State, cpu, call: &Call| dead.read_by(machine, state, CpuId(cpu), call);
        for call in reads(message) {
            assert_eq!(
                read_by(&state, 0, &call),
                None,
                "it is not dead yet: {call:?}"
            );
        }
        dead.poison(machine, &mut state, Alive::default()).unwrap();
        for call in reads(message) {
            assert_eq!(read_by(&state, 0, &call), Some(message), "{call:?}");
        }
        for call in reads(other) {
            assert_eq!(read_by(&state, 0, &call), None, "{call:?}");
        }
        // A CPU reads its own store, which waits; others read what is dead.
        let store = Call::Store(message, 7);
        assert_eq!(read_by(&state, 0, &store), None);
        machine.call(&mut state, 0, &store, 0).unwrap();
        dead.poison(machine, &mut state, Alive(1)).unwrap();
        assert_eq!(read_by(&state, 0, &Call::Load(message)), None);
        assert_eq!(read_by(&state, 1, &Call::Load(message)), Some(message));
        machine.drain(&mut state, 0).unwrap();
        dead.poison(machine, &mut state, Alive(1)).unwrap();
        assert_eq!(
            read_by(&state, 1, &Call::Load(message)),
            None,
            "it has arrived"
        );
        dead.keep(message);
        dead.poison(machine, &mut state, Alive::default()).unwrap();
        assert_eq!(read_by(&state, 1, &Call::Load(message)), None, "it is kept");
    }
}
