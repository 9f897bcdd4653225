//! A state of the machine as plain bytes, and where everything lies in them.
//!
//! A state has one chunk for what all CPUs share (atomics, page-table entries, frames) and one for each
//! CPU. The chunks change one or two at a time, which a store of states exploits.
//!
//! ```text
//! shared │ atomics │ page-table entries │ their versions │ frames │
//! CPU    │ node u16 │ handler's node u16 │ flags │ CR3 │ store buffer │ cached │ tainted │ covered │ revoked │ own cells │
//! ```

/// A state: [`Layout::len`] bytes.
pub type State = [u8];

/// A slot of the store buffer: what is written, the value's code, and for a page-table entry the version
/// that the store makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Buffered {
    pub(crate) location: u8,
    pub(crate) value: u8,
    pub(crate) version: u8,
}

/// Bytes of a slot.
const SLOT: usize = 3;
/// Sets of translations that a CPU has.
const SETS: usize = 4;

/// The location of a store to user memory; its value is the number of the translation used.
pub(crate) const USER_MEMORY: u8 = u8::MAX;

const NODE: usize = 0;
const HANDLER_NODE: usize = 2;
const FLAGS: usize = 4;
const CR3: usize = 5;
const BUFFER: usize = 6;
const FLAG_PENDING: u8 = 1;
const BUFFERED_SHIFT: u32 = 1;

/// What a CPU may cache, and what must not be used of it: sets of numbered translations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CacheSet {
    /// May be cached, and may be used.
    Cached = 0,
    /// May be cached although a flush that covers it has returned: must not be used.
    Tainted = 1,
    /// Is covered by the flush that this CPU has begun.
    Covered = 2,
    /// Was covered by a flush of this CPU that has returned, while a store that removes it may still wait in
    /// this CPU's buffer: whoever fills it now must not use it.
    Revoked = 3,
}

impl CacheSet {
    pub(crate) const ALL: [CacheSet; SETS] = [
        CacheSet::Cached,
        CacheSet::Tainted,
        CacheSet::Covered,
        CacheSet::Revoked,
    ];
}

/// What a frame is used for, as a state stores it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FrameUse {
    Free = 0,
    Table = 1,
    Page = 2,
}

/// Where everything lies in a state.
#[derive(Clone, Debug)]
pub struct Layout {
    cpus: usize,
    atomics: usize,
    entries: usize,
    frames: usize,
    sets: usize,
    own_cells: usize,
    cpu_len: usize,
}

impl Layout {
    pub(crate) fn new(
        cpus: usize,
        atomics: usize,
        entries: usize,
        frames: usize,
        buffer_depth: usize,
        own_cells: usize,
    ) -> Layout {
        let sets = BUFFER + SLOT * buffer_depth;
        let own_start = sets + SETS * 8;
        let cpu_len = own_start + own_cells;
        Layout {
            cpus,
            atomics,
            entries,
            frames,
            sets,
            own_cells: own_start,
            cpu_len,
        }
    }

    /// Returns the length of a state in bytes.
    pub fn len(&self) -> usize {
        self.shared_len() + self.cpus * self.cpu_len
    }

    /// Says whether a state has no byte, which none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the length of the chunk that all CPUs share.
    pub fn shared_len(&self) -> usize {
        self.atomics + 2 * self.entries + self.frames
    }

    /// Returns the length of one CPU's chunk.
    pub fn cpu_len(&self) -> usize {
        self.cpu_len
    }

    /// Returns the number of CPUs.
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    fn cpu_start(&self, cpu: usize) -> usize {
        self.shared_len() + cpu * self.cpu_len
    }

    /// Reads a CPU's place in its program: a number that the machine does not interpret.
    #[inline]
    pub fn node(&self, state: &State, cpu: usize) -> u16 {
        read_u16(state, self.cpu_start(cpu) + NODE)
    }

    /// Writes a CPU's place in its program.
    #[inline]
    pub fn set_node(&self, state: &mut State, cpu: usize, node: u16) {
        write_u16(state, self.cpu_start(cpu) + NODE, node);
    }

    /// Reads a CPU's place in its interrupt handler; 0 outside of it.
    #[inline]
    pub fn handler_node(&self, state: &State, cpu: usize) -> u16 {
        read_u16(state, self.cpu_start(cpu) + HANDLER_NODE)
    }

    /// Writes a CPU's place in its interrupt handler.
    #[inline]
    pub fn set_handler_node(&self, state: &mut State, cpu: usize, node: u16) {
        write_u16(state, self.cpu_start(cpu) + HANDLER_NODE, node);
    }

    /// Says whether a flush interrupt is pending.
    #[inline]
    pub fn is_pending(&self, state: &State, cpu: usize) -> bool {
        state[self.cpu_start(cpu) + FLAGS] & FLAG_PENDING != 0
    }

    pub(crate) fn set_pending(&self, state: &mut State, cpu: usize, pending: bool) {
        let flags = &mut state[self.cpu_start(cpu) + FLAGS];
        *flags = *flags & !FLAG_PENDING | u8::from(pending);
    }

    /// Returns the number of stores in a CPU's buffer.
    #[inline]
    pub fn buffered_len(&self, state: &State, cpu: usize) -> usize {
        usize::from(state[self.cpu_start(cpu) + FLAGS] >> BUFFERED_SHIFT)
    }

