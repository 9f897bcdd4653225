//! What a CPU keeps of several spaces, under PCIDs: Linux `cpu_tlbstate.ctxs`.

use lazytlb_trace::MmId;

/// Linux `TLB_NR_DYN_ASIDS`.
const SLOTS: usize = 6;

/// A CPU's slots: filled in turn, whatever is in use.
#[derive(Clone, Default)]
pub(crate) struct Slots {
    slots: [Slot; SLOTS],
    current: usize,
    next: usize,
    /// Slots that were filled since the recording began.
    filled: usize,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    mm: Option<MmId>,
    /// It was filled before the recording: when its turn comes to be filled again is not known.
    is_older: bool,
    /// What it was flushed to, if that is known.
    generation: Option<u64>,
}

/// What a CPU had to do to catch up with a space's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CaughtUp {
    /// Nothing.
    AlreadyWas,
    /// It flushed.
    Now,
}

impl Slots {
    /// Knows the slot in use, and no other.
    pub(crate) fn begin(&mut self, mm: MmId, generation: Option<u64>) {
        self.slots[0] = Slot {
            mm: Some(mm),
            is_older: true,
            generation,
        };
        (self.current, self.next, self.filled) = (0, 1, 0);
    }

    /// Brings the slot in use to a generation; `None` if what it was flushed to is not known.
    pub(crate) fn catch_up(&mut self, generation: u64) -> Option<CaughtUp> {
        self.slots[self.current].catch_up(generation)
    }

    /// Takes a slot for a space, and catches up (Linux `choose_new_asid`); `None` if a past that was not recorded
    /// decides it.
    pub(crate) fn choose(
        &mut self,
        mm: MmId,
        generation: u64,
        born_here: bool,
    ) -> Option<CaughtUp> {
        let found = self.slots.iter().position(|slot| slot.mm == Some(mm));
        if let Some(found) = found {
            self.current = found;
            let slot = &mut self.slots[found];
            let may_be_filled_again = std::mem::take(&mut slot.is_older) && self.filled > 0;
            let caught_up = slot.catch_up(generation);
            return caught_up.filter(|_| !may_be_filled_again);
        }
        // Until all slots were filled here, the space may be in one that was filled before.
        let known = born_here || self.filled >= SLOTS;
        let slot = self.next % SLOTS;
        self.next = slot + 1;
        self.filled += 1;
        self.current = slot;
        self.slots[slot] = Slot {
            mm: Some(mm),
            is_older: false,
            generation: Some(generation),
        };
        known.then_some(CaughtUp::Now)
    }
}

impl Slot {
    /// It never goes back: a flush that was asked for, and whose generation others do not see yet, may have raised it.
    fn catch_up(&mut self, generation: u64) -> Option<CaughtUp> {
        let before = self.generation;
        self.generation = before.max(Some(generation));
        before.map(|before| match before >= generation {
            true => CaughtUp::AlreadyWas,
            false => CaughtUp::Now,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seventh_space_takes_the_slot_of_the_first() {
        let mut slots = Slots::default();
        for mm in 1..=6 {
            assert_eq!(slots.choose(MmId(mm), 1, true), Some(CaughtUp::Now));
        }
        assert_eq!(slots.choose(MmId(1), 1, true), Some(CaughtUp::AlreadyWas));
        // It is in use as its turn comes: that does not spare it (Linux 6.18 `choose_new_asid`).
        assert_eq!(slots.choose(MmId(7), 1, true), Some(CaughtUp::Now));
        assert_eq!(slots.choose(MmId(1), 1, true), Some(CaughtUp::Now));
        assert_eq!(slots.choose(MmId(3), 1, true), Some(CaughtUp::AlreadyWas));
    }

    #[test]
    fn a_slot_that_is_behind_is_flushed_once() {
        let mut slots = Slots::default();
        slots.choose(MmId(1), 1, true);
        slots.choose(MmId(2), 1, true);
        assert_eq!(slots.choose(MmId(1), 3, true), Some(CaughtUp::Now));
        slots.choose(MmId(2), 1, true);
        assert_eq!(slots.choose(MmId(1), 3, true), Some(CaughtUp::AlreadyWas));
    }

    #[test]
    fn what_a_slot_held_before_the_recording_is_not_guessed() {
        let mut slots = Slots::default();
        slots.begin(MmId(1), Some(5));
        assert_eq!(slots.choose(MmId(2), 1, false), None);
        // In whose turn it was before, nobody saw: it may have been filled with 2.
        assert_eq!(slots.choose(MmId(1), 5, false), None);
        assert_eq!(slots.choose(MmId(2), 1, false), Some(CaughtUp::AlreadyWas));
    }
}
