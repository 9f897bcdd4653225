//! What is looked at in the ends of a program, and what the condition says of each.

use std::collections::{BTreeMap, BTreeSet};

use lazytlb_check::{End, Outcomes};
use lazytlb_model::{AtomicCell, LocalCell, MemoryType as ModelMemoryType, Property};

use crate::answer::{Answer, FinalState};
use crate::code::Line;
use crate::run::{PrivateWords, atoms};
use crate::world::{Slot, World, caching, refuse};
use lazytlb_litmus_syntax::Field;
use lazytlb_litmus_syntax::Instruction;
use lazytlb_litmus_syntax::Location;
use lazytlb_litmus_syntax::Place;
use lazytlb_litmus_syntax::{Atom, Expr, FieldValue, Relation};
use lazytlb_litmus_syntax::{LitmusTest, Spelling, Thread};
use lazytlb_litmus_syntax::{Memory, Operand};
use lazytlb_litmus_syntax::{Position, SyntaxError};
use lazytlb_litmus_syntax::{Register, Width};

/// What is looked at in a final state.
pub(crate) struct Observer {
    /// Registers, by CPU.
    pub(crate) registers: BTreeSet<(usize, Register)>,
    /// Page-table entries.
    pub(crate) slots: Vec<Slot>,
    /// What is printed, in order, and the width of each.
    shown: Vec<(String, Seen)>,
    violations: BTreeSet<Property>,
    faults_of: BTreeSet<usize>,
    expr: Expr,
    filter: Option<Expr>,
}

/// Where an observed value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    Register(usize, Register),
    Word(AtomicCell, Width),
    Entry(Slot),
}

/// One end of the program, as the condition reads it.
struct State<'a> {
    end: &'a End,
    private: &'a PrivateWords,
    slots: &'a [Slot],
    cpu_of: &'a BTreeMap<u32, usize>,
}

impl Observer {
    pub(crate) fn new(
        test: &LitmusTest,
        world: &World,
        cpu_of: &dyn Fn(u32) -> Option<usize>,
    ) -> Result<Observer, SyntaxError> {
        let mut observer = Observer {
            registers: BTreeSet::new(),
            slots: Vec::new(),
            shown: Vec::new(),
            violations: BTreeSet::new(),
            faults_of: BTreeSet::new(),
            expr: test.condition.expr.clone(),
            filter: test.filter.clone(),
        };
        let start = Position { line: 1, column: 1 };
        let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
        let mut look = |location: &Location, at: Position| -> Result<(), SyntaxError> {
            let what = see(location, at, world, cpu_of)?;
            seen.insert(Spelling::of(test.arch).location(location), what);
            Ok(())
        };
        for location in &test.locations {
            look(location, start)?;
        }
        let mut failed = None;
        for expr in [Some(&test.condition.expr), test.filter.as_ref()]
            .into_iter()
            .flatten()
        {
            atoms(expr, &mut |atom, at| {
                let result = match atom {
                    Atom::Compare {
                        location, value, ..
                    } => look(location, at).and_then(|()| world.number(value, at).map(|_| ())),
                    Atom::Field { location, .. } => look(location, at),
                    Atom::Fault {
                        thread,
                        variable: Some(_),
                        label,
                    } if goes_by_register(test, *thread, label.as_deref()) => Err(refuse(
                        at,
                        "a fault told by its variable, in a thread that goes by a register",
                        "a label",
                        "put a label before the instruction, and write `fault(P0:L)`",
                    )),
                    Atom::Fault { thread, .. } => match cpu_of(*thread) {
                        Some(cpu) => {
                            observer.faults_of.insert(cpu);
                            Ok(())
                        }
                        None => Err(no_thread(*thread, at)),
                    },
                    Atom::Violation(name) => match Property::by_name(name) {
                        Some(property) => {
                            observer.violations.insert(property);
                            Ok(())
                        }
                        None => {
                            let names = Property::ALL.map(Property::name).join(", ");
                            let advice = format!("write one of {names}");
                            Err(refuse(at, format!("`{name}`"), "a property", &advice))
                        }
                    },
                };
                failed = failed.take().or(result.err());
            });
        }
        if let Some(error) = failed {
            return Err(error);
        }
        for what in seen.values() {
            match what {
                Seen::Register(cpu, register) => {
                    observer.registers.insert((*cpu, *register));
                }
                Seen::Entry(slot) if !observer.slots.contains(slot) => observer.slots.push(*slot),
                Seen::Entry(_) | Seen::Word(..) => {}
            }
        }
        observer.shown = seen.into_iter().collect();
        Ok(observer)
    }

    /// Says whether the condition names a property.
    pub(crate) fn asks_for(&self, property: Property) -> bool {
        self.violations.contains(&property)
    }

    pub(crate) fn asks_for_faults_of(&self, cpu: usize) -> bool {
        self.faults_of.contains(&cpu)
    }

