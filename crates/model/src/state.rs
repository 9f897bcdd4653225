//! A state of the machine as plain bytes, and where everything lies in them.
//!
//! A state has one chunk for what all CPUs share (atomics, page-table entries, frames) and one for each
//! CPU. The chunks change one or two at a time, which a store of states exploits.
//!
//! ```text
//! shared │ atomics │ page-table entries │ their versions │ frames │
//! CPU    │ node u16 │ handler's node u16 │ flags │ CR3 │ PCID, CR4 │ NMI's node u16 │ broadcasts │
//!        │ store buffer │ write-combining buffers │ cached │ tainted │ covered │ revoked │ own cells │
//! ```
//!
//! What a program has no use for ([`Features`]) has no bytes.

use crate::entry::MemoryType;
use crate::features::Features;

/// A state: [`Layout::len`] bytes.
pub type State = [u8];

/// A slot of the store buffer: what is written, the value's code, and for a page-table entry the version
/// that the store makes; for a cell, which of its bytes are written, 0 for all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Buffered {
    pub(crate) location: u8,
    pub(crate) value: u8,
    pub(crate) version: u8,
}

/// A store that waits in a write-combining buffer, or is on its way to a device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Combining {
    pub(crate) location: u8,
    pub(crate) value: u8,
    /// Which bytes of a cell are written, 0 for all.
    pub(crate) bytes: u8,
    pub(crate) stage: Stage,
    /// The frame that it goes to.
    pub(crate) frame: u8,
    /// The memory type of the mapping that it went through.
    pub(crate) memory_type: MemoryType,
}

/// How far a write-combining store has got.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Stage {
    /// In the CPU's buffer.
    Filling = 0,
    /// Out of it, and not at the device yet (H27).
    Started = 1,
}

/// Bytes of a slot.
const SLOT: usize = 3;
/// Sets of translations that a CPU has.
const SETS: usize = 4;

/// The location of a store to user memory; its value is the number of the translation used.
pub(crate) const USER_MEMORY: u8 = u8::MAX;
/// The location of an SFENCE in the store buffer: it drains when the write-combining buffers have.
pub(crate) const BARRIER: u8 = u8::MAX - 1;
/// The location of an MFENCE in the store buffer: until it drains, this CPU does nothing but send an IPI.
pub(crate) const FENCE: u8 = u8::MAX - 2;

const NODE: usize = 0;
const HANDLER_NODE: usize = 2;
const FLAGS: usize = 4;
const CR3: usize = 5;
const OPTIONAL: usize = 6;
const FLAG_PENDING: u8 = 1;
const FLAG_PENDING_NMI: u8 = 1 << 7;
const BUFFERED_SHIFT: u32 = 1;
const BUFFERED_MASK: u8 = 0x3f;
/// Bytes of a write-combining slot.
const WC_SLOT: usize = 6;

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

/// What a frame is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameUse {
    /// For nothing: it holds garbage.
    Free = 0,
    /// As a page table.
    Table = 1,
    /// As ordinary memory.
    Page = 2,
    /// It is a device's: no CPU caches it, and what is written acts.
    Device = 3,
}

/// Where everything lies in a state.
#[derive(Clone, Debug)]
pub struct Layout {
    cpus: usize,
    atomics: usize,
    entries: usize,
    frames: usize,
    tags: usize,
    nmi: usize,
    broadcasts: usize,
    buffer: usize,
    combining: usize,
    combining_slots: usize,
    sets: usize,
    own_cells: usize,
    cpu_len: usize,
}

