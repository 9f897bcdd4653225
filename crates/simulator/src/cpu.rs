//! The state of one CPU: control registers, caches of translations, buffers, and what it executes.

use lazytlb_litmus_syntax::Caching;

use crate::code::Broadcast;
use crate::memory::{Bytes, Frame, Memory, Word};
use crate::psc::Psc;
use crate::random::Random;
use crate::registers::Registers;
use crate::store_buffer::{Store, StoreBuffer};
use crate::tlb::{Permissions, Tlb};
use crate::update::Update;
use crate::walk::Walk;
use crate::write_combining::WriteCombining;

/// A thread, or a handler that interrupts it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    /// Which column it executes.
    pub(crate) column: usize,
    /// The number of the next line.
    pub(crate) line: usize,
    pub(crate) registers: Registers,
    /// What the interrupt flag was before.
    pub(crate) interrupts_before: bool,
}

/// A read-modify-write without LOCK that has read and not written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Half {
    pub(crate) to: Destination,
    pub(crate) old: u64,
    pub(crate) new: u64,
}

/// Where a store goes once its address is translated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination {
    pub(crate) word: Word,
    pub(crate) bytes: Bytes,
    /// The type of the memory, which says by which buffers it goes.
    pub(crate) caching: Caching,
}

/// The store at the end of the store buffer whose address is not translated yet (H41).
#[derive(Clone, Debug)]
pub(crate) struct Untranslated {
    pub(crate) address: u64,
    pub(crate) user: bool,
    /// What later loads and walks of this CPU have read meanwhile: if the store turns out to go there,
    /// they should have seen it.
    pub(crate) passed_by: Vec<Word>,
}

/// A broadcast that has not reached a CPU yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) issuer: usize,
    pub(crate) what: Broadcast,
}

/// A CPU.
#[derive(Clone, Debug)]
pub(crate) struct Cpu {
    pub(crate) root: Frame,
    /// The level of the root's entries.
    pub(crate) top: u8,
    /// CR3[11:0].
    pub(crate) cr3_low: u16,
    pub(crate) pcide: bool,
    pub(crate) pge: bool,
    pub(crate) smep: bool,
    pub(crate) tlb: Tlb,
    pub(crate) psc: Psc,
    pub(crate) walks: Vec<Walk>,
    /// What entries of page tables held before each write since this CPU last serialized (H40).
    pub(crate) former: Vec<(Word, u64)>,
    pub(crate) store_buffer: StoreBuffer,
    pub(crate) combining: WriteCombining,
    /// How many stores it has executed.
    pub(crate) stores: u64,
    /// The youngest store that has left a buffer.
    pub(crate) youngest_left: u64,
    /// SFENCEs: a store behind one leaves after the stores up to this number.
    pub(crate) barriers: Vec<u64>,
    pub(crate) updates: Vec<Update>,
    pub(crate) untranslated: Option<Untranslated>,
    pub(crate) half: Option<Half>,
    /// An MFENCE that has not completed.
    pub(crate) fence: bool,
    pub(crate) broadcasts: Vec<Pending>,
    /// The thread, and the handlers that have interrupted it.
    pub(crate) contexts: Vec<Context>,
    pub(crate) interrupts: bool,
    pub(crate) halted: bool,
    pub(crate) in_nmi: bool,
    pub(crate) ipi_pending: bool,
    pub(crate) nmi_pending: bool,
    /// The lines of its thread that took a page fault.
    pub(crate) faults: Vec<usize>,
}

impl Cpu {
    /// Returns the current PCID (H1).
    pub(crate) fn pcid(&self) -> u16 {
        if self.pcide { self.cr3_low } else { 0 }
    }

    /// Returns the stores of this CPU to a word that have not left, up to a number, in program order.
    fn held(&self, word: Word, up_to: u64) -> Vec<&Store> {
        let plain = self.store_buffer.to_word(word);
        let combined = self.combining.to_word(word);
        let mut held: Vec<&Store> = plain.chain(combined).collect();
        held.retain(|store| store.number <= up_to);
        held.sort_by_key(|store| store.number);
        held
    }

    /// Reads a word as this CPU sees it behind its stores up to a number: the newest of them, else memory.
    pub(crate) fn read(&self, memory: &Memory, word: Word, up_to: u64) -> u64 {
        let stores = self.held(word, up_to).into_iter();
        stores.fold(memory.read(word), |value, store| {
            store.bytes.replaced(value, store.value)
        })
    }

    /// Says whether such a read would see a store that has not left.
    pub(crate) fn is_forwarded(&self, word: Word, up_to: u64) -> bool {
        !self.held(word, up_to).is_empty()
    }

    /// Says whether a store may leave: older ones to its word have left, and the SFENCEs before it are done.
    pub(crate) fn may_leave(&self, store: &Store, word: Word) -> bool {
        let is_oldest = self.held(word, store.number - 1).is_empty();
        let behind = self.barriers.iter().any(|barrier| *barrier < store.number);
        is_oldest && !behind
    }

    /// Starts a walk under the current PCID: at the root or at any matching cached entry (H11).
    pub(crate) fn walk(&self, address: u64, random: &mut Random) -> Walk {
        let pcid = self.pcid();
        let starts = self.psc.matching(pcid, address);
        let mut starts: Vec<_> = starts.map(Some).collect();
        starts.push(None);
        match random.one_of(&starts) {
            Some(cached) => Walk {
                address,
                pcid,
                table: cached.table,
                level: cached.level - 1,
                permissions: cached.permissions,
                seen: cached.seen,
            },
            None => Walk {
                address,
                pcid,
                table: self.root,
                level: self.top,
                permissions: Permissions::ALL,
                seen: 0,
            },
        }
    }

    /// Remembers what was read past a store without translation.
    pub(crate) fn has_read(&mut self, word: Word) {
        if let Some(untranslated) = &mut self.untranslated {
            untranslated.passed_by.push(word);
        }
    }
}
