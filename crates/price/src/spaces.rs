//! The recorded address spaces: from a recorded id to a slot, which is reused.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use lazytlb::{Cells, Hw, Mm, MmHandle, MmId, PhysAddr};

use crate::cells::{CountedCells, Owner};

/// The slot of the kernel's own space, which always lives.
const INIT_SLOT: usize = 0;

/// The handle of the kernel's own space.
pub(crate) const INIT_MM: MmHandle = MmHandle(INIT_SLOT as u64);

/// The id of the kernel's own space: Linux gives `init_mm` the `ctx_id` 1.
const INIT_ID: u64 = 1;

/// The handles of a recording's spaces. They follow from its operations alone, so that all replays of it share them.
pub(crate) struct Handles {
    by_id: HashMap<u64, MmHandle, FixedState>,
    free: Vec<MmHandle>,
    /// The one that was asked for last, if it lives: most operations are in the space of the one before.
    latest: Option<(u64, MmHandle)>,
    /// How many there are, free ones too.
    len: usize,
    /// The identity of the space that is made next. Not the recorded id: a recording may go on to name a space that it has
    /// retired, and what a CPU has cached of the dead one is not the new one's.
    next_identity: u64,
}

/// The handle of a space that lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// It lived before.
    Known(MmHandle),
    /// It lives from here on, and machines have to make it.
    New(MmHandle, MmId),
}

impl Handles {
    /// Knows init_mm only.
    pub(crate) fn new() -> Self {
        Handles {
            by_id: HashMap::from_iter([(INIT_ID, INIT_MM)]),
            free: Vec::new(),
            latest: None,
            len: 1,
            next_identity: INIT_ID + 1,
        }
    }

    /// Returns the handle of a live space.
    #[inline]
    pub(crate) fn find(&self, id: u64) -> Option<MmHandle> {
        self.by_id.get(&id).copied()
    }

    /// Returns the handle of a space, which comes to life if it does not live.
    #[inline]
    pub(crate) fn find_or_make(&mut self, id: u64) -> Found {
        if let Some((latest, handle)) = self.latest
            && latest == id
        {
            return Found::Known(handle);
        }
        let found = self.look_up_or_make(id);
        let (Found::Known(handle) | Found::New(handle, _)) = found;
        self.latest = Some((id, handle));
        found
    }

    fn look_up_or_make(&mut self, id: u64) -> Found {
        let vacant = match self.by_id.entry(id) {
            Entry::Occupied(known) => return Found::Known(*known.get()),
            Entry::Vacant(vacant) => vacant,
        };
        let handle = self.free.pop().unwrap_or_else(|| {
            self.len += 1;
            MmHandle(self.len as u64 - 1)
        });
        let identity = MmId(self.next_identity);
        self.next_identity += 1;
        vacant.insert(handle);
        Found::New(handle, identity)
    }

    /// Forgets a space that no CPU will have loaded, and frees its handle.
    pub(crate) fn forget(&mut self, id: u64) {
        self.latest = None;
        self.free.extend(self.by_id.remove(&id));
    }
}

/// Holds the spaces of a machine. A handle is an index; memory is bounded by the spaces that live at the same time.
pub(crate) struct Spaces<H: Hw, const WORDS: usize>(Vec<Mm<H, WORDS>>);

impl<H: Hw, const WORDS: usize> Spaces<H, WORDS>
where
    CountedCells: Cells<H>,
{
    /// Holds init_mm only.
    pub(crate) fn new() -> Self {
        Spaces(vec![new_mm(MmId(INIT_ID), INIT_SLOT)])
    }

    /// Returns the space behind a handle.
    #[inline]
    pub(crate) fn get(&self, handle: MmHandle) -> &Mm<H, WORDS> {
        &self.0[index_of(handle)]
    }

    /// Makes a space in place of the one that had its handle before, or behind all others.
    pub(crate) fn make(&mut self, handle: MmHandle, identity: MmId) {
        let mm = new_mm(identity, index_of(handle));
        match self.0.get_mut(index_of(handle)) {
            Some(dead) => *dead = mm,
            None => self.0.push(mm),
        }
    }
}

fn index_of(handle: MmHandle) -> usize {
    handle.0 as usize
}

fn new_mm<H: Hw, const WORDS: usize>(identity: MmId, slot: usize) -> Mm<H, WORDS>
where
    CountedCells: Cells<H>,
{
    Mm::new(identity, root_of(slot), &mut CountedCells(Owner::Space))
}

/// Invents the frame of a slot's root table. A slot is reused only when every CPU has left its
/// root, so "the same root" means "the same space".
fn root_of(slot: usize) -> PhysAddr {
    PhysAddr((slot as u64 + 1) << 12)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::CountingMachine;
    use crate::pcids_on::WithoutPcids;

    type Spaces = super::Spaces<CountingMachine<WithoutPcids, 1>, 1>;

    fn new(found: Found) -> (MmHandle, MmId) {
        match found {
            Found::New(handle, identity) => (handle, identity),
            Found::Known(_) => panic!("it is new"),
        }
    }

    #[test]
    fn a_handle_is_reused_and_an_identity_is_not() {
        let (mut handles, mut spaces) = (Handles::new(), Spaces::new());
        let (first, identity) = new(handles.find_or_make(7));
        spaces.make(first, identity);
        assert_eq!(handles.find_or_make(7), Found::Known(first));
        handles.forget(7);
        assert_eq!(handles.find(7), None);
        let (second, other) = new(handles.find_or_make(8));
        spaces.make(second, other);
        assert_eq!(second, first, "the free handle is taken");
        assert_ne!(other, identity);
        assert_eq!(spaces.get(second).id(), other);
        handles.forget(8);
        let (again, third) = new(handles.find_or_make(8));
        assert_eq!(again, second);
        assert_ne!(third, other, "it is another space");
    }

    #[test]
    fn memory_is_bounded_by_the_spaces_that_live_at_a_time() {
        let (mut handles, mut spaces) = (Handles::new(), Spaces::new());
        for id in 10..10_000 {
            let (handle, identity) = new(handles.find_or_make(id));
            spaces.make(handle, identity);
            handles.forget(id - 3);
        }
        assert_eq!((spaces.0.len(), handles.by_id.len()), (5, 4));
    }

    #[test]
    fn the_kernels_own_space_is_there_from_the_start() {
        assert_eq!(Handles::new().find_or_make(1), Found::Known(INIT_MM));
    }
}
