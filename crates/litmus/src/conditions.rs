//! Resolves what a test asks: the names in its condition and its filter, and what it shows.
//!
//! A fact that could never be true, or never be false, because of what the test is, is a slip: an error, with
//! its place, and no answer.

use std::collections::{BTreeMap, BTreeSet};

use lazytlb::CpuId;
use lazytlb_check::Program;
use lazytlb_litmus_syntax::{
    Atom, Expr, Field, FieldValue, GeneralRegister, InitItem, LitmusTest, Location, Place,
    Position, Register, Relation, Spelling, SyntaxError, Value, Width,
};
use lazytlb_model::{LocalCell, Property};

use crate::code::{Line, Named, Routine};
use crate::cpus::{Cpus, number};
use crate::entry_bits;
use crate::page_tables::Slot;
use crate::proposition::{Bits, Fact, Faults, Observed, Proposition};
use crate::registers::mask;
use crate::world::World;

/// A value that a final state shows.
#[derive(Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) value: Observed,
    pub(crate) form: Form,
}

/// How a value is printed.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// As a number of this width, or a variable's name.
    Number(Width),
    /// Field by field.
    Entry,
}

impl Form {
    fn width(self) -> Width {
        match self {
            Form::Number(width) => width,
            Form::Entry => Width::Quad,
        }
    }
}

/// What threads and machine must keep for the question.
#[derive(Default)]
pub(crate) struct Watched {
    pub(crate) registers: BTreeMap<(CpuId, Register), LocalCell>,
    pub(crate) faults: BTreeMap<CpuId, LocalCell>,
    entries: Vec<Slot>,
    pub(crate) properties: BTreeSet<Property>,
}

