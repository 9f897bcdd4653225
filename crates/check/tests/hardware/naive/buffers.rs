//! Store buffers and write-combining buffers: what leaves them by itself, and what waits for that; updates of
//! Accessed and Dirty bits that accesses still have to make.

use lazytlb_model::cpu_model::DirtyUpdate;
use lazytlb_model::entry::bits;
use lazytlb_model::{FrameUse, MemoryModel, Reading};

use super::access::arrive;
use super::state::{Buffered, State, push, take};
use super::{Naive, Next};
use crate::script::FRAMES;

impl Naive<'_> {
    /// H25: the oldest store of a store buffer becomes visible.
    pub(super) fn drain(&self, state: &State, cpu: usize, out: &mut Vec<Next>) {
        let Some(oldest) = state.cpus[cpu].buffer[0] else {
            return;
        };
        let mut next = *state;
        let reading = self.script.setting.cpu_model.write_combining.sfence;
        let waits = match oldest {
            Buffered::Barrier => !self.lets_go(&mut next, cpu, reading),
            Buffered::Entry(store) => {
                let new = store.over(state.tables[usize::from(store.place)]);
                self.is_under_update(state, store.place, new)
            }
            Buffered::Late(_) => true,
            Buffered::Word(..) => false,
        };
        if waits {
            return;
        }
        take(&mut next.cpus[cpu].buffer, 0);
        arrive(&mut next, oldest);
        self.count_fewer_slots(&mut next, cpu);
        out.push(Ok(next));
    }

    /// What walks have seen of the store buffer has one slot fewer.
    fn count_fewer_slots(&self, next: &mut State, cpu: usize) {
        let of = &mut next.cpus[cpu];
        for set in [&mut of.cached, &mut of.flying] {
            let fewer = self.members(*set).map(|mut entry| {
                entry.seen = entry.seen.saturating_sub(1);
                1 << self.number(entry)
            });
            *set = fewer.fold(0, |all, bit: u64| all | bit);
        }
    }

    /// H26, H27a: a write-combining store leaves, in any order but for stores to one word, and arrives.
    pub(super) fn drain_combining(&self, state: &State, cpu: usize, out: &mut Vec<Next>) {
        for (at, slot) in state.cpus[cpu].combined().enumerate() {
            let mut before = state.cpus[cpu].combined().take(at);
            if before.any(|older| older.store.word == slot.store.word) {
                continue;
            }
            let mut next = *state;
            take(&mut next.cpus[cpu].combining, at);
            next.write(slot.store);
            out.push(Ok(next));
        }
    }

    /// H41: an access makes an update of A or D that it owes.
    pub(super) fn update(&self, state: &State, cpu: usize, out: &mut Vec<Next>) {
        let of = &state.cpus[cpu];
        let owed = of.owes_accessed | of.owes_dirty;
        for place in (0..self.places.len()).filter(|place| owed >> place & 1 != 0) {
            let mut next = *state;
            update_one(&mut next, cpu, place);
            out.push(Ok(next));
        }
    }

    /// Makes every update that a CPU owes: what bounds H41 waits for them.
    pub(super) fn update_all(&self, next: &mut State, cpu: usize) {
        for place in 0..self.places.len() {
            update_one(next, cpu, place);
        }
    }

    /// Says whether an entry cannot be changed now, because an update of it is owed: it was made before. None need
    /// be where software changes A and D alone, and an update of D where the entry only loses W (H42).
    pub(super) fn is_under_update(&self, state: &State, place: u8, new: u64) -> bool {
        let old = state.tables[usize::from(place)];
        let weak = self.script.setting.cpu_model.dirty == DirtyUpdate::MaySetWithoutW;
        let loses_w = weak && loses_only_w(old, new);
        let is_the_same = (old ^ new) & !(bits::ACCESSED | bits::DIRTY) == 0;
        !is_the_same
            && state.cpus.iter().any(|of| {
                let owes = |places: u16| places >> place & 1 != 0;
                owes(of.owes_dirty) && !loses_w || owes(of.owes_accessed) && !owes(of.owes_dirty)
            })
    }

    /// Says whether an event that empties both kinds of buffers can happen now (H25, H26).
    pub(super) fn empties(&self, next: &mut State, cpu: usize, reading: Reading) -> bool {
        next.cpus[cpu].buffer[0].is_none() && self.lets_go(next, cpu, reading)
    }

    /// Says whether an event that empties the write-combining buffers can happen now: what they hold for
    /// ordinary memory has arrived; what they hold for a device has, or, by the weak reading, sets out (H27).
    pub(super) fn lets_go(&self, next: &mut State, cpu: usize, reading: Reading) -> bool {
        let to_device = |frame: u8| FRAMES[usize::from(frame)] == FrameUse::Device;
        let stays = |frame| reading == Reading::Retired || !to_device(frame);
        if next.cpus[cpu].combined().any(|slot| stays(slot.frame)) {
            return false;
        }
        for slot in next.cpus[cpu].combining.iter_mut().flatten() {
            slot.started = true;
        }
        true
    }

    /// SFENCE: later stores wait for earlier ones of both kinds, loads do not (H26).
    pub(super) fn store_fence(&self, next: &mut State, cpu: usize) -> bool {
        let reading = self.script.setting.cpu_model.write_combining.sfence;
        let of = &next.cpus[cpu];
        let keeps_order = self.script.features.write_combining == 0 || of.buffer[0].is_none();
        if of.combining[0].is_none() && keeps_order {
            return true;
        }
        match self.script.setting.memory {
            MemoryModel::Sc => self.lets_go(next, cpu, reading),
            MemoryModel::Tso { buffer_depth } => {
                let depth = usize::from(buffer_depth);
                push(&mut next.cpus[cpu].buffer, depth, Buffered::Barrier)
            }
        }
    }
}

/// Makes an update that a CPU owes at a place, if it owes one. D comes with A.
fn update_one(next: &mut State, cpu: usize, place: usize) {
    let of = &mut next.cpus[cpu];
    let bit = 1 << place;
    if of.owes_accessed & bit != 0 {
        next.tables[place] |= bits::ACCESSED;
    }
    if of.owes_dirty & bit != 0 {
        next.tables[place] |= bits::ACCESSED | bits::DIRTY;
    }
    of.owes_accessed &= !bit;
    of.owes_dirty &= !bit;
}

/// Says whether a new value of an entry is the old one without W, A and D aside.
pub(super) fn loses_only_w(old: u64, new: u64) -> bool {
    let differs = (old ^ new) & !(bits::ACCESSED | bits::DIRTY);
    differs == bits::WRITABLE && old & bits::WRITABLE != 0 && new & bits::PRESENT != 0
}
