//! How a space comes to a global id, and how the id comes back.
//!
//! ```text
//! initiator                                   CPU that uses the space
//! a flush had to interrupt several CPUs       it does so under the PCID of a slot
//! takes an id; mm.global = moving to it
//!   each flush from here on:
//! tlb_gen += 1            (full fence)
//! who is inside, or switching, and not under
//!   the id? interrupts those ───────────────▶ reads mm.global; CR3 load: under the id from here on;
//! broadcasts, under the id                    ends its walks; loaded_global = id
//! waits for the answers; TLBSYNC   ◀───────── answers
//! nobody was spared: mm.global = settled
//!   each flush from here on:
//! tlb_gen += 1; broadcasts; TLBSYNC           (is not interrupted, lazy or not)
//! ```
//!
//! Who comes to the space enters its cpumask, or says *switching* and fences, and then reads its word: the same pattern as with
//! generations. Either it finds the id, or the initiator finds it. So once nobody is found, nobody uses the space under a slot's PCID, and since
//! a space never goes back, nobody ever will.
//!
//! What is cached under the id is right on every CPU at all times, without generations: nothing was cached under it when it was given out
//! (I18), and whatever is removed is invalidated everywhere before the flush returns. So a CPU keeps it, lazy and elsewhere, even when its slot goes to another space.
//!
//! A walk that began under a slot's PCID may outlast the CR3 load that leaves that (H12a), and no broadcast may come after it: who moves to the id ends it.