    /// Evaluates the condition in every end.
    pub(crate) fn answer(
        &self,
        test: &LitmusTest,
        world: &World,
        private: &PrivateWords,
        outcomes: Outcomes,
    ) -> Answer {
        let cpus = test
            .threads
            .iter()
            .filter(|thread| thread.handler.is_none());
        let cpu_of = cpus
            .enumerate()
            .map(|(cpu, thread)| (thread.id, cpu))
            .collect();
        let mut states = BTreeSet::new();
        for end in &outcomes.ends {
            let state = State {
                end,
                private,
                slots: &self.slots,
                cpu_of: &cpu_of,
            };
            if self
                .filter
                .as_ref()
                .is_some_and(|filter| !state.holds(filter, world))
            {
                continue;
            }
            states.insert(FinalState {
                text: self.text(&state, world),
                holds: state.holds(&self.expr, world),
            });
        }
        for property in outcomes.violations.keys() {
            let filtered = self.filter.as_ref();
            if filtered.is_some_and(|filter| !holds_in_violation(filter, *property)) {
                continue;
            }
            states.insert(FinalState {
                text: format!("violation({property});"),
                holds: holds_in_violation(&self.expr, *property),
            });
        }
        Answer {
            name: test.name.clone(),
            quantifier: test.condition.quantifier,
            condition: Spelling::of(test.arch).condition(&test.condition),
            states: states.into_iter().collect(),
            incomplete: outcomes.incomplete,
            effort: outcomes.effort,
        }
    }

    fn text(&self, state: &State<'_>, world: &World) -> String {
        let mut parts: Vec<String> = self
            .shown
            .iter()
            .map(|(name, seen)| {
                let value = state.value(*seen);
                let told = match seen {
                    Seen::Entry(_) => world.told_entry(value),
                    Seen::Register(_, register) => world.told(value, register.width),
                    Seen::Word(_, width) => world.told(value, *width),
                };
                format!("{name}={told};")
            })
            .collect();
        for (cpu, cell, lines) in &self.fault_cells(state) {
            let faults = state.own(*cpu, *cell);
            for (number, line) in lines.iter().enumerate() {
                if faults >> number & 1 != 0 {
                    let thread = state.thread_of(*cpu);
                    let what = line.labels.first().map_or_else(
                        || line.variable.clone().unwrap_or_default(),
                        |label| format!(":{label}"),
                    );
                    parts.push(match line.labels.is_empty() {
                        true => format!("fault(P{thread},{what});"),
                        false => format!("fault(P{thread}{what});"),
                    });
                }
            }
        }
        parts.join(" ")
    }

    fn fault_cells<'s>(
        &self,
        state: &'s State<'_>,
    ) -> Vec<(usize, LocalCell, &'s std::sync::Arc<[Line]>)> {
        let cells = state.private.faults.iter();
        cells
            .map(|(cpu, cell, lines)| (*cpu, *cell, lines))
            .collect()
    }
}

/// Says whether a thread accesses memory by a register, at a label or anywhere: which variable that is, the
/// text does not say.
fn goes_by_register(test: &LitmusTest, thread: u32, label: Option<&str>) -> bool {
    let is_it = |of: &&Thread| of.id == thread && of.handler.is_none();
    let Some(thread) = test.threads.iter().find(is_it) else {
        return false;
    };
    let mut labelled = false;
    thread.instructions.iter().any(|located| {
        if let Instruction::Label(name) = &located.value {
            labelled |= label == Some(name.as_str());
            return false;
        }
        let is_asked_for = label.is_none() || std::mem::take(&mut labelled);
        is_asked_for && by_register(&located.value)
    })
}

fn by_register(instruction: &Instruction) -> bool {
    let is = |operand: &Operand| matches!(operand, Operand::Memory(Memory::Register { .. }));
    match instruction {
        Instruction::Mov { src, dst, .. } | Instruction::Xchg { src, dst, .. } => {
            is(src) || is(dst)
        }
        Instruction::Alu { src, dst, .. } => src.as_ref().is_some_and(is) || is(dst),
        Instruction::Movnti { dst, .. } | Instruction::Fetch(dst) => {
            matches!(dst, Memory::Register { .. })
        }
        _ => false,
    }
}

fn no_thread(thread: u32, at: Position) -> SyntaxError {
    let advice = "name a column of the table";
    refuse(
        at,
        format!("thread {thread}"),
        "a thread of this test",
        advice,
    )
}

/// Finds what a location names.
fn see(
    location: &Location,
    at: Position,
    world: &World,
    cpu_of: &dyn Fn(u32) -> Option<usize>,
) -> Result<Seen, SyntaxError> {
    match location {
        Location::Register { thread, register } => {
            let cpu = cpu_of(*thread).ok_or_else(|| no_thread(*thread, at))?;
            Ok(Seen::Register(cpu, *register))
        }
        Location::Memory(Place::Variable(name) | Place::Frame(name)) => {
            Ok(Seen::Word(world.word_of(name, at)?, world.width_of(name)))
        }
        Location::Memory(place @ (Place::Entry(_) | Place::Slot { .. })) => {
            let slot = world.slot(place, at)?;
            Ok(Seen::Entry(slot))
        }
    }
}

