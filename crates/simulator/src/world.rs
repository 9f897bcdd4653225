//! What the names of a test stand for: addresses, frames, tables, and what memory holds at the start.

use std::collections::{BTreeMap, BTreeSet};

use lazytlb_litmus_syntax::{
    EntryLiteral, EntryName, Frame as FrameName, InitItem, Level, LitmusTest, Location,
    Place as PlaceName, TableIndex, Value, Width,
};

use crate::code::Place;
use crate::entry;
use crate::memory::{Frame, Memory, Word};
use crate::names::{FIRST_SPACE, Names};

/// A variable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variable {
    pub(crate) address: u64,
    pub(crate) frame: Frame,
    pub(crate) width: Width,
}

/// Everything that a test names.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) is_translated: bool,
    /// The level of the roots' entries.
    pub(crate) top: u8,
    pub(crate) variables: BTreeMap<String, Variable>,
    frames: BTreeMap<String, Frame>,
    spare_tables: BTreeMap<String, Frame>,
    roots: BTreeMap<String, Frame>,
    /// By space, level of the entries, and the address above what the table covers.
    tables: BTreeMap<(String, u8, u64), Frame>,
    pub(crate) devices: BTreeSet<Frame>,
    pub(crate) memory: Memory,
    next_frame: u64,
}

/// Where the addresses of page-table entries begin, for registers that hold them.
pub(crate) const ENTRY_ADDRESSES: u64 = 0x7000_0000_0000;

/// The root of the first space, apart from the frames that are numbered.
const FIRST_ROOT: Frame = Frame(0x100_0000_0000);

/// A name that stands for nothing here.
pub(crate) type Unknown = String;

impl World {
    /// Places everything that a test names.
    pub(crate) fn of(test: &LitmusTest) -> Result<World, Unknown> {
        let names = Names::of(test);
        let mut world = World {
            is_translated: names.is_translated,
            top: match test.metadata("Paging") {
                Some("5") => 5,
                _ => 4,
            },
            variables: BTreeMap::new(),
            frames: BTreeMap::new(),
            spare_tables: BTreeMap::new(),
            roots: BTreeMap::new(),
            tables: BTreeMap::new(),
            devices: BTreeSet::new(),
            memory: Memory::default(),
            next_frame: 0,
        };
        world.place_variables(test, &names);
        for name in &names.frames {
            let frame = world.new_frame();
            world.frames.insert(name.clone(), frame);
        }
        if names.is_translated {
            world.build_tables(&names)?;
        }
        world.set_first_values(test)?;
        Ok(world)
    }

    /// Takes the next frame. Variables come first, so a register that holds an entry reads as in an answer.
    fn new_frame(&mut self) -> Frame {
        self.next_frame += 0x1000;
        Frame(self.next_frame)
    }

    /// Gives each variable a page: where the init section puts it, or the next free one.
    fn place_variables(&mut self, test: &LitmusTest, names: &Names) {
        let given = test.init.iter().filter_map(|item| match &item.value {
            InitItem::Address { variable, address } => Some((variable.as_str(), *address)),
            _ => None,
        });
        let given: BTreeMap<&str, u64> = given.collect();
        let taken: BTreeSet<u64> = given.values().copied().collect();
        let mut free = (1..)
            .map(|page| page * 0x1000)
            .filter(|page| !taken.contains(page));
        for name in &names.variables {
            let next = given.get(name.as_str()).copied().or_else(|| free.next());
            let address = next.unwrap_or(0);
            // Without translation an address is its own frame.
            let frame = match names.is_translated {
                true => self.new_frame(),
                false => Frame(address),
            };
            if names.devices.contains(name) {
                self.devices.insert(frame);
            }
            let width = test.width_of(name);
            let variable = Variable {
                address,
                frame,
                width,
            };
            self.variables.insert(name.clone(), variable);
        }
    }

    /// Makes the tables, and maps every variable in the first space.
    fn build_tables(&mut self, names: &Names) -> Result<(), Unknown> {
        for name in &names.tables {
            let table = self.new_frame();
            self.spare_tables.insert(name.clone(), table);
        }
        for name in &names.spaces {
            let root = match &name[..] {
                FIRST_SPACE => FIRST_ROOT,
                _ => self.new_frame(),
            };
            self.roots.insert(name.clone(), root);
        }
        for name in &names.variables {
            let variable = self.variables[name];
            self.reach(FIRST_SPACE, variable.address)?;
            let at = self.slot(FIRST_SPACE, entry::PTE, variable.address)?;
            let mapped = entry::written(&EntryLiteral::default(), variable.frame);
            self.memory.write(at, mapped);
        }
        for name in &names.entries {
            if let Some(variable) = self.variables.get(&name.variable).copied() {
                self.reach(space_of(name), variable.address)?;
            }
        }
        Ok(())
    }

    /// Makes the tables on the way to an address.
    fn reach(&mut self, space: &str, address: u64) -> Result<(), Unknown> {
        for level in (entry::PTE..self.top).rev() {
            let key = (space.to_owned(), level, above(address, level));
            if self.tables.contains_key(&key) {
                continue;
            }
            let table = self.new_frame();
            let at = self.slot(space, level + 1, address)?;
            let hooked = EntryLiteral {
                dirty: false,
                ..EntryLiteral::default()
            };
            self.memory.write(at, entry::written(&hooked, table));
            self.tables.insert(key, table);
        }
        Ok(())
    }

    /// Returns where the entry of a level for an address lies.
    fn slot(&self, space: &str, level: u8, address: u64) -> Result<Word, Unknown> {
        let table = match level == self.top {
            true => self.roots.get(space),
            false => {
                let key = (space.to_owned(), level, above(address, level));
                self.tables.get(&key)
            }
        };
        let table = table.ok_or_else(|| format!("a table of {space}"))?;
        Ok(Word::entry(*table, entry::index(address, level)))
    }

