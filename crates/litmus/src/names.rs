//! The names that a test uses: its variables, frames, tables, spaces and entries.
//!
//! The init section and the instructions make things by naming them, `locations` makes variables.
//! A condition makes nothing: a name that is only there is a slip of the pen, and would be a word that
//! nobody ever writes.

use std::collections::BTreeSet;

use lazytlb_litmus_syntax::{
    Atom, EntryName, Expr, FieldValue, Frame, InitItem, Instruction, LitmusTest, Located, Location,
    Memory, Operand, Place, SyntaxError, TableIndex, Value,
};

use crate::settings::Settings;

/// The names that a test uses, in the order of appearance.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) variables: Vec<String>,
    pub(crate) devices: BTreeSet<String>,
    pub(crate) frames: BTreeSet<String>,
    pub(crate) tables: BTreeSet<String>,
    pub(crate) spaces: BTreeSet<String>,
    /// Every page-table entry, whose tables must exist.
    pub(crate) entries: Vec<EntryName>,
    /// The entries whose addresses the test uses, as a register's value for example.
    pub(crate) addressed: Vec<EntryName>,
    /// Whether the test is one of translation.
    pub(crate) is_translated: bool,
}

impl Names {
    /// Collects the names of a test.
    ///
    /// # Errors
    /// If one name stands for things of two kinds.
    pub(crate) fn of(test: &LitmusTest, settings: &Settings) -> Result<Names, SyntaxError> {
        let mut names = Names {
            is_translated: settings.are_about_translation(),
            ..Names::default()
        };
        names.declarations(&test.init)?;
        let mut making = Collector {
            names: &mut names,
            role: Role::Makes,
        };
        for item in &test.init {
            making.init_item(&item.value);
        }
        for thread in &test.threads {
            making.names.is_translated |= thread.handler.is_some();
            for instruction in &thread.instructions {
                making.instruction(&instruction.value);
            }
        }
        for location in &test.locations {
            if let Location::Memory(Place::Variable(name)) = location {
                making.variable(name);
            }
        }
        let mut asking = Collector {
            names: &mut names,
            role: Role::Asks,
        };
        for location in &test.locations {
            asking.location(location);
        }
        asking.expr(&test.condition.expr);
        test.filter.iter().for_each(|filter| asking.expr(filter));
        names.refuse_tables_as_variables(&test.init)?;
        Ok(names)
    }

    /// Takes the spare frames, spare tables and devices.
    fn declarations(&mut self, init: &[Located<InitItem>]) -> Result<(), SyntaxError> {
        for item in init {
            let (name, set) = match &item.value {
                InitItem::Frame(name) => (name, &mut self.frames),
                InitItem::Table(name) => (name, &mut self.tables),
                InitItem::Device(name) => (name, &mut self.devices),
                InitItem::Set { .. } | InitItem::Address { .. } => continue,
            };
            set.insert(name.clone());
            let sets = [&self.frames, &self.tables, &self.devices];
            if sets.iter().filter(|set| set.contains(name)).count() > 1 {
                return Err(two_kinds(name, item));
            }
        }
        Ok(())
    }

    /// Refuses `T` where an entry of the spare table is meant: it would be a variable of its own.
    fn refuse_tables_as_variables(&self, init: &[Located<InitItem>]) -> Result<(), SyntaxError> {
        let both = init.iter().find_map(|item| match &item.value {
            InitItem::Table(name) if self.variables.contains(name) => Some(two_kinds(name, item)),
            InitItem::Table(_)
            | InitItem::Frame(_)
            | InitItem::Device(_)
            | InitItem::Set { .. }
            | InitItem::Address { .. } => None,
        });
        both.map_or(Ok(()), Err)
    }
}

fn two_kinds(name: &str, item: &Located<InitItem>) -> SyntaxError {
    let found = format!("`{name}` for things of two kinds");
    let advice = "rename one; a spare table has entries, `T[3]`, and a spare frame a word, `PA(F)`";
    SyntaxError::new(item.position, found, "one thing for each name", advice)
}

/// Whether what names a thing also makes it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// An init section or an instruction.
    Makes,
    /// A condition.
    Asks,
}

/// Goes through the parts of a test.
struct Collector<'n> {
    names: &'n mut Names,
    role: Role,
}

