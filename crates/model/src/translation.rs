//! Cached translations, page-table entries and values, numbered as they turn up.
//!
//! A state of the machine is plain bytes, so everything in it has a small number. Which translations
//! and values a program brings forth is not known before; the tables here number them in the order of
//! their first appearance, and only grow, so that many threads can read them.

use std::fmt;
use std::sync::{Mutex, OnceLock};

use lazytlb::{PageSize, PhysAddr, VirtAddr};

use crate::entry::MemoryType;
use crate::features::MOST_LEVELS;

/// A cached entry: of the TLB (level 0), or of a paging-structure cache.
///
/// An entry above level 0 also stands for a walk in flight, which holds a table's address just so
/// (H12a).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Translation {
    /// 0: translates a page. 1 and up: leads to a table whose entries are of the level below.
    pub level: u8,
    /// The level of the table that a page's entry was read in: 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB. It
    /// is one above `level` where that is not 0.
    pub read_in: u8,
    /// The first address that the entry translates.
    pub start: VirtAddr,
    /// The 4 KiB pieces of a large page that are gone, by their numbers in it (H6).
    pub without: [Option<u32>; MOST_PIECES_GONE],
    /// The frame of the page or of the table.
    pub frame: u8,
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
    pub pcid: u8,
    /// Made from what a freed frame held (H33).
    pub garbage: bool,
    /// The root of the space that it belongs to.
    pub root: u8,
    /// Which version of each page-table entry on the way was read, the root's first; 0 where none was. Two
    /// mappings that look alike, but were written by different stores, are told apart by it.
    pub read: [u8; MOST_LEVELS],
}

/// Pieces of a large page that an entry can be without; more that go are taken to stay.
pub const MOST_PIECES_GONE: usize = 2;

impl Translation {
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
            1 => large.covers(small.start),
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
        let shift = index_shift(self.read_in);
        addr.0 >> shift == self.start.0 >> shift
    }

    /// Returns the number, in the large page, of the 4 KiB piece that an address lies in.
    fn piece(&self, addr: VirtAddr) -> u32 {
        let pieces = 1_u64 << (index_shift(self.read_in) - PageSize::Size4K.shift());
        ((addr.0 >> PageSize::Size4K.shift()) & (pieces - 1)) as u32
    }
}

impl fmt::Display for Translation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Translation {
            level,
            start,
            frame,
            ..
        } = self;
        let global = if self.global { "global " } else { "" };
        match level {
            0 if self.garbage => write!(f, "{global}TLB entry {:#x} made of garbage", start.0),
            0 => write!(f, "{global}TLB entry {:#x} → frame {frame}", start.0),
            _ => write!(
                f,
                "paging-structure-cache entry {:#x} → table in frame {frame}",
                start.0
            ),
        }
    }
}

/// Returns the lowest address bit that selects an entry in a table of a level; level 1 holds the
/// entries of 4 KiB pages.
pub(crate) fn index_shift(level: u8) -> u32 {
    PageSize::Size4K.shift() + 9 * (u32::from(level) - 1)
}

/// Returns the index that an address selects in a table of a level.
pub(crate) fn index_of(addr: VirtAddr, level: u8) -> u16 {
    ((addr.0 >> index_shift(level)) & 511) as u16
}

/// Returns a frame's number.
pub(crate) fn frame_number(frame: PhysAddr) -> u64 {
    frame.0 >> 12
}

/// A program brought forth more than the model has numbers for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Of what there are too many.
    pub what: &'static str,
    /// How many fit.
    pub most: usize,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the program uses more than {} {}: the model has no room",
            self.most, self.what
        )
    }
}

impl std::error::Error for Limit {}

/// Numbers things by their first appearance: reads need no lock.
#[derive(Debug)]
pub(crate) struct Numbering<T> {
    slots: Box<[OnceLock<T>]>,
    inserting: Mutex<()>,
    what: &'static str,
}

impl<T: Copy + PartialEq> Numbering<T> {
    pub(crate) fn new(what: &'static str, most: usize) -> Self {
        Numbering {
            slots: (0..most).map(|_| OnceLock::new()).collect(),
            inserting: Mutex::new(()),
            what,
        }
    }

    /// Returns the thing with this number.
    pub(crate) fn get(&self, number: usize) -> T {
        *self.slots[number]
            .get()
            .expect("numbers are given out together with their things")
    }

    /// Returns all things so far, in the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, T)> + '_ {
        self.slots
            .iter()
            .map_while(|slot| slot.get().copied())
            .enumerate()
    }

    /// Returns the number of a thing, a new one if need be.
    pub(crate) fn number(&self, thing: T) -> Result<usize, Limit> {
        let find = || {
            self.iter()
                .find(|&(_, known)| known == thing)
                .map(|(number, _)| number)
        };
        if let Some(number) = find() {
            return Ok(number);
        }
        let _inserting = self
            .inserting
            .lock()
            .expect("no holder of this lock panics");
        if let Some(number) = find() {
            return Ok(number);
        }
        let number = self.iter().count();
        let Some(slot) = self.slots.get(number) else {
            return Err(Limit {
                what: self.what,
                most: self.slots.len(),
            });
        };
        slot.get_or_init(|| thing);
        Ok(number)
    }
}

/// 64-bit values in a byte: small ones stand for themselves, others are numbered.
#[derive(Debug)]
pub(crate) struct Values {
    large: Numbering<u64>,
}

/// Codes from here on are numbers of large values.
const FIRST_LARGE: u8 = 160;

impl Values {
    pub(crate) fn new() -> Self {
        Values {
            large: Numbering::new("distinct large values", 96),
        }
    }

    pub(crate) fn encode(&self, value: u64) -> Result<u8, Limit> {
        if value < u64::from(FIRST_LARGE) {
            return Ok(value as u8);
        }
        Ok(FIRST_LARGE + self.large.number(value)? as u8)
    }

    pub(crate) fn decode(&self, code: u8) -> u64 {
        match code.checked_sub(FIRST_LARGE) {
            None => u64::from(code),
            Some(number) => self.large.get(usize::from(number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_their_code() {
        let values = Values::new();
        for value in [0, 1, 159, 160, 161, u64::MAX, 0x3003, 160] {
            let code = values.encode(value).unwrap();
            assert_eq!(values.decode(code), value);
        }
    }

    #[test]
    fn too_many_large_values_are_a_limit_and_not_a_panic() {
        let values = Values::new();
        let first_refused = (1000..2000).position(|value| values.encode(value).is_err());
        assert_eq!(first_refused, Some(96));
    }

    #[test]
    fn an_entry_covers_what_its_level_spans() {
        let table = Translation {
            level: 1,
            read_in: 2,
            start: VirtAddr(0x20_0000),
            without: [None; MOST_PIECES_GONE],
            frame: 3,
            writable: true,
            user: true,
            executable: true,
            dirty: true,
            memory_type: MemoryType::WriteBack,
            global: false,
            pcid: 0,
            garbage: false,
            root: 1,
            read: [1, 0, 0, 0, 0],
        };
        assert!(table.covers(VirtAddr(0x20_0000)) && table.covers(VirtAddr(0x3f_ffff)));
        assert!(!table.covers(VirtAddr(0x40_0000)) && !table.covers(VirtAddr(0x1f_f000)));
        let page = Translation {
            level: 0,
            read_in: 1,
            ..table
        };
        assert!(page.covers(VirtAddr(0x20_0fff)) && !page.covers(VirtAddr(0x20_1000)));
        let large = Translation { level: 0, ..table };
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
