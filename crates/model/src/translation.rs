//! Cached translations: entries of the TLB and of the paging-structure caches.

use std::fmt;

use lazytlb::{PageSize, PhysAddr, VirtAddr};

use crate::entry::MemoryType;
use crate::extent::{Extent, StaleParts};
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
    /// The 4 KiB pieces of a large page that are gone (H6): stretches of them, lowest first.
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
    /// The table that each of those lay in, the root's first, where versions are renumbered; frame 0 elsewhere.
    pub path: [Frame; MOST_LEVELS],
    /// What of it must not be used any more: parts of a large page, or of what an upper level leads to, that a
    /// returned flush covers, or whose frames were freed. An entry that must not be used at all is marked by
    /// the set that it is in.
    pub stale: StaleParts,
}

/// What a stale extent makes of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Staleness {
    /// None of it lies there.
    Untouched,
    /// All of it.
    Whole,
    /// A part: the entry is this one from now on.
    Part(Translation),
}

impl Staleness {
    /// Adds a part of an entry that this is said of.
    pub(crate) fn with(self, entry: &Translation, part: Extent) -> Result<Staleness, Limit> {
        match self {
            Staleness::Untouched => entry.made_stale(part),
            Staleness::Whole => Ok(self),
            Staleness::Part(entry) => match entry.made_stale(part)? {
                Staleness::Untouched => Ok(self),
                more => Ok(more),
            },
        }
    }
}

/// A piece of a large page: 4 KiB, or some that follow each other. Numbers count them from the page's start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Piece {
    first: u32,
    last: u32,
}

impl Piece {
    fn contains(self, other: Piece) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Returns both as one, if nothing lies between them.
    fn joined(self, other: Piece) -> Option<Piece> {
        let apart = |one: Piece, other: Piece| one.last + 1 < other.first;
        let is_one = !apart(self, other) && !apart(other, self);
        is_one.then(|| Piece {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        })
    }
}

