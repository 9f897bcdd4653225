//! The recorded address spaces: from a recorded id to a slot, which is reused.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use lazytlb::{Cells, Hw, Mm, MmHandle, MmId, PhysAddr};

use crate::cells::{CountedCells, Owner, WORDS};

/// The slot of the kernel's own space, which always lives.
const INIT_SLOT: usize = 0;

/// The handle of the kernel's own space.
pub(crate) const INIT_MM: MmHandle = MmHandle(INIT_SLOT as u64);

/// The id of the kernel's own space: Linux gives `init_mm` the `ctx_id` 1.
const INIT_ID: u64 = 1;

/// Holds the live spaces of a machine. A handle is a slot's index; memory is bounded by the spaces that
/// live at the same time.
pub(crate) struct Spaces<H: Hw> {
    slots: Vec<Mm<H, WORDS>>,
    free: Vec<MmHandle>,
    by_id: HashMap<u64, MmHandle, FixedState>,
    /// The one that was asked for last, if it lives: most operations are in the space of the one before.
    latest: Option<(u64, MmHandle)>,
    /// The identity of the space that is made next. Not the recorded id: a recording may go on to name a space that it has
    /// retired, and what a CPU has cached of the dead one is not the new one's.
    next_identity: u64,
}

impl<H: Hw> Spaces<H>
where
    CountedCells: Cells<H>,
{
    /// Holds init_mm only.
    pub(crate) fn new() -> Self {
        Spaces {
            slots: vec![new_mm(INIT_ID, INIT_SLOT)],
            free: Vec::new(),
            by_id: HashMap::from_iter([(INIT_ID, INIT_MM)]),
            latest: None,
            next_identity: INIT_ID + 1,
        }
    }

    /// Returns the space behind a handle.
    #[inline]
    pub(crate) fn get(&self, handle: MmHandle) -> &Mm<H, WORDS> {
        &self.slots[index_of(handle)]
    }

    /// Returns the handle of a live space.
    #[inline]
    pub(crate) fn find(&self, id: u64) -> Option<MmHandle> {
        self.by_id.get(&id).copied()
    }

    /// Returns the handle of a space, which is made if it does not live.
    #[inline]
    pub(crate) fn find_or_make(&mut self, id: u64) -> MmHandle {
        if let Some((latest, handle)) = self.latest
            && latest == id
        {
            return handle;
        }
        let handle = self.look_up_or_make(id);
        self.latest = Some((id, handle));
        handle
    }

    fn look_up_or_make(&mut self, id: u64) -> MmHandle {
        let vacant = match self.by_id.entry(id) {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(vacant) => vacant,
        };
        let slot = self.free.pop().map_or(self.slots.len(), index_of);
        let mm = new_mm(self.next_identity, slot);
        self.next_identity += 1;
        if slot == self.slots.len() {
            self.slots.push(mm);
        } else {
            self.slots[slot] = mm;
        }
        *vacant.insert(MmHandle(slot as u64))
    }

    /// Forgets the recorded id of a space; its slot stays.
    pub(crate) fn forget(&mut self, id: u64) {
        self.latest = None;
        self.by_id.remove(&id);
    }

    /// Frees the slot of a space that was forgotten, and that no CPU has loaded, nor holds page tables of.
    pub(crate) fn free(&mut self, handle: MmHandle) {
        self.free.push(handle);
    }
}

fn index_of(handle: MmHandle) -> usize {
    handle.0 as usize
}

fn new_mm<H: Hw>(identity: u64, slot: usize) -> Mm<H, WORDS>
where
    CountedCells: Cells<H>,
{
    Mm::new(
        MmId(identity),
        root_of(slot),
        &mut CountedCells(Owner::Space),
    )
}

/// Invents the frame of a slot's root table. A slot is reused only when every CPU has left its
/// root, so "the same root" means "the same space".
fn root_of(slot: usize) -> PhysAddr {
    PhysAddr((slot as u64 + 1) << 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Spaces = super::Spaces<crate::machine::CountingMachine>;

    #[test]
    fn a_slot_is_reused_and_an_identity_is_not() {
        let mut spaces = Spaces::new();
        let first = spaces.find_or_make(7);
        assert_eq!(spaces.find_or_make(7), first);
        spaces.forget(7);
        assert_eq!(spaces.find(7), None);
        assert_ne!(spaces.find_or_make(9), first, "the slot is not free yet");
        spaces.free(first);
        let second = spaces.find_or_make(8);
        assert_eq!(second, first, "the free slot is taken");
        let identity = spaces.get(second).id();
        spaces.forget(8);
        spaces.free(second);
        let again = spaces.find_or_make(8);
        assert_eq!(again, second);
        assert_ne!(spaces.get(again).id(), identity, "it is another space");
    }

    #[test]
    fn memory_is_bounded_by_the_spaces_that_live_at_a_time() {
        let mut spaces = Spaces::new();
        for id in 10..10_000 {
            spaces.find_or_make(id);
            if let Some(former) = spaces.find(id - 3) {
                spaces.forget(id - 3);
                spaces.free(former);
            }
        }
        assert_eq!((spaces.slots.len(), spaces.by_id.len()), (5, 4));
    }

    #[test]
    fn the_kernels_own_space_is_there_from_the_start() {
        assert_eq!(Spaces::new().find_or_make(1), INIT_MM);
    }
}
