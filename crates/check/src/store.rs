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
    /// By 128-bit fingerprints: less memory for programs of many CPUs, and a tiny chance of an omission.
    Fingerprints,
}

/// A state's number, in the order of discovery.
pub(crate) type StateId = u32;

/// A chunk's number, in the order of discovery.
type ChunkId = u32;

const HASH_SEED: u64 = 0x1a2b_3c4d;

/// Remembers states, by numbers, and how each was reached.
pub(crate) trait Store: Sync {
    /// Counts the states.
    fn len(&self) -> StateId;

    /// Adds a state that was reached from `parent`, a state of the block being explored, whose bytes are
    /// `base`. Returns whether it is new.
    fn insert(&mut self, state: &State, parent: StateId, base: &State) -> bool;

    /// Learns that no state before `first` will be loaded, nor be a parent, any more.
    fn forget_before(&mut self, first: StateId);

    /// Writes a state that may still be loaded to `state`.
    fn load(&self, id: StateId, state: &mut State);

    /// Returns the number of a state that was reached from `parent`, whose bytes are `base`, if it was added.
    fn find(&mut self, state: &State, parent: StateId, base: &State) -> Option<StateId>;

    /// Returns the first state that may still be loaded.
    fn first_kept(&self) -> StateId;

    /// Says whether a state is the one with a number.
    fn is(&mut self, id: StateId, state: &State) -> bool;

    /// Returns the numbers from the first state to `id`, each reached from the one before.
    fn path_to(&self, id: StateId) -> Vec<StateId>;

    /// Returns the memory held, in bytes.
    fn memory_bytes(&self) -> usize;

    /// Forgets every state.
    fn clear(&mut self);
}

/// Chunks of states, each kept once: a state's chunks change one or two at a time, so states share
/// nearly all of theirs.
struct ChunkTable {
    len: usize,
    bytes: Vec<u8>,
    index: HashTable<ChunkId>,
}

impl ChunkTable {
    fn new(len: usize) -> Self {
        ChunkTable {
            len,
            bytes: Vec::new(),
            index: HashTable::new(),
        }
    }

    fn get(&self, id: ChunkId) -> &[u8] {
        &self.bytes[id as usize * self.len..][..self.len]
    }

    fn intern(&mut self, chunk: &[u8]) -> ChunkId {
        let hash = hash_of(chunk);
        let (bytes, len) = (&self.bytes, self.len);
        let at = |id: ChunkId| &bytes[id as usize * len..][..len];
        if let Some(&id) = self.index.find(hash, |&id| at(id) == chunk) {
            return id;
        }
        let id = (self.bytes.len() / self.len) as ChunkId;
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
    shared: ChunkTable,
    cpus: ChunkTable,
    /// For each state from `first_kept` on, the ids of its chunks: the shared one, then each CPU's.
    tuples: Vec<ChunkId>,
    first_kept: StateId,
    /// For each state its fingerprint; `None` if states are kept whole.
    prints: Option<Vec<u128>>,
    index: HashTable<StateId>,
    scratch: Vec<ChunkId>,
}

impl StateStore {
    pub(crate) fn new(layout: &Layout, storage: Storage) -> Self {
        StateStore {
            layout: layout.clone(),
            parents: Vec::new(),
            shared: ChunkTable::new(layout.shared_len()),
            cpus: ChunkTable::new(layout.cpu_len()),
            tuples: Vec::new(),
            first_kept: 0,
            prints: (storage == Storage::Fingerprints).then(Vec::new),
            index: HashTable::new(),
            scratch: vec![0; layout.cpus() + 1],
        }
    }

    /// Writes the ids of a state's chunks to the scratch tuple; those that are as in the parent are
    /// known.
    fn intern(&mut self, state: &State, parent: StateId, base: &State) {
        let width = self.scratch.len();
        let at = (parent.wrapping_sub(self.first_kept)) as usize * width;
        let parents_tuple = self.tuples.get(at..at + width);
        let (shared_len, cpu_len) = (self.layout.shared_len(), self.layout.cpu_len());
        // By hand: iterators over chunks whose length is no constant divide by it, for every state.
        let of_cpu = |cpu: usize| cpu * cpu_len..(cpu + 1) * cpu_len;
        let (shared, cpus) = state.split_at(shared_len);
        let Some(parents_tuple) = parents_tuple else {
            self.scratch[0] = self.shared.intern(shared);
            for (cpu, id) in self.scratch[1..].iter_mut().enumerate() {
                *id = self.cpus.intern(&cpus[of_cpu(cpu)]);
            }
            return;
        };
        let (base_shared, base_cpus) = base.split_at(shared_len);
        self.scratch.copy_from_slice(parents_tuple);
        if shared != base_shared {
            self.scratch[0] = self.shared.intern(shared);
        }
        for (cpu, id) in self.scratch[1..].iter_mut().enumerate() {
            let bytes = &cpus[of_cpu(cpu)];
            if *bytes != base_cpus[of_cpu(cpu)] {
                *id = self.cpus.intern(bytes);
            }
        }
    }
}

impl Store for StateStore {
    fn len(&self) -> StateId {
        self.parents.len() as StateId
    }

