//! What a machine holds in one state, for people: counterexamples show it step by step.

use lazytlb::{Entry, PhysAddr};

use crate::call::{AtomicCell, Cr4};
use crate::index::{Cpu, Location, PcidTag, TableIndex};
use crate::machine::Machine;
use crate::state::{CacheSet, FrameUse, State};
use crate::translation::Translation;
use crate::waiting_stores::WaitingStore;

/// What one CPU holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldByCpu {
    /// The root in CR3.
    pub root: PhysAddr,
    /// The current PCID; `None` where CR4.PCIDE is clear.
    pub pcid: Option<PcidTag>,
    /// What it may cache, or a walk under way may hold.
    pub cached: Vec<(Translation, HeldHow)>,
    /// What waits in its store buffer, oldest first; `None` is a store that waits for its translation, too (H41).
    pub buffered: Vec<Option<WaitingStore>>,
    /// Stores in its write-combining buffers, and on their way from there.
    pub combining: usize,
}

/// A page-table entry, as it is in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryInMemory {
    /// The frame of the table.
    pub table: PhysAddr,
    /// Which of its entries.
    pub index: TableIndex,
    /// What it is.
    pub entry: Entry,
}

/// How a CPU holds a translation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum HeldHow {
    /// It may be cached, and may be used.
    Cached,
    /// It may be cached although a flush that covers it has returned: to use it is a violation.
    MustNotBeUsed,
    /// A walk under another PCID than the current one may hold it (H12a).
    InWalk,
}

impl Machine {
    /// Returns what a CPU holds. Cost: for people, not for searches.
    pub fn held_by(&self, state: &State, cpu: impl Into<Cpu>) -> HeldByCpu {
        let cpu = self.view(state, cpu.into());
        let sets = [
            (cpu.set(CacheSet::Cached), HeldHow::Cached),
            (cpu.set(CacheSet::Tainted), HeldHow::MustNotBeUsed),
            (cpu.in_flight(), HeldHow::InWalk),
        ];
        let held = sets.into_iter().flat_map(|(set, how)| {
            let translations = cpu.translations(set);
            translations.map(move |translation| (*translation, how))
        });
        HeldByCpu {
            root: cpu.cr3().addr(),
            pcid: cpu.cr4().has(Cr4::PCIDE).then(|| cpu.pcid()),
            cached: held.collect(),
            buffered: cpu.buffered().map(|slot| self.waiting(slot)).collect(),
            combining: cpu.combining_len(),
        }
    }

    /// Lists the page-table entries that were ever written in some execution.
    pub fn entries_in_memory(&self, state: &State) -> Vec<EntryInMemory> {
        let entries = self.entries.iter().map(|(entry, at)| EntryInMemory {
            table: at.table.addr(),
            index: at.index,
            entry: Entry(self.value_in_memory(state, Location::Entry(entry))),
        });
        entries.collect()
    }

    /// Returns what memory holds in a word that all CPUs share.
    pub fn word_in_memory(&self, state: &State, word: AtomicCell) -> u64 {
        self.value_in_memory(state, Location::Cell(word))
    }

    /// Lists the frames, with what each is used for.
    pub fn frames_in_use(&self, state: &State) -> Vec<(PhysAddr, FrameUse)> {
        let frames = self.every_frame();
        let with_use = frames.map(|frame| (frame.addr(), self.layout.frame_use(state, frame)));
        with_use.collect()
    }
}
