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
    /// H2, H11: where walks for the current space may begin: at CR3, and at each entry of a
    /// paging-structure cache that is tagged with the current PCID.
    pub(super) fn all(naive: &Naive<'_>, state: &State, cpu: usize) -> Vec<Start> {
        let of = &state.cpus[cpu];
        let root = Cached {
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
        };
        let cached = naive.members(of.cached);
        let upper = cached.filter(|entry| !entry.is_leaf() && entry.pcid == of.pcid());
        std::iter::once(root).chain(upper).map(Start).collect()
    }

    fn leads_to(&self, addr: u64) -> bool {
        self.0.covers(addr)
    }
}

/// One level of a walk: which entry was read, what it translates, and whether it was in memory.
#[derive(Clone, Copy)]
struct Step {
    place: u8,
    value: u64,
    in_memory: bool,
    found: Option<Cached>,
}

impl Naive<'_> {
    /// H4: each entry that one more step of a walk fills. Without upper levels that stay, a walk is one
    /// step from the root to the page.
    pub(super) fn fills(&self, state: &State, cpu: usize, out: &mut Vec<Next>) {
        for start in Start::all(self, state, cpu) {
            self.fill_below(state, cpu, start, out);
        }
    }

    fn fill_below(&self, state: &State, cpu: usize, start: Start, out: &mut Vec<Next>) {
        let at_once = self.upper_levels() == UpperLevels::Atomic;
        if !is_table(start) {
            return out.push(Err(Property::TableUseAfterFree));
        }
        for step in self.read_table(state, cpu, start) {
            let Some(entry) = step.found else { continue };
            let mut next = *state;
            if !self.set_accessed(&mut next, step) {
                continue;
            }
            if entry.is_leaf() || !at_once {
                self.put(state, next, cpu, entry, out);
            } else {
                // A walk may set A on its way, and be given up.
                if next != *state {
                    out.push(Ok(next));
                }
                self.fill_below(&next, cpu, Start(entry), out);
            }
        }
    }

    /// Puts an entry into the TLB or a paging-structure cache, unless it is there.
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

    /// H5: any one entry goes.
    pub(super) fn evictions(&self, state: &State, cpu: usize, out: &mut Vec<Next>) {
        let cached = state.cpus[cpu].cached;
        for number in (0..64).filter(|number| cached >> number & 1 != 0) {
            let mut next = *state;
            next.cpus[cpu].cached &= !(1 << number);
            out.push(Ok(next));
        }
    }

    /// H3: sets A before anything is cached from an entry: a locked access, which a store that waits in
    /// the buffer has not reached. Says whether A is set now.
    fn set_accessed(&self, next: &mut State, step: Step) -> bool {
        if !self.script.features.accessed_dirty || step.value & bits::ACCESSED != 0 {
            return true;
        }
        if step.in_memory {
            next.tables[usize::from(step.place)] |= bits::ACCESSED;
        }
        step.in_memory
    }

    /// Lists what a walk can read in the table that it goes on in: memory, or any of this CPU's own
    /// buffered stores (H25).
    fn read_table(&self, state: &State, cpu: usize, start: Start) -> Vec<Step> {
        let mut steps = Vec::new();
        for (place, &(table, index)) in self.places.iter().enumerate() {
            if table != start.0.frame {
                continue;
            }
            let place = place as u8;
            let in_memory = (state.tables[usize::from(place)], true);
            let own = state.cpus[cpu].buffered_at(place).map(|own| (own, false));
            for (value, in_memory) in std::iter::once(in_memory).chain(own) {
                steps.push(Step {
                    place,
                    value,
                    in_memory,
                    found: self.translated(state, cpu, start, index, value),
                });
            }
        }
        steps
    }

    /// Returns what an entry translates that a walk reads at an index; `None` if it is not valid.
    fn translated(
        &self,
        state: &State,
        cpu: usize,
        Start(above): Start,
        index: u16,
        value: u64,
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
        allows: impl Fn(&Cached) -> bool + Copy,
    ) -> bool {
        let starts = Start::all(self, state, cpu);
        let mut starts = starts.into_iter().filter(|start| start.leads_to(addr));
        starts.any(|start| self.faults_below(state, cpu, start, addr, allows))
    }

    fn faults_below(
        &self,
        state: &State,
        cpu: usize,
        start: Start,
        addr: u64,
        allows: impl Fn(&Cached) -> bool + Copy,
    ) -> bool {
        if !is_table(start) {
            return false;
        }
        let steps = self.steps_for(state, cpu, start, addr);
        // A place that no script ever writes holds an absent entry.
        let mut read_memory = false;
        let faults = steps.iter().any(|step| {
            read_memory |= step.in_memory;
            match step.found {
                None => true,
                Some(entry) if entry.is_leaf() => !allows(&entry),
                Some(entry) => self.faults_below(state, cpu, Start(entry), addr, allows),
            }
        });
        faults || !read_memory
    }

    fn steps_for(&self, state: &State, cpu: usize, start: Start, addr: u64) -> Vec<Step> {
        let wanted = (addr >> shift(start.0.level) & 511) as u16;
        let mut steps = self.read_table(state, cpu, start);
        steps.retain(|step| self.places[usize::from(step.place)].1 == wanted);
        steps
    }

    /// Lists the ends of walks for an address that read memory to a page, with A set on the way, and D in
    /// the last entry for a store that `allowed` lets through (H3, H21): the entry, and the state with the
    /// bits. Whatever is found that refuses is handed on as it is.
    pub(super) fn walks_to_pages(
        &self,
        state: &State,
        cpu: usize,
        addr: u64,
        sets_dirty: impl Fn(&Cached) -> bool + Copy,
    ) -> Vec<(Cached, State)> {
        let mut ends = Vec::new();
        for start in Start::all(self, state, cpu) {
            if start.leads_to(addr) {
                self.walk_on(state, cpu, start, addr, sets_dirty, &mut ends);
            }
        }
        ends
    }

    fn walk_on(
        &self,
        state: &State,
        cpu: usize,
        start: Start,
        addr: u64,
        sets_dirty: impl Fn(&Cached) -> bool + Copy,
        ends: &mut Vec<(Cached, State)>,
    ) {
        if !is_table(start) {
            return;
        }
        for step in self.steps_for(state, cpu, start, addr) {
            let (Some(mut entry), mut next) = (step.found, *state) else {
                continue;
            };
            if !self.set_accessed(&mut next, step) {
                continue;
            }
            if !entry.is_leaf() {
                self.walk_on(&next, cpu, Start(entry), addr, sets_dirty, ends);
                continue;
            }
            if !entry.dirty && sets_dirty(&entry) {
                if !step.in_memory {
                    continue;
                }
                next.tables[usize::from(step.place)] |= bits::DIRTY;
                entry.dirty = true;
            }
            ends.push((entry, next));
        }
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
