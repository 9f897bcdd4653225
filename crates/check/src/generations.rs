//! Generations in a program: which words hold them, which calls read and write them, and which of them are of one kind.
//!
//! Generations that code never compares with each other, such as those of two spaces, count in *ranges* of their own:
//! [`Program::counts_apart`]. A range begins at a multiple of 2^32.

use std::borrow::Cow;

use lazytlb::{Payload, Until, ValueKind};
use lazytlb_model::{AtomicCell, Call, LocalCell, Rmw};

use crate::program::Program;

impl Program {
    /// Says that the generations which count from a shared word are never compared with any that count from
    /// another: those of two spaces, say. In programs whose operations start for ever there are fewer states then. The
    /// word's first value is put into a range of its own, beyond those of words that were named before.
    ///
    /// It is a claim, which a check tests: with ranges in other orders, the code must do the same. If it does not, the
    /// check begins anew without the claim; and a violation that hangs on it is none: each is replayed with
    /// the first values that the words were made with.
    pub fn counts_apart(&mut self, word: AtomicCell) {
        self.count_apart_together(&[word]);
    }

    /// As [`Program::counts_apart`], of words whose generations are compared with each other, but with no others.
    pub fn count_apart_together(&mut self, words: &[AtomicCell]) {
        let known = self.atomics.iter().enumerate();
        let generations = known.filter(|(index, word)| {
            let is_named = |&(named, _): &(AtomicCell, u64)| usize::from(named.0) == *index;
            carries_generations(word.kind) || self.apart.iter().any(is_named)
        });
        let range = generations.map(|(_, word)| Range::of(word.first_value));
        let range = range.max().unwrap_or_default().next();
        for &word in words {
            match self.atomics.get_mut(usize::from(word.0)) {
                Some(declared) => {
                    declared.first_value += range.start();
                    self.apart.push((word, range.start()));
                }
                None => {
                    let what = "a word counts apart that this program does not have";
                    self.mistake.get_or_insert(what.to_owned());
                }
            }
        }
    }

    /// Says whether some of its generations are said to count apart from others.
    pub(crate) fn claims_ranges(&self) -> bool {
        !self.apart.is_empty()
    }

    /// Returns the program in which no generations are said to count apart: its words hold first what they were made
    /// with.
    pub(crate) fn in_one_range(&self) -> Cow<'_, Program> {
        if !self.claims_ranges() {
            return Cow::Borrowed(self);
        }
        let mut joined = self.clone();
        for (word, raised_by) in joined.apart.drain(..) {
            joined.atomics[usize::from(word.0)].first_value -= raised_by;
        }
        Cow::Owned(joined)
    }
}

fn carries_generations(kind: ValueKind) -> bool {
    matches!(
        kind,
        ValueKind::Generation | ValueKind::Message(Payload::Generation)
    )
}

/// Generations that count apart from others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub(crate) struct Range(u64);

impl Range {
    const BITS: u32 = 32;

    /// Returns the range that a generation is in.
    pub(crate) fn of(value: u64) -> Range {
        Range(value >> Range::BITS)
    }

    fn next(self) -> Range {
        Range(self.0 + 1)
    }

    /// Returns what lies below all generations of the range.
    pub(crate) fn start(self) -> u64 {
        self.0 << Range::BITS
    }
}

/// Which words hold generations.
#[derive(Debug)]
pub(crate) struct GenerationWords {
    pub(crate) shared: Vec<AtomicCell>,
    pub(crate) own: Vec<LocalCell>,
}

