//! What a test's names stand for on the machine: cells, pages, tables, address spaces.

use std::collections::{BTreeMap, BTreeSet};

use lazytlb::{Entry, PhysAddr, VirtAddr};
use lazytlb_check::Program;
use lazytlb_model::entry::bits;
use lazytlb_model::{AtomicCell, MemoryType as ModelMemoryType};

use crate::names::Names;
use crate::width;
use lazytlb_litmus_syntax::InitItem;
use lazytlb_litmus_syntax::LitmusTest;
use lazytlb_litmus_syntax::Location;
use lazytlb_litmus_syntax::Value;
use lazytlb_litmus_syntax::Width;
use lazytlb_litmus_syntax::{Caching, EntryLiteral};
use lazytlb_litmus_syntax::{EntryName, Frame, Level, Place, TableIndex};
use lazytlb_litmus_syntax::{Position, SyntaxError};

/// The address space that every thread starts in.
const FIRST_SPACE: &str = "A";
/// Where the addresses of page-table entries begin, for registers that hold them.
const ENTRY_ADDRESSES: u64 = 0x7000_0000_0000;

/// A variable: a word, and where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variable {
    pub(crate) cell: AtomicCell,
    pub(crate) address: u64,
    width: Width,
    /// The page's frame; none in a test without translation.
    frame: Option<PhysAddr>,
}

/// A page-table entry's place: its table, and the index.
pub(crate) type Slot = (PhysAddr, u16);

/// What a memory operand names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// A word, as it is in memory.
    Cell(AtomicCell),
    /// A word by its virtual address.
    Virtual(VirtAddr),
    /// A page-table entry.
    Entry(Slot),
}

/// Everything that a test names.
#[derive(Debug)]
pub(crate) struct World {
    /// Whether variables are reached through page tables.
    pub(crate) is_translated: bool,
    levels: u8,
    variables: BTreeMap<String, Variable>,
    frames: BTreeMap<String, (PhysAddr, AtomicCell)>,
    spare_tables: BTreeMap<String, PhysAddr>,
    roots: BTreeMap<String, PhysAddr>,
    /// Tables by space, level and the address's bits above.
    tables: BTreeMap<(String, u8, u64), PhysAddr>,
    entries: BTreeMap<Slot, Entry>,
    named_entries: BTreeSet<Slot>,
}

/// Makes an error about what a test means.
pub(crate) fn refuse(
    at: Position,
    found: impl std::fmt::Display,
    expected: &str,
    advice: &str,
) -> SyntaxError {
    SyntaxError::new(at, found, expected, advice)
}

impl World {
    /// Gives every name of a test its place in a program.
    pub(crate) fn new(test: &LitmusTest, program: &mut Program) -> Result<World, SyntaxError> {
        let names = Names::of(test);
        let levels = paging_levels(test)?;
        let mut world = World {
            is_translated: names.is_translated,
            levels: levels.unwrap_or(4),
            variables: BTreeMap::new(),
            frames: BTreeMap::new(),
            spare_tables: BTreeMap::new(),
            roots: BTreeMap::from([(FIRST_SPACE.to_owned(), program.first_root())]),
            tables: BTreeMap::new(),
            entries: BTreeMap::new(),
            named_entries: BTreeSet::new(),
        };
        let addresses = addresses(test, &names.variables, levels.unwrap_or(4))?;
        for (name, &address) in names.variables.iter().zip(&addresses) {
            let value = world.first_value(test, name, &names.variables, &addresses)?;
            let cell = program.atomic(name.clone(), value);
            let frame = names.is_translated.then(|| {
                if names.devices.contains(name) {
                    let frame = program.device();
                    program.give_word(frame, cell);
                    frame
                } else {
                    program.page_with_word(cell)
                }
            });
            let variable = Variable {
                cell,
                address,
                width: width::of_variable(test, name),
                frame,
            };
            world.variables.insert(name.clone(), variable);
        }
        if world.is_translated {
            world.build_tables(test, &names, program)?;
        }
        Ok(world)
    }

