//! What is known of stores that wait untranslated: where they go, where they cannot go, and who could make them wait.
//!
//! Rule: H41. `late` says what becomes of them.

use std::sync::Mutex;

use lazytlb::VirtAddr;

use crate::byte_mask::ByteMask;
use crate::call::Privilege;
use crate::index::{Cpu, Level, TableIndex};
use crate::values::ValueCode;

/// A store that waits untranslated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LateStore {
    pub(crate) addr: VirtAddr,
    pub(crate) privilege: Privilege,
    pub(crate) bytes: ByteMask,
    pub(crate) value: ValueCode,
}

/// The words to which a late store cannot go any more: a bit each, in the order of the pages' words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct PassedWords(pub(crate) u64);

impl PassedWords {
    /// Late stores that differ, and sets of words that they cannot go to: each has a number in a byte.
    pub(crate) const MOST: usize = u8::MAX as usize + 1;
}

/// Who changes which page-table entries: learnt, and assumed for what is not known yet.
#[derive(Debug, Default)]
pub(crate) struct EntryWriters(Mutex<Knowledge>);

#[derive(Debug, Default)]
struct Knowledge {
    /// Who writes an entry at which index.
    writes: Vec<(Cpu, TableIndex)>,
    /// Whose store went without waiting, because nobody else was known to write on the way to its address.
    assumed: Vec<(Cpu, VirtAddr)>,
    is_broken: bool,
}

impl EntryWriters {
    fn with<T>(&self, ask: impl FnOnce(&mut Knowledge) -> T) -> T {
        ask(&mut self.0.lock().expect("no holder of this lock panics"))
    }

    /// Says whether a store through an address may have to wait, because another CPU writes an entry on its
    /// way; else holds that none does against later knowledge.
    pub(crate) fn others_write(&self, cpu: Cpu, addr: VirtAddr, root_level: Level) -> bool {
        self.with(|known| {
            let mut others = known.writes.iter().filter(|(writer, _)| *writer != cpu);
            if others.any(|(_, index)| is_on_the_way(*index, addr, root_level)) {
                return true;
            }
            if !known.assumed.contains(&(cpu, addr)) {
                known.assumed.push((cpu, addr));
            }
            false
        })
    }

    pub(crate) fn wrote(&self, cpu: Cpu, index: TableIndex, root_level: Level) {
        self.with(|known| {
            if known.writes.contains(&(cpu, index)) {
                return;
            }
            known.writes.push((cpu, index));
            let mut others = known.assumed.iter().filter(|(store, _)| *store != cpu);
            known.is_broken |= others.any(|(_, addr)| is_on_the_way(index, *addr, root_level));
        });
    }

    pub(crate) fn assumption_is_broken(&self) -> bool {
        self.with(|known| known.is_broken)
    }

    pub(crate) fn forget_assumptions(&self) {
        self.with(|known| {
            known.is_broken = false;
            known.assumed.clear();
        });
    }

    pub(crate) fn learn_from(&self, other: &EntryWriters) {
        let writes = other.with(|known| known.writes.clone());
        self.with(|known| {
            for write in writes {
                if !known.writes.contains(&write) {
                    known.writes.push(write);
                }
            }
        });
    }
}

/// Says whether an address may be translated by an entry at this index, of a table at whatever level.
pub(crate) fn is_on_the_way(index: TableIndex, addr: VirtAddr, root_level: Level) -> bool {
    let mut levels = std::iter::successors(Some(root_level), |level| level.below());
    levels.any(|level| level.index_of(addr) == index)
}
