//! The simulated machine: CPUs and memory, and what every part of it needs.

use std::collections::BTreeSet;

use crate::cpu::Cpu;
use crate::entry;
use crate::memory::{Frame, Memory, Word};
use crate::random::Random;
use crate::readings::Amended;
use crate::temper::Temper;
use crate::walk::Walk;
use crate::write_combining::{Reading, Readings};

/// What does not change from execution to execution.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    /// Addresses are translated.
    pub(crate) is_translated: bool,
    /// The frames that serve as page tables.
    pub(crate) tables: BTreeSet<Frame>,
    /// The frames of everything that has a name.
    pub(crate) named_frames: BTreeSet<Frame>,
    /// The frames of devices.
    pub(crate) devices: BTreeSet<Frame>,
    /// The addresses that speculation may go for: those that the test knows.
    pub(crate) addresses: Vec<u64>,
    /// A and D are tracked; else they count as set.
    pub(crate) tracks_accessed: bool,
    pub(crate) readings: Readings,
    /// An IPI waits for earlier stores (H36).
    pub(crate) ordered_ipis: bool,
    pub(crate) amended: Amended,
}

/// Why an execution ends before its threads do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// It broke a property.
    Violation(&'static str),
    /// It is none: what was guessed on the way turned out wrong, or it waits for ever.
    Discarded,
}

/// Why an instruction is not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Held {
    /// It waits for something, and tries again.
    Wait,
    /// It took a page fault, and is skipped.
    Fault,
    /// The execution is over.
    Stop(Stop),
}

impl From<Stop> for Held {
    fn from(stop: Stop) -> Held {
        Held::Stop(stop)
    }
}

/// What came of an instruction, or of a part of it.
pub(crate) type Tried<T> = Result<T, Held>;

/// The machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine<'b> {
    pub(crate) board: &'b Board,
    pub(crate) memory: Memory,
    pub(crate) cpus: Vec<Cpu>,
    pub(crate) random: Random,
    pub(crate) temper: Temper,
}

impl Machine<'_> {
    /// Reads the entry that a walk of a CPU comes to. Returns its value, and whether a store of its CPU that
    /// has not left memory says so.
    pub(crate) fn read_entry(&mut self, cpu: usize, walk: &mut Walk) -> Result<(u64, bool), Stop> {
        if !self.board.tables.contains(&walk.table) {
            return Err(Stop::Violation("table-use-after-free"));
        }
        let entry = walk.entry();
        let cpu = &mut self.cpus[cpu];
        walk.seen = walk.seen.max(cpu.youngest_left);
        cpu.has_read(entry);
        let value = cpu.read(&self.memory, entry, walk.seen);
        Ok((value, cpu.is_forwarded(entry, walk.seen)))
    }

    /// Reads the entry that the walk of a fetch comes to: as it is, or as it was before any write since its CPU last
    /// serialized (H40). Each entry is read by itself.
    pub(crate) fn read_early(&mut self, cpu: usize, walk: &mut Walk) -> Result<u64, Stop> {
        let newest = walk.seen;
        let is_early =
            self.board.amended.early_fetches && self.random.chance(self.temper.early_fetch);
        if is_early {
            walk.seen = self.random.below(newest as usize + 1) as u64;
        }
        let (value, _) = self.read_entry(cpu, walk)?;
        walk.seen = newest;
        let entry = walk.entry();
        let former = self.cpus[cpu].former.iter();
        let former = former.filter(|(word, _)| is_early && *word == entry);
        let mut values: Vec<u64> = former.map(|(_, value)| *value).collect();
        values.push(value);
        Ok(*self.random.one_of(&values))
    }

    /// Writes a word of memory, as software does.
    pub(crate) fn write(&mut self, word: Word, value: u64) {
        let now = self.memory.read(word);
        let had_lost_writable = now & entry::WRITABLE == 0;
        let changed = (now ^ value) & !(entry::ACCESSED | entry::DIRTY);
        let loses_writable = changed == entry::WRITABLE && !had_lost_writable;
        let without_writable = loses_writable && self.board.amended.dirty_without_writable;
        let updates = self.cpus.iter_mut().flat_map(|cpu| &mut cpu.updates);
        for update in updates.filter(|update| update.entry == word) {
            update.is_overtaken = true;
            let may_come_still = without_writable && update.bits & entry::DIRTY != 0;
            update.is_replaced |= changed != 0 && !may_come_still;
            update.is_too_late |= had_lost_writable && update.read & entry::WRITABLE != 0;
        }
        self.put(word, value);
    }

    /// Sets bits of an entry, as a walk does.
    pub(crate) fn set_bits(&mut self, entry: Word, bits: u64) {
        let value = self.memory.read(entry) | bits;
        self.put(entry, value);
    }

    fn put(&mut self, word: Word, value: u64) {
        if self.board.tables.contains(&word.frame()) {
            let former = self.memory.read(word);
            for cpu in &mut self.cpus {
                cpu.former.push((word, former));
            }
        }
        self.memory.write(word, value);
    }

    /// Says whether a CPU's buffers are empty, by the reading of the event that asks.
    pub(crate) fn has_drained(&self, cpu: usize, reading: Reading) -> bool {
        let cpu = &self.cpus[cpu];
        cpu.store_buffer.is_empty() && cpu.combining.is_done(reading)
    }

    /// Says whether a CPU's updates of A and D are seen as well: this bounds them, and MFENCE does not (H41).
    pub(crate) fn has_settled(&self, cpu: usize, reading: Reading) -> bool {
        self.cpus[cpu].updates.is_empty() && self.has_drained(cpu, reading)
    }
}