    /// Returns the value that init gives a variable; 0 if it gives none.
    fn first_value(
        &self,
        test: &LitmusTest,
        name: &str,
        variables: &[String],
        addresses: &[u64],
    ) -> Result<u64, SyntaxError> {
        let mut first = 0;
        for item in &test.init {
            let InitItem::Set {
                location: Location::Memory(place),
                value: Some(value),
                ..
            } = &item.value
            else {
                continue;
            };
            let is_it = match place {
                Place::Variable(variable) | Place::Frame(variable) => variable == name,
                Place::Entry(_) | Place::Slot { .. } => false,
            };
            if !is_it {
                continue;
            }
            first = match value {
                Value::Number(number) => *number as u64,
                Value::Address(of) => variables
                    .iter()
                    .position(|known| known == of)
                    .and_then(|index| addresses.get(index).copied())
                    .unwrap_or(0),
                _ => {
                    return Err(refuse(
                        item.position,
                        "an entry or a frame as the value of a variable",
                        "a number or a variable's address",
                        "entries belong into page tables: `[PTE(x)] = (oa:PA(y))`",
                    ));
                }
            };
        }
        Ok(first)
    }

    /// Makes the page tables: what init says, and for every variable in the first space what it leaves out.
    fn build_tables(
        &mut self,
        test: &LitmusTest,
        names: &Names,
        program: &mut Program,
    ) -> Result<(), SyntaxError> {
        for name in &names.frames {
            let cell = program.atomic(format!("PA({name})"), 0);
            let frame = program.page_with_word(cell);
            self.frames.insert(name.clone(), (frame, cell));
        }
        for name in &names.tables {
            self.spare_tables.insert(name.clone(), program.table());
        }
        for space in &names.spaces {
            if !self.roots.contains_key(space) {
                self.roots.insert(space.clone(), program.table());
            }
        }
        for name in &names.variables {
            self.chain(FIRST_SPACE, name, program);
            let Some(variable) = self.variables.get(name).copied() else {
                continue;
            };
            let Some(frame) = variable.frame else {
                continue;
            };
            let slot = self.slot_at(FIRST_SPACE, 1, variable.address);
            self.entries.insert(slot, Entry(frame.0 | LEAF_DEFAULTS));
        }
        for entry in &names.entries {
            let space = entry.space.as_deref().unwrap_or(FIRST_SPACE);
            self.chain(space, &entry.variable, program);
        }
        for item in &test.init {
            let InitItem::Set {
                location: Location::Memory(place @ (Place::Entry(_) | Place::Slot { .. })),
                value: Some(value),
                ..
            } = &item.value
            else {
                continue;
            };
            let slot = self.slot(place, item.position)?;
            let value = self.number(value, item.position)?;
            self.entries.insert(slot, Entry(value));
        }
        for (&(table, index), &entry) in &self.entries {
            program.first_entry(table, index, entry);
        }
        let named: Vec<Slot> = self.entries.keys().copied().collect();
        self.named_entries.extend(named);
        let features = program.features();
        features.levels = self.levels;
        features.tags = true;
        Ok(())
    }

    /// Makes the tables on the way to a variable in a space, as far as they are not there, and hooks them
    /// in.
    fn chain(&mut self, space: &str, variable: &str, program: &mut Program) {
        let Some(address) = self.variables.get(variable).map(|known| known.address) else {
            return;
        };
        for level in (1..self.levels).rev() {
            let key = (space.to_owned(), level, prefix(address, level));
            if self.tables.contains_key(&key) {
                continue;
            }
            let table = program.table();
            self.tables.insert(key, table);
            let above = self.slot_at(space, level + 1, address);
            let entry =
                Entry(table.0 | bits::PRESENT | bits::WRITABLE | bits::USER | bits::ACCESSED);
            self.entries.entry(above).or_insert(entry);
        }
    }

    /// Returns where the entry of a level for an address lies. The tables on the way must exist.
    fn slot_at(&self, space: &str, level: u8, address: u64) -> Slot {
        let table = if level == self.levels {
            self.roots.get(space).copied()
        } else {
            let key = (space.to_owned(), level, prefix(address, level));
            self.tables.get(&key).copied()
        };
        let index = (address >> (12 + 9 * (u32::from(level) - 1)) & 511) as u16;
        (table.unwrap_or(PhysAddr(0)), index)
    }

