//! Walks, one level at a time: where they go on, what they may read, and the pages and faults that they come to.

use lazytlb_model::entry::bits;
use lazytlb_model::{Cr4, FrameUse, MemoryType};

use super::Naive;
use super::state::{Buffered, Cached, PIECES, State, shift};
use crate::script::FRAMES;

/// The level up to which an entry may map a page: 1 GiB.
const LARGEST_PAGE: u8 = 3;

/// What an entry is that a walk reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Invalid,
    Table,
    Page,
}

/// Where a walk goes on: an upper entry, or the root.
#[derive(Clone, Copy)]
pub(super) struct Start(pub(super) Cached);

impl Start {
    /// The root in CR3: a walk begins.
    pub(super) fn root(naive: &Naive<'_>, state: &State, cpu: usize) -> Cached {
        let of = &state.cpus[cpu];
        Cached {
            level: naive.script.features.levels,
            read_in: naive.script.features.levels + 1,
            start: 0,
            gone: [false; PIECES],
            frame: of.root,
            writable: true,
            user: true,
            executable: true,
            dirty: true,
            global: false,
            memory_type: MemoryType::WriteBack,
            pcid: of.pcid(),
            root: of.root,
            seen: 0,
        }
    }

    /// H2, H11, H12a: where walks may go on: at CR3, at each entry of a paging-structure cache that is tagged
    /// with the current PCID, and wherever one is in flight, under its own PCID.
    pub(super) fn all(naive: &Naive<'_>, state: &State, cpu: usize) -> Vec<Start> {
        let of = &state.cpus[cpu];
        let cached = naive.members(of.cached);
        let upper = cached.filter(|entry| !entry.is_leaf() && entry.pcid == of.pcid());
        let root = std::iter::once(Start::root(naive, state, cpu));
        let flying = naive.members(of.flying).filter(|entry| !entry.is_leaf());
        let starts = root.chain(upper).chain(flying);
        starts.map(Start).collect()
    }

    pub(super) fn is_held_root(&self, naive: &Naive<'_>) -> bool {
        self.0.read_in > naive.script.features.levels
    }

    /// Those that an access of the current space may go on from.
    fn for_access(naive: &Naive<'_>, state: &State, cpu: usize, addr: u64) -> Vec<Start> {
        let pcid = state.cpus[cpu].pcid();
        let mut starts = Start::all(naive, state, cpu);
        starts.retain(|Start(entry)| entry.pcid == pcid && entry.covers(addr));
        starts
    }
}

/// What a walk may read of a page-table entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sees {
    /// H25: a speculative walk sees its CPU's own stores up to some point, which never goes back.
    UpToAPoint,
    /// H25: the walk of a data access sees all of them.
    AllOwn,
    /// H40: a fetch's walk may have read the entry at any time since the last serializing instruction.
    Formerly,
}

/// What a walk reads: a value, whether memory holds it now, and how many of its CPU's buffered stores the walk
/// has seen then.
#[derive(Clone, Copy)]
struct Seen {
    value: u64,
    in_memory: bool,
    seen: u8,
}

/// One level of a walk: which entry was read, what it translates, and whether it was in memory.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) place: u8,
    value: u64,
    pub(super) in_memory: bool,
    pub(super) found: Option<Cached>,
}

/// A walk of an access that has come to a page: what it found, where, and the state after it.
pub(super) struct Walked {
    pub(super) entry: Cached,
    pub(super) after: State,
    pub(super) place: u8,
    pub(super) in_memory: bool,
}

