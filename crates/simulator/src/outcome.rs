//! What an execution came to: the final state as an answer of `lazytlb litmus` prints it, and whether the
//! condition holds.

use std::collections::{BTreeMap, BTreeSet};

use lazytlb_litmus_syntax::{
    Atom, Caching, Expr, FieldValue, LitmusTest, Location, Place, Register, Relation, Spelling,
    Width,
};

use crate::code::Column;
use crate::entry;
use crate::memory::{Memory, Word};
use crate::registers::{Registers, low};
use crate::resolve;
use crate::world::{Unknown, World};

/// Returns a final state, as an answer tells it, with the numbers of tables that have no name taken out: each
/// machine has its own.
pub fn without_numbers_of_tables(text: &str) -> String {
    let mut parts = text.split("oa:0x");
    let mut told = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        told.push_str("oa:table");
        told.push_str(part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    }
    told
}

/// A value of a final state.
#[derive(Clone, Copy, Debug)]
enum Observed {
    /// The low part of a register, by the number of its CPU.
    Register(usize, Register),
    Memory(Word, Width),
    Entry(Word),
}

/// Lines of a thread, by the number of its CPU.
#[derive(Clone, Debug)]
struct Lines {
    cpu: usize,
    lines: Vec<usize>,
    told: String,
}

#[derive(Clone, Debug)]
enum Proposition {
    Constant(bool),
    Not(Box<Proposition>),
    All(Vec<Proposition>),
    Any(Vec<Proposition>),
    Compare {
        value: Observed,
        mask: u64,
        wanted: u64,
        relation: Relation,
    },
    Fault(Lines),
    Violation(String),
}

/// What an execution ended in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End<'e> {
    /// All threads ran to their ends: their registers, their faults, and memory.
    State(&'e [(Registers, Vec<usize>)], &'e Memory),
    /// It broke a property.
    Violation(&'e str),
}

/// What a test asks.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    condition: Proposition,
    filter: Option<Proposition>,
    shown: BTreeMap<String, Observed>,
    shown_faults: Vec<Lines>,
}

impl Question {
    /// Resolves the question of a test.
    pub(crate) fn of(
        test: &LitmusTest,
        world: &World,
        columns: &[Column],
    ) -> Result<Question, Unknown> {
        let mut resolver = Resolver {
            world,
            columns,
            threads: resolve::threads(test),
            spelling: Spelling::of(test.arch),
            shown: BTreeMap::new(),
            watched: BTreeSet::new(),
        };
        for location in &test.locations {
            resolver.show(location)?;
        }
        let condition = resolver.proposition(&test.condition.expr)?;
        let filter = test
            .filter
            .as_ref()
            .map(|filter| resolver.proposition(filter));
        let filter = filter.transpose()?;
        let shown_faults = resolver.shown_faults();
        Ok(Question {
            condition,
            filter,
            shown: resolver.shown,
            shown_faults,
        })
    }

    /// Says whether the filter lets an end count.
    pub(crate) fn counts(&self, end: End<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.holds(end))
    }

    /// Says whether the condition's proposition holds at an end.
    pub(crate) fn holds(&self, end: End<'_>) -> bool {
        self.condition.holds(end)
    }

    /// Prints an end.
    pub(crate) fn text(&self, end: End<'_>, world: &World) -> String {
        let (threads, memory) = match end {
            End::State(threads, memory) => (threads, memory),
            End::Violation(name) => return format!("violation({name});"),
        };
        let values = self.shown.iter().map(|(name, observed)| {
            let value = read(*observed, threads, memory);
            let told = match observed {
                Observed::Register(_, register) => told_number(world, value, register.width),
                Observed::Memory(_, width) => told_number(world, value, *width),
                Observed::Entry(_) => told_entry(world, value),
            };
            format!("{name}={told};")
        });
        let faults = self.shown_faults.iter();
        let faults = faults.filter(|lines| has_faulted(lines, threads));
        let parts: Vec<String> = values
            .chain(faults.map(|lines| lines.told.clone()))
            .collect();
        parts.join(" ")
    }
}

