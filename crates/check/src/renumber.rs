//! New names for numbers that count on, in programs whose operations start for ever: generations, and the versions of
//! page-table entries.
//!
//! Code only compares generations ([`ValueKind::Generation`]): whether they are equal, which is the greater, and
//! whether one is the next of another. So after each step those that are left anywhere, in words, in store
//! buffers and in the answers that code under way has got, get the lowest numbers that keep all of that: 0 stays,
//! the lowest other one becomes 1, and a gap of two or more becomes two. An example, with the generations of a space, of
//! a CPU, and of a request under way:
//!
//! ```text
//!          tlb_gen   flushed_to of CPU 1   CPU 0 has read, and will store the next
//!  before  17        9                     15, 16
//!  after   5         1                     3, 4
//! ```
//!
//! Code under way has seen the former numbers. It moves to the place that the same code comes to with the new
//! ones: it is run along its log with each generation renamed, and must make the same calls, with each generation in
//! them renamed. If it does not, it does more than compare, and the check ends with an error that says where.
//!
//! Why it is sound: a map that keeps equality, order and nextness takes each step of a state to the same step of the
//! renamed state. Whether code asks for nothing else is tested at every place that moves; [`Stretch`] tests all
//! others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use lazytlb::{Payload, ValueKind};
use lazytlb_model::{AtomicCell, Call, LocalCell, Rmw, State};

use crate::automaton::{NodeId, Nodes};
use crate::event::call_for_people;
use crate::hardware::Hardware;
use crate::program::Program;
use crate::reduction::CanonicalForm;
use crate::step::StepError;