    /// Returns where a page-table entry lies.
    pub(crate) fn slot(&self, place: &Place, at: Position) -> Result<Slot, SyntaxError> {
        match place {
            Place::Entry(name) => self.slot_of(name, at),
            Place::Slot { table, index } => {
                let Some(&table) = self.spare_tables.get(table) else {
                    let found = format!("`{table}[`");
                    let advice = "declare it in the init section: `table T;`";
                    return Err(refuse(at, found, "a spare table", advice));
                };
                let index = match index {
                    TableIndex::Number(index) => *index,
                    TableIndex::Variable(name) => {
                        (self.variable(name, at)?.address >> 12 & 511) as u16
                    }
                };
                Ok((table, index))
            }
            Place::Variable(_) | Place::Frame(_) => Err(refuse(
                at,
                "a variable",
                "a page-table entry",
                "write `PTE(x)`, `PDE(x)`, …",
            )),
        }
    }

    fn slot_of(&self, name: &EntryName, at: Position) -> Result<Slot, SyntaxError> {
        let level = level_of(name.level);
        if level > self.levels {
            let advice = "ask for five levels: a line `Paging=5` before the init section";
            return Err(refuse(
                at,
                "`PML5E`",
                "an entry of four-level paging",
                advice,
            ));
        }
        let address = self.variable(&name.variable, at)?.address;
        let space = name.space.as_deref().unwrap_or(FIRST_SPACE);
        Ok(self.slot_at(space, level, address))
    }

    pub(crate) fn variable(&self, name: &str, at: Position) -> Result<Variable, SyntaxError> {
        self.variables.get(name).copied().ok_or_else(|| {
            let advice = "name it in the init section or in an instruction";
            refuse(at, format!("`{name}`"), "a variable of this test", advice)
        })
    }

    /// Returns what a memory operand by name stands for.
    pub(crate) fn target(&self, place: &Place, at: Position) -> Result<Target, SyntaxError> {
        match place {
            Place::Variable(name) => {
                let variable = self.variable(name, at)?;
                Ok(match self.is_translated {
                    true => Target::Virtual(VirtAddr(variable.address)),
                    false => Target::Cell(variable.cell),
                })
            }
            Place::Frame(name) => Ok(Target::Cell(self.word_of(name, at)?)),
            Place::Entry(_) | Place::Slot { .. } => Ok(Target::Entry(self.slot(place, at)?)),
        }
    }

    /// Returns what an address in a register points to.
    pub(crate) fn at_address(&self, address: u64) -> Option<Target> {
        if address >= ENTRY_ADDRESSES {
            let index = usize::try_from((address - ENTRY_ADDRESSES) / 8).ok()?;
            return self
                .named_entries
                .iter()
                .nth(index)
                .map(|&slot| Target::Entry(slot));
        }
        if self.is_translated {
            // A page has one word, at its start.
            return (address & 0xff8 == 0).then_some(Target::Virtual(VirtAddr(address)));
        }
        let mut variables = self.variables.values();
        let variable = variables.find(|variable| variable.address == address & !7)?;
        Some(Target::Cell(variable.cell))
    }

    /// Returns the word at the start of a frame.
    pub(crate) fn word_of(&self, name: &str, at: Position) -> Result<AtomicCell, SyntaxError> {
        match self.frames.get(name) {
            Some((_, cell)) => Ok(*cell),
            None => Ok(self.variable(name, at)?.cell),
        }
    }

    /// Returns how wide a variable is, or the word of a spare frame.
    pub(crate) fn width_of(&self, name: &str) -> Width {
        let variable = self.variables.get(name);
        variable.map_or(Width::Quad, |variable| variable.width)
    }