impl Layout {
    pub(crate) fn new(
        cpus: usize,
        atomics: usize,
        frames: usize,
        buffer_depth: usize,
        own_cells: usize,
        features: &Features,
    ) -> Layout {
        let mut next = OPTIONAL;
        let mut section = |len: usize| {
            let start = next;
            next += len;
            start
        };
        let tags = section(if features.tags { 2 } else { 0 });
        let nmi = section(if features.nmis { 2 } else { 0 });
        let broadcasts = section(usize::from(features.broadcasts));
        let buffer = section(SLOT * buffer_depth);
        let combining_slots = usize::from(features.write_combining);
        let combining = section(match combining_slots {
            0 => 0,
            slots => 1 + WC_SLOT * slots,
        });
        let sets = section(SETS * 8);
        let own_cells = section(own_cells);
        let cpu_len = section(0);
        Layout {
            cpus,
            atomics,
            entries: usize::from(features.page_table_entries),
            frames,
            tags,
            nmi,
            broadcasts,
            buffer,
            combining,
            combining_slots,
            sets,
            own_cells,
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

    /// Says whether an NMI is pending.
    #[inline]
    pub fn is_nmi_pending(&self, state: &State, cpu: usize) -> bool {
        state[self.cpu_start(cpu) + FLAGS] & FLAG_PENDING_NMI != 0
    }

    pub(crate) fn set_nmi_pending(&self, state: &mut State, cpu: usize, pending: bool) {
        let flags = &mut state[self.cpu_start(cpu) + FLAGS];
        *flags = *flags & !FLAG_PENDING_NMI | (u8::from(pending) << 7);
    }

    /// Says whether programs have NMIs.
    #[inline]
    pub fn has_nmis(&self) -> bool {
        self.broadcasts > self.nmi
    }

    /// Reads a CPU's place in its NMI handler; 0 outside of it.
    #[inline]
    pub fn nmi_node(&self, state: &State, cpu: usize) -> u16 {
        if !self.has_nmis() {
            return 0;
        }
        read_u16(state, self.cpu_start(cpu) + self.nmi)
    }

    /// Writes a CPU's place in its NMI handler. The program must have NMIs.
    pub fn set_nmi_node(&self, state: &mut State, cpu: usize, node: u16) {
        write_u16(state, self.cpu_start(cpu) + self.nmi, node);
    }

    /// Returns CR3[11:0]; 0 in programs without tags.
    #[inline]
    pub(crate) fn cr3_low(&self, state: &State, cpu: usize) -> u8 {
        if self.nmi == self.tags {
            return 0;
        }
        state[self.cpu_start(cpu) + self.tags]
    }

    pub(crate) fn set_cr3_low(&self, state: &mut State, cpu: usize, bits: u8) {
        if self.nmi > self.tags {
            state[self.cpu_start(cpu) + self.tags] = bits;
        }
    }

    /// Returns CR4's bits as [`crate::call::Cr4`] numbers them; 0 in programs without tags.
    #[inline]
    pub(crate) fn cr4(&self, state: &State, cpu: usize) -> u8 {
        if self.nmi == self.tags {
            return 0;
        }
        state[self.cpu_start(cpu) + self.tags + 1]
    }

    pub(crate) fn set_cr4(&self, state: &mut State, cpu: usize, cr4: u8) {
        if self.nmi > self.tags {
            state[self.cpu_start(cpu) + self.tags + 1] = cr4;
        }
    }

    /// Returns the broadcast invalidations that a CPU has still to do: a bit each.
    #[inline]
    pub fn broadcasts(&self, state: &State, cpu: usize) -> u8 {
        if self.buffer == self.broadcasts {
            return 0;
        }
        state[self.cpu_start(cpu) + self.broadcasts]
    }

    pub(crate) fn set_broadcasts(&self, state: &mut State, cpu: usize, requests: u8) {
        state[self.cpu_start(cpu) + self.broadcasts] = requests;
    }

    /// Returns the number of stores in a CPU's write-combining buffers, those on their way included.
    #[inline]
    pub fn combining_len(&self, state: &State, cpu: usize) -> usize {
        if self.combining_slots == 0 {
            return 0;
        }
        usize::from(state[self.cpu_start(cpu) + self.combining])
    }

    pub(crate) fn combining_slots(&self) -> usize {
        self.combining_slots
    }

    pub(crate) fn combining(&self, state: &State, cpu: usize) -> Vec<Combining> {
        let len = self.combining_len(state, cpu);
        if len == 0 {
            return Vec::new();
        }
        let start = self.cpu_start(cpu) + self.combining + 1;
        state[start..start + WC_SLOT * len]
            .chunks_exact(WC_SLOT)
            .map(|slot| Combining {
                location: slot[0],
                value: slot[1],
                bytes: slot[2],
                stage: if slot[3] == 0 {
                    Stage::Filling
                } else {
                    Stage::Started
                },
                frame: slot[4],
                memory_type: match slot[5] {
                    0 => MemoryType::WriteBack,
                    1 => MemoryType::WriteCombining,
                    _ => MemoryType::Uncached,
                },
            })
            .collect()
    }

    /// Replaces a CPU's write-combining stores; at most [`Layout::combining_slots`]. They have no order
    /// among themselves (H26): equal sets are equal bytes. Two stores to one place keep theirs.
    pub(crate) fn put_combining(&self, state: &mut State, cpu: usize, mut stores: Vec<Combining>) {
        stores.sort_by_key(|store| (store.location, store.stage == Stage::Filling));
        let start = self.cpu_start(cpu) + self.combining;
        let end = start + 1 + WC_SLOT * self.combining_slots;
        state[start..end].fill(0);
        state[start] = stores.len() as u8;
        for (slot, store) in stores.iter().enumerate() {
            let at = start + 1 + WC_SLOT * slot;
            let bytes = [
                store.location,
                store.value,
                store.bytes,
                store.stage as u8,
                store.frame,
                store.memory_type as u8,
            ];
            state[at..at + WC_SLOT].copy_from_slice(&bytes);
        }
    }

    /// Returns the number of stores in a CPU's buffer.
    #[inline]
    pub fn buffered_len(&self, state: &State, cpu: usize) -> usize {
        usize::from((state[self.cpu_start(cpu) + FLAGS] >> BUFFERED_SHIFT) & BUFFERED_MASK)
    }

    pub(crate) fn buffered<'a>(
        &self,
        state: &'a State,
        cpu: usize,
    ) -> impl DoubleEndedIterator<Item = Buffered> + use<'a> {
        let start = self.cpu_start(cpu) + self.buffer;
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
        let at = self.cpu_start(cpu) + self.buffer + SLOT * slot;
        state[at..at + SLOT].copy_from_slice(&[store.location, store.value, store.version]);
    }

    pub(crate) fn pop_buffered(&self, state: &mut State, cpu: usize) -> Option<Buffered> {
        let oldest = self.buffered(state, cpu).next()?;
        let start = self.cpu_start(cpu) + self.buffer;
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

    pub(crate) fn own_cells<'a>(&self, state: &'a State, cpu: usize) -> &'a [u8] {
        let start = self.cpu_start(cpu);
        &state[start + self.own_cells..start + self.cpu_len]
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
            2 => FrameUse::Page,
            _ => FrameUse::Device,
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
        let layout = Layout::new(2, 3, 2, 2, 1, &Features::default());
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
