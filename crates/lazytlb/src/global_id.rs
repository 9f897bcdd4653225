//! Global ids: a space that has one has the same PCIDs on every CPU, so that a broadcast can name what is cached of it.
//!
//! Slot `n` of a CPU has PCID `n + 1`, and `SLOTS + n + 1` for a user half; global ids have those above, two each: for a
//! space's kernel half, or the whole of it, and for its user half. Which are taken is a bitmap, in words that the kernel places.
//!
//! What a space's word says goes one way only, until the space is reaped: no id; an id that CPUs *move* to, while some may
//! still use the space under a slot's PCID; an id that is *settled*: none does, or ever will.

use core::sync::atomic::AtomicU64;

use crate::hw::{Cells, Hw};
use crate::pcids::Pcid;
use crate::words::ProtocolWord;

/// The number of a global id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct GlobalId(u16);

impl GlobalId {
    /// Returns the id of a bit in a word of the bitmap, if there are PCIDs for it beside so many slots.
    fn at<const SLOTS: usize>(word: usize, bit: u32) -> Option<GlobalId> {
        let number = word.checked_mul(64)?.checked_add(bit as usize)?;
        let last_pcid = 2 * SLOTS + 2 * number + 2;
        (last_pcid < usize::from(Pcid::COUNT)).then_some(GlobalId(number as u16))
    }

    /// Returns where its bit is: in which word, and which.
    pub(crate) fn word_and_bit(self) -> (usize, u64) {
        (usize::from(self.0) / 64, 1 << (self.0 % 64))
    }

    /// Returns its PCID, or that of a space's kernel half, beside so many slots.
    pub(crate) fn pcid<const SLOTS: usize>(self) -> Pcid {
        Pcid::new(2 * SLOTS as u16 + 2 * self.0 + 1)
    }

    /// Returns the PCID of a space's user half.
    pub(crate) fn pcid_of_user_half<const SLOTS: usize>(self) -> Pcid {
        Pcid::new(2 * SLOTS as u16 + 2 * self.0 + 2)
    }

    /// Returns the word for an id or none.
    pub(crate) fn word_of(id: Option<GlobalId>) -> u64 {
        id.map_or(0, |id| u64::from(id.0) + 1)
    }

    /// Reads such a word.
    pub(crate) fn in_word(word: u64) -> Option<GlobalId> {
        word.checked_sub(1).map(|number| GlobalId(number as u16))
    }
}

/// A word of the bitmap: up to 64 global ids.
///
/// A kernel makes as many as it wants ids, and hands them out by [`crate::Kernel::global_ids`]. There is room for some two thousand; what
/// is more is never used. I18: a bit is cleared only after everything was invalidated on every CPU that was cached under the id.
#[derive(Debug)]
pub struct GlobalIdWord<H: Hw> {
    /// A bit for each id that a space has, or that there is not.
    taken: H::Atomic,
}

impl<H: Hw<Atomic = AtomicU64>> GlobalIdWord<H> {
    /// As [`GlobalIdWord::new`], in a constant expression: for a `static`, on machines whose words are plain.
    ///
    /// # Panics
    /// If it is to have more than 64.
    pub const fn in_static(ids: u32) -> Self {
        let taken = AtomicU64::new(all_but(ids));
        GlobalIdWord { taken }
    }
}

impl<H: Hw> GlobalIdWord<H> {
    /// Makes a word with so many ids that no space has.
    ///
    /// # Panics
    /// If it is to have more than 64.
    pub fn new(ids: u32, cells: &mut impl Cells<H>) -> Self {
        let taken = cells.protocol_atomic(ProtocolWord::GlobalIdsTaken, all_but(ids));
        GlobalIdWord { taken }
    }

    /// Takes an id that no space has, of the word with this number, if there is one. Who loses a race for it finds none.
    pub(crate) fn take<const SLOTS: usize>(&self, hw: &H, word: usize) -> Option<GlobalId> {
        let free = !hw.load(&self.taken);
        let bit = (free != 0).then(|| free.trailing_zeros())?;
        let id = GlobalId::at::<SLOTS>(word, bit)?;
        let taken = hw.fetch_or(&self.taken, 1 << bit);
        (taken & 1 << bit == 0).then_some(id)
    }