    /// Returns a space's root.
    pub(crate) fn root(&self, space: &str, at: Position) -> Result<PhysAddr, SyntaxError> {
        self.roots.get(space).copied().ok_or_else(|| {
            let advice =
                "the first space is A; map something in another: `[PTE(x,B)] = (oa:PA(x))`";
            refuse(
                at,
                format!("`{space}`"),
                "an address space of this test",
                advice,
            )
        })
    }

    /// Returns the frame that a name stands for.
    pub(crate) fn frame(&self, frame: &Frame, at: Position) -> Result<PhysAddr, SyntaxError> {
        match frame {
            Frame::Of(name) => {
                if let Some((frame, _)) = self.frames.get(name) {
                    return Ok(*frame);
                }
                let frame = self.variable(name, at)?.frame;
                frame.ok_or_else(|| {
                    let advice = "add a line `Paging=4` to make this a test of translation";
                    refuse(at, "a frame", "a test with page tables", advice)
                })
            }
            Frame::Holding(entry) => Ok(self.slot_of(entry, at)?.0),
            Frame::Root(space) => self.root(space, at),
            Frame::Table(name) => self.spare_tables.get(name).copied().ok_or_else(|| {
                let advice = "declare it in the init section: `table T;`";
                refuse(at, format!("`{name}`"), "a spare table", advice)
            }),
        }
    }

    /// Returns a value as 64 bits.
    pub(crate) fn number(&self, value: &Value, at: Position) -> Result<u64, SyntaxError> {
        match value {
            Value::Number(number) => Ok(*number as u64),
            Value::Address(name) => Ok(self.variable(name, at)?.address),
            Value::EntryAddress(name) => {
                let slot = self.slot_of(name, at)?;
                let index = self.named_entries.iter().position(|&known| known == slot);
                Ok(ENTRY_ADDRESSES + 8 * index.unwrap_or(0) as u64)
            }
            Value::Frame(frame) => Ok(self.frame(frame, at)?.0),
            Value::Entry(entry) => self.entry(entry, at),
        }
    }

    fn entry(&self, literal: &EntryLiteral, at: Position) -> Result<u64, SyntaxError> {
        let frame = match &literal.oa {
            Some(frame) => self.frame(frame, at)?.0,
            None => return Ok(0),
        };
        let caching = caching(literal.memory_type);
        let fields = [
            (literal.valid, bits::PRESENT),
            (literal.writable, bits::WRITABLE),
            (literal.user, bits::USER),
            (literal.accessed, bits::ACCESSED),
            (literal.dirty, bits::DIRTY),
            (literal.page_size, bits::LARGE),
            (literal.global, bits::GLOBAL),
            (literal.no_execute, bits::NO_EXECUTE),
        ];
        let set = fields.iter().filter(|(is_set, _)| *is_set);
        Ok(set.fold(frame | caching.bits(), |entry, (_, bit)| entry | bit))
    }

    /// Returns the number of entries that the tables may come to hold, with some to spare for what is read
    /// as one by mistake.
    pub(crate) fn entries_needed(&self, written: &BTreeSet<Slot>) -> usize {
        const SPARE: usize = 4;
        self.named_entries.union(written).count() + SPARE
    }

    /// Tells an address by its name, where a value is one, and other values as signed numbers of a width.
    pub(crate) fn told(&self, value: u64, width: Width) -> String {
        let named = self
            .variables
            .iter()
            .find(|(_, variable)| variable.address == value);
        match named {
            Some((name, _)) if value != 0 => name.clone(),
            _ => {
                let unused = 64 - 8 * width.bytes();
                ((value << unused).cast_signed() >> unused).to_string()
            }
        }
    }

