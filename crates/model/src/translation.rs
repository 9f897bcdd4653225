//! Cached translations: entries of the TLB and of the paging-structure caches.

use std::fmt;

use lazytlb::{PageSize, VirtAddr};

use crate::entry::MemoryType;
use crate::index::{Frame, Level, PcidTag};
use crate::limit::MOST_LEVELS;
pub use crate::limit::{Limit, MOST_PIECES_GONE};
use crate::version::Version;

/// A cached entry: of the TLB, where it translates a page, or of a paging-structure cache, where it leads to
/// a table.
///
/// An entry that leads to a table also stands for a walk in flight, which holds a table's address just so
/// (H12a).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Translation {
    /// The level of the table that the entry leads to; `None` if it translates a page.
    pub leads_to: Option<Level>,
    /// The level of the table that the entry was read in: for a page's, 1 means 4 KiB, 2 means 2 MiB, 3
    /// means 1 GiB. It is one above `leads_to`, if that is a level.
    pub read_in: Level,
    /// The first address that the entry translates.
    pub start: VirtAddr,
    /// The 4 KiB pieces of a large page that are gone, by their numbers in it (H6).
    pub without: [Option<Piece>; MOST_PIECES_GONE],
    /// The frame of the page or of the table.
    pub frame: Frame,
    /// Whether every entry on the way allowed writing (H9).
    pub writable: bool,
    /// Whether every entry on the way allowed user mode.
    pub user: bool,
    /// Whether every entry on the way allowed instructions to be fetched.
    pub executable: bool,
    /// Whether a store may go through a page's entry without a walk that sets D.
    pub dirty: bool,
    /// How a page's memory is cached.
    pub memory_type: MemoryType,
    /// Usable under every PCID (H8).
    pub global: bool,
    /// The PCID that it is tagged with (H2).
    pub pcid: PcidTag,
    /// Made from what a freed frame held (H33).
    pub garbage: bool,
    /// The root of the space that it belongs to.
    pub root: Frame,
    /// The youngest of this CPU's own stores that the walk to a table has seen while it waited in the store
    /// buffer; [`Version::NONE`] once it has drained. A walk that goes on from here sees it, too (H25).
    pub seen: Version,
    /// Leads to a table that was freed since: to begin a walk here is a walk of a freed table, also once the
    /// frame is a table again.
    pub dead: bool,
    /// Which version of each page-table entry on the way was read, the root's first; [`Version::NONE`]
    /// below the last. Two mappings that look alike, but were written by different stores, are told apart by
    /// it.
    pub read: [Version; MOST_LEVELS],
}

/// A 4 KiB piece of a large page, by its number in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Piece(u32);

impl Translation {
    /// Says whether the entry translates a page.
    #[inline]
    pub fn is_page(&self) -> bool {
        self.leads_to.is_none()
    }

    /// Says whether the entry leads to a table that lies in a frame.
    #[inline]
    pub(crate) fn leads_to_table_in(&self, frame: Frame) -> bool {
        !self.is_page() && self.frame == frame
    }

    /// Stands for a walk in flight that has read nothing but CR3: it holds the root's address (H12a).
    pub(crate) fn held_root(root: Frame, level: Level, pcid: PcidTag) -> Translation {
        Translation {
            leads_to: Some(level),
            read_in: level,
            start: VirtAddr(0),
            without: [None; MOST_PIECES_GONE],
            frame: root,
            writable: true,
            user: true,
            executable: true,
            dirty: true,
            memory_type: MemoryType::WriteBack,
            global: false,
            pcid,
            garbage: false,
            root,
            seen: Version::NONE,
            dead: false,
            read: [Version::NONE; MOST_LEVELS],
        }
    }

    /// Says whether it is a root that a walk in flight holds, and was read in no table.
    pub(crate) fn is_held_root(&self) -> bool {
        self.leads_to == Some(self.read_in)
    }

    /// Says whether the entry translates, or leads to the translation of, an address.
    pub fn covers(&self, addr: VirtAddr) -> bool {
        self.spans(addr) && !self.without.contains(&Some(self.piece(addr)))
    }

