//! Sequences of calls that single draws would hardly make: a table that is written, hooked in and used; a space
//! that is left and come back to; two accesses to one large page.

use lazytlb::{Cr3Load, Entry, PhysAddr};
use lazytlb_model::Call;

use super::{Family, Generator, Role, Slot};
use crate::script::ROOTS;

impl Generator {
    /// With the family of hooks, removes an upper entry at first, which is to be hooked in: returns it.
    pub(super) fn unhook_at_first(
        &mut self,
        entries: &mut [(PhysAddr, u16, Entry)],
    ) -> Option<Slot> {
        if !self.is(Family::Hooks) {
            return None;
        }
        let uppers: Vec<usize> = (0..self.slots.len())
            .filter(|&slot| self.slots[slot].level > 1)
            .collect();
        let hooked = self.random.among(&uppers);
        entries[hooked].2 = Entry::ABSENT;
        Some(self.slots[hooked])
    }

    /// Puts the shapes of the drawn families in the place of some calls.
    pub(super) fn put_shapes(&mut self, cpus: &mut [Vec<Call>; 2], hooked: Option<Slot>) {
        if let Some(hook) = hooked {
            // A table's entry is written, then the table is hooked in, and used.
            let below: Vec<Slot> = self.slots.clone();
            let below: Vec<Slot> = below
                .into_iter()
                .filter(|slot| slot.table == hook.below)
                .collect();
            let mut calls = Vec::new();
            if !below.is_empty() {
                let slot = self.random.among(&below);
                calls.push(Call::WriteEntry(
                    slot.table,
                    slot.index,
                    self.entry(slot, 30),
                ));
            }
            calls.push(Call::WriteEntry(
                hook.table,
                hook.index,
                self.entry(hook, 5),
            ));
            if self.random.percent(30) {
                calls.push(self.other());
            }
            calls.push(self.access());
            cpus[0] = calls;
        }
        if self.is(Family::KeepLoads) && self.random.percent(50) {
            let user = usize::from(hooked.is_some());
            let [away, back] = [(1, 1), (0, 0)].map(|(root, pcid)| {
                let keeps = self.random.percent(85);
                let load = if keeps { Cr3Load::Keep } else { Cr3Load::Flush };
                Call::LoadCr3(PhysAddr(ROOTS[root].0 | pcid), load)
            });
            let mut calls = vec![away, back, self.access()];
            if self.random.percent(30) {
                calls.insert(1, self.call(Role::Uses));
            }
            cpus[user] = calls;
        }
        if self.is(Family::LargePages) && self.addrs.len() > 1 && self.random.percent(30) {
            // Two pieces of one page, after a fault in one, maybe.
            let calls = &mut cpus[1];
            calls.truncate(2);
            let accesses = [(); 2].map(|()| self.access());
            cpus[1].extend(accesses);
        }
    }
}
