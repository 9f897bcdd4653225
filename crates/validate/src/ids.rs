//! Whether ids of spaces and their pointers fit.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use lazytlb_trace::MmId;

/// Ids that are followed.
const MOST: usize = 1 << 16;

/// The pointer of each id. An id never comes again, so it has one pointer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ids {
    pointers: HashMap<MmId, u64, FixedState>,
    pairs: u64,
    moved: u64,
}

impl Ids {
    /// Notes that a space is at a pointer.
    pub(crate) fn note(&mut self, mm: MmId, pointer: u64) {
        self.pairs += 1;
        if self.pointers.len() >= MOST && !self.pointers.contains_key(&mm) {
            return;
        }
        if self
            .pointers
            .insert(mm, pointer)
            .is_some_and(|before| before != pointer)
        {
            self.moved += 1;
        }
    }

    /// Returns what contradicts, if it is more than a slip.
    pub(crate) fn contradiction(&self) -> Option<String> {
        (self.moved > self.pairs / 1000).then(|| {
            format!(
                "{} of {} events give an id another pointer than before, though ids never come again: the offset of \
                 `ctx` in the kprobes is wrong",
                self.moved, self.pairs
            )
        })
    }
}
