//! Which page: its space, its region there, its place in the region.
//!
//! A space has 32 pages, eight in each of four gibibytes, so that a region has tables of its own. This file
//! and [`crate::evidence`] need no machine: a test on the host reads them too (`xtask/tests/evidence.rs`).

/// Where the pages begin; the next 512 GiB hold the program and the board.
pub const PAGES: u64 = 0x80_0000_0000;
/// Regions of a space.
pub const REGIONS: usize = 4;
/// Pages of a region.
pub const PAGES_IN_REGION: usize = 8;
/// Pages of a space.
pub const PLACES: usize = REGIONS * PAGES_IN_REGION;

/// A user space, by its place among all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpaceIndex(pub usize);

/// A gibibyte of a space's pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region(usize);

impl Region {
    /// Takes one by chance.
    pub fn by_chance(chance: u64) -> Region {
        Region(chance as usize % REGIONS)
    }

    /// Returns every region, lowest first.
    pub fn all() -> impl Iterator<Item = Region> {
        (0..REGIONS).map(Region)
    }

    /// Returns its number, from 0.
    pub fn index(self) -> usize {
        self.0
    }

    /// Returns its pages, lowest first.
    pub fn places(self) -> impl Iterator<Item = Place> {
        (0..PAGES_IN_REGION).map(move |index| Place {
            region: self,
            index,
        })
    }

    /// Returns the address of its first page.
    pub fn address(self) -> u64 {
        PAGES + ((self.0 as u64) << 30)
    }
}

/// A page's place in its space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    region: Region,
    index: usize,
}

impl Place {
    /// Takes one by chance.
    pub fn by_chance(chance: u64) -> Place {
        Place {
            region: Region::by_chance(chance),
            index: chance as usize / REGIONS % PAGES_IN_REGION,
        }
    }

    /// Returns the place with a number, if there is one.
    pub fn of_slot(slot: u64) -> Option<Place> {
        let slot = usize::try_from(slot).ok()?;
        (slot < PLACES).then_some(Place {
            region: Region(slot / PAGES_IN_REGION),
            index: slot % PAGES_IN_REGION,
        })
    }

    /// Returns the place whose page begins at an address, if there is one.
    pub fn of_address(addr: u64) -> Option<Place> {
        let offset = addr.checked_sub(PAGES)?;
        let (region, page) = (offset >> 30, (offset & ((1 << 30) - 1)) >> 12);
        let is_one = region < REGIONS as u64 && page < PAGES_IN_REGION as u64;
        is_one.then_some(Place {
            region: Region(region as usize),
            index: page as usize,
        })
    }

    /// Returns its number among all places: that of its word on the board.
    pub fn slot(self) -> usize {
        self.region.0 * PAGES_IN_REGION + self.index
    }

    /// Returns its region.
    pub fn region(self) -> Region {
        self.region
    }

    /// Returns its number in the region.
    pub fn index(self) -> usize {
        self.index
    }

    /// Returns the page's address.
    pub fn address(self) -> u64 {
        self.region.address() + ((self.index as u64) << 12)
    }
}

/// A page of all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageId {
    pub space: SpaceIndex,
    pub place: Place,
}
