//! What hardware does by itself with its caches: it fills them by walks, one level at a time, and evicts.

use lazytlb_model::cpu_model::{KeepLoad, SizeConflict, UpperLevels};
use lazytlb_model::entry::bits;
use lazytlb_model::{MemoryType, Property};

use super::state::{Buffered, Cached, Cpu, State, shift};
use super::walk::{Sees, Start, Step, is_table};
use super::{Naive, Next};

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
        let of = &state.cpus[cpu];
        let is_new = of.cached & bit == 0;
        let goes_on = entry.pcid != of.pcid() && self.may_go_on_accessing(&entry);
        if goes_on {
            next.cpus[cpu].flying |= bit;
        }
        if is_new || goes_on && of.flying & bit == 0 {
            if let Some(property) = self.refuses(&next, cpu, &entry) {
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

    /// Says whether a page matches an access beside one of another size, and the CPU cannot stand it.
    fn has_size_conflict(&self, of: &Cpu, entry: &Cached) -> bool {
        // H31: two matching entries. H31a: two that a fetch matches.
        let for_all = match self.script.setting.cpu_model.size_conflict {
            SizeConflict::EitherIsUsed => return false,
            SizeConflict::MachineCheck => true,
            SizeConflict::FetchMachineCheck => false,
        };
        let matches = |entry: &Cached| entry.is_leaf() && is_looked_up(of, entry);
        let conflicts = |other: &Cached| {
            let matters = for_all || entry.executable && other.executable;
            matches(other) && other.read_in != entry.read_in && matters && other.overlaps(entry)
        };
        let mut cached = self.members(of.cached);
        self.checks(Property::MultipleMatch) && matches(entry) && cached.any(|it| conflicts(&it))
    }

    /// Says whether what a CPU has cached has such a page: what it kept of a PCID that it comes to.
    pub(super) fn keeps_size_conflict(&self, of: &Cpu) -> bool {
        let mut cached = self.members(of.cached);
        cached.any(|entry| self.has_size_conflict(of, &entry))
    }

    /// Says whether a page that a CPU has cached may be accessed as one type of memory while another type is cached, or buffered (H28).
    fn has_type_conflict(&self, state: &State, cpu: usize, entry: &Cached) -> bool {
        let is_flying = |of: &Cpu, entry: &Cached| of.flying >> self.number(*entry) & 1 != 0;
        let is_accessed =
            |of: &Cpu, entry: &Cached| is_looked_up(of, entry) || is_flying(of, entry);
        if !self.checks(Property::StaleSpeculation)
            || self.script.features.write_combining == 0
            || !is_accessed(&state.cpus[cpu], entry)
        {
            return false;
        }
        let conflicts = |frame: u8, memory_type: MemoryType| {
            frame == entry.frame && memory_type != entry.memory_type
        };
        state.cpus.iter().any(|of| {
            let mut cached = self.members(of.cached | of.flying).filter(Cached::is_leaf);
            // A large page's frames are the first one and those that follow it.
            let shares = |one: &Cached, other: &Cached| {
                let frames = 1_u64 << (shift(one.read_in) - 12);
                (u64::from(one.frame)..u64::from(one.frame) + frames)
                    .contains(&u64::from(other.frame))
            };
            cached.any(|other| {
                (shares(&other, entry) || shares(entry, &other))
                    && is_accessed(of, &other)
                    && other.memory_type != entry.memory_type
            }) || of
                .combined()
                .any(|slot| conflicts(slot.frame, slot.memory_type))
                || of.buffered().any(|slot| match slot {
                    Buffered::Word(_, Some((frame, memory_type))) => conflicts(frame, memory_type),
                    _ => false,
                })
        })
    }

    /// Says whether what a CPU has cached has such a page: what it kept of a PCID that it comes to.
    pub(super) fn keeps_type_conflict(&self, state: &State, cpu: usize) -> bool {
        let mut cached = self.members(state.cpus[cpu].cached);
        cached.any(|entry| entry.is_leaf() && self.has_type_conflict(state, cpu, &entry))
    }

    /// Returns the property that an entry violates by being cached beside what there is.
    fn refuses(&self, state: &State, cpu: usize, entry: &Cached) -> Option<Property> {
        if !entry.is_leaf() {
            return None;
        }
        if self.has_size_conflict(&state.cpus[cpu], entry) {
            return Some(Property::MultipleMatch);
        }
        self.has_type_conflict(state, cpu, entry)
            .then_some(Property::StaleSpeculation)
    }
}

impl Naive<'_> {
    /// H12a: whether a speculative access to a page may be under way when its PCID is left, and leave something of it in a cache.
    pub(super) fn may_go_on_accessing(&self, page: &Cached) -> bool {
        page.memory_type == MemoryType::WriteBack
            && self.script.features.write_combining > 0
            && self.script.setting.cpu_model.keep_load == KeepLoad::WalksGoOn
            && self.upper_levels() != UpperLevels::Atomic
    }
}

/// H2: whether a CPU looks an entry up, under the PCID that it has loaded.
fn is_looked_up(of: &Cpu, entry: &Cached) -> bool {
    entry.pcid == of.pcid() || entry.global
}
