//! Where a machine keeps its spaces.

use lazytlb::MmHandle;

use crate::spaces::INIT_MM;

/// Where a machine keeps each space.
pub(crate) enum Slots {
    /// Where all machines do: a space that is retired is gone, and its handle is free.
    Shared,
    /// In a slot of its own, until the page tables of it have come back that are held back: its handle may be another space's by
    /// then.
    Kept {
        /// By the shared handle.
        of: Vec<MmHandle>,
        free: Vec<MmHandle>,
        /// How many there are, free ones too.
        len: usize,
    },
}

impl Slots {
    /// Knows init_mm only.
    pub(crate) fn kept() -> Slots {
        Slots::Kept {
            of: vec![INIT_MM],
            free: Vec::new(),
            len: 1,
        }
    }

    /// Finds a slot for a space that comes to life.
    pub(crate) fn take(&mut self, mm: MmHandle) -> MmHandle {
        let Slots::Kept { of, free, len } = self else {
            return mm;
        };
        let slot = free.pop().unwrap_or_else(|| {
            *len += 1;
            MmHandle(*len as u64 - 1)
        });
        match of.get_mut(mm.0 as usize) {
            Some(former) => *former = slot,
            None => of.push(slot),
        }
        slot
    }

    /// Returns the slot of a space that lives.
    #[inline]
    pub(crate) fn of(&self, mm: MmHandle) -> MmHandle {
        match self {
            Slots::Shared => mm,
            Slots::Kept { of, .. } => of[mm.0 as usize],
        }
    }

    /// Frees the slot of a space that no CPU has loaded, nor holds page tables of.
    pub(crate) fn free(&mut self, slot: MmHandle) {
        if let Slots::Kept { free, .. } = self {
            free.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_stays_taken_though_its_handle_is_anothers() {
        let mut slots = Slots::kept();
        let handle = MmHandle(1);
        let first = slots.take(handle);
        let second = slots.take(handle);
        assert_ne!(first, second, "the first is not free yet");
        assert_eq!(slots.of(handle), second);
        slots.free(first);
        assert_eq!(slots.take(MmHandle(2)), first);
        assert_eq!(slots.of(INIT_MM), INIT_MM);
    }
}
