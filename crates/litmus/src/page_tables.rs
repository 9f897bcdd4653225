//! The page tables that a test starts with: its address spaces, the tables in them, and their entries.
//!
//! A table of level `PTE` covers 2 MiB: two variables in one such range share it. So a table is known by
//! its space, its level, and the bits of an address above what it covers.

use std::collections::BTreeMap;

use lazytlb::{Entry, PhysAddr, VirtAddr};
use lazytlb_check::Program;
use lazytlb_litmus_syntax::Level;
use lazytlb_model::entry::bits;

/// The address space that every thread starts in.
pub(crate) const FIRST_SPACE: &str = "A";

/// A page-table entry's place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Slot {
    /// The table's frame.
    pub(crate) table: PhysAddr,
    /// Which of its 512 entries.
    pub(crate) index: u16,
}

/// All address spaces of a test.
#[derive(Clone, Debug)]
pub(crate) struct PageTables {
    top: Level,
    roots: BTreeMap<String, PhysAddr>,
    tables: BTreeMap<(String, Level, u64), PhysAddr>,
    /// The entries that are not empty at the start.
    entries: BTreeMap<Slot, Entry>,
}

impl PageTables {
    /// Starts with the first space, empty. `top` are the entries of its root.
    pub(crate) fn new(top: Level, first_root: PhysAddr) -> PageTables {
        PageTables {
            top,
            roots: BTreeMap::from([(FIRST_SPACE.to_owned(), first_root)]),
            tables: BTreeMap::new(),
            entries: BTreeMap::new(),
        }
    }

    /// Returns the level of the root's entries.
    pub(crate) fn top(&self) -> Level {
        self.top
    }

    /// Makes a space, if it is not there.
    pub(crate) fn add_space(&mut self, space: &str, program: &mut Program) {
        if !self.roots.contains_key(space) {
            self.roots.insert(space.to_owned(), program.table());
        }
    }

    /// Returns a space's root.
    pub(crate) fn root(&self, space: &str) -> Option<PhysAddr> {
        self.roots.get(space).copied()
    }

    /// Lists the roots of all spaces.
    pub(crate) fn roots(&self) -> impl Iterator<Item = PhysAddr> {
        self.roots.values().copied()
    }

    /// Makes the tables on the way to an address, as far as they are not there, and hooks them in. In a
    /// space that is not there it makes nothing.
    pub(crate) fn reach(&mut self, space: &str, address: VirtAddr, program: &mut Program) {
        let Some(root) = self.root(space) else {
            return;
        };
        let mut above = (root, self.top);
        for level in Level::ALL.into_iter().rev() {
            if level >= self.top {
                continue;
            }
            let key = table_key(space, level, address);
            let table = *self.tables.entry(key).or_insert_with(|| program.table());
            let slot = Slot {
                table: above.0,
                index: index_of(address, above.1),
            };
            let hooked =
                Entry(table.0 | bits::PRESENT | bits::WRITABLE | bits::USER | bits::ACCESSED);
            self.entries.entry(slot).or_insert(hooked);
            above = (table, level);
        }
    }

    /// Returns where the entry of a level for an address lies; `None` if its table is not there.
    pub(crate) fn slot(&self, space: &str, level: Level, address: VirtAddr) -> Option<Slot> {
        let table = match level == self.top {
            true => self.root(space)?,
            false => *self.tables.get(&table_key(space, level, address))?,
        };
        let index = index_of(address, level);
        Some(Slot { table, index })
    }

    /// Sets an entry's value at the start.
    pub(crate) fn set(&mut self, slot: Slot, entry: Entry) {
        self.entries.insert(slot, entry);
    }

    /// Lists the entries that are not empty at the start.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Slot, Entry)> {
        self.entries.iter().map(|(slot, entry)| (*slot, *entry))
    }
}

/// Returns how many bits of an address select a byte in what an entry of this level covers.
pub(crate) fn span_bits(level: Level) -> u32 {
    match level {
        Level::Pte => 12,
        Level::Pde => 21,
        Level::Pdpte => 30,
        Level::Pml4e => 39,
        Level::Pml5e => 48,
    }
}

/// Returns the number of a level as the machine counts them, from 1.
pub(crate) fn number_of(level: Level) -> u8 {
    match level {
        Level::Pte => 1,
        Level::Pde => 2,
        Level::Pdpte => 3,
        Level::Pml4e => 4,
        Level::Pml5e => 5,
    }
}

/// Returns what a table is known by, other than a root.
fn table_key(space: &str, level: Level, address: VirtAddr) -> (String, Level, u64) {
    let above_what_it_covers = address.0 >> span_bits(level) >> 9;
    (space.to_owned(), level, above_what_it_covers)
}

/// Returns which entry of a table an address selects.
pub(crate) fn index_of(address: VirtAddr, level: Level) -> u16 {
    (address.0 >> span_bits(level) & 511) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_one_range_share_their_tables() {
        let mut program = Program::new("tables", 1);
        let mut tables = PageTables::new(Level::Pml4e, program.first_root());
        let (near, also, far) = (VirtAddr(0x1000), VirtAddr(0x2000), VirtAddr(0x20_0000));
        for address in [near, also, far] {
            tables.reach(FIRST_SPACE, address, &mut program);
        }
        let pte = |address| {
            tables
                .slot(FIRST_SPACE, Level::Pte, address)
                .expect("there")
        };
        assert_eq!(pte(near).table, pte(also).table);
        assert_ne!(pte(near).table, pte(far).table);
        assert_eq!(
            (pte(near).index, pte(also).index, pte(far).index),
            (1, 2, 0)
        );
        // PML4 to PDPT to PD, and from there to two tables.
        assert_eq!(tables.entries().count(), 4);
    }

    #[test]
    fn nothing_lies_in_a_space_that_is_not_there() {
        let mut program = Program::new("tables", 1);
        let mut tables = PageTables::new(Level::Pml4e, program.first_root());
        tables.reach("B", VirtAddr(0x1000), &mut program);
        assert_eq!(tables.slot("B", Level::Pml4e, VirtAddr(0x1000)), None);
        assert_eq!(tables.slot("A", Level::Pte, VirtAddr(0x1000)), None);
    }
}