    /// Tells an entry with the frame's name and the fields that are not as usual.
    pub(crate) fn told_entry(&self, value: u64) -> String {
        if value & bits::PRESENT == 0 && value & 0x000f_ffff_ffff_f000 == 0 {
            return "(valid:0)".to_owned();
        }
        let frame = Entry(value).frame();
        let variables = self.variables.iter();
        let pages = variables.filter_map(|(name, variable)| Some((name, variable.frame?)));
        let spare = self.frames.iter().map(|(name, (frame, _))| (name, *frame));
        let tables = self.spare_tables.iter().map(|(name, table)| (name, *table));
        let page = pages.chain(spare).find(|(_, known)| *known == frame);
        let table = tables.into_iter().find(|(_, known)| *known == frame);
        let mut told = match (page, table) {
            (Some((name, _)), _) => format!("(oa:PA({name})"),
            (None, Some((name, _))) => format!("(oa:{name}"),
            (None, None) => format!("(oa:{:#x}", frame.0),
        };
        for (name, bit, usual) in [
            ("valid", bits::PRESENT, true),
            ("w", bits::WRITABLE, true),
            ("u", bits::USER, true),
            ("a", bits::ACCESSED, true),
            ("d", bits::DIRTY, true),
            ("ps", bits::LARGE, false),
            ("g", bits::GLOBAL, false),
            ("nx", bits::NO_EXECUTE, false),
        ] {
            let is_set = value & bit != 0;
            if is_set != usual {
                told.push_str(&format!(", {name}:{}", u8::from(is_set)));
            }
        }
        told.push(')');
        told
    }
}

/// Returns the model's memory type for a test's.
pub(crate) fn caching(memory_type: Caching) -> ModelMemoryType {
    match memory_type {
        Caching::WriteBack => ModelMemoryType::WriteBack,
        Caching::WriteCombining => ModelMemoryType::WriteCombining,
        Caching::Uncacheable => ModelMemoryType::Uncached,
    }
}

/// The bits of a page's entry that nothing is said about.
const LEAF_DEFAULTS: u64 =
    bits::PRESENT | bits::WRITABLE | bits::USER | bits::ACCESSED | bits::DIRTY;

/// Returns the address's bits that select a table of a level.
fn prefix(address: u64, level: u8) -> u64 {
    address >> (12 + 9 * u32::from(level))
}

/// Returns the level of the tables that hold an entry.
pub(crate) fn level_of(level: Level) -> u8 {
    match level {
        Level::Pte => 1,
        Level::Pde => 2,
        Level::Pdpte => 3,
        Level::Pml4e => 4,
        Level::Pml5e => 5,
    }
}

fn paging_levels(test: &LitmusTest) -> Result<Option<u8>, SyntaxError> {
    match test.metadata("Paging") {
        None => Ok(None),
        Some("4") => Ok(Some(4)),
        Some("5") => Ok(Some(5)),
        Some(other) => Err(refuse(
            Position { line: 1, column: 1 },
            format!("`Paging={other}`"),
            "4 or 5",
            "write `Paging=4` or `Paging=5`",
        )),
    }
}

/// Returns each variable's virtual address: where init puts it, or the next free page.
fn addresses(test: &LitmusTest, variables: &[String], levels: u8) -> Result<Vec<u64>, SyntaxError> {
    let lower_half = PAGE << (9 * levels - 1);
    let mut given: BTreeMap<&str, u64> = BTreeMap::new();
    for item in &test.init {
        let InitItem::Address { variable, address } = &item.value else {
            continue;
        };
        let refuse = |expected: &str, advice: &str| {
            let found = format!("`VA({variable}) = {address:#x}`");
            Err(refuse(item.position, found, expected, advice))
        };
        if *address >= lower_half || address % PAGE != 0 {
            return refuse(
                "the start of a page of the lower half",
                "write a multiple of 0x1000 below 2^47, or 2^56 with five levels",
            );
        }
        if given.contains_key(variable.as_str()) || given.values().any(|taken| taken == address) {
            return refuse(
                "a page of its own for each variable",
                "map one frame twice to give a page two addresses: `[PTE(y)]=(oa:PA(x))`",
            );
        }
        given.insert(variable, *address);
    }
    let taken: BTreeSet<u64> = given.values().copied().collect();
    let mut free = (1..)
        .map(|page| page * PAGE)
        .filter(|page| !taken.contains(page));
    let place = |name: &String| {
        let given = given.get(name.as_str()).copied();
        given.unwrap_or_else(|| free.next().expect("pages do not end"))
    };
    Ok(variables.iter().map(place).collect())
}

/// Bytes of a page.
const PAGE: u64 = 0x1000;
