//! What hardware does by itself with translations: walks, one level at a time, fills and evictions.

use lazytlb_model::cpu_model::{SizeConflict, UpperLevels};
use lazytlb_model::entry::bits;
use lazytlb_model::{Cr4, FrameUse, MemoryType, Property};

use super::state::{Buffered, Cached, PIECES, State, shift};
use super::{Naive, Next};
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
pub(super) struct Start(Cached);

impl Start {
    /// The root in CR3: a walk begins.
    fn root(naive: &Naive<'_>, state: &State, cpu: usize) -> Cached {
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
    fn all(naive: &Naive<'_>, state: &State, cpu: usize) -> Vec<Start> {
        let of = &state.cpus[cpu];
        let cached = naive.members(of.cached);
        let upper = cached.filter(|entry| !entry.is_leaf() && entry.pcid == of.pcid());
        let root = std::iter::once(Start::root(naive, state, cpu));
        let starts = root.chain(upper).chain(naive.members(of.flying));
        starts.map(Start).collect()
    }

    fn is_held_root(&self, naive: &Naive<'_>) -> bool {
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
struct Step {
    place: u8,
    value: u64,
    in_memory: bool,
    found: Option<Cached>,
}

/// A walk of an access that has come to a page: what it found, where, and the state after it.
pub(super) struct Walked {
    pub(super) entry: Cached,
    pub(super) after: State,
    pub(super) place: u8,
    pub(super) in_memory: bool,
}

impl Naive<'_> {
    /// H4: each entry that one more step of a walk fills. Without upper levels that stay, a walk is one
    /// step from the root to the page.
    pub(super) fn fills(&self, state: &State, cpu: usize, out: &mut Vec<Next>) {
        if self.useful.keeps_walks() && self.upper_levels() != UpperLevels::Atomic {
            // A walk begins, and holds what it has read of CR3.
            let mut next = *state;
            next.cpus[cpu].flying |= 1 << self.number(Start::root(self, state, cpu));
            if next != *state {
                out.push(Ok(next));
            }
        }
        for start in Start::all(self, state, cpu) {
            // One that begins at a paging-structure cache holds what it has read there (H12a); and one in flight
            // may put there what it holds, at any time.
            let mut next = *state;
            let bit = 1 << self.number(start.0);
            next.cpus[cpu].flying |= state.cpus[cpu].cached & bit;
            if self.upper_levels() == UpperLevels::Cached && !start.is_held_root(self) {
                next.cpus[cpu].cached |= state.cpus[cpu].flying & bit;
            }
            if next != *state {
                out.push(Ok(next));
            }
            self.fill_below(state, cpu, start, out);
        }
    }

    fn fill_below(&self, state: &State, cpu: usize, start: Start, out: &mut Vec<Next>) {
        if !is_table(start) {
            return out.push(Err(Property::TableUseAfterFree));
        }
        for step in self.read_table(state, cpu, start, Sees::UpToAPoint) {
            let Some(entry) = step.found else { continue };
            let mut next = *state;
            if !self.set_accessed(&mut next, step) {
                continue;
            }
            let bit = 1 << self.number(entry);
            match self.upper_levels() {
                _ if entry.is_leaf() => {
                    self.put(state, next, cpu, entry, out);
                    continue;
                }
                UpperLevels::Cached => {
                    next.cpus[cpu].cached |= bit;
                    next.cpus[cpu].flying |= bit;
                }
                UpperLevels::OnlyInFlight => next.cpus[cpu].flying |= bit,
                // A walk may set A on its way, and be given up.
                UpperLevels::Atomic => self.fill_below(&next, cpu, Start(entry), out),
            }
            if next != *state {
                out.push(Ok(next));
            }
        }
    }

    /// Puts an entry into the TLB, unless it is there.
    fn put(&self, state: &State, mut next: State, cpu: usize, entry: Cached, out: &mut Vec<Next>) {
        let bit = 1 << self.number(entry);
        if state.cpus[cpu].cached & bit == 0 {
            if let Some(property) = self.refuses(state, cpu, &entry) {
                return out.push(Err(property));
            }
            next.cpus[cpu].cached |= bit;
        }
        if next != *state {
            out.push(Ok(next));
        }
    }

    /// H5: any one page's entry goes. Upper entries only add to where walks may begin: without one there is
    /// nothing that a CPU could not do with it, so their evictions lead to no other end.
    pub(super) fn evictions(&self, state: &State, cpu: usize, out: &mut Vec<Next>) {
        let cached = state.cpus[cpu].cached;
        for number in (0..64).filter(|number| cached >> number & 1 != 0) {
            if self.entry(number).is_leaf() {
                let mut next = *state;
                next.cpus[cpu].cached &= !(1 << number);
                out.push(Ok(next));
            }
        }
    }

    /// H3: sets A before anything is cached from an entry: a locked access, which a store that waits in
    /// the buffer has not reached. Says whether A is set now.
    fn set_accessed(&self, next: &mut State, step: Step) -> bool {
        if !self.lacks_accessed(step) {
            return true;
        }
        if step.in_memory {
            next.tables[usize::from(step.place)] |= bits::ACCESSED;
        }
        step.in_memory
    }

    /// Lists what a walk can read in the table that it goes on in.
    fn read_table(&self, state: &State, cpu: usize, start: Start, sees: Sees) -> Vec<Step> {
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

    /// Returns the property that an entry violates by being cached beside what there is.
    fn refuses(&self, state: &State, cpu: usize, entry: &Cached) -> Option<Property> {
        if !entry.is_leaf() {
            return None;
        }
        // H31: two matching entries.
        let erratum = self.script.setting.cpu_model.size_conflict == SizeConflict::MachineCheck;
        if erratum && self.checks(Property::MultipleMatch) {
            let conflicts = |other: &Cached| {
                let both = other.pcid == entry.pcid || other.global || entry.global;
                other.is_leaf() && other.read_in != entry.read_in && both && other.overlaps(entry)
            };
            if self
                .members(state.cpus[cpu].cached)
                .any(|other| conflicts(&other))
            {
                return Some(Property::MultipleMatch);
            }
        }
        // H28: an access of another type is cached, or buffered.
        if self.checks(Property::StaleSpeculation) && self.script.features.write_combining > 0 {
            let conflicts = |frame: u8, memory_type: MemoryType| {
                frame == entry.frame && memory_type != entry.memory_type
            };
            let outstanding = state.cpus.iter().any(|of| {
                let mut cached = self.members(of.cached).filter(Cached::is_leaf);
                // A large page's frames are the first one and those that follow it.
                let shares = |one: &Cached, other: &Cached| {
                    let frames = 1_u64 << (shift(one.read_in) - 12);
                    (u64::from(one.frame)..u64::from(one.frame) + frames)
                        .contains(&u64::from(other.frame))
                };
                cached.any(|other| {
                    (shares(&other, entry) || shares(entry, &other))
                        && other.memory_type != entry.memory_type
                }) || of
                    .combined()
                    .any(|slot| conflicts(slot.frame, slot.memory_type))
                    || of.buffered().any(|slot| match slot {
                        Buffered::Word(_, Some((frame, memory_type))) => {
                            conflicts(frame, memory_type)
                        }
                        _ => false,
                    })
            });
            if outstanding {
                return Some(Property::StaleSpeculation);
            }
        }
        None
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

    fn lacks_accessed(&self, step: Step) -> bool {
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

fn is_table(Start(start): Start) -> bool {
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
