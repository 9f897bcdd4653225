//! User code that touches memory.

use lazytlb::{Access, VirtAddr};

use crate::machine::{Machine, MemoryModel, Outcome, Stop};
use crate::state::{Buffered, CacheSet, State, USER_MEMORY, members};
use crate::translation::Translation;
use crate::violation::{Property, Violation};

impl Machine {
    /// Touches an address: every matching entry may be the one that is used (H5, H7).
    pub(crate) fn touch(
        &self,
        state: &mut State,
        cpu: usize,
        addr: VirtAddr,
        access: Access,
        choice: usize,
    ) -> Result<Outcome, Stop> {
        // In the order of what they are, not of their numbers: those depend on what a search met before.
        let matching = |set| {
            let mut entries: Vec<(Translation, usize)> = members(self.layout.set(state, cpu, set))
                .map(|number| (self.translations.get(number), number))
                .filter(|(entry, _)| {
                    let allowed = access == Access::Load || entry.writable;
                    entry.level == 0 && entry.covers(addr) && allowed
                })
                .collect();
            entries.sort_unstable();
            entries
        };
        if let Some(&(entry, _)) = matching(CacheSet::Tainted).first() {
            return Err(Stop::Violation(Violation {
                property: Property::StaleUse,
                cpu: Some(cpu as u8),
                frame: Some(entry.frame),
                through: Some(entry),
                what: format!(
                    "CPU {cpu} uses its {entry}, which a flush that has returned should have removed"
                ),
            }));
        }
        let MemoryModel::Tso { buffer_depth } = self.memory else {
            return Ok(Outcome::NOTHING);
        };
        if access == Access::Load {
            return Ok(Outcome::NOTHING);
        }
        let mut usable = matching(CacheSet::Cached).into_iter().skip(choice);
        // Without an entry the store faults, and has no effect.
        let Some((_, used)) = usable.next() else {
            return Ok(Outcome::NOTHING);
        };
        let more = usable.next().is_some();
        if self.layout.buffered_len(state, cpu) == usize::from(buffer_depth) {
            return Ok(Outcome::Blocked);
        }
        let store = Buffered {
            location: USER_MEMORY,
            value: used as u8,
            version: 0,
        };
        self.layout.push_buffered(state, cpu, store);
        Ok(Outcome::Done { answer: 0, more })
    }
}
