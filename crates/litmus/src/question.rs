//! What a test asks: its condition, its filter and what it shows, resolved before the search.

use std::collections::{BTreeMap, BTreeSet};

use lazytlb::CpuId;
use lazytlb_check::{End, Outcomes, Program};
use lazytlb_litmus_syntax::{LitmusTest, Register, Spelling, SyntaxError};
use lazytlb_model::{LocalCell, Property};

use crate::answer::{Answer, FinalState, Violated};
use crate::code::{Named, Routine};
use crate::conditions::{Form, Resolver, Shown, Watched};
use crate::cpus::Cpus;
use crate::proposition::{Ending, Faults, Proposition};
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
        let mut resolver = Resolver::new(test, world, cpus, routines, program);
        for (location, at) in test.located_locations() {
            resolver.show(location, at)?;
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

    /// Says whether the condition or the filter asks for violations.
    pub(crate) fn asks_for_violations(&self) -> bool {
        !self.watched.properties.is_empty()
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
        let wanted = endings.filter(|ending| self.counts(*ending));
        let states: BTreeSet<FinalState> = wanted
            .map(|ending| self.final_state(ending, world))
            .collect();
        Answer {
            name: test.name.clone(),
            quantifier: test.condition.quantifier,
            condition: Spelling::of(test.arch).condition(&test.condition),
            states: states.into_iter().collect(),
            has_ends: !outcomes.ends.is_empty(),
            violations: violations(&outcomes),
            is_endless: false,
            expected: None,
            incomplete: outcomes.incomplete,
            effort: outcomes.effort,
        }
    }

    /// Says whether an ending passes the filter.
    fn counts(&self, ending: Ending<'_>) -> bool {
        let filter = self.filter.as_ref();
        filter.is_none_or(|filter| filter.holds(ending))
    }

    /// Says whether an ending makes the verdict `Allowed`.
    pub(crate) fn is_witnessed_by(&self, ending: Ending<'_>) -> bool {
        self.counts(ending) && self.condition.holds(ending)
    }

    /// Returns what is known of an ending.
    pub(crate) fn final_state(&self, ending: Ending<'_>, world: &World) -> FinalState {
        FinalState {
            text: match ending {
                Ending::End(end) => self.text(end, world),
                Ending::Violation(property) => format!("violation({property});"),
            },
            holds: self.condition.holds(ending),
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

fn violations(outcomes: &Outcomes) -> Vec<Violated> {
    let violations = outcomes.violations.iter();
    let violated = violations.map(|(property, what)| Violated {
        property: *property,
        what: what.clone(),
    });
    violated.collect()
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
