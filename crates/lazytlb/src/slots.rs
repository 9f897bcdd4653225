//! A CPU's slots: which spaces its PCIDs belong to, and how far each has been flushed.
//!
//! A space gets a slot on each CPU that it runs on, and keeps it until another space needs it: the slots are replaced
//! first in, first out. Slot `n` has PCID `n + 1`. Without PCIDs one slot is in use, for whichever
//! space is loaded.

use crate::generation::{Generation, OwnGen, TlbGen};
use crate::hw::{Cells, Hw};
use crate::mm::MmId;
use crate::pcids::{Pcid, Pcids};
use crate::words::ProtocolWord;

/// The slots of one CPU. Accessed by this CPU with interrupts off only.
#[derive(Debug)]
pub(crate) struct Slots<H: Hw, const SLOTS: usize> {
    slots: [Slot<H>; SLOTS],
    /// That of the user space which is loaded, or was last.
    current: H::Local,
    /// The one that is replaced next.
    next_victim: H::Local,
}

/// What is cached under one PCID.
#[derive(Debug)]
struct Slot<H: Hw> {
    /// Whose it is, by an identity that is never reused.
    mm: H::Local,
    /// I3: this CPU has flushed everything under the PCID that generations of the space up to this one removed. Raised
    /// only after the invalidation, never past a generation read before it.
    flushed_to: OwnGen<H>,
}

/// A slot's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SlotIndex(usize);

impl SlotIndex {
    /// Returns the PCID of the slot.
    pub(crate) fn pcid(self) -> Pcid {
        Pcid::new(self.0 as u16 + 1)
    }
}

impl<H: Pcids, const SLOTS: usize> Slots<H, SLOTS> {
    /// Makes slots that are nobody's: they have flushed to no generation, so whoever finds itself in one flushes.
    pub(crate) fn new(cells: &mut impl Cells<H>) -> Self {
        const { assert!(SLOTS > 0 && SLOTS < Pcid::COUNT as usize) };
        Slots {
            slots: core::array::from_fn(|_| Slot {
                mm: cells.protocol_local(ProtocolWord::SlotMm, 0),
                flushed_to: OwnGen::of_cpu(cells),
            }),
            current: cells.protocol_local(ProtocolWord::CurrentSlot, 0),
            next_victim: cells.protocol_local(ProtocolWord::NextVictim, 0),
        }
    }

    /// Returns the slot of the user space that is loaded.
    pub(crate) fn current(&self, hw: &H) -> SlotIndex {
        if SLOTS == 1 || !hw.pcids_are_on() {
            return SlotIndex(0);
        }
        SlotIndex((hw.load_local(&self.current) as usize).min(SLOTS - 1))
    }

    /// Says which slot is that of the loaded user space.
    pub(crate) fn set_current(&self, hw: &H, slot: SlotIndex) {
        if SLOTS > 1 && hw.pcids_are_on() {
            hw.store_local(&self.current, slot.0 as u64);
        }
    }

    /// Finds the slot of a space that this CPU has a PCID for.
    pub(crate) fn find(&self, hw: &H, mm: MmId) -> Option<SlotIndex> {
        if !hw.pcids_are_on() {
            return None;
        }
        let mut slots = self.slots.iter();
        let found = slots.position(|slot| hw.load_local(&slot.mm) == mm.0);
        found.map(SlotIndex)
    }

    /// Gives a space the slot of another: what is cached there must be flushed as it is loaded. Without PCIDs it is the
    /// first slot, always.
    pub(crate) fn recycle(&self, hw: &H, mm: MmId) -> SlotIndex {
        if !hw.pcids_are_on() {
            return SlotIndex(0);
        }
        let victim = match SLOTS {
            1 => 0,
            _ => {
                let victim = (hw.load_local(&self.next_victim) as usize).min(SLOTS - 1);
                let next = if victim + 1 == SLOTS { 0 } else { victim + 1 };
                hw.store_local(&self.next_victim, next as u64);
                victim
            }
        };
        hw.store_local(&self.slots[victim].mm, mm.0);
        SlotIndex(victim)
    }

    /// Reads how far a slot has been flushed.
    pub(crate) fn flushed_to(&self, hw: &H, slot: SlotIndex) -> TlbGen {
        self.slots[slot.0].flushed_to.load(hw)
    }

    /// Says how far a slot has been flushed.
    pub(crate) fn set_flushed_to<const HAS_NEXT: bool>(
        &self,
        hw: &H,
        slot: SlotIndex,
        tlb_gen: Generation<HAS_NEXT>,
    ) {
        self.slots[slot.0].flushed_to.store(hw, tlb_gen);
    }
}