use crate::broadcast::{Broadcast, Globals, Invlpgb, UpperLevels};
use crate::global_id::{Global, GlobalId, Phase};
use crate::hw::Cr3Load;
use crate::kernel::Kernel;
use crate::mm::{Mm, MmHandle};
use crate::pcids::{Pcid, Pcids};
use crate::per_cpu::PerCpu;
use crate::serve::Served;
use crate::slots::SlotIndex;
use crate::switch::Switched;
use crate::tlb::Tlb;

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Says whether this kernel has global ids at all: for one that has none, the compiler knows.
    #[inline(always)]
    pub(crate) fn has_global_ids(&self) -> bool {
        !self.kernel.global_ids().is_empty()
    }

    /// Returns the global id of a space.
    #[inline(always)]
    pub(crate) fn global_of(&self, hw: &K::Hw, mm: &Mm<K::Hw, WORDS>) -> Option<Global> {
        match self.has_global_ids() {
            true => mm.global.load(hw),
            false => None,
        }
    }

    /// Returns the global id under which this CPU uses the space of a slot.
    #[inline(always)]
    pub(crate) fn global_of_slot(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        slot: SlotIndex,
    ) -> Option<GlobalId> {
        match self.has_global_ids() {
            true => me.slots.global(hw, slot),
            false => None,
        }
    }

    /// Says which space is loaded, and under which id, once it is.
    #[inline(always)]
    pub(crate) fn set_loaded(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        mm: MmHandle,
        id: Option<GlobalId>,
    ) {
        if self.has_global_ids() {
            // Before the space: who reads them in the other order takes it for under this id only if it is.
            me.set_loaded_global(hw, id);
        }
        me.set_loaded_mm(hw, mm);
    }

    /// Gives a space a global id, after a flush that had to interrupt so many CPUs, if that pays and one is left.
    pub(crate) fn consider_global_id(&self, hw: &K::Hw, mm: &Mm<K::Hw, WORDS>, interrupted: u32) {
        if !self.has_global_ids() || interrupted < self.kernel.broadcasts_from() {
            return;
        }
        if !hw.pcids_are_on() || hw.most_addresses().is_none() {
            return;
        }
        if let Some(id) = self.take_global_id(hw) {
            if mm.global.claim(hw) {
                let phase = Phase::Moving;
                mm.global.store(hw, Global { id, phase });
            } else {
                // Nobody has used it.
                self.give_back(hw, id);
            }
        }
    }

    fn take_global_id(&self, hw: &K::Hw) -> Option<GlobalId> {
        let mut words = self.kernel.global_ids().iter().enumerate();
        words.find_map(|(number, word)| word.take::<SLOTS>(hw, number))
    }

    fn give_back(&self, hw: &K::Hw, id: GlobalId) {
        let (word, bit) = id.word_and_bit();
        self.kernel.global_ids()[word].give_back(hw, bit);
    }

    /// Gives the global id of a space back, which no CPU is in any more.
    pub(crate) fn release_global_id(&self, hw: &K::Hw, mm: &Mm<K::Hw, WORDS>) {
        let Some(Global { id, .. }) = self.global_of(hw, mm) else {
            return;
        };
        // I18: what CPUs have kept under the id would be taken for the next space's.
        for pcid in self.pcids_of(id, mm) {
            hw.invlpgb(Invlpgb {
                addresses: None,
                pcid: Some(pcid),
                globals: Globals::Kept,
                upper_levels: UpperLevels::Included,
            });
        }
        hw.tlbsync();
        self.give_back(hw, id);
    }

    /// Lists the PCIDs of a space with a global id: of both halves, if there are two.
    pub(crate) fn pcids_of(
        &self,
        id: GlobalId,
        mm: &Mm<K::Hw, WORDS>,
    ) -> impl Iterator<Item = Pcid> + use<K, WORDS, SLOTS> {
        let user_half = mm.user_root().map(|_| id.pcid_of_user_half::<SLOTS>());
        core::iter::once(id.pcid::<SLOTS>()).chain(user_half)
    }

    /// Loads a user space under its global id, after its cpumask was entered.
    #[inline(never)]
    pub(crate) fn load_global(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        next: MmHandle,
        found: Option<SlotIndex>,
        id: GlobalId,
    ) -> Switched {
        let mm = self.kernel.mm(next);
        if mm.is_retired(hw) {
            return self.turn_back(hw, me, found, next);
        }
        let former = me.slots.current(hw);
        let slot = found.unwrap_or_else(|| me.slots.recycle(hw, mm.id()));
        me.slots.set_current(hw, slot);
        if found.is_some() && me.slots.global(hw, slot) == Some(id) {
            hw.load_cr3_pcid(mm.root(), id.pcid::<SLOTS>(), Cr3Load::Keep);
            self.set_loaded(hw, me, next, Some(id));
            self.walks_nothing_removed(hw, mm);
            return Switched::Kept;
        }
        self.move_to(hw, me, mm, slot, id);
        self.set_loaded(hw, me, next, Some(id));
        self.leave_former(hw, me, next, found, slot, former);
        match found {
            Some(_) => Switched::LoadedBehind,
            None => Switched::Kept,
        }
    }

    /// Uses the loaded space again, which has a global id, after lazy mode.
    #[inline(never)]
    pub(crate) fn resume_global(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        handle: MmHandle,
        id: GlobalId,
    ) -> Switched {
        let mm = self.kernel.mm(handle);
        if mm.is_retired(hw) {
            self.leave_for_init_mm(hw, me, handle);
            return Switched::Retired;
        }
        let slot = me.slots.current(hw);
        let switched = match me.slots.global(hw, slot) == Some(id) {
            true => {
                self.walks_nothing_removed(hw, mm);
                Switched::ResumedUpToDate
            }
            false => {
                self.move_to(hw, me, mm, slot, id);
                me.set_loaded_global(hw, Some(id));
                Switched::ResumedBehind
            }
        };
        me.set_usable(hw, handle);
        switched
    }

    /// Catches up in the loaded space, which has a global id: nothing is missed under it. Interrupts are off.
    #[inline(never)]
    pub(crate) fn catch_up_global(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        loaded: MmHandle,
        id: GlobalId,
    ) -> Served {
        let (mm, slot) = (self.kernel.mm(loaded), me.slots.current(hw));
        let is_under_it = me.slots.global(hw, slot) == Some(id);
        if mm.is_retired(hw) || (!is_under_it && me.is_lazy(hw)) {
            self.leave_for_init_mm(hw, me, loaded);
            return Served::LeftForInitMm;
        }
        if is_under_it {
            self.walks_nothing_removed(hw, mm);
            return Served::UpToDate;
        }
        self.move_to(hw, me, mm, slot, id);
        me.set_loaded_global(hw, Some(id));
        Served::MovedToGlobalId
    }

    /// Loads CR3 with a space under its global id for the first time since this slot is the space's.
    fn move_to(
        &self,
        hw: &K::Hw,
        me: &PerCpu<K::Hw, WORDS, SLOTS>,
        mm: &Mm<K::Hw, WORDS>,
        slot: SlotIndex,
        id: GlobalId,
    ) {
        hw.load_cr3_pcid(mm.root(), id.pcid::<SLOTS>(), Cr3Load::Keep);
        // I16: under the slot's PCID this CPU may have begun to walk what an initiator frees when it finds us under the id.
        self.end_walks(hw);
        me.slots.set_global(hw, slot, Some(id));
        // It is only that generations of two spaces are never compared, in `leave_behind`.
        me.slots.set_flushed_to(hw, slot, mm.tlb_gen(hw));
        self.walks_nothing_removed(hw, mm);
    }
}