impl Proposition {
    fn holds(&self, end: End<'_>) -> bool {
        match self {
            Proposition::Constant(constant) => *constant,
            Proposition::Not(inner) => !inner.holds(end),
            Proposition::All(parts) => parts.iter().all(|part| part.holds(end)),
            Proposition::Any(parts) => parts.iter().any(|part| part.holds(end)),
            Proposition::Compare {
                value,
                mask,
                wanted,
                relation,
            } => match end {
                End::Violation(_) => false,
                End::State(threads, memory) => {
                    let is_equal = (read(*value, threads, memory) ^ wanted) & mask == 0;
                    is_equal == (*relation == Relation::Equal)
                }
            },
            Proposition::Fault(lines) => match end {
                End::Violation(_) => false,
                End::State(threads, _) => has_faulted(lines, threads),
            },
            Proposition::Violation(name) => {
                matches!(end, End::Violation(broken) if broken == name)
            }
        }
    }
}

fn read(observed: Observed, threads: &[(Registers, Vec<usize>)], memory: &Memory) -> u64 {
    match observed {
        Observed::Register(cpu, register) => threads[cpu].0.get(register),
        Observed::Memory(word, width) => low(width).of(memory.read(word)),
        Observed::Entry(word) => memory.read(word),
    }
}

fn has_faulted(lines: &Lines, threads: &[(Registers, Vec<usize>)]) -> bool {
    let faults = &threads[lines.cpu].1;
    lines.lines.iter().any(|line| faults.contains(line))
}

/// Tells a number as signed, or as a variable whose address it is.
fn told_number(world: &World, value: u64, width: Width) -> String {
    let mut variables = world.variables.iter();
    match variables.find(|(_, variable)| variable.address == value) {
        Some((name, _)) if value != 0 => name.clone(),
        _ => {
            let unused = 64 - 8 * width.bytes();
            ((value << unused).cast_signed() >> unused).to_string()
        }
    }
}

/// Tells an entry by its frame, and by the fields that are not as usual.
fn told_entry(world: &World, value: u64) -> String {
    let frame = entry::frame(value);
    if value & entry::PRESENT == 0 && frame.0 == 0 {
        let set = entry::set_flags(value);
        let set: String = set.map(|field| format!(", {}:1", field.name())).collect();
        return format!("(valid:0{set})");
    }
    let frame = world
        .told_frame(frame)
        .unwrap_or_else(|| "table".to_owned());
    let flags = entry::unusual_flags(value);
    let flags: Vec<String> = flags
        .map(|(field, is_set)| format!(", {}:{}", field.name(), u8::from(is_set)))
        .collect();
    let caching = match entry::caching(value) {
        Caching::WriteBack => String::new(),
        other => format!(", type:{}", other.name()),
    };
    format!("(oa:{frame}{}{caching})", flags.concat())
}

struct Resolver<'a> {
    world: &'a World,
    columns: &'a [Column],
    threads: Vec<u32>,
    spelling: Spelling,
    shown: BTreeMap<String, Observed>,
    /// The CPUs whose faults the question asks about.
    watched: BTreeSet<usize>,
}

