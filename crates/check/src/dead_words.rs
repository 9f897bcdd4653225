//! Words that are dead between operations, in programs whose operations start for ever.
//!
//! A message ([`ValueKind::Message`]) is dead once the operation that sent it has ended: what it holds then is of the
//! past, and states that differ in nothing else are one. So memory holds *poison* there unless code under way has stored
//! it, and the store has arrived. That nobody reads a dead one hangs on what other CPUs do, so it is no claim that could
//! be tested beforehand: a call that comes to read poison ends the search, and a new one keeps that word as it is.
//!
//! A message that no code was met to store holds what it held first, and costs nothing; the first store ends the search, too.

use std::sync::Mutex;

use lazytlb::{CpuId, Payload, ValueKind};
use lazytlb_model::{AtomicCell, Call, Limit, Machine, State};

use crate::program::Program;

/// What a dead word holds. A program that stores this itself is searched as if it had been read: without dead words.
const POISON: u64 = 0xdead_dead_dead_dead;

/// The words that may be dead.
#[derive(Debug)]
pub(crate) struct DeadWords {
    words: Vec<AtomicCell>,
    /// Those that carry generations.
    generations: Alive,
    learnt: Mutex<Learnt>,
}

/// What searches have met of the words; one that meets something new begins anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Learnt {
    /// Those that no code was met to store. They hold what they held first; but a generation would be one more to tell others from,
    /// so such a word is dead.
    unstored: Alive,
    /// Those that were read while they were dead.
    kept: Alive,
}

/// Words of a list, a bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Alive(u128);

impl Alive {
    const MOST: usize = u128::BITS as usize;

    fn those(words: &[AtomicCell], chosen: impl Fn(&AtomicCell) -> bool) -> Alive {
        let chosen = words.iter().enumerate().filter(|(_, word)| chosen(word));
        Alive(chosen.fold(0, |all, (index, _)| all | 1 << index))
    }

    fn contains(self, index: usize) -> bool {
        self.0 >> index & 1 != 0
    }

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
        let carries = |word: &AtomicCell| {
            program.atomics[usize::from(word.0)].kind == ValueKind::Message(Payload::Generation)
        };
        let learnt = Learnt {
            unstored: Alive::those(&words, |_| true),
            kept: Alive::default(),
        };
        DeadWords {
            generations: Alive::those(&words, carries),
            words,
            learnt: Mutex::new(learnt),
        }
    }

    /// Lists the words of which code has stored one along its log.
    pub(crate) fn stored_along(&self, log: &[(Call, u64)]) -> Alive {
        let stored = |word: &AtomicCell| {
            log.iter()
                .any(|(call, _)| matches!(call, Call::Store(to, _) if to == word))
        };
        Alive::those(&self.words, stored)
    }

    /// Learns that code stores these words; says whether that is new.
    pub(crate) fn learns_stored(&self, stored: Alive) -> bool {
        let mut learnt = self.learnt();
        let is_new = learnt.unstored.0 & stored.0 != 0;
        learnt.unstored.0 &= !stored.0;
        is_new
    }

    fn learnt(&self) -> std::sync::MutexGuard<'_, Learnt> {
        let learnt = self.learnt.lock();
        learnt.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Returns what searches have met so far.
    pub(crate) fn met(&self) -> Learnt {
        *self.learnt()
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
        let Learnt { unstored, kept } = *self.learnt();
        let as_they_are = kept.0 | unstored.0 & !self.generations.0;
        let has_arrived = |&(index, word): &(usize, AtomicCell)| {
            stored.contains(index) && !machine.is_word_buffered(state, word)
        };
        let arrived = self.those_of(Alive(stored.0)).filter(has_arrived);
        let arrived = arrived.fold(0, |all, (index, _)| all | 1 << index);
        let all = self.generations.0 | !unstored.0;
        let dead = self.those_of(Alive(all & !as_they_are & !arrived));
        machine.put_words(state, dead.map(|(_, word)| word), POISON)
    }

    /// Lists words, with their place in the list.
    fn those_of(&self, mut chosen: Alive) -> impl Iterator<Item = (usize, AtomicCell)> {
        std::iter::from_fn(move || {
            let index = chosen.0.trailing_zeros() as usize;
            let &word = self.words.get(index)?;
            chosen.0 &= chosen.0 - 1;
            Some((index, word))
        })
    }

    /// Says whether a word that carries a generation is dead in every state, by what searches have met: nobody stores it, nor
    /// reads it.
    pub(crate) fn is_always_dead(&self, met: Learnt, word: AtomicCell) -> bool {
        let index = self.words.iter().position(|&dead| dead == word);
        index.is_some_and(|index| {
            self.generations.contains(index)
                && met.unstored.contains(index)
                && !met.kept.contains(index)
        })
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
        let mut learnt = self.learnt();
        learnt.kept = learnt.kept.union(Alive(1 << index));
    }
}

/// Says whether a value is no value at all.
pub(crate) fn is_poison(value: u64) -> bool {
    value == POISON
}

#[cfg(test)]
mod tests {
    use lazytlb::Until;
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
            assert_eq!(
                read_by(&state, 0, &call),
                None,
                "nobody stores it: {call:?}"
            );
        }
        let stored = dead.stored_along(&[(Call::Store(message, 7), 0)]);
        assert!(dead.learns_stored(stored) && !dead.learns_stored(stored));
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
