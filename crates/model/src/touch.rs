//! User code that touches memory.

use lazytlb::{Access, VirtAddr};

use crate::entry::MemoryType;
use crate::machine::{Machine, MemoryModel, Outcome, Stop};
use crate::mutant::{Mutant, broken};
use crate::state::{Buffered, CacheSet, Combining, Stage, State, USER_MEMORY, members};
use crate::translation::Translation;

impl Machine {
    /// Touches an address: every matching entry may be the one that is used (H5, H7).
    pub(crate) fn touch(
        &self,
        state: &mut State,
        cpu: usize,
        addr: VirtAddr,
        access: Access,
        non_temporal: bool,
        choice: usize,
    ) -> Result<Outcome, Stop> {
        let pcid = self.pcid(state, cpu);
        // In the order of what they are, not of their numbers: those depend on what a search met before.
        let matching = |set| {
            let mut entries: Vec<(Translation, usize)> = members(self.layout.set(state, cpu, set))
                .map(|number| (self.translations.get(number), number))
                .filter(|(entry, _)| {
                    let allowed = access == Access::Load || entry.writable;
                    let of_pcid = entry.pcid == pcid || entry.global || broken(Mutant::TagsIgnored);
                    entry.level == 0 && entry.covers(addr) && allowed && of_pcid
                })
                .collect();
            entries.sort_unstable();
            entries
        };
        if let Some(&(entry, _)) = matching(CacheSet::Tainted).first() {
            return Err(self.stale_use(cpu, entry));
        }
        if self.features.tags {
            for (entry, _) in matching(CacheSet::Cached) {
                self.refuse_foreign(state, cpu, entry)?;
            }
        }
        if access == Access::Store && self.features.write_combining > 0 {
            return self.touch_combining(
                state,
                cpu,
                &matching(CacheSet::Cached),
                non_temporal,
                choice,
            );
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
            return Ok(if choice == 0 {
                Outcome::NOTHING
            } else {
                Outcome::Blocked
            });
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

    /// A store in a program that has write-combining memory: into its CPU's write-combining buffers by the
    /// type of the page, or because it is non-temporal (H26).
    fn touch_combining(
        &self,
        state: &mut State,
        cpu: usize,
        usable: &[(Translation, usize)],
        non_temporal: bool,
        choice: usize,
    ) -> Result<Outcome, Stop> {
        // Without an entry the store faults, and has no effect.
        let Some(&(entry, number)) = usable.get(choice) else {
            return Ok(if choice == 0 {
                Outcome::NOTHING
            } else {
                Outcome::Blocked
            });
        };
        let more = choice + 1 < usable.len();
        let combines = entry.memory_type == MemoryType::WriteCombining || non_temporal;
        let done = if combines && !broken(Mutant::NoWriteCombining) {
            let store = Combining {
                location: USER_MEMORY,
                value: number as u8,
                bytes: 0,
                stage: Stage::Filling,
                frame: entry.frame,
                memory_type: entry.memory_type,
            };
            self.combine(state, cpu, store)?
        } else if self.memory == MemoryModel::Sc {
            Outcome::NOTHING
        } else {
            self.store_bytes(state, cpu, USER_MEMORY, 0, number as u8)?
        };
        Ok(match done {
            Outcome::Blocked => Outcome::Blocked,
            Outcome::Done { answer, .. } => Outcome::Done { answer, more },
        })
    }
}