    fn set_first_values(&mut self, test: &LitmusTest) -> Result<(), Unknown> {
        for item in &test.init {
            if let InitItem::Set {
                location: Location::Memory(place),
                value: Some(value),
                ..
            } = &item.value
            {
                let word = self.word(place)?;
                let value = self.number(value)?;
                self.memory.write(word, value);
            }
        }
        Ok(())
    }

    /// Finds a variable.
    pub(crate) fn variable(&self, name: &str) -> Result<Variable, Unknown> {
        self.variables
            .get(name)
            .copied()
            .ok_or_else(|| name.to_owned())
    }

    /// Finds the root of a space.
    pub(crate) fn root(&self, space: &str) -> Result<Frame, Unknown> {
        self.roots
            .get(space)
            .copied()
            .ok_or_else(|| space.to_owned())
    }

    /// Finds the word that a place is, whatever maps it.
    pub(crate) fn word(&self, place: &PlaceName) -> Result<Word, Unknown> {
        match place {
            PlaceName::Variable(name) | PlaceName::Frame(name) => {
                let spare = self.frames.get(name).copied();
                let frame = spare.map_or_else(|| Ok(self.variable(name)?.frame), Ok::<_, Unknown>);
                Ok(Word::at(frame?, 0))
            }
            PlaceName::Entry(name) => self.entry(name),
            PlaceName::Slot { table, index } => {
                let table = self.spare_tables.get(table).ok_or_else(|| table.clone())?;
                let index = match index {
                    TableIndex::Number(number) => u64::from(*number),
                    TableIndex::Variable(name) => {
                        entry::index(self.variable(name)?.address, entry::PTE)
                    }
                };
                Ok(Word::entry(*table, index))
            }
        }
    }

    fn entry(&self, name: &EntryName) -> Result<Word, Unknown> {
        let address = self.variable(&name.variable)?.address;
        self.slot(space_of(name), level_of(name.level), address)
    }

    /// Finds what a memory operand by name is.
    pub(crate) fn place(&self, place: &PlaceName) -> Result<Place, Unknown> {
        match place {
            PlaceName::Variable(name) if self.is_translated => {
                Ok(Place::Virtual(self.variable(name)?.address))
            }
            _ => Ok(Place::Physical(self.word(place)?)),
        }
    }

    /// Finds the frame that a name stands for.
    pub(crate) fn frame(&self, frame: &FrameName) -> Result<Frame, Unknown> {
        match frame {
            FrameName::Of(name) => match self.frames.get(name) {
                Some(frame) => Ok(*frame),
                None => Ok(self.variable(name)?.frame),
            },
            FrameName::Holding(name) => Ok(self.entry(name)?.frame()),
            FrameName::Root(space) => self.root(space),
            FrameName::Table(name) => {
                let table = self.spare_tables.get(name);
                table.copied().ok_or_else(|| name.clone())
            }
        }
    }

    /// Returns a value as 64 bits.
    pub(crate) fn number(&self, value: &Value) -> Result<u64, Unknown> {
        match value {
            Value::Number(number) => Ok(*number as u64),
            Value::Address(name) => Ok(self.variable(name)?.address),
            Value::Frame(frame) => Ok(self.frame(frame)?.0),
            Value::Entry(literal) => match &literal.oa {
                Some(frame) => Ok(entry::written(literal, self.frame(frame)?)),
                None => Ok(0),
            },
            Value::EntryAddress(name) => Ok(ENTRY_ADDRESSES + self.entry(name)?.address()),
            other => Err(format!("{other:?}")),
        }
    }

    /// Returns how wide the word of a name is compared.
    pub(crate) fn width(&self, name: &str) -> Width {
        let variable = self.variables.get(name);
        variable.map_or(Width::Quad, |variable| variable.width)
    }

    /// Lists all page tables.
    pub(crate) fn page_tables(&self) -> BTreeSet<Frame> {
        let tables = self.tables.values().chain(self.roots.values());
        tables.chain(self.spare_tables.values()).copied().collect()
    }

    /// Lists the frames of all variables, and those that are named without one.
    pub(crate) fn named_frames(&self) -> BTreeSet<Frame> {
        let variables = self.variables.values().map(|variable| variable.frame);
        variables.chain(self.frames.values().copied()).collect()
    }

    /// Tells a frame by its name; `None`: a table that has none.
    pub(crate) fn told_frame(&self, frame: Frame) -> Option<String> {
        let mut variables = self.variables.iter();
        if let Some((name, _)) = variables.find(|(_, variable)| variable.frame == frame) {
            return Some(format!("PA({name})"));
        }
        let mut frames = self.frames.iter();
        if let Some((name, _)) = frames.find(|(_, spare)| **spare == frame) {
            return Some(format!("PA({name})"));
        }
        let mut tables = self.spare_tables.iter();
        let table = tables.find(|(_, table)| **table == frame);
        table.map(|(name, _)| name.clone())
    }
}

fn space_of(name: &EntryName) -> &str {
    name.space.as_deref().unwrap_or(FIRST_SPACE)
}

fn level_of(level: Level) -> u8 {
    match level {
        Level::Pte => 1,
        Level::Pde => 2,
        Level::Pdpte => 3,
        Level::Pml4e => 4,
        Level::Pml5e => 5,
    }
}

/// Returns the part of an address that is above what a table with entries of a level covers.
fn above(address: u64, level: u8) -> u64 {
    address >> entry::span_bits(level) >> 9
}
