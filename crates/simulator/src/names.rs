//! The names that a test uses, in the order of appearance.

use std::collections::BTreeSet;

use lazytlb_litmus_syntax::{
    Atom, EntryName, Expr, FieldValue, Frame, InitItem, Instruction, LitmusTest, Location, Memory,
    Operand, Place, TableIndex, Value,
};

/// The space that every thread starts in.
pub(crate) const FIRST_SPACE: &str = "A";

/// The names of a test.
#[derive(Default, Debug)]
pub(crate) struct Names {
    pub(crate) variables: Vec<String>,
    pub(crate) frames: BTreeSet<String>,
    pub(crate) tables: BTreeSet<String>,
    pub(crate) devices: BTreeSet<String>,
    pub(crate) spaces: BTreeSet<String>,
    pub(crate) entries: Vec<EntryName>,
    /// Addresses are translated.
    pub(crate) is_translated: bool,
}

impl Names {
    /// Collects the names of a test.
    pub(crate) fn of(test: &LitmusTest) -> Names {
        let mut names = Names {
            is_translated: test.metadata("Paging").is_some(),
            spaces: BTreeSet::from([FIRST_SPACE.to_owned()]),
            ..Names::default()
        };
        for item in &test.init {
            names.declaration(&item.value);
        }
        for item in &test.init {
            names.init(&item.value);
        }
        for thread in &test.threads {
            names.is_translated |= thread.handler.is_some();
            for instruction in &thread.instructions {
                names.instruction(&instruction.value);
            }
        }
        test.locations
            .iter()
            .for_each(|location| names.location(location));
        names.expr(&test.condition.expr);
        test.filter.iter().for_each(|filter| names.expr(filter));
        names
    }

    fn declaration(&mut self, item: &InitItem) {
        match item {
            InitItem::Frame(name) => self.frames.insert(name.clone()),
            InitItem::Table(name) => self.tables.insert(name.clone()),
            InitItem::Device(name) => self.devices.insert(name.clone()),
            InitItem::Set { .. } | InitItem::Address { .. } => false,
        };
    }

    fn init(&mut self, item: &InitItem) {
        match item {
            InitItem::Frame(_) => {}
            InitItem::Table(_) => self.is_translated = true,
            InitItem::Device(name) => {
                self.variable(name);
                self.is_translated = true;
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

    fn variable(&mut self, name: &str) {
        let known = self.variables.iter().any(|known| known == name);
        if !known && !self.frames.contains(name) {
            self.variables.push(name.to_owned());
        }
    }

    fn entry(&mut self, entry: &EntryName) {
        self.is_translated = true;
        self.variable(&entry.variable);
        self.spaces.extend(entry.space.clone());
        self.entries.push(entry.clone());
    }

    fn place(&mut self, place: &Place) {
        match place {
            Place::Variable(name) | Place::Frame(name) => self.variable(name),
            Place::Entry(entry) => self.entry(entry),
            Place::Slot { index, .. } => {
                if let TableIndex::Variable(name) = index {
                    self.variable(name);
                }
            }
        }
    }

    fn frame(&mut self, frame: &Frame) {
        self.is_translated = true;
        match frame {
            Frame::Of(name) => self.variable(name),
            Frame::Holding(entry) => self.entry(entry),
            Frame::Root(_) | Frame::Table(_) => {}
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Address(name) => self.variable(name),
            Value::EntryAddress(entry) => self.entry(entry),
            Value::Frame(frame) => self.frame(frame),
            Value::Entry(entry) => {
                self.is_translated = true;
                entry.oa.iter().for_each(|frame| self.frame(frame));
            }
            _ => {}
        }
    }

    fn location(&mut self, location: &Location) {
        if let Location::Memory(place) = location {
            self.place(place);
        }
    }

    fn memory(&mut self, memory: &Memory) {
        if let Memory::Place(place) = memory {
            self.place(place);
        }
    }

    fn operand(&mut self, operand: &Operand) {
        match operand {
            Operand::Register(_) => {}
            Operand::Immediate(value) => self.value(value),
            Operand::Memory(memory) => self.memory(memory),
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
            I::Wait { memory, value } => {
                self.memory(memory);
                self.value(value);
            }
            I::Movnti { src, dst, .. } => {
                self.operand(src);
                self.memory(dst);
                self.is_translated = true;
            }
            I::Invlpg(memory) | I::Fetch(memory) => {
                self.memory(memory);
                self.is_translated = true;
            }
            I::Invpcid { address, .. } => {
                address.iter().for_each(|at| self.memory(at));
                self.is_translated = true;
            }
            I::Invlpgb { variable, .. } => {
                variable.iter().for_each(|name| self.variable(name));
                self.is_translated = true;
            }
            I::MovCr3 { space, .. } => {
                self.spaces.insert(space.clone());
                self.is_translated = true;
            }
            I::MovCr4 { .. } | I::Tlbsync => self.is_translated = true,
            _ => {}
        }
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
                if let FieldValue::Frame(frame) = value {
                    self.frame(frame);
                }
            }
            Atom::Fault { .. } | Atom::Violation(_) => {}
        }
    }
}
