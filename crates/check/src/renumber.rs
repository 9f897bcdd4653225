//! New names for numbers that count on, in programs whose operations start for ever: generations, and the versions of
//! page-table entries.
//!
//! Code only compares generations (`ValueKind::Generation`): whether they are equal, which is the greater, and
//! whether one is the next of another. So after each step those that are left anywhere, in words, in store
//! buffers and in the answers that code under way has got, get the lowest numbers that keep all of that: 0, which
//! code may know, stays, and a gap of two or more becomes two (one, after a generation that was only made as
//! the next of another: nobody asks for the next of that). Those that are never compared with each other keep to
//! their ranges, each with the lowest names of its own. An example, with the generations of a space, of
//! a CPU, and of a request under way:
//!
//! ```text
//!          tlb_gen   flushed_to of CPU 1   CPU 0 has read, and will store the next
//!  before  17        9                     15, 16
//!  after   6         2                     4, 5
//! ```
//!
//! Code under way has seen the former numbers. It moves to the place that the same code comes to with the new
//! ones: it is run along its log with each generation renamed, and must make the same calls, with each generation in
//! them renamed. If it does not, it does more than compare, and the check ends with an error that says where.
//!
//! Why it is sound: a map that keeps equality, order and nextness takes each step of a state to the same step of the
//! renamed state. Whether code asks for nothing else is tested at every place that moves; `automaton/stretches.rs` tests
//! all others.
//!
//! | file | what |
//! | --- | --- |
//! | `tests` | renumbered states stand for plain ones: level by level, and on long ways |

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;
use lazytlb_model::{AtomicCell, Call, Machine, State};

use crate::automaton::{Automaton, NodeId, Nodes};
use crate::dead_words::{Alive, DeadWords, Learnt, is_poison};
use crate::event::call_for_people;
use crate::generations::{Generation, GenerationWords, Range};
use crate::hardware::Hardware;
use crate::program::Program;
use crate::reduction::CanonicalForm;
use crate::rests_on::Stretched;
use crate::step::StepError;

/// The new names of generations.
pub(crate) struct Names {
    /// Former names, in order, each with the new one.
    names: Vec<(u64, u64)>,
}