/// Resolves the names in a question.
pub(crate) struct Resolver<'a> {
    world: &'a World,
    cpus: &'a Cpus,
    routines: &'a [Routine],
    program: &'a mut Program,
    spelling: Spelling,
    /// The registers that a thread may find changed at its end.
    written: BTreeSet<(CpuId, GeneralRegister)>,
    pub(crate) shown: BTreeMap<String, Shown>,
    pub(crate) watched: Watched,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(
        test: &LitmusTest,
        world: &'a World,
        cpus: &'a Cpus,
        routines: &'a [Routine],
        program: &'a mut Program,
    ) -> Resolver<'a> {
        Resolver {
            world,
            cpus,
            routines,
            program,
            spelling: Spelling::of(test.arch),
            written: written_registers(test, cpus, routines),
            shown: BTreeMap::new(),
            watched: Watched::default(),
        }
    }

    pub(crate) fn proposition(&mut self, expr: &Expr) -> Result<Proposition, SyntaxError> {
        let mut all = |parts: &[Expr]| -> Result<Vec<Proposition>, SyntaxError> {
            parts.iter().map(|part| self.proposition(part)).collect()
        };
        Ok(match expr {
            Expr::True => Proposition::Constant(true),
            Expr::False => Proposition::Constant(false),
            Expr::Not(inner) => Proposition::Not(Box::new(self.proposition(inner)?)),
            Expr::And(parts) => Proposition::All(all(parts)?),
            Expr::Or(parts) => Proposition::Any(all(parts)?),
            Expr::Atom(atom) => Proposition::Fact(self.fact(&atom.value, atom.position)?),
        })
    }

    fn fact(&mut self, atom: &Atom, at: Position) -> Result<Fact, SyntaxError> {
        match atom {
            Atom::Compare {
                location,
                relation,
                value,
            } => self.compare(location, *relation, value, at),
            Atom::Field {
                field,
                location,
                relation,
                value,
            } => self.compare_field(*field, location, *relation, value, at),
            Atom::Fault {
                thread,
                label,
                variable,
            } => self.fault(*thread, label.as_deref(), variable.as_deref(), at),
            Atom::Violation(name) => {
                let property = Property::by_name(name).ok_or_else(|| {
                    let names = Property::ALL.map(Property::name).join(", ");
                    let advice = format!("write one of {names}");
                    SyntaxError::new(at, format!("`{name}`"), "a property", advice)
                })?;
                self.watched.properties.insert(property);
                Ok(Fact::Broken(property))
            }
        }
    }

    fn compare(
        &mut self,
        location: &Location,
        relation: Relation,
        value: &Value,
        at: Position,
    ) -> Result<Fact, SyntaxError> {
        let shown = self.show_asked(location, at)?;
        let bits = Bits {
            value: shown.value,
            mask: mask(shown.form.width()),
            wanted: self.world.number(value, at)?,
        };
        Ok(related(bits, relation))
    }

    fn compare_field(
        &mut self,
        field: Field,
        location: &Location,
        relation: Relation,
        value: &FieldValue,
        at: Position,
    ) -> Result<Fact, SyntaxError> {
        let mask = entry_bits::mask(field);
        let bits = Bits {
            value: self.show_asked(location, at)?.value,
            mask,
            wanted: match value {
                FieldValue::Bit(true) => mask,
                FieldValue::Bit(false) => 0,
                FieldValue::Frame(frame) => self.world.frame(frame, at)?.0,
                FieldValue::Type(caching) => entry_bits::caching(*caching),
            },
        };
        Ok(related(bits, relation))
    }

    fn fault(
        &mut self,
        thread: u32,
        label: Option<&str>,
        variable: Option<&str>,
        at: Position,
    ) -> Result<Fact, SyntaxError> {
        let cpu = self.thread(thread, at)?;
        if let Some(variable) = variable {
            self.world.variable(variable, at)?;
        }
        let routines = self.routines.iter();
        let own = routines.filter(|routine| routine.cpu == cpu && routine.handler.is_none());
        let lines = own.flat_map(|routine| routine.lines.iter().enumerate());
        let is_at_label =
            |line: &Line| label.is_none_or(|label| line.labels.iter().any(|known| known == label));
        let labelled: Vec<_> = lines.filter(|(_, line)| is_at_label(line)).collect();
        if let (Some(label), true) = (label, labelled.is_empty()) {
            let (found, expected) = (format!("`{label}`"), "a label of this thread");
            let advice = "put it before the instruction; faults of handlers are not seen";
            return Err(SyntaxError::new(at, found, expected, advice));
        }
        let by_register = |(_, line): &(usize, &Line)| line.access == Named::ByRegister;
        if variable.is_some() && labelled.iter().any(by_register) {
            return Err(SyntaxError::new(
                at,
                "a fault told by its variable, in a thread that goes by a register",
                "a label",
                "put a label before the instruction, and write `fault(P0:L)`",
            ));
        }
        let may_fault = |line: &Line| match (&line.access, variable) {
            (Named::Variable(name), Some(variable)) => name == variable,
            (Named::Variable(_) | Named::ByRegister, _) => true,
            (Named::Nothing | Named::Physical, _) => false,
        };
        let faulting = labelled.iter().filter(|(_, line)| may_fault(line));
        let lines = faulting.fold(0, |lines, (index, _)| lines | 1 << index);
        if lines == 0 && (label.is_some() || variable.is_some()) {
            return Err(no_fault(thread, label, variable, at));
        }
        let program = &mut *self.program;
        let cell = self.watched.faults.entry(cpu);
        let cell = *cell.or_insert_with(|| program.local(number(cpu), "faults", 0));
        Ok(Fact::Faulted(Faults { cell, lines }))
    }

    /// Finds what a condition compares. A register that nothing writes would be compared with its 0.
    fn show_asked(&mut self, location: &Location, at: Position) -> Result<Shown, SyntaxError> {
        if let Location::Register { thread, register } = location {
            let cpu = self.thread(*thread, at)?;
            if !self.written.contains(&(cpu, register.general)) {
                let found = format!("`{}`", self.spelling.location(location));
                let expected = "a register that the thread or the init section writes";
                let advice = "it would be 0 always; a handler has registers of its own";
                return Err(SyntaxError::new(at, found, expected, advice));
            }
        }
        self.show(location, at)
    }

    /// Finds what a location names, and shows it in final states.
    pub(crate) fn show(&mut self, location: &Location, at: Position) -> Result<Shown, SyntaxError> {
        let shown = self.observe(location, at)?;
        self.shown.insert(self.spelling.location(location), shown);
        Ok(shown)
    }

    fn observe(&mut self, location: &Location, at: Position) -> Result<Shown, SyntaxError> {
        let slot = match location {
            Location::Register { thread, register } => {
                let cpu = self.thread(*thread, at)?;
                return Ok(Shown {
                    value: self.register(cpu, *register),
                    form: Form::Number(register.width),
                });
            }
            Location::Memory(Place::Variable(name) | Place::Frame(name)) => {
                let (cell, width) = self.world.cell(name, at)?;
                return Ok(Shown {
                    value: Observed::Shared(cell),
                    form: Form::Number(width),
                });
            }
            Location::Memory(Place::Entry(name)) => self.world.entry(name, at)?,
            Location::Memory(Place::Slot { table, index }) => {
                self.world.spare_entry(table, index, at)?
            }
        };
        Ok(Shown {
            value: self.entry(slot),
            form: Form::Entry,
        })
    }

    fn register(&mut self, cpu: CpuId, register: Register) -> Observed {
        let program = &mut *self.program;
        let cell = self.watched.registers.entry((cpu, register));
        let cell = cell.or_insert_with(|| program.local(number(cpu), register.to_string(), 0));
        Observed::Own(*cell)
    }

    fn entry(&mut self, slot: Slot) -> Observed {
        let entries = &mut self.watched.entries;
        if let Some(number) = entries.iter().position(|known| *known == slot) {
            return Observed::Entry(number);
        }
        entries.push(slot);
        self.program.watch_entry(slot.table, slot.index);
        Observed::Entry(entries.len() - 1)
    }

    fn thread(&self, thread: u32, at: Position) -> Result<CpuId, SyntaxError> {
        let written = format_args!("thread {thread}");
        self.cpus.of_thread(thread, written, at)
    }
}