    /// Says whether the entry translates any address that another one does.
    pub(crate) fn overlaps(&self, other: &Translation) -> bool {
        let (large, small) = match self.read_in >= other.read_in {
            true => (self, other),
            false => (other, self),
        };
        match small.read_in {
            Level::LOWEST => large.covers(small.start),
            _ => large.spans(small.start),
        }
    }

    /// Returns the entry without the 4 KiB piece that an address lies in.
    pub(crate) fn without_piece(mut self, addr: VirtAddr) -> Translation {
        let piece = self.piece(addr);
        if let Some(free) = self.without.iter_mut().find(|gone| gone.is_none()) {
            *free = Some(piece);
            self.without.sort_unstable();
            self.without.reverse();
        }
        self
    }

    /// Says whether an address lies in what the entry was made for, gone pieces included.
    pub(crate) fn spans(&self, addr: VirtAddr) -> bool {
        let shift = self.read_in.index_shift();
        addr.0 >> shift == self.start.0 >> shift
    }

    /// Returns the number, in the large page, of the 4 KiB piece that an address lies in.
    fn piece(&self, addr: VirtAddr) -> Piece {
        let pieces = 1_u64 << (self.read_in.index_shift() - PageSize::Size4K.shift());
        Piece(((addr.0 >> PageSize::Size4K.shift()) & (pieces - 1)) as u32)
    }
}

impl fmt::Display for Translation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Translation {
            leads_to,
            start,
            frame,
            ..
        } = self;
        let global = if self.global { "global " } else { "" };
        match leads_to {
            None if self.garbage => write!(f, "{global}TLB entry {:#x} made of garbage", start.0),
            None => write!(f, "{global}TLB entry {:#x} → frame {frame}", start.0),
            Some(_) if self.is_held_root() => write!(f, "root in frame {frame}"),
            Some(_) => write!(
                f,
                "paging-structure-cache entry {:#x} → table in frame {frame}",
                start.0
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_covers_what_its_level_spans() {
        let table = Translation {
            leads_to: Some(Level::LOWEST),
            read_in: Level::from(2),
            start: VirtAddr(0x20_0000),
            without: [None; MOST_PIECES_GONE],
            frame: Frame::from(3),
            writable: true,
            user: true,
            executable: true,
            dirty: true,
            memory_type: MemoryType::WriteBack,
            global: false,
            pcid: PcidTag::ZERO,
            garbage: false,
            root: Frame::from(1),
            seen: Version::NONE,
            dead: false,
            read: [Version::NONE; MOST_LEVELS],
        };
        assert!(table.covers(VirtAddr(0x20_0000)) && table.covers(VirtAddr(0x3f_ffff)));
        assert!(!table.covers(VirtAddr(0x40_0000)) && !table.covers(VirtAddr(0x1f_f000)));
        let page = Translation {
            leads_to: None,
            read_in: Level::LOWEST,
            ..table
        };
        assert!(page.covers(VirtAddr(0x20_0fff)) && !page.covers(VirtAddr(0x20_1000)));
        let large = Translation {
            leads_to: None,
            ..table
        };
        assert!(large.overlaps(&page) && page.overlaps(&large));
        let pierced = large.without_piece(VirtAddr(0x20_1fff));
        assert!(pierced.covers(VirtAddr(0x20_0000)) && !pierced.covers(VirtAddr(0x20_1000)));
        assert!(pierced.overlaps(&page) && pierced.overlaps(&large));
        let twice = pierced.without_piece(VirtAddr(0x20_0000));
        assert!(!twice.overlaps(&page) && twice.covers(VirtAddr(0x20_2000)));
        assert_eq!(
            twice,
            large
                .without_piece(VirtAddr(0x20_0000))
                .without_piece(VirtAddr(0x20_1000))
        );
        assert_eq!(twice.without_piece(VirtAddr(0x20_2000)), twice, "no room");
    }
}