impl GenerationWords {
    pub(crate) fn of(program: &Program) -> GenerationWords {
        let is_generation = |kind| {
            matches!(
                kind,
                ValueKind::Generation | ValueKind::Message(Payload::Generation)
            )
        };
        let shared = program.atomics.iter().enumerate();
        let shared = shared.filter(|(_, word)| is_generation(word.kind));
        let own = program
            .own_cells
            .iter()
            .enumerate()
            .flat_map(|(cpu, words)| {
                let words = words.iter().enumerate();
                let words = words.filter(move |(_, word)| is_generation(word.kind));
                words.map(move |(index, _)| LocalCell {
                    owner: cpu as u8,
                    index: index as u8,
                })
            });
        GenerationWords {
            shared: shared.map(|(index, _)| AtomicCell(index as u8)).collect(),
            own: own.collect(),
        }
    }

    /// Says whether a call reads or writes a generation.
    fn are_in(&self, call: &Call) -> bool {
        match *call {
            Call::Load(word)
            | Call::Store(word, _)
            | Call::Rmw(word, ..)
            | Call::PauseUntil(word, _) => self.shared.contains(&word),
            Call::StoreBytes { cell, .. } | Call::RmwBytes { cell, .. } => {
                self.shared.contains(&cell)
            }
            Call::LoadLocal(word) | Call::StoreLocal(word, _) => self.own.contains(&word),
            _ => false,
        }
    }

    /// Returns a call with the generations in it renamed.
    pub(crate) fn renamed_call(&self, call: Call, rename: &impl Fn(u64) -> u64) -> Call {
        if !self.are_in(&call) {
            return call;
        }
        match call {
            Call::Store(word, value) => Call::Store(word, rename(value)),
            Call::StoreLocal(word, value) => Call::StoreLocal(word, rename(value)),
            Call::Rmw(word, Rmw::Swap, value) => Call::Rmw(word, Rmw::Swap, rename(value)),
            Call::Rmw(word, Rmw::SwapIf(expected), value) => {
                Call::Rmw(word, Rmw::SwapIf(rename(expected)), rename(value))
            }
            Call::PauseUntil(word, Until::Equals(value)) => {
                Call::PauseUntil(word, Until::Equals(rename(value)))
            }
            Call::PauseUntil(word, Until::AtLeast(value)) => {
                Call::PauseUntil(word, Until::AtLeast(rename(value)))
            }
            // Loads name no generation; to add 1 is to take the next.
            call => call,
        }
    }

    /// Returns an answer with the generation in it renamed, if it is one.
    pub(crate) fn renamed_answer(
        &self,
        call: &Call,
        answer: u64,
        rename: &impl Fn(u64) -> u64,
    ) -> u64 {
        let reads = matches!(call, Call::Load(_) | Call::LoadLocal(_) | Call::Rmw(..));
        match reads && self.are_in(call) {
            true => rename(answer),
            false => answer,
        }
    }

    /// Returns the generations that code has got along its log, and those that come next after them, in order.
    pub(crate) fn read_along(&self, log: &[(Call, u64)]) -> Vec<Generation> {
        let reads = |call: &Call| {
            matches!(call, Call::Load(_) | Call::LoadLocal(_) | Call::Rmw(..)) && self.are_in(call)
        };
        let read = log.iter().filter(|(call, _)| reads(call));
        let all = read.flat_map(|&(_, value)| [Generation::read(value), Generation::next(value)]);
        Generation::in_order(all.collect())
    }
}

/// A generation that is left somewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Generation {
    pub(crate) value: u64,
    /// Whether code may ask which is the next of it: of one that is in a word, or was read. Of one that was made as
    /// the next of another, it does not.
    pub(crate) may_be_raised: bool,
}

impl Generation {
    /// One that is in a word, or was read.
    pub(crate) fn read(value: u64) -> Generation {
        Generation {
            value,
            may_be_raised: true,
        }
    }

    /// The one after another.
    fn next(value: u64) -> Generation {
        Generation {
            value: value.saturating_add(1),
            may_be_raised: false,
        }
    }

    /// Puts generations in order, each once.
    pub(crate) fn in_order(mut all: Vec<Generation>) -> Vec<Generation> {
        all.sort_unstable_by_key(|one| (one.value, !one.may_be_raised));
        all.dedup_by_key(|one| one.value);
        all
    }
}
