//! Who changes which page-table entries: learnt while exploring, as in `writers.rs`. A store waits untranslated
//! (H41) only where another CPU does.

use std::sync::Mutex;

use lazytlb::VirtAddr;

use crate::index::{Cpu, Level, TableIndex};

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
