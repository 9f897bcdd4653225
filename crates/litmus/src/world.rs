//! What a test's names stand for on the machine: cells, pages, tables, address spaces.
//!
//! Every name is looked up here before the search, and a name that nothing has is an error with its place.

use std::collections::{BTreeMap, BTreeSet};

use lazytlb::{Entry, PhysAddr, VirtAddr};
use lazytlb_litmus_syntax::{
    Caching, EntryName, Field, Frame, Level, Place, Position, SyntaxError, TableIndex, Value, Width,
};
use lazytlb_model::AtomicCell;
use lazytlb_model::entry::bits;

use crate::entry_bits;
use crate::page_tables::{FIRST_SPACE, PageTables, Slot, index_of};

/// Where the addresses of page-table entries begin, for registers that hold them.
const ENTRY_ADDRESSES: u64 = 0x7000_0000_0000;

/// The bit of a value for CR3 by which the load invalidates nothing.
pub(crate) const KEEP_BIT: u32 = 63;

/// A variable: its cell, and where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variable {
    pub(crate) cell: AtomicCell,
    pub(crate) address: VirtAddr,
    pub(crate) width: Width,
    /// The page's frame; none in a test without translation.
    pub(crate) frame: Option<PhysAddr>,
}

/// A spare frame and the cell at its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpareFrame {
    pub(crate) frame: PhysAddr,
    pub(crate) cell: AtomicCell,
}

/// What a memory operand names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// A cell, as it is in memory.
    Cell(AtomicCell),
    /// A cell by its virtual address.
    Virtual(VirtAddr),
    /// A page-table entry.
    Entry(Slot),
}

/// Everything that a test names.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// Whether variables are reached through page tables.
    pub(crate) is_translated: bool,
    pub(crate) variables: BTreeMap<String, Variable>,
    pub(crate) spare_frames: BTreeMap<String, SpareFrame>,
    pub(crate) spare_tables: BTreeMap<String, PhysAddr>,
    pub(crate) page_tables: PageTables,
    /// The entries that have addresses, in the order of these.
    pub(crate) addressed: BTreeSet<Slot>,
}

impl World {
    /// Finds a variable.
    pub(crate) fn variable(&self, name: &str, at: Position) -> Result<Variable, SyntaxError> {
        self.variables.get(name).copied().ok_or_else(|| {
            let (found, expected) = (format!("`{name}`"), "a variable of this test");
            let advice = "name it in the init section or in an instruction";
            SyntaxError::new(at, found, expected, advice)
        })
    }

    /// Finds the cell at the start of a variable's or a spare frame's page, and how wide it is.
    pub(crate) fn cell(
        &self,
        name: &str,
        at: Position,
    ) -> Result<(AtomicCell, Width), SyntaxError> {
        if let Some(spare) = self.spare_frames.get(name) {
            return Ok((spare.cell, Width::Quad));
        }
        let variable = self.variable(name, at)?;
        Ok((variable.cell, variable.width))
    }

    /// Finds what a memory operand by name stands for.
    pub(crate) fn target(&self, place: &Place, at: Position) -> Result<Target, SyntaxError> {
        match place {
            Place::Variable(name) => {
                let variable = self.variable(name, at)?;
                Ok(match self.is_translated {
                    true => Target::Virtual(variable.address),
                    false => Target::Cell(variable.cell),
                })
            }
            Place::Frame(name) => Ok(Target::Cell(self.cell(name, at)?.0)),
            Place::Entry(name) => Ok(Target::Entry(self.entry(name, at)?)),
            Place::Slot { table, index } => Ok(Target::Entry(self.spare_entry(table, index, at)?)),
        }
    }

    /// Finds the entry of a spare table.
    pub(crate) fn spare_entry(
        &self,
        table: &str,
        index: &TableIndex,
        at: Position,
    ) -> Result<Slot, SyntaxError> {
        let table = self.spare_table(table, format_args!("`{table}[`"), at)?;
        let index = match index {
            TableIndex::Number(index) => *index,
            TableIndex::Variable(name) => index_of(self.variable(name, at)?.address, Level::Pte),
        };
        Ok(Slot { table, index })
    }

    fn spare_table(
        &self,
        name: &str,
        written: impl std::fmt::Display,
        at: Position,
    ) -> Result<PhysAddr, SyntaxError> {
        self.spare_tables.get(name).copied().ok_or_else(|| {
            let advice = "declare it in the init section: `table T;`";
            SyntaxError::new(at, written, "a spare table", advice)
        })
    }

    /// Finds a page-table entry.
    pub(crate) fn entry(&self, name: &EntryName, at: Position) -> Result<Slot, SyntaxError> {
        if name.level > self.page_tables.top() {
            let expected = "an entry of four-level paging";
            let advice = "ask for five levels: a line `Paging=5` before the init section";
            return Err(SyntaxError::new(at, "`PML5E`", expected, advice));
        }
        let address = self.variable(&name.variable, at)?.address;
        let space = name.space.as_deref().unwrap_or(FIRST_SPACE);
        self.root(space, at)?;
        let slot = self.page_tables.slot(space, name.level, address);
        slot.ok_or_else(|| {
            let found = format!("an entry for `{}` in `{space}`", name.variable);
            let expected = "a table that the test has";
            let advice = "add a line `Paging=4` to make this a test of translation";
            SyntaxError::new(at, found, expected, advice)
        })
    }

    /// Finds the root of a space.
    pub(crate) fn root(&self, space: &str, at: Position) -> Result<PhysAddr, SyntaxError> {
        self.page_tables.root(space).ok_or_else(|| {
            let (found, expected) = (format!("`{space}`"), "an address space of this test");
            let advice =
                "the first space is A; map something in another: `[PTE(x,B)] = (oa:PA(x))`";
            SyntaxError::new(at, found, expected, advice)
        })
    }

