//! Frames, page tables and what each CPU may cache: the adversarial machine, by hand.

use std::hash::{Hash, Hasher};

/// A set of the two frames of the pool: bit 1 is frame 2, bit 2 is frame 3.
pub(crate) type Frames = u8;

const POOL: Frames = 0b110;
const LOADED_USER: u8 = 1;
/// From a table's bit to the bit of the leaf entries that were reached through it.
const LEAF: u32 = 2;
/// From a leaf's bit to its taint.
const TAINT: u32 = 2;
const LEAVES: u8 = POOL << LEAF;
const TAINTS: u8 = LEAVES << TAINT;

/// The kinds of frame that [`Memory::alloc`] hands out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FrameKind {
    Table,
    Page,
}

/// The frames, the one entry of each table that the scenario uses, and the CPUs' may-caches.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Memory {
    /// Frames that are live page tables.
    pub(crate) tables: Frames,
    /// Frames that are live pages.
    pub(crate) pages: Frames,
    /// The table that the user root's entry points to, if it is present.
    root_entry: Frames,
    /// The tables whose entry is present. It points to the other frame of the pool: a frame that
    /// holds itself does not occur, so a leaf is named by the table that it was reached through.
    filled: Frames,
    /// For each CPU: bit 0, CR3 holds the user root; bits 1–2, cached root entries by the table
    /// that they point to; bits 3–4, cached leaf entries by the table that they were reached
    /// through; bits 5–6, the taints of these leaves.
    caches: [u8; 3],
}

impl Hash for Memory {
    /// One word for the hasher: it pays by the call.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c] = self.caches;
        let fields = [
            self.tables,
            self.pages,
            self.root_entry,
            self.filled,
            a,
            b,
            c,
            0,
        ];
        state.write_u64(u64::from_le_bytes(fields));
    }
}

impl Memory {
    /// Takes the lowest free frame; a table's entry comes absent.
    pub(crate) fn alloc(&mut self, kind: FrameKind) {
        let free = POOL & !(self.tables | self.pages);
        let frame = free & free.wrapping_neg();
        assert!(frame != 0, "the scenario never needs a third frame");
        self.filled &= !frame;
        match kind {
            FrameKind::Table => self.tables |= frame,
            FrameKind::Page => self.pages |= frame,
        }
    }

    /// Frees the page; every cached entry for its frame is tainted.
    pub(crate) fn free_page(&mut self) {
        let through = POOL & !self.pages;
        for cache in &mut self.caches {
            *cache |= (*cache & (through << LEAF)) << TAINT;
        }
        self.pages = 0;
    }

    /// Frees the table: what it holds from now on is garbage.
    pub(crate) fn free_table(&mut self) {
        self.filled &= !self.tables;
        self.tables = 0;
    }

    /// Writes the table's entry: it points to the page, or is absent.
    pub(crate) fn write_table(&mut self, present: bool) {
        self.filled = if present { self.tables } else { 0 };
        self.close();
    }

    /// Writes the root's entry: it points to the table, or is absent.
    pub(crate) fn write_root(&mut self, present: bool) {
        self.root_entry = if present { self.tables } else { 0 };
        self.close();
    }

    /// MOV to CR3: all that is cached goes, then the closure starts from the new root.
    pub(crate) fn load_cr3(&mut self, cpu: usize, user: bool) {
        self.caches[cpu] = u8::from(user);
        self.close();
    }

    /// INVLPG of the one address: leaf and paging-structure entries go, and what memory still maps
    /// comes back at once.
    pub(crate) fn invlpg(&mut self, cpu: usize) {
        self.caches[cpu] &= LOADED_USER;
        self.close();
    }

    /// Taints every cached leaf that is no longer what memory maps: a flush has returned.
    pub(crate) fn taint(&mut self) {
        let mapped = self.root_entry & self.filled;
        for cache in &mut self.caches {
            *cache |= (*cache & LEAVES & !(mapped << LEAF)) << TAINT;
        }
    }

    /// Says whether a touch on this CPU could use a tainted entry.
    pub(crate) fn is_tainted(&self, cpu: usize) -> bool {
        self.caches[cpu] & TAINTS != 0
    }

    /// Says whether a walk on some CPU could start at a frame that is not a live table. What is
    /// reachable from a loaded root is cached already: the caches are closed.
    pub(crate) fn walks_a_dead_table(&self) -> bool {
        self.caches
            .iter()
            .any(|cache| cache & POOL & !self.tables != 0)
    }

    /// Adds to every cache what a speculative walk could now produce.
    fn close(&mut self) {
        for cache in &mut self.caches {
            *cache |= (*cache & LOADED_USER) * self.root_entry;
            *cache |= (*cache & self.filled) << LEAF;
        }
    }
}
