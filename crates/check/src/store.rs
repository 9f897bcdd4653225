//! The states that a search has seen, and how each was reached.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use lazytlb_model::{Layout, State};
use std::hash::BuildHasher;
use xxhash_rust::xxh3::xxh3_128;

/// How states are remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storage {
    /// Whole: a state counts as seen only if all its bytes are equal.
    FullStates,
    /// By 128-bit fingerprints: less memory on large states, and a tiny chance of an omission.
    Fingerprints,
}

/// A state's number, in the order of discovery.
pub(crate) type StateId = u32;

/// No state has this number: it stands for "was there already".
const HASH_SEED: u64 = 0x1a2b_3c4d;

/// Chunks of states, each kept once: a state's chunks change one or two at a time, so states share
/// nearly all of theirs.
struct ChunkTable {
    len: usize,
    bytes: Vec<u8>,
    index: HashTable<u32>,
}

impl ChunkTable {
    fn new(len: usize) -> Self {
        ChunkTable {
            len,
            bytes: Vec::new(),
            index: HashTable::new(),
        }
    }

    fn get(&self, id: u32) -> &[u8] {
        &self.bytes[id as usize * self.len..][..self.len]
    }

    fn intern(&mut self, chunk: &[u8]) -> u32 {
        let hash = hash_of(chunk);
        let (bytes, len) = (&self.bytes, self.len);
        let at = |id: u32| &bytes[id as usize * len..][..len];
        if let Some(&id) = self.index.find(hash, |&id| at(id) == chunk) {
            return id;
        }
        let id = (self.bytes.len() / self.len) as u32;
        self.index.insert_unique(hash, id, |&id| hash_of(at(id)));
        self.bytes.extend_from_slice(chunk);
        id
    }

    fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.index.allocation_size()
    }
}

fn hash_of<T: std::hash::Hash + ?Sized>(value: &T) -> u64 {
    FixedState::with_seed(HASH_SEED).hash_one(value)
}

/// The states seen so far.
pub(crate) struct StateStore {
    layout: Layout,
    parents: Vec<StateId>,
    kind: Kind,
}

enum Kind {
    Full {
        shared: ChunkTable,
        cpus: ChunkTable,
        /// For each state, the ids of its chunks: the shared one, then each CPU's.
        tuples: Vec<u32>,
        index: HashTable<StateId>,
        scratch: Vec<u32>,
    },
    Fingerprints {
        prints: Vec<u128>,
        index: HashTable<StateId>,
        /// The states of the level being explored, and of the one being found, as bytes.
        level: Vec<u8>,
        level_start: StateId,
        next_level: Vec<u8>,
    },
}

impl StateStore {
    pub(crate) fn new(layout: &Layout, storage: Storage) -> Self {
        let kind = match storage {
            Storage::FullStates => Kind::Full {
                shared: ChunkTable::new(layout.shared_len()),
                cpus: ChunkTable::new(layout.cpu_len()),
                tuples: Vec::new(),
                index: HashTable::new(),
                scratch: vec![0; layout.cpus() + 1],
            },
            Storage::Fingerprints => Kind::Fingerprints {
                prints: Vec::new(),
                index: HashTable::new(),
                level: Vec::new(),
                level_start: 0,
                next_level: Vec::new(),
            },
        };
        StateStore {
            layout: layout.clone(),
            parents: Vec::new(),
            kind,
        }
    }

    pub(crate) fn len(&self) -> StateId {
        self.parents.len() as StateId
    }