    /// Says whether a frame is a space's root.
    pub(crate) fn is_root(&self, frame: PhysAddr) -> bool {
        self.page_tables.roots().any(|root| root == frame)
    }

    /// Finds the frame that a name stands for.
    pub(crate) fn frame(&self, frame: &Frame, at: Position) -> Result<PhysAddr, SyntaxError> {
        match frame {
            Frame::Of(name) => {
                if let Some(spare) = self.spare_frames.get(name) {
                    return Ok(spare.frame);
                }
                let frame = self.variable(name, at)?.frame;
                frame.ok_or_else(|| {
                    let (expected, advice) = (
                        "a test with page tables",
                        "add a line `Paging=4` to make this a test of translation",
                    );
                    SyntaxError::new(at, "a frame", expected, advice)
                })
            }
            Frame::Holding(entry) => Ok(self.entry(entry, at)?.table),
            Frame::Root(space) => self.root(space, at),
            Frame::Table(name) => self.spare_table(name, format_args!("`{name}`"), at),
        }
    }

    /// Returns a value as 64 bits.
    pub(crate) fn number(&self, value: &Value, at: Position) -> Result<u64, SyntaxError> {
        match value {
            Value::Number(number) => Ok(*number as u64),
            Value::Address(name) => Ok(self.variable(name, at)?.address.0),
            Value::EntryAddress(name) => self.entry_address(self.entry(name, at)?, at),
            Value::Frame(frame) => Ok(self.frame(frame, at)?.0),
            Value::Entry(literal) => {
                let frame = literal.oa.as_ref().map(|frame| self.frame(frame, at));
                let frame = frame.transpose()?.unwrap_or(PhysAddr(0));
                Ok(entry_bits::entry(literal, frame).0)
            }
            Value::Cr3(cr3) => {
                let root = self.root(&cr3.space, at)?.0;
                let keep = u64::from(cr3.keep) << KEEP_BIT;
                Ok(root | u64::from(cr3.pcid.unwrap_or(0)) | keep)
            }
        }
    }

    fn entry_address(&self, slot: Slot, at: Position) -> Result<u64, SyntaxError> {
        let index = self.addressed.iter().position(|known| *known == slot);
        let index = index.ok_or_else(|| {
            let (found, expected) = ("the address of an entry", "an entry that has an address");
            let advice = "name the entry itself";
            SyntaxError::new(at, found, expected, advice)
        })?;
        Ok(ENTRY_ADDRESSES + 8 * index as u64)
    }

    /// Returns what an address in a register points to; `None` if it is nobody's.
    pub(crate) fn at_address(&self, address: VirtAddr) -> Option<Target> {
        if address.0 >= ENTRY_ADDRESSES {
            let index = usize::try_from((address.0 - ENTRY_ADDRESSES) / 8).ok()?;
            return self.addressed.iter().nth(index).copied().map(Target::Entry);
        }
        if self.is_translated {
            // A page has one word, at its start.
            return (address.0 & 0xff8 == 0).then_some(Target::Virtual(address));
        }
        let start = VirtAddr(address.0 & !7);
        let mut variables = self.variables.values();
        let variable = variables.find(|variable| variable.address == start)?;
        Some(Target::Cell(variable.cell))
    }

    /// Tells an address by its name, where a value is one, and other values as signed numbers of a width.
    pub(crate) fn told_number(&self, value: u64, width: Width) -> String {
        let mut variables = self.variables.iter();
        match variables.find(|(_, variable)| variable.address.0 == value) {
            Some((name, _)) if value != 0 => name.clone(),
            _ => {
                let unused = 64 - 8 * width.bytes();
                ((value << unused).cast_signed() >> unused).to_string()
            }
        }
    }

    /// Tells an entry with the frame's name and the fields that are not as usual.
    pub(crate) fn told_entry(&self, value: u64) -> String {
        let entry = Entry(value);
        let frame = entry.frame();
        if value & bits::PRESENT == 0 && frame == PhysAddr(0) {
            let set = entry_bits::set_flags(entry);
            let set: String = set.map(|field| format!(", {}:1", field.name())).collect();
            return format!("(valid:0{set})");
        }
        let mut told = format!("(oa:{}", self.told_frame(frame));
        for (field, is_set) in entry_bits::unusual_flags(entry) {
            told.push_str(&format!(", {}:{}", field.name(), u8::from(is_set)));
        }
        let usual = Caching::WriteBack;
        let caching = Caching::ALL
            .into_iter()
            .find(|caching| value & entry_bits::mask(Field::Type) == entry_bits::caching(*caching));
        match caching {
            Some(caching) if caching == usual => {}
            Some(caching) => told.push_str(&format!(", type:{}", caching.name())),
            None => told.push_str(", type:?"),
        }
        told.push(')');
        told
    }

    fn told_frame(&self, frame: PhysAddr) -> String {
        let pages = self.variables.iter();
        let pages = pages.filter_map(|(name, variable)| Some((name, variable.frame?)));
        let spare = self.spare_frames.iter();
        let mut pages = pages.chain(spare.map(|(name, spare)| (name, spare.frame)));
        let mut tables = self.spare_tables.iter();
        if let Some((name, _)) = pages.find(|(_, known)| *known == frame) {
            return format!("PA({name})");
        }
        match tables.find(|(_, table)| **table == frame) {
            Some((name, _)) => name.clone(),
            None => format!("{:#x}", frame.0),
        }
    }
}
