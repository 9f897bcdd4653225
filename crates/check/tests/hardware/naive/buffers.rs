//! Store buffers and write-combining buffers: what leaves them by itself, and what waits for that.

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
        if oldest == Buffered::Barrier && !self.lets_go(&mut next, cpu, reading) {
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