impl Naive<'_> {
    /// Lists what a walk can read in the table that it goes on in.
    pub(super) fn read_table(
        &self,
        state: &State,
        cpu: usize,
        start: Start,
        sees: Sees,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        for (place, &(table, index)) in self.places.iter().enumerate() {
            if table != start.0.frame {
                continue;
            }
            let place = place as u8;
            for read in self.read_entry(state, cpu, place, start.0.seen, sees) {
                steps.push(Step {
                    place,
                    value: read.value,
                    in_memory: read.in_memory,
                    found: self.translated(state, cpu, start, index, read),
                });
            }
        }
        steps
    }

    /// Lists what a walk can read at a place that has seen so many of its CPU's buffered stores.
    fn read_entry(&self, state: &State, cpu: usize, place: u8, seen: u8, sees: Sees) -> Vec<Seen> {
        let of = &state.cpus[cpu];
        let in_memory = Seen {
            value: state.tables[usize::from(place)],
            in_memory: true,
            seen,
        };
        let own = state.buffered_at(cpu, place);
        let buffered = |&(slot, value): &(u8, u64)| Seen {
            value,
            in_memory: false,
            seen: seen.max(slot + 1),
        };
        match sees {
            Sees::AllOwn => {
                vec![own.last().map_or(in_memory, buffered)]
            }
            Sees::UpToAPoint => {
                let seen_before = own.iter().rfind(|(slot, _)| *slot < seen);
                let later = own.iter().filter(|(slot, _)| *slot >= seen);
                let mut reads = vec![seen_before.map_or(in_memory, buffered)];
                reads.extend(later.map(buffered));
                reads
            }
            Sees::Formerly => {
                let former = self.former.borrow();
                let former = former.iter().enumerate();
                let former =
                    former.filter(|(number, (at, _))| *at == place && of.former >> number & 1 != 0);
                let mut reads = vec![in_memory];
                reads.extend(own.iter().map(buffered));
                reads.extend(former.map(|(_, &(_, value))| Seen {
                    value,
                    in_memory: false,
                    seen,
                }));
                reads
            }
        }
    }

    /// Returns what an entry translates that a walk reads at an index; `None` if it is not valid.
    fn translated(
        &self,
        state: &State,
        cpu: usize,
        Start(above): Start,
        index: u16,
        Seen { value, seen, .. }: Seen,
    ) -> Option<Cached> {
        let is_page = match read(value, above.level) {
            Read::Invalid => return None,
            Read::Table => false,
            Read::Page => true,
        };
        let has = |bit| value & bit != 0;
        Some(Cached {
            level: if is_page { 0 } else { above.level - 1 },
            read_in: above.level,
            start: above.start + (u64::from(index) << shift(above.level)),
            gone: [false; PIECES],
            frame: (value >> 12 & 0xff) as u8,
            // H9: what every entry on the way allows.
            writable: above.writable && has(bits::WRITABLE),
            user: above.user && has(bits::USER),
            executable: above.executable && !has(bits::NO_EXECUTE),
            dirty: !is_page || !self.script.features.accessed_dirty || has(bits::DIRTY),
            // H8: only leaves are global, and only with PGE.
            global: is_page && has(bits::GLOBAL) && state.cpus[cpu].cr4.has(Cr4::PGE),
            memory_type: match (has(bits::CACHE_DISABLE), has(bits::WRITE_THROUGH)) {
                _ if !is_page => MemoryType::WriteBack,
                (true, _) => MemoryType::Uncached,
                (false, true) => MemoryType::WriteCombining,
                (false, false) => MemoryType::WriteBack,
            },
            pcid: above.pcid,
            root: above.root,
            seen: if is_page { 0 } else { seen },
        })
    }

    /// Says whether a walk for an address can find an entry that is not valid, or a page that does not allow
    /// the access. It caches nothing, so it need not have set A on its way (H3).
    pub(super) fn walk_faults(
        &self,
        state: &State,
        cpu: usize,
        addr: u64,
        sees: Sees,
        allows: impl Fn(&Cached) -> bool + Copy,
    ) -> bool {
        let starts = Start::for_access(self, state, cpu, addr);
        let mut starts = starts.into_iter();
        starts.any(|start| self.faults_below(state, cpu, start, addr, sees, allows))
    }

    fn faults_below(
        &self,
        state: &State,
        cpu: usize,
        start: Start,
        addr: u64,
        sees: Sees,
        allows: impl Fn(&Cached) -> bool + Copy,
    ) -> bool {
        if !is_table(start) {
            return false;
        }
        let steps = self.steps_for(state, cpu, start, addr, sees);
        let faults = steps.iter().any(|step| match step.found {
            None => true,
            Some(entry) if entry.is_leaf() => !allows(&entry),
            Some(entry) => self.faults_below(state, cpu, Start(entry), addr, sees, allows),
        });
        // A place that no script ever writes holds an absent entry.
        faults || steps.is_empty()
    }

    fn steps_for(
        &self,
        state: &State,
        cpu: usize,
        start: Start,
        addr: u64,
        sees: Sees,
    ) -> Vec<Step> {
        let wanted = (addr >> shift(start.0.level) & 511) as u16;
        let mut steps = self.read_table(state, cpu, start, sees);
        steps.retain(|step| self.places[usize::from(step.place)].1 == wanted);
        steps
    }

    /// Lists the ends of walks for an address that come to a page: walks of an access, which owes A in what it
    /// has read, and D in the last entry for a store that `sets_dirty` lets through (H3, H21, H41).
    pub(super) fn walks_to_pages(
        &self,
        state: &State,
        cpu: usize,
        addr: u64,
        sees: Sees,
        sets_dirty: impl Fn(&Cached) -> bool + Copy,
    ) -> Vec<Walked> {
        let mut ends = Vec::new();
        for start in Start::for_access(self, state, cpu, addr) {
            self.walk_on(state, cpu, start, (addr, sees), sets_dirty, &mut ends);
        }
        ends
    }

    fn walk_on(
        &self,
        state: &State,
        cpu: usize,
        start: Start,
        (addr, sees): (u64, Sees),
        sets_dirty: impl Fn(&Cached) -> bool + Copy,
        ends: &mut Vec<Walked>,
    ) {
        if !is_table(start) {
            return;
        }
        for step in self.steps_for(state, cpu, start, addr, sees) {
            let (Some(mut entry), mut after) = (step.found, *state) else {
                continue;
            };
            // What waits in the buffer cannot get A, which is set in memory.
            if self.lacks_accessed(step) {
                if !step.in_memory {
                    continue;
                }
                after.cpus[cpu].owes_accessed |= 1 << step.place;
            }
            if !entry.is_leaf() {
                self.walk_on(&after, cpu, Start(entry), (addr, sees), sets_dirty, ends);
                continue;
            }
            if !entry.dirty && sets_dirty(&entry) {
                if !step.in_memory {
                    continue;
                }
                after.cpus[cpu].owes_dirty |= 1 << step.place;
                entry.dirty = true;
            }
            let Step {
                place, in_memory, ..
            } = step;
            ends.push(Walked {
                entry,
                after,
                place,
                in_memory,
            });
        }
    }

    pub(super) fn lacks_accessed(&self, step: Step) -> bool {
        self.script.features.accessed_dirty && step.value & bits::ACCESSED == 0
    }

    /// Returns whether an address may be walked through a page-table entry to which its CPU has a store behind
    /// this slot of its buffer.
    pub(super) fn is_walked_through_younger(
        &self,
        state: &State,
        cpu: usize,
        slot: usize,
        addr: u64,
    ) -> bool {
        let mut younger = state.cpus[cpu].buffered().skip(slot + 1);
        let levels = 1..=self.script.features.levels;
        younger.any(|slot| match slot {
            Buffered::Entry(store) => {
                let (_, index) = self.places[usize::from(store.place)];
                levels
                    .clone()
                    .any(|level| (addr >> shift(level) & 511) as u16 == index)
            }
            _ => false,
        })
    }
}

pub(super) fn is_table(Start(start): Start) -> bool {
    FRAMES.get(usize::from(start.frame)) == Some(&FrameUse::Table)
}

/// Says what an entry is that is read in a table of a level (H3).
fn read(value: u64, level: u8) -> Read {
    let is_large = value & bits::LARGE != 0;
    match level {
        _ if value & bits::PRESENT == 0 => Read::Invalid,
        1 => Read::Page,
        _ if !is_large => Read::Table,
        _ if level <= LARGEST_PAGE => Read::Page,
        _ => Read::Invalid,
    }
}
