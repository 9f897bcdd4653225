//! The second trait, beside the seam: what a kernel's own code does around the protocol.
//!
//! Page-table entries, frames, and touching memory are not the protocol's business: it never calls
//! this trait. Programs for the checker do, and so does a kernel that wants its own mm code checked.

use crate::addr::{FlushRange, PhysAddr, VirtAddr};
use crate::hw::Hw;

/// A page-table entry as the CPU reads it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Entry(pub u64);

impl Entry {
    /// The entry that maps nothing.
    pub const ABSENT: Entry = Entry(0);
    const PRESENT: u64 = 1;
    const WRITABLE: u64 = 1 << 1;
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

    /// Makes a present, writable entry that points to a table's or a page's frame.
    pub const fn to(frame: PhysAddr) -> Entry {
        Entry((frame.0 & Self::ADDRESS) | Self::PRESENT | Self::WRITABLE)
    }

    /// Makes a present entry that forbids writing.
    pub const fn read_only(frame: PhysAddr) -> Entry {
        Entry((frame.0 & Self::ADDRESS) | Self::PRESENT)
    }

    /// Says whether the entry maps something (bit 0).
    pub const fn is_present(self) -> bool {
        self.0 & Self::PRESENT != 0
    }

    /// Says whether the entry allows writing (bit 1).
    pub const fn is_writable(self) -> bool {
        self.0 & Self::WRITABLE != 0
    }

    /// Returns the frame that a present entry points to.
    pub const fn frame(self) -> PhysAddr {
        PhysAddr(self.0 & Self::ADDRESS)
    }
}

/// What a frame is used for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FrameKind {
    /// A page table.
    Table,
    /// Ordinary memory that a page maps.
    Page,
}

/// How memory is touched.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// A load.
    Load,
    /// A store.
    Store,
}

/// Page tables, frames and user memory, as a kernel's own code uses them.
pub trait Memory: Hw {
    /// Reads entry `index` of the table in frame `table`.
    fn read_entry(&self, table: PhysAddr, index: u16) -> Entry;
    /// Writes entry `index` of the table in frame `table`: a plain store.
    fn write_entry(&self, table: PhysAddr, index: u16, entry: Entry);
    /// Takes a free frame; a table's comes with absent entries only.
    ///
    /// # Panics
    /// If no frame is free.
    fn alloc_frame(&self, kind: FrameKind) -> PhysAddr;
    /// Gives a frame back: from now on it holds garbage, and may be reused for anything.
    fn free_frame(&self, frame: PhysAddr);
    /// Touches a user address in the loaded space; a fault has no effect.
    fn touch(&self, addr: VirtAddr, access: Access);
    /// Says that all changes for a flush of `range`, in the space with this root, are written: what
    /// they removed must be out of use when [`Memory::flush_returned`] is called. A kernel needs no
    /// code here; a checker takes note.
    ///
    /// The short form of [`Promises::promise_begins`], for one space: the promise is known by the root.
    fn flush_begins(&self, root: PhysAddr, range: FlushRange) {
        let _ = (root, range);
    }
    /// Says that the flush in the space with this root has returned, this CPU's if it began one, else
    /// another's: from now on the caller relies on it. Where two are meant, [`Promises`] tells them apart.
    fn flush_returned(&self, root: PhysAddr) {
        let _ = root;
    }
}

/// The spaces that a promise about a flush speaks of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Spaces {
    /// All, those that are made later included: a page of the kernel's, under every root.
    All,
    /// Those with these roots.
    Roots([Option<PhysAddr>; Spaces::MOST]),
}

impl Spaces {
    /// Roots that one promise can name.
    pub const MOST: usize = 4;

    /// Names one space, by its root.
    pub const fn one(root: PhysAddr) -> Spaces {
        Spaces::Roots([Some(root), None, None, None])
    }

    /// Names several spaces, by their roots; `None` if they are more than [`Spaces::MOST`].
    pub fn several(roots: &[PhysAddr]) -> Option<Spaces> {
        let mut named = [None; Spaces::MOST];
        if roots.len() > named.len() {
            return None;
        }
        for (name, &root) in named.iter_mut().zip(roots) {
            *name = Some(root);
        }
        Some(Spaces::Roots(named))
    }

    /// Says whether the space with this root is meant.
    pub fn contain(self, root: PhysAddr) -> bool {
        match self {
            Spaces::All => true,
            Spaces::Roots(roots) => roots.contains(&Some(root)),
        }
    }
}

/// A promise that was begun: a word, which software may keep anywhere, and hand to another CPU. It is never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use = "a promise that nobody keeps is an error"]
pub struct Promise(pub u64);

/// What software relies on after a flush, told to whoever checks it.
///
/// Between the two calls lies a flush, however it is done: by this CPU or by others, at once or in a batch.
/// What [`Promises::promise_begins`] covers are the translations that the page tables do not grant any more, as
/// the CPU that begins it sees them: its own stores count, though they may still wait in its store buffer.
/// When the promise is kept, none of them may be used any more, by any CPU, at the addresses in its range.
///
/// Promises of one CPU add up: each has a number of its own. Each must be kept exactly once, by whichever CPU:
/// to keep one twice, or one that was never begun, or to leave one open when every CPU has come to rest, is an
/// error. A kernel needs no code here.
pub trait Promises: Memory {
    /// Begins a promise: all changes for a flush of `range` in these spaces are written.
    fn promise_begins(&self, spaces: Spaces, range: FlushRange) -> Promise {
        let _ = (spaces, range);
        Promise(1)
    }
    /// Says that a flush has returned: from now on the caller relies on what was promised.
    fn promise_kept(&self, promise: Promise) {
        let _ = promise;
    }
}