    /// Gives an id back (I18).
    pub(crate) fn give_back(&self, hw: &H, bit: u64) {
        hw.fetch_and(&self.taken, !bit);
    }
}

/// Returns a bitmap in which only the first bits are clear.
const fn all_but(ids: u32) -> u64 {
    assert!(ids <= 64, "a word has 64 global ids");
    match u64::MAX.checked_shl(ids) {
        Some(others) => others,
        None => 0,
    }
}

/// How far the CPUs are that a space is used on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Some may still use it under the PCID of a slot: a flush interrupts those.
    Moving,
    /// Each uses it under the id, and always will: a flush interrupts nobody.
    Settled,
}

/// The global id of a space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Global {
    pub(crate) id: GlobalId,
    pub(crate) phase: Phase,
}

/// The word of a space that has a global id, or has none.
#[derive(Debug)]
pub(crate) struct GlobalOfMm<H: Hw>(H::Atomic);

/// Somebody has set out to give the space an id.
const CLAIMED: u64 = 1 << 0;
/// It has one.
const HAS_ID: u64 = 1 << 1;
/// It is settled.
const SETTLED: u64 = 1 << 2;
/// Where the id's number begins.
const NUMBER: u32 = 3;

impl<H: Hw> GlobalOfMm<H> {
    /// Takes a word that holds 0.
    pub(crate) const fn of(word: H::Atomic) -> Self {
        GlobalOfMm(word)
    }

    /// Reads it.
    #[inline]
    pub(crate) fn load(&self, hw: &H) -> Option<Global> {
        let word = hw.load(&self.0);
        if word & HAS_ID == 0 {
            return None;
        }
        let id = GlobalId((word >> NUMBER) as u16);
        let phase = match word & SETTLED {
            0 => Phase::Moving,
            _ => Phase::Settled,
        };
        Some(Global { id, phase })
    }

    /// Claims the space for whoever is first. Locked.
    pub(crate) fn claim(&self, hw: &H) -> bool {
        hw.load(&self.0) & CLAIMED == 0 && hw.fetch_or(&self.0, CLAIMED) & CLAIMED == 0
    }

    /// Sets the id, by whoever has claimed the space or has found it so. Plain stores suffice: see [`crate::shootdown`].
    pub(crate) fn store(&self, hw: &H, Global { id, phase }: Global) {
        let settled = match phase {
            Phase::Moving => 0,
            Phase::Settled => SETTLED,
        };
        let word = u64::from(id.0) << NUMBER | settled | HAS_ID | CLAIMED;
        hw.store(&self.0, word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_pcids_that_neither_slots_nor_other_ids_have() {
        const SLOTS: usize = 6;
        let all = (0..=32).flat_map(|word| (0..64).map(move |bit| (word, bit)));
        let ids = all.filter_map(|(word, bit)| GlobalId::at::<SLOTS>(word, bit));
        let pcids = ids.flat_map(|id| [id.pcid::<SLOTS>(), id.pcid_of_user_half::<SLOTS>()]);
        let mut next = 2 * SLOTS as u16 + 1;
        for pcid in pcids {
            assert_eq!(pcid.number(), next);
            next += 1;
        }
        // One is left over, where their number is odd.
        assert!(next >= Pcid::COUNT - 1);
    }

    #[test]
    fn an_id_is_found_again_at_its_bit() {
        for (word, bit) in [(0, 0), (0, 63), (1, 0), (31, 10)] {
            let id = GlobalId::at::<1>(word, bit).map(GlobalId::word_and_bit);
            assert_eq!(id, Some((word, 1 << bit)));
        }
        assert_eq!(GlobalId::at::<1>(1 << 60, 0), None);
    }

    #[test]
    fn a_word_has_as_many_ids_as_it_was_told() {
        assert_eq!(all_but(0), u64::MAX);
        assert_eq!(all_but(1), !1);
        assert_eq!(all_but(64), 0);
    }
}