impl State<'_> {
    fn own(&self, cpu: usize, cell: LocalCell) -> u64 {
        let cells = self.end.own_cells.get(cpu);
        let value = cells.and_then(|cells| cells.get(usize::from(cell.index)));
        value.copied().unwrap_or(0)
    }

    fn thread_of(&self, cpu: usize) -> u32 {
        let thread = self.cpu_of.iter().find(|(_, of)| **of == cpu);
        thread.map_or(0, |(thread, _)| *thread)
    }

    fn value(&self, seen: Seen) -> u64 {
        match seen {
            Seen::Register(cpu, register) => {
                let mut cells = self.private.registers.iter();
                let cell = cells.find(|(known, _)| *known == (cpu, register));
                cell.map_or(0, |(_, cell)| self.own(cpu, *cell))
            }
            Seen::Word(cell, _) => self
                .end
                .atomics
                .get(usize::from(cell.0))
                .copied()
                .unwrap_or(0),
            Seen::Entry(slot) => {
                let index = self.slots.iter().position(|known| *known == slot);
                let value = index.and_then(|index| self.end.entries.get(index));
                value.copied().unwrap_or(0)
            }
        }
    }

    fn holds(&self, expr: &Expr, world: &World) -> bool {
        match expr {
            Expr::True => true,
            Expr::False => false,
            Expr::Not(inner) => !self.holds(inner, world),
            Expr::And(all) => all.iter().all(|inner| self.holds(inner, world)),
            Expr::Or(all) => all.iter().any(|inner| self.holds(inner, world)),
            Expr::Atom(atom) => self.is_true(&atom.value, atom.position, world),
        }
    }

    fn is_true(&self, atom: &Atom, at: Position, world: &World) -> bool {
        let cpu_of = |thread| self.cpu_of.get(&thread).copied();
        let read = |location| see(location, at, world, &cpu_of);
        match atom {
            Atom::Compare {
                location,
                relation,
                value,
            } => {
                let (Ok(seen), Ok(wanted)) = (read(location), world.number(value, at)) else {
                    return false;
                };
                let width = match seen {
                    Seen::Register(_, register) => register.width,
                    Seen::Word(_, width) => width,
                    Seen::Entry(_) => Width::Quad,
                };
                let mask = u64::MAX >> (64 - 8 * width.bytes());
                let equal = self.value(seen) & mask == wanted & mask;
                equal == (*relation == Relation::Equal)
            }
            Atom::Field {
                field,
                location,
                relation,
                value,
            } => {
                let Ok(seen) = read(location) else {
                    return false;
                };
                let equal = field_is(self.value(seen), *field, value, world, at);
                equal == (*relation == Relation::Equal)
            }
            Atom::Fault {
                thread,
                label,
                variable,
            } => {
                let cells = self.private.faults.iter();
                let mut of_thread = cells.filter(|(cpu, ..)| cpu_of(*thread) == Some(*cpu));
                of_thread.any(|(cpu, cell, lines)| {
                    let faults = self.own(*cpu, *cell);
                    lines.iter().enumerate().any(|(number, line)| {
                        faults >> number & 1 != 0
                            && label
                                .as_ref()
                                .is_none_or(|label| line.labels.contains(label))
                            && variable
                                .as_ref()
                                .is_none_or(|name| line.variable.as_ref() == Some(name))
                    })
                })
            }
            Atom::Violation(_) => false,
        }
    }
}

fn field_is(entry: u64, field: Field, value: &FieldValue, world: &World, at: Position) -> bool {
    use lazytlb_model::entry::bits;
    let bit = match field {
        Field::Valid => bits::PRESENT,
        Field::Writable => bits::WRITABLE,
        Field::User => bits::USER,
        Field::Accessed => bits::ACCESSED,
        Field::Dirty => bits::DIRTY,
        Field::PageSize => bits::LARGE,
        Field::Global => bits::GLOBAL,
        Field::NoExecute => bits::NO_EXECUTE,
        Field::Oa | Field::Type => 0,
    };
    match value {
        FieldValue::Bit(wanted) => (entry & bit != 0) == *wanted,
        FieldValue::Frame(frame) => {
            let found = lazytlb::Entry(entry).frame();
            world.frame(frame, at).is_ok_and(|frame| frame == found)
        }
        FieldValue::Type(wanted) => {
            let wanted = caching(*wanted);
            let types = [
                ModelMemoryType::WriteBack,
                ModelMemoryType::WriteCombining,
                ModelMemoryType::Uncached,
            ];
            let all = types.iter().fold(0, |all, each| all | each.bits());
            entry & all == wanted.bits()
        }
    }
}

/// In the end that is a violation, only its name is true.
fn holds_in_violation(expr: &Expr, property: Property) -> bool {
    match expr {
        Expr::True => true,
        Expr::False => false,
        Expr::Not(inner) => !holds_in_violation(inner, property),
        Expr::And(all) => all.iter().all(|inner| holds_in_violation(inner, property)),
        Expr::Or(all) => all.iter().any(|inner| holds_in_violation(inner, property)),
        Expr::Atom(atom) => {
            matches!(&atom.value, Atom::Violation(name) if name == property.name())
        }
    }
}