impl Translation {
    /// The path of what was read in no table.
    pub(crate) const NO_PATH: [Frame; MOST_LEVELS] = [Frame::ZERO; MOST_LEVELS];

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
            path: Translation::NO_PATH,
            stale: StaleParts::NONE,
        }
    }

    /// Says whether it is a root that a walk in flight holds, and was read in no table.
    pub(crate) fn is_held_root(&self) -> bool {
        self.leads_to == Some(self.read_in)
    }

    /// Says whether the entry translates, or leads to the translation of, an address.
    pub fn covers(&self, addr: VirtAddr) -> bool {
        let mut gone = self.without.iter().flatten();
        self.spans(addr) && !gone.any(|gone| gone.contains(self.piece(addr)))
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

    /// Returns the addresses that the entry was made for, gone pieces included.
    pub(crate) fn extent(&self) -> Extent {
        Extent::block(self.start, self.read_in.index_shift())
    }

    /// Says what becomes of the entry if it must not be used at these addresses any more.
    ///
    /// # Errors
    /// If it has too many stale parts.
    pub(crate) fn made_stale(&self, at: Extent) -> Result<Staleness, Limit> {
        let all = self.extent();
        let Some(part) = all.common(at) else {
            return Ok(Staleness::Untouched);
        };
        if part.has_only(self.pieces_gone()) {
            return Ok(Staleness::Untouched);
        }
        let stale = self.stale.with(part)?;
        if stale.iter().any(|part| part == all) {
            return Ok(Staleness::Whole);
        }
        Ok(Staleness::Part(Translation { stale, ..*self }))
    }

    /// Lists the addresses of the pieces that are gone.
    fn pieces_gone(&self) -> impl Iterator<Item = VirtAddr> + Clone {
        let shift = self.read_in.index_shift();
        let start = self.start.0 >> shift << shift;
        let gone = self.without.into_iter().flatten();
        let numbers = gone.flat_map(|piece| piece.first..=piece.last);
        numbers.map(move |number| VirtAddr(start + (u64::from(number) << PageSize::Size4K.shift())))
    }

    /// Says whether a promise that covers this entry covers another: both were read from the same stores to the
    /// page tables. They may differ in their PCIDs, in what is gone, stale or freed of them, and in D, which hardware
    /// sets: what covers an entry without D covers it with D, too.
    pub(crate) fn stands_for(&self, other: &Translation) -> bool {
        self.to_promises() == other.to_promises() && (other.dirty || !self.dirty || !self.is_page())
    }

    /// Returns the entry without what promises do not look at.
    pub(crate) fn to_promises(self) -> Translation {
        let shift = self.read_in.index_shift();
        Translation {
            start: VirtAddr(self.start.0 >> shift << shift),
            without: [None; MOST_PIECES_GONE],
            dirty: false,
            pcid: PcidTag::ZERO,
            global: false,
            seen: Version::NONE,
            dead: false,
            stale: StaleParts::NONE,
            ..self
        }
    }

    /// Returns the entry as a store uses it at one address: of a large page, `start` says at which page.
    pub(crate) fn used_at(&self, addr: VirtAddr) -> Translation {
        let page = PageSize::Size4K.shift();
        Translation {
            start: VirtAddr(addr.0 >> page << page),
            ..*self
        }
    }

    /// Returns the frame that a page's entry leads to at an address, if the model has a number for it.
    pub(crate) fn frame_at(&self, addr: VirtAddr) -> Option<Frame> {
        let piece = self.piece(addr);
        let frame = self.frame.addr().0 + (u64::from(piece.first) << PageSize::Size4K.shift());
        Frame::at(PhysAddr(frame))
    }

    /// Says at which addresses a page's entry leads to a frame, if it does.
    pub(crate) fn addresses_of(&self, frame: Frame) -> Option<Extent> {
        let pages = 1 << (self.read_in.index_shift() - PageSize::Size4K.shift());
        let piece = frame.index().checked_sub(self.frame.index())?;
        if !self.is_page() || piece >= pages {
            return None;
        }
        let shift = self.read_in.index_shift();
        let start = self.start.0 >> shift << shift;
        let addr = start + ((piece as u64) << PageSize::Size4K.shift());
        Some(Extent::block(VirtAddr(addr), PageSize::Size4K.shift()))
    }

    /// Says whether two pages' entries lead to a frame in common.
    pub(crate) fn shares_frames_with(&self, other: &Translation) -> bool {
        let holds =
            |one: &Translation, other: &Translation| one.addresses_of(other.frame).is_some();
        self.is_page() && other.is_page() && (holds(self, other) || holds(other, self))
    }

    /// Returns the entry without the 4 KiB piece that an address lies in.
    ///
    /// # Errors
    /// If what is gone is more, in separate pieces, than an entry has room for.
    pub(crate) fn without_piece(&self, addr: VirtAddr) -> Result<Translation, Limit> {
        let mut piece = self.piece(addr);
        let mut gone = Vec::new();
        for other in self.without.into_iter().flatten() {
            match piece.joined(other) {
                Some(both) => piece = both,
                None => gone.push(other),
            }
        }
        gone.push(piece);
        gone.sort_unstable();
        Limit::check(
            "separate pieces gone of one cached large page",
            MOST_PIECES_GONE,
            gone.len(),
        )?;
        let mut without = [None; MOST_PIECES_GONE];
        for (piece, put) in gone.into_iter().zip(&mut without) {
            *put = Some(piece);
        }
        Ok(Translation { without, ..*self })
    }

    /// Says whether an address lies in what the entry was made for, gone pieces included.
    pub(crate) fn spans(&self, addr: VirtAddr) -> bool {
        let shift = self.read_in.index_shift();
        addr.0 >> shift == self.start.0 >> shift
    }

    /// Returns the 4 KiB piece of the large page that an address lies in.
    fn piece(&self, addr: VirtAddr) -> Piece {
        let pieces = 1_u64 << (self.read_in.index_shift() - PageSize::Size4K.shift());
        let number = ((addr.0 >> PageSize::Size4K.shift()) & (pieces - 1)) as u32;
        Piece {
            first: number,
            last: number,
        }
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
            path: Translation::NO_PATH,
            stale: StaleParts::NONE,
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
        let without =
            |entry: Translation, addr| entry.without_piece(VirtAddr(addr)).expect("there is room");
        let pierced = without(large, 0x20_1fff);
        assert!(pierced.covers(VirtAddr(0x20_0000)) && !pierced.covers(VirtAddr(0x20_1000)));
        assert!(pierced.overlaps(&page) && pierced.overlaps(&large));
        let twice = without(pierced, 0x20_0000);
        assert!(!twice.overlaps(&page) && twice.covers(VirtAddr(0x20_2000)));
        assert_eq!(twice, without(without(large, 0x20_0000), 0x20_1000));
        let thrice = without(twice, 0x20_2000);
        assert!(!thrice.covers(VirtAddr(0x20_2000)) && thrice.covers(VirtAddr(0x20_3000)));
        assert_eq!(thrice.pieces_gone().count(), 3);
        let apart = without(thrice, 0x20_8000);
        let limit = apart.without_piece(VirtAddr(0x20_5000)).unwrap_err();
        assert_eq!(limit.most, MOST_PIECES_GONE);
        assert!(
            apart.without_piece(VirtAddr(0x20_7000)).is_ok(),
            "it joins another"
        );
    }
}