    /// Adds a state that was reached from `parent`, whose bytes are `base`. Returns whether it is new.
    pub(crate) fn insert(&mut self, state: &State, parent: StateId, base: &State) -> bool {
        let id = self.parents.len() as StateId;
        match &mut self.kind {
            Kind::Full {
                shared,
                cpus,
                tuples,
                index,
                scratch,
            } => {
                let width = self.layout.cpus() + 1;
                let parents_tuple =
                    tuples.get(parent as usize * width..(parent as usize + 1) * width);
                let (shared_len, cpu_len) = (self.layout.shared_len(), self.layout.cpu_len());
                let mut start = 0;
                for chunk in 0..width {
                    let len = if chunk == 0 { shared_len } else { cpu_len };
                    let bytes = &state[start..start + len];
                    scratch[chunk] = match parents_tuple {
                        Some(tuple) if bytes == &base[start..start + len] => tuple[chunk],
                        _ if chunk == 0 => shared.intern(bytes),
                        _ => cpus.intern(bytes),
                    };
                    start += len;
                }
                let hash = hash_of(&scratch[..]);
                let tuple_of = |id: StateId| &tuples[id as usize * width..][..width];
                if index
                    .find(hash, |&known| tuple_of(known) == &scratch[..])
                    .is_some()
                {
                    return false;
                }
                index.insert_unique(hash, id, |&known| hash_of(tuple_of(known)));
                tuples.extend_from_slice(scratch);
            }
            Kind::Fingerprints {
                prints,
                index,
                next_level,
                ..
            } => {
                let print = xxh3_128(state);
                if index
                    .find(print as u64, |&known| prints[known as usize] == print)
                    .is_some()
                {
                    return false;
                }
                index.insert_unique(print as u64, id, |&known| prints[known as usize] as u64);
                prints.push(print);
                next_level.extend_from_slice(state);
            }
        }
        self.parents.push(parent);
        true
    }

    /// Begins the exploration of the states found last, of which `first` is the first.
    pub(crate) fn begin_level(&mut self, first: StateId) {
        if let Kind::Fingerprints {
            level,
            level_start,
            next_level,
            ..
        } = &mut self.kind
        {
            std::mem::swap(level, next_level);
            next_level.clear();
            *level_start = first;
        }
    }

    /// Writes a state of the level being explored to `state`.
    pub(crate) fn load(&self, id: StateId, state: &mut State) {
        match &self.kind {
            Kind::Full {
                shared,
                cpus,
                tuples,
                ..
            } => {
                let width = self.layout.cpus() + 1;
                let tuple = &tuples[id as usize * width..][..width];
                let (head, tail) = state.split_at_mut(self.layout.shared_len());
                head.copy_from_slice(shared.get(tuple[0]));
                for (chunk, &id) in tail
                    .chunks_exact_mut(self.layout.cpu_len())
                    .zip(&tuple[1..])
                {
                    chunk.copy_from_slice(cpus.get(id));
                }
            }
            Kind::Fingerprints {
                level, level_start, ..
            } => {
                let len = self.layout.len();
                let at = (id - level_start) as usize * len;
                state.copy_from_slice(&level[at..at + len]);
            }
        }
    }

    /// Says whether a state's bytes are those of a number.
    pub(crate) fn is(&self, id: StateId, state: &State) -> bool {
        match &self.kind {
            Kind::Full { .. } => {
                let mut known = vec![0; self.layout.len()];
                self.load(id, &mut known);
                known == state
            }
            Kind::Fingerprints { prints, .. } => prints[id as usize] == xxh3_128(state),
        }
    }

    /// Returns the numbers from the first state to `id`, each reached from the one before.
    pub(crate) fn path_to(&self, mut id: StateId) -> Vec<StateId> {
        let mut path = vec![id];
        while id != 0 {
            id = self.parents[id as usize];
            path.push(id);
        }
        path.reverse();
        path
    }

    /// Returns the memory held, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let parents = self.parents.capacity() * size_of::<StateId>();
        parents
            + match &self.kind {
                Kind::Full {
                    shared,
                    cpus,
                    tuples,
                    index,
                    ..
                } => {
                    let tuples = tuples.capacity() * size_of::<u32>();
                    tuples + index.allocation_size() + shared.memory_bytes() + cpus.memory_bytes()
                }
                Kind::Fingerprints {
                    prints,
                    index,
                    level,
                    next_level,
                    ..
                } => {
                    let levels = level.capacity() + next_level.capacity();
                    prints.capacity() * size_of::<u128>() + index.allocation_size() + levels
                }
            }
    }
}