    pub(crate) fn buffered<'a>(
        &self,
        state: &'a State,
        cpu: usize,
    ) -> impl DoubleEndedIterator<Item = Buffered> + use<'a> {
        let start = self.cpu_start(cpu) + BUFFER;
        state[start..start + SLOT * self.buffered_len(state, cpu)]
            .chunks_exact(SLOT)
            .map(|slot| Buffered {
                location: slot[0],
                value: slot[1],
                version: slot[2],
            })
    }

    pub(crate) fn push_buffered(&self, state: &mut State, cpu: usize, store: Buffered) {
        let len = self.buffered_len(state, cpu);
        self.put_buffered(state, cpu, len, store);
        state[self.cpu_start(cpu) + FLAGS] += 1 << BUFFERED_SHIFT;
    }

    pub(crate) fn put_buffered(&self, state: &mut State, cpu: usize, slot: usize, store: Buffered) {
        let at = self.cpu_start(cpu) + BUFFER + SLOT * slot;
        state[at..at + SLOT].copy_from_slice(&[store.location, store.value, store.version]);
    }

    pub(crate) fn pop_buffered(&self, state: &mut State, cpu: usize) -> Option<Buffered> {
        let oldest = self.buffered(state, cpu).next()?;
        let start = self.cpu_start(cpu) + BUFFER;
        let end = start + SLOT * self.buffered_len(state, cpu);
        state.copy_within(start + SLOT..end, start);
        state[end - SLOT..end].fill(0);
        state[self.cpu_start(cpu) + FLAGS] -= 1 << BUFFERED_SHIFT;
        Some(oldest)
    }

    pub(crate) fn cr3(&self, state: &State, cpu: usize) -> u8 {
        state[self.cpu_start(cpu) + CR3]
    }

    pub(crate) fn set_cr3(&self, state: &mut State, cpu: usize, frame: u8) {
        state[self.cpu_start(cpu) + CR3] = frame;
    }

    pub(crate) fn set(&self, state: &State, cpu: usize, set: CacheSet) -> u64 {
        let at = self.cpu_start(cpu) + self.sets + 8 * set as usize;
        u64::from_le_bytes(
            state[at..at + 8]
                .try_into()
                .expect("eight bytes make a u64"),
        )
    }

    pub(crate) fn put_set(&self, state: &mut State, cpu: usize, set: CacheSet, members: u64) {
        let at = self.cpu_start(cpu) + self.sets + 8 * set as usize;
        state[at..at + 8].copy_from_slice(&members.to_le_bytes());
    }

    pub(crate) fn own_cell(&self, cpu: usize, index: u8) -> usize {
        self.cpu_start(cpu) + self.own_cells + usize::from(index)
    }

    /// Returns where a shared location lies: atomics come first, then page-table entries.
    pub(crate) fn location(&self, location: u8) -> usize {
        usize::from(location)
    }

    pub(crate) fn entry_location(&self, entry: usize) -> u8 {
        u8::try_from(self.atomics + entry).expect("Machine::new keeps the locations below 255")
    }

    pub(crate) fn entry_of_location(&self, location: u8) -> Option<usize> {
        usize::from(location).checked_sub(self.atomics)
    }

    /// Returns where the version of a page-table entry's location lies.
    pub(crate) fn version_of_location(&self, location: u8) -> usize {
        usize::from(location) + self.entries
    }

    pub(crate) fn frame_use(&self, state: &State, frame: u8) -> FrameUse {
        match state[self.atomics + 2 * self.entries + usize::from(frame)] {
            0 => FrameUse::Free,
            1 => FrameUse::Table,
            _ => FrameUse::Page,
        }
    }

    pub(crate) fn set_frame_use(&self, state: &mut State, frame: u8, frame_use: FrameUse) {
        state[self.atomics + 2 * self.entries + usize::from(frame)] = frame_use as u8;
    }
}

fn read_u16(state: &State, at: usize) -> u16 {
    u16::from_le_bytes([state[at], state[at + 1]])
}

fn write_u16(state: &mut State, at: usize, value: u16) {
    state[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// Returns the numbers in a set, lowest first.
pub(crate) fn members(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| set.trailing_zeros())?;
        set &= set - 1;
        Some(lowest as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_buffer_is_first_in_first_out_and_leaves_no_trace() {
        let layout = Layout::new(2, 3, 2, 2, 2, 1);
        let mut state = vec![0; layout.len()];
        let empty = state.clone();
        let stores = [
            Buffered {
                location: 1,
                value: 7,
                version: 0,
            },
            Buffered {
                location: 2,
                value: 8,
                version: 1,
            },
        ];
        for store in stores {
            layout.push_buffered(&mut state, 1, store);
        }
        assert!(layout.buffered(&state, 1).eq(stores));
        assert_eq!(layout.buffered_len(&state, 0), 0);
        assert_eq!(layout.pop_buffered(&mut state, 1), Some(stores[0]));
        assert_eq!(layout.pop_buffered(&mut state, 1), Some(stores[1]));
        assert_eq!(layout.pop_buffered(&mut state, 1), None);
        assert_eq!(state, empty, "equal states have equal bytes");
    }
}
