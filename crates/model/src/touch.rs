//! User code that touches memory.

use lazytlb::{Access, VirtAddr};

use crate::accessed::Use;
use crate::combining::CacheHint;
use crate::index::Way;
use crate::progress::{Progress, Stop};
use crate::slot::{Combining, Data, Slot, Stage};
use crate::spec::MemoryModel;
use crate::through::Through;
use crate::translation::Translation;
use crate::updates::OwnWalk;
use crate::view::CpuMut;

impl<'m> CpuMut<'m> {
    /// Touches an address: every matching entry may be the one that is used (H5, H7).
    pub(crate) fn touch(
        &mut self,
        addr: VirtAddr,
        access: Access,
        hint: CacheHint,
        way: Way,
    ) -> Result<Progress<()>, Stop> {
        let features = &self.machine.features;
        if self.may_use_stale(addr) {
            let usable = self.usable_for_touch(addr, access);
            if let Some(stale) = self.stale_among(&usable, addr) {
                return Err(self.stale_use(stale));
            }
        }
        // The entries themselves are of no interest to a load, nor to a store that is visible at once.
        let is_store_that_waits = access == Access::Store
            && (features.write_combining > 0 || self.machine.memory != MemoryModel::Sc);
        if !features.tags && !features.accessed_dirty && !is_store_that_waits {
            return Ok(Progress::DONE);
        }
        let ways = self.ways_to_touch(addr, access);
        if features.tags {
            for through in &ways {
                self.refuse_foreign(through.used)?;
            }
        }
        if !features.accessed_dirty && !is_store_that_waits {
            return Ok(Progress::DONE);
        }
        let Some(through) = ways.get(way.index()) else {
            // Without an entry the touch faults, and has no effect.
            return Ok(Progress::once(way == Way::FIRST));
        };
        let by = match access {
            Access::Load => Use::Reads,
            Access::Store => Use::Writes,
        };
        // A store that comes late is no way of its own here, as it is where its data matter.
        let own_walk = match is_store_that_waits {
            true => OwnWalk::AtAnyTime,
            false => OwnWalk::InOrder,
        };
        self.owe_through(*through, by, own_walk)?;
        let touched = match is_store_that_waits {
            true => self.store_for_user(through.used, addr, hint)?,
            false => Progress::DONE,
        };
        Ok(match touched {
            Progress::Blocked => Progress::Blocked,
            Progress::Done { answer, .. } => Progress::Done {
                answer,
                more: way.index() + 1 < ways.len(),
            },
        })
    }

    /// Returns the ways of a touch now: the entries that it may use, and what gets A and D for that (H3, H21).
    fn ways_to_touch(&self, addr: VirtAddr, access: Access) -> Vec<Through<'m>> {
        let usable = self.usable_for_touch(addr, access);
        if access == Access::Load || !self.machine.features.accessed_dirty {
            return usable.into_iter().map(Through::same).collect();
        }
        let refusing = self.usable_for_touch(addr, Access::Load);
        let refusing: Vec<&Translation> = refusing
            .into_iter()
            .filter(|entry| !entry.writable)
            .collect();
        self.ways_to_store(&usable, &refusing)
    }

    /// A store of user code through an entry: into the write-combining buffers by the type of the page, or
    /// because it is non-temporal (H26); else into the store buffer.
    fn store_for_user(
        &mut self,
        entry: &Translation,
        addr: VirtAddr,
        hint: CacheHint,
    ) -> Result<Progress<()>, Stop> {
        let machine = self.machine;
        let number = machine.translations.number(&entry.used_at(addr))?;
        if machine.combines(entry.memory_type, hint) {
            return Ok(self.combine(Combining {
                data: Data::User,
                through: number,
                stage: Stage::Filling,
                frame: entry.frame,
                memory_type: entry.memory_type,
            })?);
        }
        Ok(match machine.memory {
            MemoryModel::Sc => Progress::DONE,
            MemoryModel::Tso { .. } => self.buffer(Slot::User(number)),
        })
    }

    /// Returns the entries that a touch may use, in the order of what they are, not of their numbers: those depend
    /// on what a search met before.
    fn usable_for_touch(&self, addr: VirtAddr, access: Access) -> Vec<&'m Translation> {
        let usable = |entry: &&Translation| {
            self.matches(entry, addr) && (access == Access::Load || entry.writable)
        };
        let mut usable: Vec<_> = self
            .translations(self.may_be_cached())
            .filter(usable)
            .collect();
        usable.sort_unstable();
        usable
    }
}

#[cfg(test)]
mod tests {
    use lazytlb::{Entry, PhysAddr, VirtAddr};

    use crate::call::Call;
    use crate::entry::{MemoryType, bits};
    use crate::features::Features;
    use crate::machine::Machine;
    use crate::spec::{MachineSpec, MemoryModel};
    use crate::state::FrameUse;

    /// Returns how many stores are combined after a non-temporal store to a page of a memory type.
    fn combined(memory_type: MemoryType) -> usize {
        let features = Features {
            write_combining: 2,
            ..Features::small()
        };
        let mut spec = MachineSpec::smallest(features, MemoryModel::TSO);
        spec.frames = vec![FrameUse::Table, FrameUse::Table, FrameUse::Page];
        let all = bits::PRESENT | bits::WRITABLE | bits::USER;
        spec.entries = vec![
            (PhysAddr(0), 0, Entry(0x1000 | all)),
            (
                PhysAddr(0x1000),
                0,
                Entry(0x2000 | all | memory_type.bits()),
            ),
        ];
        let machine = Machine::new(&spec).unwrap();
        let mut state = machine.initial();
        let store = Call::TouchNonTemporal(VirtAddr(0));
        machine.call(&mut state, 0, &store, 0).unwrap();
        machine.layout().combining_len(&state, 0)
    }

    #[test]
    fn a_non_temporal_store_to_uncached_memory_is_not_combined() {
        assert_eq!(combined(MemoryType::WriteBack), 1);
        assert_eq!(combined(MemoryType::WriteCombining), 1);
        assert_eq!(combined(MemoryType::Uncached), 0);
    }
}