impl Resolver<'_> {
    fn proposition(&mut self, expr: &Expr) -> Result<Proposition, Unknown> {
        let mut all = |parts: &[Expr]| -> Result<Vec<Proposition>, Unknown> {
            parts.iter().map(|part| self.proposition(part)).collect()
        };
        Ok(match expr {
            Expr::True => Proposition::Constant(true),
            Expr::False => Proposition::Constant(false),
            Expr::Not(inner) => Proposition::Not(Box::new(self.proposition(inner)?)),
            Expr::And(parts) => Proposition::All(all(parts)?),
            Expr::Or(parts) => Proposition::Any(all(parts)?),
            Expr::Atom(atom) => self.atom(&atom.value)?,
        })
    }

    fn atom(&mut self, atom: &Atom) -> Result<Proposition, Unknown> {
        Ok(match atom {
            Atom::Compare {
                location,
                relation,
                value,
            } => {
                let observed = self.show(location)?;
                let width = match observed {
                    Observed::Register(_, register) => register.width,
                    Observed::Memory(_, width) => width,
                    Observed::Entry(_) => Width::Quad,
                };
                Proposition::Compare {
                    value: observed,
                    mask: low(width).register_mask(),
                    wanted: self.world.number(value)?,
                    relation: *relation,
                }
            }
            Atom::Field {
                field,
                location,
                relation,
                value,
            } => {
                let mask = entry::mask(*field);
                Proposition::Compare {
                    value: self.show(location)?,
                    mask,
                    wanted: match value {
                        FieldValue::Bit(true) => mask,
                        FieldValue::Bit(false) => 0,
                        FieldValue::Frame(frame) => self.world.frame(frame)?.0,
                        FieldValue::Type(caching) => entry::bits_of(*caching),
                    },
                    relation: *relation,
                }
            }
            Atom::Fault {
                thread,
                label,
                variable,
            } => self.fault(*thread, label.as_ref(), variable.as_ref())?,
            Atom::Violation(name) => Proposition::Violation(name.clone()),
        })
    }

    fn fault(
        &mut self,
        thread: u32,
        label: Option<&String>,
        variable: Option<&String>,
    ) -> Result<Proposition, Unknown> {
        let cpu = self.cpu(thread)?;
        self.watched.insert(cpu);
        let own = self.columns.iter();
        let mut own = own.filter(|column| column.thread == thread && column.handler.is_none());
        let lines = own
            .next()
            .map(|column| &column.lines[..])
            .unwrap_or_default();
        let is_meant = |line: &crate::code::Line| {
            label.is_none_or(|label| line.labels.contains(label))
                && variable.is_none_or(|name| line.variable.as_ref() == Some(name))
        };
        let lines = lines.iter().enumerate().filter(|(_, line)| is_meant(line));
        Ok(Proposition::Fault(Lines {
            cpu,
            lines: lines.map(|(number, _)| number).collect(),
            told: String::new(),
        }))
    }

    fn show(&mut self, location: &Location) -> Result<Observed, Unknown> {
        let observed = match location {
            Location::Register { thread, register } => {
                Observed::Register(self.cpu(*thread)?, *register)
            }
            Location::Memory(place) => {
                let word = self.world.word(place)?;
                match place {
                    Place::Variable(name) | Place::Frame(name) => {
                        Observed::Memory(word, self.world.width(name))
                    }
                    Place::Entry(_) | Place::Slot { .. } => Observed::Entry(word),
                }
            }
        };
        self.shown
            .insert(self.spelling.location(location), observed);
        Ok(observed)
    }

    fn cpu(&self, thread: u32) -> Result<usize, Unknown> {
        let cpu = self.threads.iter().position(|known| *known == thread);
        cpu.ok_or_else(|| format!("P{thread}"))
    }

    /// Lists every line of the threads whose faults the question asks about.
    fn shown_faults(&self) -> Vec<Lines> {
        let mut shown = Vec::new();
        for &cpu in &self.watched {
            let thread = self.threads[cpu];
            let own = self.columns.iter();
            let own = own.filter(|column| column.thread == thread && column.handler.is_none());
            for (number, line) in own.flat_map(|column| column.lines.iter().enumerate()) {
                let which = match (line.labels.first(), &line.variable) {
                    (Some(label), _) => format!(":{label}"),
                    (None, Some(name)) => format!(",{name}"),
                    (None, None) => ",".to_owned(),
                };
                shown.push(Lines {
                    cpu,
                    lines: vec![number],
                    told: format!("fault(P{thread}{which});"),
                });
            }
        }
        shown
    }
}