impl Names {
    /// Gives the lowest names to generations that are in order.
    fn lowest(former: &[Generation]) -> Names {
        let mut names: Vec<(u64, u64)> = Vec::with_capacity(former.len());
        // Code may know 0 without having read it.
        let (mut before, mut its_name) = (Generation::read(0), 0);
        for &one in former {
            let range = Range::of(one.value);
            let most = if before.may_be_raised { 2 } else { 1 };
            let name = match range == Range::of(before.value) {
                true => its_name + (one.value - before.value).min(most),
                false => range.start() + 1,
            };
            names.push((one.value, name));
            (before, its_name) = (one, name);
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
    pub(crate) words: GenerationWords,
    dead: Arc<DeadWords>,
    /// The shared words that hold generations and are not always dead, by what searches had met.
    alive: Mutex<(Learnt, Arc<[AtomicCell]>)>,
    /// What became of the parts of states that versions stand in.
    versions: Mutex<HashMap<Vec<u8>, Vec<u8>, RandomState>>,
    names: Mutex<KnownNames>,
    known: Mutex<Known>,
}

/// The new names of generations, given those that are left, in the order in which a state has them; `None` if they keep
/// theirs.
type KnownNames = HashMap<Vec<Generation>, Option<Arc<Names>>, RandomState>;

/// What was found out about places.
#[derive(Default)]
struct Known {
    places: HashMap<NodeId, KnownPlace, RandomState>,
    /// Where code moves to whose generations get these names.
    moves: HashMap<(NodeId, Vec<u64>), NodeId, RandomState>,
}

/// Parts of states whose versions have got new names are remembered up to so many: some 300 bytes each.
const MOST_KNOWN_VERSIONS: usize = 1 << 17;
/// The same, of names.
const MOST_KNOWN_NAMES: usize = 1 << 15;

/// Room for the generations that are left in most states.
const MOST_LEFT: usize = 64;

/// What code has done on its way to a place.
struct KnownPlace {
    /// The generations that it has got.
    generations: Box<[Generation]>,
    /// What of the words that may be dead it has stored.
    stored: Alive,
}

impl Renumbering {
    fn of(program: &Program, dead: Arc<DeadWords>) -> Renumbering {
        let words = GenerationWords::of(program);
        Renumbering {
            alive: Mutex::new((Learnt::default(), words.shared.as_slice().into())),
            words,
            dead,
            versions: Mutex::default(),
            names: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// Returns the new names of generations that are left, or `None` if they keep theirs.
    fn names_of(&self, left: Vec<Generation>) -> Option<Arc<Names>> {
        let known = self.names.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = known.get(&left) {
            return names.clone();
        }
        let names = Names::lowest(&Generation::in_order(left.clone()));
        let names = (!names.is_identity()).then(|| Arc::new(names));
        if known.len() == MOST_KNOWN_NAMES {
            known.clear();
        }
        known.insert(left, names.clone());
        names
    }

    /// Adds the generations that code got on its way to any of these places to those that are left; returns what it has stored
    /// of the words that may be dead.
    fn along(
        &self,
        nodes: &Nodes,
        places: impl Iterator<Item = NodeId>,
        left: &mut Vec<Generation>,
    ) -> Alive {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stored = Alive::default();
        for id in places {
            let place = known.places.entry(id);
            let place = place.or_insert_with(|| {
                let log = nodes.log_of(id);
                KnownPlace {
                    generations: self.words.read_along(&log).into(),
                    stored: self.dead.stored_along(&log),
                }
            });
            left.extend_from_slice(&place.generations);
            stored = stored.union(place.stored);
        }
        stored
    }

    /// Returns where the same code comes to with renamed generations.
    fn moved(
        &self,
        program: &Program,
        nodes: &Nodes,
        id: NodeId,
        names: &Names,
    ) -> Result<NodeId, StepError> {
        let mut generations = Vec::new();
        self.along(nodes, [id].into_iter(), &mut generations);
        let is_named_so = |one: &Generation| names.of(one.value) == one.value;
        if generations.iter().all(is_named_so) {
            return Ok(id);
        }
        let renamed = generations.iter().map(|one| names.of(one.value));
        let renamed: Vec<u64> = renamed.collect();
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
    /// Makes the form for a program, given its words that may be dead if its operations start for ever.
    pub(crate) fn of(program: &'p Program, dead: Option<Arc<DeadWords>>) -> Form<'p> {
        match dead {
            None => Form::AsItIs,
            Some(dead) => Form::Renumbered(program, Box::new(Renumbering::of(program, dead))),
        }
    }
}

impl CanonicalForm for Form<'_> {
    fn test_code(&self, automaton: &Automaton<'_>) -> Result<Option<Stretched>, StepError> {
        match self {
            Form::AsItIs => Ok(None),
            Form::Renumbered(_, renumbering) => automaton.stretch_all(&renumbering.words).map(Some),
        }
    }

    fn renames(&self) -> bool {
        matches!(self, Form::Renumbered(..))
    }

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
    /// Gives versions new names: by what was found out about a state that has the same.
    fn renumber_versions(&self, machine: &Machine, state: &mut State) -> Result<(), StepError> {
        let sections = || machine.version_sections();
        let of = |state: &State| {
            let mut bytes = Vec::with_capacity(state.len());
            sections().for_each(|section| bytes.extend_from_slice(&state[section]));
            bytes
        };
        let former = of(state);
        let known = self.versions.lock();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        if let Some(mut renamed) = known.get(&former).map(Vec::as_slice) {
            for section in sections() {
                let part = renamed.split_off(..section.len());
                state[section].copy_from_slice(part.expect("as many bytes as were taken out"));
            }
            return Ok(());
        }
        drop(known);
        machine.renumber_versions(state)?;
        let known = self.versions.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        if known.len() == MOST_KNOWN_VERSIONS {
            known.clear();
        }
        known.insert(former, of(state));
        Ok(())
    }

    /// Lists the shared words whose generations get new names: those of a word that is dead in every state are no
    /// generations.
    fn alive(&self) -> Arc<[AtomicCell]> {
        let met = self.dead.met();
        let alive = self.alive.lock();
        let mut alive = alive.unwrap_or_else(PoisonError::into_inner);
        if alive.0 != met {
            let words = self.words.shared.iter().copied();
            let words = words.filter(|&word| !self.dead.is_always_dead(met, word));
            *alive = (met, words.collect());
        }
        Arc::clone(&alive.1)
    }

    fn apply(
        &self,
        program: &Program,
        hardware: &Hardware,
        nodes: &Nodes,
        state: &mut State,
    ) -> Result<(), StepError> {
        let machine = hardware.machine();
        self.renumber_versions(machine, state)?;
        let places = hardware.cpus().flat_map(|cpu| hardware.places(state, cpu));
        let shared = self.alive();
        let mut left = Vec::with_capacity(MOST_LEFT);
        let stored = self.along(nodes, places, &mut left);
        if self.dead.learns_stored(stored) {
            return Err(StepError::StoresUnstored);
        }
        self.dead.poison(machine, state, stored)?;
        machine.map_shared_words(state, &shared, |_, value| {
            if !is_poison(value) {
                left.push(Generation::read(value));
            }
            value
        })?;
        machine.map_own_words(state, &self.words.own, |value| {
            left.push(Generation::read(value));
            value
        })?;
        let Some(names) = self.names_of(left) else {
            return Ok(());
        };
        machine.map_shared_words(state, &shared, |_, value| names.of(value))?;
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

#[cfg(test)]
mod tests;
