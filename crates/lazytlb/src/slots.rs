//! A CPU's slots: which spaces its PCIDs belong to, and how far each has been flushed.
//!
//! A space gets a slot on each CPU that it runs on, and keeps it until another space needs it: the slots are replaced
//! first in, first out. Slot `n` has PCID `n + 1`. Without PCIDs one slot is in use, for whichever
//! space is loaded.
//!
//! With page-table isolation, slot `n` has PCID `SLOTS + n + 1`, too, for a space's user half. What must be flushed in a
//! half that is not loaded is *due*: it is flushed by the CR3 load that comes to it.
//!
//! A space that has a *global id* is used under the PCIDs of that, on every CPU (`global_id.rs`); its slot remembers that, and the slot's own PCIDs are not in use.
//!
//! A slot remembers, too, whether this CPU is still in the cpumask of its space: while it is, the space lives.

use core::sync::atomic::AtomicU64;

use crate::generation::{Generation, OwnGen, TlbGen};
use crate::global_id::GlobalId;
use crate::hw::{Cells, Hw};
use crate::mm::{MmHandle, MmId, NO_SPACE, handle_in, word_of};
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
    /// With PCIDs, whether the kernel's own PCID is to be flushed when it is loaded next.
    kernel_due: H::Local,
}

/// What is cached under one PCID.
#[derive(Debug)]
struct Slot<H: Hw> {
    /// Whose it is, by an identity that is never reused.
    mm: H::Local,
    /// With PCIDs, the space's handle while this CPU is in its cpumask.
    joined: H::Local,
    /// I3: this CPU has flushed everything under the PCID that generations of the space up to this one removed. Raised
    /// only after the invalidation, never past a generation read before it.
    flushed_to: OwnGen<H>,
    /// With PCIDs, which halves are to be flushed when they are loaded next, whatever the generation.
    due: H::Local,
    /// The global id under which this CPU uses the space, in place of the slot's PCIDs, or none. I16: set once it has loaded the space so, and has ended
    /// what it walked under the slot's PCIDs.
    global: H::Local,
}

/// A half of a space, a bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Halves(u64);

impl Halves {
    pub(crate) const NONE: Halves = Halves(0);
    pub(crate) const KERNEL: Halves = Halves(1);
    pub(crate) const USER: Halves = Halves(2);
    pub(crate) const BOTH: Halves = Halves(3);

    pub(crate) fn contain(self, half: Halves) -> bool {
        self.0 & half.0 != 0
    }
}

/// A slot's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SlotIndex(usize);

impl SlotIndex {
    /// Returns the PCID of the slot.
    pub(crate) fn pcid(self) -> Pcid {
        Pcid::new(self.0 as u16 + 1)
    }

    /// Returns the PCID of the user half, on a CPU with so many slots.
    pub(crate) fn pcid_of_user_half<const SLOTS: usize>(self) -> Pcid {
        Pcid::new((self.0 + SLOTS) as u16 + 1)
    }
}

impl<H: Hw<Local = AtomicU64>, const SLOTS: usize> Slots<H, SLOTS> {
    /// As [`Slots::new`], in a constant expression.
    pub(crate) const fn in_static() -> Self {
        const { assert!(SLOTS > 0 && SLOTS < Pcid::COUNT as usize / 2) };
        Slots {
            slots: [const {
                Slot {
                    mm: AtomicU64::new(0),
                    joined: AtomicU64::new(NO_SPACE),
                    flushed_to: OwnGen::of(AtomicU64::new(0)),
                    due: AtomicU64::new(0),
                    global: AtomicU64::new(0),
                }
            }; SLOTS],
            current: AtomicU64::new(0),
            next_victim: AtomicU64::new(0),
            kernel_due: AtomicU64::new(0),
        }
    }
}

impl<H: Pcids, const SLOTS: usize> Slots<H, SLOTS> {
    /// Makes slots that are nobody's: they have flushed to no generation, so whoever finds itself in one flushes.
    pub(crate) fn new(cells: &mut impl Cells<H>) -> Self {
        const { assert!(SLOTS > 0 && SLOTS < Pcid::COUNT as usize / 2) };
        Slots {
            slots: core::array::from_fn(|_| Slot {
                mm: cells.protocol_local(ProtocolWord::SlotMm, 0),
                joined: cells.protocol_local(ProtocolWord::SlotJoined, word_of(None)),
                flushed_to: OwnGen::of(cells.protocol_local(ProtocolWord::FlushedTo, 0)),
                due: cells.protocol_local(ProtocolWord::SlotDue, 0),
                global: cells.protocol_local(ProtocolWord::SlotGlobal, 0),
            }),
            current: cells.protocol_local(ProtocolWord::CurrentSlot, 0),
            next_victim: cells.protocol_local(ProtocolWord::NextVictim, 0),
            kernel_due: cells.protocol_local(ProtocolWord::KernelDue, 0),
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

    /// Returns the space of a slot if this CPU is in its cpumask. With PCIDs only.
    pub(crate) fn joined(&self, hw: &H, slot: SlotIndex) -> Option<MmHandle> {
        handle_in(hw.load_local(&self.slots[slot.0].joined))
    }

    /// Says that this CPU is in the cpumask of a slot's space, or in none.
    pub(crate) fn set_joined(&self, hw: &H, slot: SlotIndex, mm: Option<MmHandle>) {
        hw.store_local(&self.slots[slot.0].joined, word_of(mm));
    }

    /// Calls with each slot of a space that this CPU is in the cpumask of. A loop of its own, which is unrolled.
    #[inline(always)]
    pub(crate) fn for_each_joined(&self, hw: &H, mut call: impl FnMut(SlotIndex, MmHandle)) {
        for (n, slot) in self.slots.iter().enumerate() {
            if let Some(mm) = handle_in(hw.load_local(&slot.joined)) {
                call(SlotIndex(n), mm);
            }
        }
    }

    /// Says which halves of a slot are to be flushed when they are loaded next.
    pub(crate) fn due(&self, hw: &H, slot: SlotIndex) -> Halves {
        Halves(hw.load_local(&self.slots[slot.0].due))
    }

    /// Sets it.
    pub(crate) fn set_due(&self, hw: &H, slot: SlotIndex, halves: Halves) {
        hw.store_local(&self.slots[slot.0].due, halves.0);
    }

    /// Returns the global id under which the space of a slot is used here.
    pub(crate) fn global(&self, hw: &H, slot: SlotIndex) -> Option<GlobalId> {
        GlobalId::in_word(hw.load_local(&self.slots[slot.0].global))
    }

    /// Sets it. Nothing is due under a global id.
    pub(crate) fn set_global(&self, hw: &H, slot: SlotIndex, id: Option<GlobalId>) {
        hw.store_local(&self.slots[slot.0].global, GlobalId::word_of(id));
        self.set_due(hw, slot, Halves::NONE);
    }

    /// Says whether the kernel's own PCID is to be flushed when it is loaded next.
    pub(crate) fn is_kernel_due(&self, hw: &H) -> bool {
        hw.load_local(&self.kernel_due) != 0
    }

    /// Sets it.
    pub(crate) fn set_kernel_due(&self, hw: &H, is_due: bool) {
        hw.store_local(&self.kernel_due, u64::from(is_due));
    }

    /// Sets what is due in every slot.
    pub(crate) fn set_all_due(&self, hw: &H, halves: Halves) {
        (0..SLOTS).for_each(|slot| self.set_due(hw, SlotIndex(slot), halves));
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
