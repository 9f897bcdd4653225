//! Knows which address space a pointer of the trace means at the moment.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::error::LineProblem;
use crate::limits::MAX_LIVE_MMS;
use crate::operation::MmId;

/// x86-64 Linux maps the kernel image into this GiB; mms from the allocator lie elsewhere.
const KERNEL_IMAGE: std::ops::Range<u64> = 0xffff_ffff_8000_0000..0xffff_ffff_c000_0000;

/// Maps `mm_struct` pointers to the spaces that live there now.
///
/// Bounded by the live spaces: an entry goes with its mmdrop, or when its pointer is reused.
pub(crate) struct MmPointers {
    live: HashMap<u64, MmId, FixedState>,
    /// The pair learned last: most events repeat it.
    latest: (u64, MmId),
    /// Where `init_mm` is, once an event showed it.
    init: Option<u64>,
}

/// What an event told about a pointer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Learned {
    /// Known before, or new.
    Consistent,
    /// Another space was there, and its mmdrop was never seen.
    ReusedWithoutRetire,
}

impl MmPointers {
    /// Knows nothing yet.
    pub(crate) fn new() -> Self {
        let live = HashMap::with_hasher(FixedState::default());
        MmPointers {
            live,
            latest: (0, MmId::INIT),
            init: None,
        }
    }

    /// Notes that `mm` lives at `pointer`.
    ///
    /// # Errors
    /// [`LineProblem::TooManyMms`].
    #[inline]
    pub(crate) fn learn(&mut self, pointer: u64, mm: MmId) -> Result<Learned, LineProblem> {
        if self.latest == (pointer, mm) {
            return Ok(Learned::Consistent);
        }
        self.latest = (pointer, mm);
        if mm == MmId::INIT {
            self.init = Some(pointer);
            return Ok(Learned::Consistent);
        }
        let full = self.live.len() >= MAX_LIVE_MMS;
        match self.live.entry(pointer) {
            Entry::Occupied(mut entry) => match entry.insert(mm) == mm {
                true => Ok(Learned::Consistent),
                false => Ok(Learned::ReusedWithoutRetire),
            },
            Entry::Vacant(_) if full => Err(LineProblem::TooManyMms),
            Entry::Vacant(entry) => {
                entry.insert(mm);
                Ok(Learned::Consistent)
            }
        }
    }

    /// Forgets the space at `pointer`: it is freed, and the pointer will be reused.
    #[inline]
    pub(crate) fn forget(&mut self, pointer: u64) {
        self.live.remove(&pointer);
        self.latest = (0, MmId::INIT);
    }

    /// Returns the space at `pointer`, if an event has named it before.
    pub(crate) fn get(&self, pointer: u64) -> Option<MmId> {
        if self.is_init(pointer) {
            return Some(MmId::INIT);
        }
        self.live.get(&pointer).copied()
    }

    /// Returns whether `pointer` is `init_mm`.
    ///
    /// Before an event has shown that, the only mm inside the kernel's image is taken for it.
    /// ASSUMED: no CPU begins a trace in `efi_mm`, the other static one; it is loaded for the
    /// microseconds of a firmware call.
    pub(crate) fn is_init(&self, pointer: u64) -> bool {
        match self.init {
            Some(init) => pointer == init,
            None => KERNEL_IMAGE.contains(&pointer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_means_its_latest_space() {
        let mut pointers = MmPointers::new();
        assert_eq!(pointers.learn(0xf0, MmId(7)), Ok(Learned::Consistent));
        assert_eq!(pointers.learn(0xf0, MmId(7)), Ok(Learned::Consistent));
        assert_eq!(pointers.get(0xf0), Some(MmId(7)));
        assert_eq!(
            pointers.learn(0xf0, MmId(8)),
            Ok(Learned::ReusedWithoutRetire)
        );
        assert_eq!(pointers.get(0xf0), Some(MmId(8)));
        pointers.forget(0xf0);
        assert_eq!(pointers.get(0xf0), None);
        assert_eq!(pointers.learn(0xf0, MmId(8)), Ok(Learned::Consistent));
        assert_eq!(pointers.get(0xf0), Some(MmId(8)));
    }

    #[test]
    fn init_mm_is_known_by_its_place_until_it_is_shown() {
        let mut pointers = MmPointers::new();
        assert_eq!(pointers.get(0xffff_ffff_82b5_c940), Some(MmId::INIT));
        pointers.learn(0xffff_ffff_8200_0000, MmId::INIT).unwrap();
        assert_eq!(pointers.get(0xffff_ffff_82b5_c940), None);
        assert_eq!(pointers.get(0xffff_ffff_8200_0000), Some(MmId::INIT));
    }

    #[test]
    fn the_number_of_live_spaces_is_bounded() {
        let mut pointers = MmPointers::new();
        for pointer in 2..2 + MAX_LIVE_MMS as u64 {
            pointers.learn(pointer, MmId(pointer)).unwrap();
        }
        assert_eq!(
            pointers.learn(1 << 40, MmId(1 << 40)),
            Err(LineProblem::TooManyMms)
        );
        pointers.forget(2);
        assert_eq!(
            pointers.learn(1 << 41, MmId(1 << 41)),
            Ok(Learned::Consistent)
        );
    }
}