fn related(bits: Bits, relation: Relation) -> Fact {
    match relation {
        Relation::Equal => Fact::Equal(bits),
        Relation::Different => Fact::Different(bits),
    }
}

/// Finds the registers that a thread's instructions or the init section write.
fn written_registers(
    test: &LitmusTest,
    cpus: &Cpus,
    routines: &[Routine],
) -> BTreeSet<(CpuId, GeneralRegister)> {
    let threads = routines.iter().filter(|routine| routine.handler.is_none());
    let mut written = BTreeSet::new();
    for routine in threads {
        let ops = routine.lines.iter().map(|line| &line.op);
        let registers = ops.flat_map(|op| op.written_registers());
        written.extend(registers.map(|register| (routine.cpu, register.general)));
    }
    for item in &test.init {
        if let InitItem::Set {
            location: Location::Register { thread, register },
            ..
        } = &item.value
        {
            let cpu = cpus.iter().find(|(_, of)| of == thread);
            written.extend(cpu.map(|(cpu, _)| (cpu, register.general)));
        }
    }
    written
}

/// Says that no instruction can take a fault that a condition asks for.
fn no_fault(thread: u32, label: Option<&str>, variable: Option<&str>, at: Position) -> SyntaxError {
    let place = match label {
        Some(label) => format!("at the label `{label}` of P{thread}"),
        None => format!("in P{thread}"),
    };
    let access = match variable {
        Some(variable) => format!("accesses `{variable}` by its virtual address"),
        None => "accesses memory by a virtual address".to_owned(),
    };
    let found = format!("a fault that cannot be: nothing {place} {access}");
    let advice = "name the thread and the variable that may fault; faults of handlers are not seen";
    SyntaxError::new(at, found, "a fault that can be", advice)
}
