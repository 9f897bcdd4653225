//! What a CPU that fetches may still read of page-table entries (H40).

use lazytlb_model::Call;
use lazytlb_model::cpu_model::{Mfence, Tlbsync};

use super::Naive;
use super::state::State;

impl Naive<'_> {
    /// H18, H40: says whether a call is a serializing instruction.
    pub(super) fn serializes(&self, call: &Call) -> bool {
        match call {
            Call::Serialize
            | Call::LoadCr3(..)
            | Call::Invlpg(_)
            | Call::Invpcid(_)
            | Call::WriteCr4(_) => true,
            Call::Tlbsync => self.script.setting.cpu_model.tlbsync == Tlbsync::Serializes,
            Call::Fence => self.script.setting.cpu_model.mfence == Mfence::Serializes,
            _ => false,
        }
    }

    /// H40: a CPU that fetches may still read what a step has changed.
    pub(super) fn remember_former(&self, before: &State, next: &mut State) {
        for cpu in 0..2 {
            if !self.useful.fetches(&next.cpus[cpu], cpu) {
                next.cpus[cpu].former = 0;
                continue;
            }
            for place in 0..self.places.len() {
                // What the CPU saw with its own stores done changes where they are of some bytes.
                let views = |state: &State| {
                    let own = state.buffered_at(cpu, place as u8).into_iter();
                    let own = own.map(|(_, value)| value);
                    own.chain([state.tables[place]]).collect::<Vec<u64>>()
                };
                let are = views(next);
                for was in views(before).into_iter().filter(|was| !are.contains(was)) {
                    let number = self.number_of_former(place as u8, was);
                    next.cpus[cpu].former |= 1 << number;
                }
            }
        }
    }

    pub(super) fn number_of_former(&self, place: u8, value: u64) -> usize {
        let mut former = self.former.borrow_mut();
        let known = former.iter().position(|known| *known == (place, value));
        known.unwrap_or_else(|| {
            former.push((place, value));
            self.too_large
                .set(self.too_large.get() || former.len() > 64);
            (former.len() - 1) % 64
        })
    }
}