    fn insert(&mut self, state: &State, parent: StateId, base: &State) -> bool {
        self.intern(state, parent, base);
        let id = self.parents.len() as StateId;
        let (tuple, width) = (&self.scratch[..], self.scratch.len());
        match &mut self.prints {
            None => {
                let tuples = &self.tuples;
                let tuple_of = |id: StateId| &tuples[id as usize * width..][..width];
                let hash = hash_of(tuple);
                if self
                    .index
                    .find(hash, |&known| tuple_of(known) == tuple)
                    .is_some()
                {
                    return false;
                }
                self.index
                    .insert_unique(hash, id, |&known| hash_of(tuple_of(known)));
            }
            Some(prints) => {
                let print = fingerprint(tuple);
                let hash = print as u64;
                if self
                    .index
                    .find(hash, |&known| prints[known as usize] == print)
                    .is_some()
                {
                    return false;
                }
                self.index
                    .insert_unique(hash, id, |&known| prints[known as usize] as u64);
                prints.push(print);
            }
        }
        self.tuples.extend_from_slice(&self.scratch);
        self.parents.push(parent);
        true
    }

    fn find(&mut self, state: &State, parent: StateId, base: &State) -> Option<StateId> {
        self.intern(state, parent, base);
        let (tuple, width) = (&self.scratch[..], self.scratch.len());
        let found = match &self.prints {
            None => self.index.find(hash_of(tuple), |&known| {
                self.tuples[known as usize * width..][..width] == *tuple
            }),
            Some(prints) => {
                let print = fingerprint(tuple);
                self.index
                    .find(print as u64, |&known| prints[known as usize] == print)
            }
        };
        found.copied()
    }

    fn first_kept(&self) -> StateId {
        self.first_kept
    }

    /// With fingerprints, the chunks' numbers are let go: those of whole states tell states apart.
    fn forget_before(&mut self, first: StateId) {
        if self.prints.is_some() {
            self.tuples
                .drain(..(first - self.first_kept) as usize * self.scratch.len());
            self.first_kept = first;
        }
    }

    fn load(&self, id: StateId, state: &mut State) {
        let width = self.scratch.len();
        let tuple = &self.tuples[(id - self.first_kept) as usize * width..][..width];
        let (head, tail) = state.split_at_mut(self.layout.shared_len());
        head.copy_from_slice(self.shared.get(tuple[0]));
        let cpu_len = self.layout.cpu_len();
        for (cpu, &id) in tuple[1..].iter().enumerate() {
            tail[cpu * cpu_len..][..cpu_len].copy_from_slice(self.cpus.get(id));
        }
    }

    fn is(&mut self, id: StateId, state: &State) -> bool {
        self.intern(state, StateId::MAX, state);
        let width = self.scratch.len();
        match &self.prints {
            None => self.tuples[id as usize * width..][..width] == self.scratch,
            Some(prints) => prints[id as usize] == fingerprint(&self.scratch),
        }
    }

    fn path_to(&self, mut id: StateId) -> Vec<StateId> {
        let mut path = vec![id];
        while id != 0 {
            id = self.parents[id as usize];
            path.push(id);
        }
        path.reverse();
        path
    }

    fn memory_bytes(&self) -> usize {
        let prints = self.prints.as_ref().map_or(0, Vec::capacity) * size_of::<u128>();
        let tuples = self.tuples.capacity() * size_of::<u32>();
        let parents = self.parents.capacity() * size_of::<StateId>();
        let chunks = self.shared.memory_bytes() + self.cpus.memory_bytes();
        prints + tuples + parents + chunks + self.index.allocation_size()
    }

    fn clear(&mut self) {
        let storage = match self.prints {
            None => Storage::FullStates,
            Some(_) => Storage::Fingerprints,
        };
        *self = StateStore::new(&self.layout, storage);
    }
}

/// Returns the fingerprint of a state. Its chunks' ids stand for its bytes, one for one.
fn fingerprint(tuple: &[ChunkId]) -> u128 {
    let mut bytes = [0; 4 * MOST_CHUNKS];
    for (four, id) in bytes.chunks_exact_mut(4).zip(tuple) {
        four.copy_from_slice(&id.to_le_bytes());
    }
    xxh3_128(&bytes[..4 * tuple.len()])
}

/// Chunks of a state: one shared, and one for each CPU that a machine can have.
const MOST_CHUNKS: usize = 1 + lazytlb_model::machine::MOST_CPUS;

#[cfg(test)]
mod tests {
    use super::*;
    use lazytlb_model::machine::{Machine, MachineSpec, MemoryModel};

    #[test]
    fn a_state_is_stored_once_and_comes_back_whole() {
        let spec = MachineSpec {
            atomics: vec![0; 3],
            own_cells: vec![vec![0]; 2],
            frames: vec![lazytlb_model::FrameUse::Free],
            page_words: Vec::new(),
            entries: Vec::new(),
            root: lazytlb::PhysAddr(0),
            cr4: lazytlb_model::Cr4::default(),
            features: lazytlb_model::Features::small(),
            garbage: lazytlb_model::GarbageWalks::Refused,
            ignored: Vec::new(),
            cpu_model: lazytlb_model::CpuModel::WEAKEST,
            memory: MemoryModel::Sc,
        };
        let machine = Machine::new(&spec).unwrap();
        for storage in [Storage::FullStates, Storage::Fingerprints] {
            let mut store = StateStore::new(machine.layout(), storage);
            let base = machine.initial();
            assert!(store.insert(&base, 0, &base));
            assert!(!store.insert(&base, 0, &base), "seen");
            let states: Vec<Vec<u8>> = (0..base.len())
                .map(|byte| {
                    let mut state = base.clone();
                    state[byte] ^= 1;
                    state
                })
                .collect();
            assert!(states.iter().all(|state| store.insert(state, 0, &base)));
            store.forget_before(1);
            let mut loaded = base.clone();
            for (id, state) in (1..).zip(&states) {
                store.load(id, &mut loaded);
                assert_eq!(loaded, *state);
                assert!(store.is(id, state) && !store.is(id, &base));
                assert_eq!(store.path_to(id), [0, id]);
            }
            store.clear();
            assert!(store.len() == 0 && store.insert(&base, 0, &base));
        }
    }
}
