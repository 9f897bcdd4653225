//! What a test asks: its condition, its filter and what it shows, resolved before the search.

use std::collections::{BTreeMap, BTreeSet};

use lazytlb::CpuId;
use lazytlb_check::{End, Outcomes, Program};
use lazytlb_litmus_syntax::{
    Atom, Expr, Field, FieldValue, LitmusTest, Location, Place, Position, Register, Relation,
    Spelling, SyntaxError, Value, Width,
};
use lazytlb_model::{LocalCell, Property};

use crate::answer::{Answer, FinalState};
use crate::code::{Line, Named, Routine};
use crate::cpus::{Cpus, number};
use crate::entry_bits;
use crate::page_tables::Slot;
use crate::proposition::{Bits, Ending, Fact, Faults, Observed, Proposition};
use crate::registers::mask;
use crate::world::World;

/// A question about the ends of a program.
pub(crate) struct Question {
    condition: Proposition,
    filter: Option<Proposition>,
    /// What a final state shows, by its spelling.
    shown: BTreeMap<String, Shown>,
    /// The faults that a final state shows, and how.
    shown_faults: Vec<(Faults, String)>,
    watched: Watched,
}

/// A value that a final state shows.
#[derive(Clone, Copy)]
struct Shown {
    value: Observed,
    form: Form,
}

/// How a value is printed.
#[derive(Clone, Copy)]
enum Form {
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
struct Watched {
    registers: BTreeMap<(CpuId, Register), LocalCell>,
    faults: BTreeMap<CpuId, LocalCell>,
    entries: Vec<Slot>,
    properties: BTreeSet<Property>,
}

impl Question {
    /// Resolves a test's question, and gives the program what it takes to answer it.
    ///
    /// # Errors
    /// If a name means nothing.
    pub(crate) fn resolve(
        test: &LitmusTest,
        world: &World,
        cpus: &Cpus,
        routines: &[Routine],
        program: &mut Program,
    ) -> Result<Question, SyntaxError> {
        let mut resolver = Resolver {
            world,
            cpus,
            routines,
            program,
            spelling: Spelling::of(test.arch),
            shown: BTreeMap::new(),
            watched: Watched::default(),
        };
        for location in &test.locations {
            resolver.show(location, Position::START)?;
        }
        let condition = resolver.proposition(&test.condition.expr)?;
        let filter = test.filter.as_ref();
        let filter = filter
            .map(|filter| resolver.proposition(filter))
            .transpose()?;
        let Resolver { shown, watched, .. } = resolver;
        Ok(Question {
            condition,
            filter,
            shown,
            shown_faults: shown_faults(&watched, routines),
            watched,
        })
    }

    /// Leaves the properties out that end an execution only where a test asks for them.
    pub(crate) fn ignore_the_rest(&self, program: &mut Program) {
        for property in [Property::ForeignTranslation, Property::StaleSpeculation] {
            if !self.watched.properties.contains(&property) {
                program.ignore(property);
            }
        }
    }

    /// Lists the registers that the thread on a CPU must publish, and where.
    pub(crate) fn registers_of(&self, cpu: CpuId) -> Vec<(Register, LocalCell)> {
        let registers = self.watched.registers.iter();
        let own = registers.filter(|((of, _), _)| *of == cpu);
        own.map(|((_, register), cell)| (*register, *cell))
            .collect()
    }

    /// Returns where the thread on a CPU must publish its faults.
    pub(crate) fn faults_of(&self, cpu: CpuId) -> Option<LocalCell> {
        self.watched.faults.get(&cpu).copied()
    }

    /// Answers the question by everything that the program can come to.
    pub(crate) fn answer(&self, test: &LitmusTest, world: &World, outcomes: Outcomes) -> Answer {
        let ends = outcomes.ends.iter().map(Ending::End);
        let broken = outcomes.violations.keys().copied();
        let endings = ends.chain(broken.map(Ending::Violation));
        let wanted = endings.filter(|ending| {
            let filter = self.filter.as_ref();
            filter.is_none_or(|filter| filter.holds(*ending))
        });
        let states: BTreeSet<FinalState> = wanted
            .map(|ending| FinalState {
                text: match ending {
                    Ending::End(end) => self.text(end, world),
                    Ending::Violation(property) => format!("violation({property});"),
                },
                holds: self.condition.holds(ending),
            })
            .collect();
        Answer {
            name: test.name.clone(),
            quantifier: test.condition.quantifier,
            condition: Spelling::of(test.arch).condition(&test.condition),
            states: states.into_iter().collect(),
            incomplete: outcomes.incomplete,
            effort: outcomes.effort,
        }
    }

    fn text(&self, end: &End, world: &World) -> String {
        let values = self.shown.iter().map(|(name, shown)| {
            let value = shown.value.read(end);
            let told = match shown.form {
                Form::Number(width) => world.told_number(value, width),
                Form::Entry => world.told_entry(value),
            };
            format!("{name}={told};")
        });
        let faults = self.shown_faults.iter();
        let faults = faults.filter(|(faults, _)| faults.any(end));
        let parts: Vec<String> = values.chain(faults.map(|(_, told)| told.clone())).collect();
        parts.join(" ")
    }
}

/// Lists the faults that final states show: every line's of the threads that the question asks about.
fn shown_faults(watched: &Watched, routines: &[Routine]) -> Vec<(Faults, String)> {
    let mut shown = Vec::new();
    for (cpu, cell) in &watched.faults {
        for routine in routines {
            if routine.cpu != *cpu || routine.handler.is_some() {
                continue;
            }
            for (index, line) in routine.lines.iter().enumerate() {
                let faults = Faults {
                    cell: *cell,
                    lines: 1 << index,
                };
                let which = match (line.labels.first(), &line.access) {
                    (Some(label), _) => format!(":{label}"),
                    (None, Named::Variable(name)) => format!(",{name}"),
                    (None, Named::Nothing | Named::ByRegister | Named::Physical) => ",".to_owned(),
                };
                shown.push((faults, format!("fault(P{}{which});", routine.thread)));
            }
        }
    }
    shown
}

/// Resolves the names in a question.
struct Resolver<'a> {
    world: &'a World,
    cpus: &'a Cpus,
    routines: &'a [Routine],
    program: &'a mut Program,
    spelling: Spelling,
    shown: BTreeMap<String, Shown>,
    watched: Watched,
}

impl Resolver<'_> {
    fn proposition(&mut self, expr: &Expr) -> Result<Proposition, SyntaxError> {
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
        let shown = self.show(location, at)?;
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
            value: self.show(location, at)?.value,
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
        if let Some(variable) = variable {
            self.world.variable(variable, at)?;
            if labelled
                .iter()
                .any(|(_, line)| line.access == Named::ByRegister)
            {
                return Err(SyntaxError::new(
                    at,
                    "a fault told by its variable, in a thread that goes by a register",
                    "a label",
                    "put a label before the instruction, and write `fault(P0:L)`",
                ));
            }
        }
        let accesses = |line: &Line| {
            variable.is_none_or(|variable| line.access == Named::Variable(variable.to_owned()))
        };
        let accessing = labelled.iter().filter(|(_, line)| accesses(line));
        let lines = accessing.fold(0, |lines, (index, _)| lines | 1 << index);
        let program = &mut *self.program;
        let cell = self.watched.faults.entry(cpu);
        let cell = *cell.or_insert_with(|| program.local(number(cpu), "faults", 0));
        Ok(Fact::Faulted(Faults { cell, lines }))
    }

    /// Finds what a location names, and shows it in final states.
    fn show(&mut self, location: &Location, at: Position) -> Result<Shown, SyntaxError> {
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