impl Collector<'_> {
    fn variable(&mut self, name: &str) {
        let names = &mut self.names;
        let is_known =
            names.variables.iter().any(|known| known == name) || names.frames.contains(name);
        if self.role == Role::Makes && !is_known {
            names.variables.push(name.to_owned());
        }
    }

    fn space(&mut self, name: &str) {
        if self.role == Role::Makes {
            self.names.spaces.insert(name.to_owned());
        }
    }

    fn entry(&mut self, entry: &EntryName) {
        self.names.is_translated = true;
        self.variable(&entry.variable);
        entry.space.iter().for_each(|space| self.space(space));
        self.names.entries.push(entry.clone());
    }

    fn place(&mut self, place: &Place) {
        match place {
            Place::Variable(name) | Place::Frame(name) => self.variable(name),
            Place::Entry(entry) => self.entry(entry),
            Place::Slot { table: _, index } => match index {
                TableIndex::Variable(name) => self.variable(name),
                TableIndex::Number(_) => {}
            },
        }
    }

    fn frame(&mut self, frame: &Frame) {
        self.names.is_translated = true;
        match frame {
            Frame::Of(name) => self.variable(name),
            Frame::Holding(entry) => self.entry(entry),
            Frame::Root(_) | Frame::Table(_) => {}
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Number(_) => {}
            Value::Address(name) => self.variable(name),
            Value::EntryAddress(entry) => {
                self.entry(entry);
                self.names.addressed.push(entry.clone());
            }
            Value::Frame(frame) => self.frame(frame),
            Value::Entry(entry) => {
                self.names.is_translated = true;
                entry.oa.iter().for_each(|frame| self.frame(frame));
            }
            Value::Cr3(cr3) => {
                self.names.is_translated = true;
                self.space(&cr3.space);
            }
        }
    }

    fn location(&mut self, location: &Location) {
        match location {
            Location::Memory(place) => self.place(place),
            Location::Register { .. } => {}
        }
    }

    fn memory(&mut self, memory: &Memory) {
        match memory {
            Memory::Place(place) => self.place(place),
            Memory::Register { .. } => {}
        }
    }

    fn operand(&mut self, operand: &Operand) {
        match operand {
            Operand::Register(_) => {}
            Operand::Immediate(value) => self.value(value),
            Operand::Memory(memory) => self.memory(memory),
        }
    }

    fn init_item(&mut self, item: &InitItem) {
        match item {
            InitItem::Frame(_) => {}
            InitItem::Table(_) => self.names.is_translated = true,
            InitItem::Device(name) => {
                self.variable(name);
                self.names.is_translated = true;
            }
            InitItem::Address { variable, .. } => self.variable(variable),
            InitItem::Set {
                location, value, ..
            } => {
                self.location(location);
                value.iter().for_each(|value| self.value(value));
            }
        }
    }

    fn instruction(&mut self, instruction: &Instruction) {
        use Instruction as I;
        match instruction {
            I::Mov { src, dst, .. } | I::Xchg { src, dst, .. } => {
                self.operand(src);
                self.operand(dst);
            }
            I::Alu { src, dst, .. } => {
                src.iter().for_each(|src| self.operand(src));
                self.operand(dst);
            }
            I::Compare { src, dst, .. } => {
                self.operand(src);
                self.operand(dst);
            }
            I::Wait { memory, value } => {
                self.memory(memory);
                self.value(value);
            }
            I::Movnti { src, dst, .. } => {
                self.operand(src);
                self.memory(dst);
            }
            I::Invlpg(memory) | I::Fetch(memory) | I::Clflush(memory) => self.memory(memory),
            I::Invpcid { address, .. } => address.iter().for_each(|at| self.memory(at)),
            I::Invlpgb { variable, .. } => variable.iter().for_each(|name| self.variable(name)),
            I::MovCr3 { space, .. } => self.space(space),
            I::Label(_) | I::Mfence | I::Sfence | I::Lfence | I::MovCr4 { .. } | I::Tlbsync => {}
            I::Cpuid | I::Cli | I::Sti | I::Hlt | I::Ipi { .. } | I::Nmi { .. } => {}
            I::Jump { .. } | I::MovCr3From { .. } | I::Iretq => {}
        }
        self.names.is_translated |= is_about_translation(instruction);
    }

    fn expr(&mut self, expr: &Expr) {
        for atom in expr.atoms() {
            self.atom(&atom.value);
        }
    }

    fn atom(&mut self, atom: &Atom) {
        match atom {
            Atom::Compare {
                location, value, ..
            } => {
                self.location(location);
                self.value(value);
            }
            Atom::Field {
                location, value, ..
            } => {
                self.location(location);
                match value {
                    FieldValue::Frame(frame) => self.frame(frame),
                    FieldValue::Bit(_) | FieldValue::Type(_) => {}
                }
            }
            Atom::Fault { .. } | Atom::Violation(_) => {}
        }
    }
}

/// Says whether an instruction makes a test one of translation.
fn is_about_translation(instruction: &Instruction) -> bool {
    use Instruction as I;
    match instruction {
        I::Invlpg(_) | I::Invpcid { .. } | I::Invlpgb { .. } | I::Tlbsync => true,
        I::MovCr3 { .. } | I::MovCr4 { .. } | I::Movnti { .. } | I::Fetch(_) => true,
        I::MovCr3From { .. } => true,
        I::Compare { .. } | I::Jump { .. } | I::Clflush(_) | I::Iretq => false,
        I::Label(_) | I::Mov { .. } | I::Xchg { .. } | I::Alu { .. } | I::Wait { .. } => false,
        I::Mfence | I::Sfence | I::Lfence | I::Cpuid | I::Cli | I::Sti | I::Hlt => false,
        I::Ipi { .. } | I::Nmi { .. } => false,
    }
}
