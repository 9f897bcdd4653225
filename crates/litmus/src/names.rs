//! The names that a test uses: its variables, frames, tables, spaces and entries.

use std::collections::BTreeSet;

use lazytlb_litmus_syntax::InitItem;
use lazytlb_litmus_syntax::Instruction;
use lazytlb_litmus_syntax::LitmusTest;
use lazytlb_litmus_syntax::Location;
use lazytlb_litmus_syntax::Value;
use lazytlb_litmus_syntax::{Atom, Expr};
use lazytlb_litmus_syntax::{EntryName, Frame, Place, TableIndex};
use lazytlb_litmus_syntax::{Memory, Operand};

/// The names that a test uses, in the order of appearance.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) variables: Vec<String>,
    pub(crate) devices: BTreeSet<String>,
    pub(crate) frames: BTreeSet<String>,
    pub(crate) tables: BTreeSet<String>,
    pub(crate) spaces: BTreeSet<String>,
    pub(crate) entries: Vec<EntryName>,
    pub(crate) is_translated: bool,
}

impl Names {
    /// Collects the names of a test.
    pub(crate) fn of(test: &LitmusTest) -> Names {
        let mut names = Names {
            is_translated: test.metadata("Paging").is_some(),
            ..Names::default()
        };
        for item in &test.init {
            match &item.value {
                InitItem::Frame(name) => {
                    names.frames.insert(name.clone());
                }
                InitItem::Table(name) => {
                    names.tables.insert(name.clone());
                    names.is_translated = true;
                }
                InitItem::Device(name) => {
                    names.devices.insert(name.clone());
                    names.variable(name);
                    names.is_translated = true;
                }
                InitItem::Address { variable, .. } => names.variable(variable),
                InitItem::Set {
                    location, value, ..
                } => {
                    names.location(location);
                    value.iter().for_each(|value| names.value(value));
                }
            }
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
        let expressions = [Some(&test.condition.expr), test.filter.as_ref()];
        expressions
            .into_iter()
            .flatten()
            .for_each(|expr| names.expr(expr));
        names
    }

    fn variable(&mut self, name: &str) {
        if !self.variables.iter().any(|known| known == name) && !self.frames.contains(name) {
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
            Place::Variable(name) => self.variable(name),
            Place::Entry(entry) => self.entry(entry),
            Place::Slot { index, .. } => {
                if let TableIndex::Variable(name) = index {
                    self.variable(name);
                }
            }
            Place::Frame(name) => self.variable(name),
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
            Value::Number(_) => {}
            Value::Address(name) => self.variable(name),
            Value::EntryAddress(entry) => self.entry(entry),
            Value::Frame(frame) => self.frame(frame),
            Value::Entry(entry) => {
                self.is_translated = true;
                entry.oa.iter().for_each(|frame| self.frame(frame));
            }
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
        self.is_translated |= matches!(
            instruction,
            I::Invlpg(_)
                | I::Invpcid { .. }
                | I::MovCr3 { .. }
                | I::MovCr4 { .. }
                | I::Invlpgb { .. }
                | I::Tlbsync
                | I::Movnti { .. }
                | I::Fetch(_)
        );
        match instruction {
            I::Mov { src, dst, .. } | I::Xchg { src, dst, .. } => {
                self.operand(src);
                self.operand(dst);
            }
            I::Alu { src, dst, .. } => {
                src.iter().for_each(|src| self.operand(src));
                self.operand(dst);
            }
            I::Movnti { src, dst, .. } => {
                self.operand(src);
                self.memory(dst);
            }
            I::Invlpg(memory) | I::Fetch(memory) => self.memory(memory),
            I::Invpcid { address, .. } => address.iter().for_each(|at| self.memory(at)),
            I::Invlpgb { variable, .. } => variable.iter().for_each(|name| self.variable(name)),
            I::Wait { memory, value } => {
                self.memory(memory);
                self.value(value);
            }
            I::MovCr3 { space, .. } => {
                self.spaces.insert(space.clone());
            }
            _ => {}
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::True | Expr::False => {}
            Expr::Not(inner) => self.expr(inner),
            Expr::And(all) | Expr::Or(all) => all.iter().for_each(|expr| self.expr(expr)),
            Expr::Atom(atom) => match &atom.value {
                Atom::Compare {
                    location, value, ..
                } => {
                    self.location(location);
                    self.value(value);
                }
                Atom::Field { location, .. } => self.location(location),
                Atom::Fault { variable, .. } => {
                    variable.iter().for_each(|name| self.variable(name));
                }
                Atom::Violation(_) => {}
            },
        }
    }
}