/// Which words hold generations.
#[derive(Debug)]
pub(crate) struct GenerationWords {
    shared: Vec<AtomicCell>,
    own: Vec<LocalCell>,
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
        use lazytlb::Until;
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
    pub(crate) fn read_along(&self, log: &[(Call, u64)]) -> Vec<u64> {
        let reads = |call: &Call| {
            matches!(call, Call::Load(_) | Call::LoadLocal(_) | Call::Rmw(..)) && self.are_in(call)
        };
        let read = log.iter().filter(|(call, _)| reads(call));
        let mut all: Vec<u64> = read
            .flat_map(|&(_, answer)| [answer, answer.saturating_add(1)])
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The new names of generations.
pub(crate) struct Names {
    /// Former names, in order, each with the new one.
    names: Vec<(u64, u64)>,
}

impl Names {
    /// Gives the lowest names to generations that are in order.
    fn lowest(former: &[u64]) -> Names {
        let mut names: Vec<(u64, u64)> = Vec::with_capacity(former.len());
        for &value in former {
            let name = match names.last() {
                None => value.min(1),
                Some(&(0, 0)) => 1,
                Some(&(last, name)) => name + (value - last).min(2),
            };
            names.push((value, name));
        }
        Names { names }
    }

    fn is_identity(&self) -> bool {
        self.names.iter().all(|(former, name)| former == name)
    }

    /// Returns the name of a generation that is left.
    pub(crate) fn of(&self, value: u64) -> u64 {
        let found = self
            .names
            .binary_search_by_key(&value, |&(former, _)| former);
        found.map_or(value, |index| self.names[index].1)
    }
}

/// How states are remembered: with the lowest names.
pub(crate) struct Renumbering {
    words: GenerationWords,
    known: Mutex<Known>,
}

/// What was found out about places.
#[derive(Default)]
struct Known {
    /// The generations that code has got where it is.
    generations: HashMap<NodeId, Arc<[u64]>>,
    /// Where code moves to whose generations get these names.
    moves: HashMap<(NodeId, Vec<u64>), NodeId>,
}

impl Renumbering {
    pub(crate) fn of(program: &Program) -> Renumbering {
        Renumbering {
            words: GenerationWords::of(program),
            known: Mutex::default(),
        }
    }

    fn generations_at(&self, nodes: &Nodes, id: NodeId) -> Arc<[u64]> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let generations = known.generations.entry(id);
        let generations =
            generations.or_insert_with(|| self.words.read_along(&nodes.log_of(id)).into());
        Arc::clone(generations)
    }

    /// Returns where the same code comes to with renamed generations.
    fn moved(
        &self,
        program: &Program,
        nodes: &Nodes,
        id: NodeId,
        names: &Names,
    ) -> Result<NodeId, StepError> {
        let generations = self.generations_at(nodes, id);
        if generations.iter().all(|&value| names.of(value) == value) {
            return Ok(id);
        }
        let renamed: Vec<u64> = generations.iter().map(|&value| names.of(value)).collect();
        let key = (id, renamed);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&known) = known.moves.get(&key) {
            return Ok(known);
        }
        drop(known);
        let rename = |value: u64| names.of(value);
        let node = nodes.get(id);
        let mut at = nodes.start(node.cpu, node.routine)?;
        for (call, answer) in nodes.log_of(id) {
            let expected = self.words.renamed_call(call, &rename);
            if nodes.get(at).next.call() != Some(&expected) {
                return Err(more_than_compared(program, nodes, at, &expected));
            }
            at = nodes.successor(at, self.words.renamed_answer(&call, answer, &rename))?;
        }
        let (former, moved) = (nodes.get(id), nodes.get(at));
        let is_same = match (former.next.call(), moved.next.call()) {
            (Some(&former), Some(moved)) => self.words.renamed_call(former, &rename) == *moved,
            (None, None) => former.next == moved.next,
            _ => false,
        };
        if !is_same || former.interrupts != moved.interrupts {
            let expected = former.next.call().copied();
            let expected = expected.map(|call| self.words.renamed_call(call, &rename));
            return Err(match expected {
                Some(expected) => more_than_compared(program, nodes, at, &expected),
                None => more_than_compared(program, nodes, at, &Call::Fence),
            });
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.moves.insert(key, at);
        Ok(at)
    }
}

/// The error of code that asks for more of generations than how they compare.
fn more_than_compared(program: &Program, nodes: &Nodes, at: NodeId, expected: &Call) -> StepError {
    let node = nodes.get(at);
    let routine = program.routine_name(node.cpu, node.routine);
    let does = match node.next.call() {
        Some(call) => format!("makes the call \"{}\"", call_for_people(program, call)),
        None => "ends".to_owned(),
    };
    StepError::FalseClaim(format!(
        "CPU {} in \"{routine}\" does more with generations than compare them: with others that are equal, greater, and \
         next to each other alike, it {does} where it made \"{}\". Words of `ValueKind::Generation` are for numbers \
         of which only that is asked",
        node.cpu.0,
        call_for_people(program, expected),
    ))
}

/// How a search remembers states.
pub(crate) enum Form<'p> {
    /// As they are.
    AsItIs,
    /// With the lowest names for what counts on.
    Renumbered(&'p Program, Box<Renumbering>),
}

impl<'p> Form<'p> {
    pub(crate) fn of(program: &'p Program) -> Form<'p> {
        match program.features.endless {
            false => Form::AsItIs,
            true => Form::Renumbered(program, Box::new(Renumbering::of(program))),
        }
    }
}

impl CanonicalForm for Form<'_> {
    #[inline(always)]
    fn apply(
        &self,
        hardware: &Hardware,
        nodes: &Nodes,
        state: &mut State,
    ) -> Result<(), StepError> {
        match self {
            Form::AsItIs => Ok(()),
            Form::Renumbered(program, renumbering) => {
                renumbering.apply(program, hardware, nodes, state)
            }
        }
    }
}

impl Renumbering {
    fn apply(
        &self,
        program: &Program,
        hardware: &Hardware,
        nodes: &Nodes,
        state: &mut State,
    ) -> Result<(), StepError> {
        let machine = hardware.machine();
        machine.renumber_versions(state)?;
        let mut left = Vec::new();
        machine.map_shared_words(state, &self.words.shared, |_, value| {
            left.push(value);
            value
        })?;
        machine.map_own_words(state, &self.words.own, |value| {
            left.push(value);
            value
        })?;
        for cpu in hardware.cpus() {
            for id in hardware.places(state, cpu) {
                left.extend_from_slice(&self.generations_at(nodes, id));
            }
        }
        left.sort_unstable();
        left.dedup();
        let names = Names::lowest(&left);
        if names.is_identity() {
            return Ok(());
        }
        machine.map_shared_words(state, &self.words.shared, |_, value| names.of(value))?;
        machine.map_own_words(state, &self.words.own, |value| names.of(value))?;
        for cpu in hardware.cpus() {
            for id in hardware.places(state, cpu) {
                let moved = self.moved(program, nodes, id, &names)?;
                if moved != id {
                    let routine = nodes.get(id).routine;
                    hardware.set_node(state, cpu, routine, Some(moved))?;
                }
            }
        }
        Ok(())
    }
}
