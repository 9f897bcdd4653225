//! Stores that wait untranslated: later loads of their CPU pass them, their walks included.
//!
//! Rules: H41, and H25 for what such a store must not miss.
//!
//! A load may pass an older store, and so that store's walk. An access by virtual address that stores may so
//! wait in the store buffer without a translation, and gets one at any time before it drains: through whatever
//! is cached then. A walk that would fault then is one that was taken early, so a late store that never finds an
//! entry belongs to no execution: such a state is neither an end nor a deadlock.
//!
//! ```text
//!  CPU 0                CPU 1                 buffer of CPU 1         x, the pages of y and z
//!                       y = 5, untranslated   y = 5                   0, 2, 3
//!                       reads x: 0            y = 5, passed: x        0, 2, 3
//!  x = 1                                      y = 5, passed: x        1, 2, 3
//!  PTE(y) = page of z                         y = 5, passed: x        1, 2, 3
//!                       (translates)          page of z = 5           1, 2, 3
//!                       (drains)                                      1, 2, 5
//! ```
//!
//! What an access has read, or written by combining, an older store cannot have been to: the store remembers
//! such words. Nor does it go through an entry that a younger store of its own CPU made: while one waits on an
//! entry that its address could be walked through, it does not translate.
//!
//! It is pointless to wait where no other CPU ever changes an entry on the way, and nobody looks at A: who changes
//! one is learnt while exploring, as in `writers.rs`. Without data by virtual address there are no such stores at all. A touch
//! needs none: its data are nobody's, so that it came late shows only in what it went through; the search has
//! the execution in which its CPU was as slow, too. What its CPU did in between, others see by stores, which
//! drain after it, or by interrupts that it sends. One case is left out: a touch of a page that is not mapped
//! yet, then an interrupt that no fence comes before (H36), and the page is mapped, unmapped and flushed because
//! of that interrupt, while the touch waits.
//!
//! Left out, so that less is allowed: late stores to uncached and write-combining pages, and into page tables.

use std::ops::Deref;

use lazytlb::VirtAddr;

use crate::entry::MemoryType;
use crate::entry_writers::is_on_the_way;
use crate::index::{LateStoreId, Location, PassedId, TableIndex};
use crate::late_store::{LateStore, PassedWords};
use crate::limit::Limit;
use crate::machine::Machine;
use crate::slot::{CellStore, LateSlot, Slot};
use crate::state::State;
use crate::view::{CpuIn, CpuMut};

impl Machine {
    /// Says whether stores of this program may wait untranslated.
    pub(crate) fn stores_may_be_late(&self) -> bool {
        self.stores_may_be_late
    }

    /// Returns the bit of a cell that holds the word of a page.
    fn passed_word(&self, location: Location) -> Result<Option<PassedWords>, Limit> {
        let Location::Cell(cell) = location else {
            return Ok(None);
        };
        let mut words = self.page_words.iter().flatten();
        let Some(position) = words.position(|word| *word == cell) else {
            return Ok(None);
        };
        let most = u64::BITS as usize;
        let what = "pages with a word in a program whose stores may wait untranslated";
        Limit::check(what, most, position + 1)?;
        Ok(Some(PassedWords(1 << position)))
    }
}

impl<S: Deref<Target = State>> CpuIn<'_, S> {
    /// Says whether a store of the CPU waits untranslated.
    #[inline]
    pub(crate) fn has_late_store(&self) -> bool {
        self.machine.stores_may_be_late && self.buffered().any(|slot| matches!(slot, Slot::Late(_)))
    }

    /// Returns a store as it waits untranslated, if it may have to.
    pub(crate) fn late_slot(&self, store: LateStore) -> Result<Option<Slot>, Limit> {
        let machine = self.machine;
        let writers = &machine.entry_writers;
        let others_write = || writers.others_write(self.cpu, store.addr, machine.root_level);
        if !machine.stores_may_be_late || !machine.features.accessed_dirty && !others_write() {
            return Ok(None);
        }
        Ok(Some(Slot::Late(LateSlot {
            store: machine.late_stores.number(&store)?,
            passed: machine.passed_words.number(&PassedWords::default())?,
        })))
    }

    pub(crate) fn late_store(&self, number: LateStoreId) -> LateStore {
        *self.machine.late_stores.get(number)
    }

    /// Says whether a late store may go to a word of a page through a mapping of this type.
    pub(crate) fn may_go_to(
        &self,
        passed: PassedId,
        location: Location,
        memory_type: MemoryType,
    ) -> Result<bool, Limit> {
        let Some(word) = self.machine.passed_word(location)? else {
            return Ok(false);
        };
        let passed = self.machine.passed_words.get(passed);
        Ok(passed.0 & word.0 == 0
            && memory_type == MemoryType::WriteBack
            && !self.own_combining_waits(location))
    }

    /// Says whether an address may be translated by an entry to which the CPU has a store behind so many older
    /// slots.
    pub(crate) fn is_on_the_way_of_younger(&self, older: usize, addr: VirtAddr) -> bool {
        let machine = self.machine;
        let mut younger = self
            .buffered()
            .skip(older + 1)
            .filter_map(Slot::entry_store);
        younger.any(|store| {
            let index = machine.entries.get(store.entry).index;
            is_on_the_way(index, addr, machine.root_level)
        })
    }
}

impl CpuMut<'_> {
    /// Notes that the CPU changes the entry at an index.
    pub(crate) fn notes_entry_write(&self, index: TableIndex) {
        let machine = self.machine;
        if machine.stores_may_be_late {
            let writers = &machine.entry_writers;
            writers.wrote(self.cpu, index, machine.root_level);
        }
    }

    /// Notes that the CPU has read a location, or combines a store to it. An older store that is translated
    /// later cannot go there, unless all that it would write is overwritten by what waits between.
    pub(crate) fn pass_late_stores(&mut self, location: Location) -> Result<(), Limit> {
        if !self.has_late_store() {
            return Ok(());
        }
        let machine = self.machine;
        let Some(word) = machine.passed_word(location)? else {
            return Ok(());
        };
        let slots: Vec<Slot> = self.buffered().collect();
        let mut written = 0;
        for (older, slot) in slots.into_iter().enumerate().rev() {
            match slot {
                Slot::Cell(CellStore { cell, bytes, .. }) if location == Location::Cell(cell) => {
                    written |= bytes.bits();
                }
                Slot::Late(late) if self.late_store(late.store).bytes.bits() & !written != 0 => {
                    let passed = machine.passed_words.get(late.passed).0 | word.0;
                    let passed = machine.passed_words.number(&PassedWords(passed))?;
                    self.put_buffered(older, Slot::Late(LateSlot { passed, ..late }));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
