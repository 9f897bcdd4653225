//! What cannot be put off for ever: whoever goes round among states keeps off something that hardware does sooner or
//! later, or that code does as soon as it runs, or it may go round for ever.
//!
//! A [`Round`] is what is met on the way round. It *puts off* what is due in it and never done there:
//!
//! | what is due | put off, unless it is done, if it is due |
//! | --- | --- |
//! | a store leaves a buffer, an owed update is made, a translation comes, an invalidation that was broadcast | all the time |
//! | a CPU's code makes its next call, where that is possible | whenever the CPU is in that code: its operation, or a handler |
//! | an interrupt that is pending is taken, where interrupts are on | at some moment |
//! | a timer interrupt comes, if somebody waits for one | at some moment |
//!
//! So a CPU that waits for a word may miss each moment at which the word is right, as it may if it polls: it must find
//! the word right all the time. But an interrupt stays pending until interrupts are on for a moment; and one that comes
//! again and again lets the code that it interrupts go on in between. Stores in write-combining buffers, and updates of
//! A and D that are owed (H41), have no bound in any manual; they are made in the end, as deadlocks have it, too. What has
//! several ways may be done alike for ever.
//!
//! An interrupt is due whatever is buffered: its delivery would drain that.

use std::collections::{BTreeMap, BTreeSet};

use lazytlb::CpuId;
use lazytlb_model::{State, Ticks, WaitingStore};

use crate::automaton::Nodes;
use crate::hardware::Way;
use crate::reduction::Merge;
use crate::run::Awaits;
use crate::step::{Action, Step, StepError};
use crate::system::System;

/// Which code of a CPU: the innermost that is under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Level {
    Operation,
    Handler,
    Nmi,
}

/// The place that a store goes to, whatever its value: values get new names.
type Goal = (u64, u16);

/// Something that a CPU does sooner or later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Duty {
    /// Its code makes its next call.
    Code(Level),
    /// The oldest store in its buffer becomes visible.
    Drain,
    /// A write-combining store leaves.
    Combined(Goal),
    /// It settles something, whatever it is.
    Settle,
    /// It settles this.
    SettleAt(Goal),
    /// It does an invalidation that was broadcast: the one with this number.
    Broadcast(u8),
    /// It takes the flush interrupt.
    Interrupt,
    /// It takes the NMI.
    Nmi,
    /// It takes a timer interrupt.
    Tick,
}

/// Whose duty it is.
pub(crate) type Due = (CpuId, Duty);

/// What is due in a state.
#[derive(Default)]
pub(crate) struct Duties {
    due: Vec<Due>,
    /// The CPUs that have code under way, and which.
    levels: Vec<(CpuId, Level)>,
    awaits_tick: bool,
}

impl Duties {
    /// Says whether a state must be avoided by whoever puts this off.
    pub(crate) fn forbid(&self, (cpu, duty): Due) -> bool {
        match duty {
            Duty::Code(level) => self.levels.contains(&(cpu, level)),
            _ => self.due.contains(&(cpu, duty)),
        }
    }

    /// Says whether something need not be done by whoever comes through this state again and again.
    pub(crate) fn excuse(&self, (cpu, duty): Due) -> bool {
        let is_due = self.due.contains(&(cpu, duty));
        match duty {
            Duty::Code(level) => self.levels.contains(&(cpu, level)) && !is_due,
            Duty::Interrupt | Duty::Nmi | Duty::Tick => false,
            _ => !is_due,
        }
    }

    /// Says whether somebody waits for a timer interrupt.
    pub(crate) fn await_tick(&self) -> bool {
        self.awaits_tick
    }
}

/// What is met by whoever goes round.
#[derive(Default)]
pub(crate) struct Round {
    states: usize,
    due: BTreeMap<Due, usize>,
    levels: BTreeMap<(CpuId, Level), usize>,
    done: BTreeSet<Due>,
    awaits_tick: bool,
}

impl Round {
    /// Comes through a state.
    pub(crate) fn comes_through(&mut self, duties: &Duties) {
        self.states += 1;
        self.awaits_tick |= duties.awaits_tick;
        for &due in &duties.due {
            *self.due.entry(due).or_default() += 1;
        }
        for &level in &duties.levels {
            *self.levels.entry(level).or_default() += 1;
        }
    }

    /// Takes a step.
    pub(crate) fn takes(&mut self, done: impl IntoIterator<Item = Due>) {
        self.done.extend(done);
    }

    /// Returns something that the round puts off: then nobody goes round so for ever.
    pub(crate) fn puts_off(&self) -> Option<Due> {
        let mut due = self.due.iter().filter(|(due, _)| !self.done.contains(due));
        let put_off = due.find(|&(&(cpu, duty), &times)| match duty {
            Duty::Code(level) => self.levels.get(&(cpu, level)) == Some(&times),
            Duty::Drain
            | Duty::Combined(_)
            | Duty::Settle
            | Duty::SettleAt(_)
            | Duty::Broadcast(_) => times == self.states,
            Duty::Interrupt | Duty::Nmi => true,
            Duty::Tick => self.awaits_tick,
        });
        put_off.map(|(&due, _)| due)
    }
}

impl<M: Merge> System<'_, M> {
    /// Returns what is due in a state.
    ///
    /// # Errors
    /// If a node is not known yet.
    pub(crate) fn duties(&self, nodes: &Nodes, state: &State) -> Result<Duties, StepError> {
        let mut duties = Duties::default();
        for cpu in self.hardware.cpus() {
            if let Some(level) = self.level(state, cpu) {
                duties.levels.push((cpu, level));
                if self.is_possible(nodes, state, cpu, Action::Call)? {
                    duties.due.push((cpu, Duty::Code(level)));
                }
            }
            let active = self.active_node(state, cpu);
            duties.awaits_tick |= active.is_some_and(|id| nodes.get(id).awaits == Awaits::Tick);
            let own = self.due_in_buffers(state, cpu);
            let own = own
                .into_iter()
                .chain(self.interrupts_due(nodes, state, cpu));
            duties.due.extend(own.map(|duty| (cpu, duty)));
        }
        Ok(duties)
    }

    /// Returns what a step from a state does of what is due in it.
    pub(crate) fn duties_done(
        &self,
        state: &State,
        step: Step,
    ) -> impl Iterator<Item = Due> + use<M> {
        let Step { cpu, action, way } = step;
        let done = match action {
            Action::Call => [self.level(state, cpu).map(Duty::Code), None],
            Action::Drain => [Some(Duty::Drain), None],
            Action::Combined => {
                let store = self.hardware.combining_store(state, cpu, way);
                [store.map(|store| Duty::Combined(goal(store))), None]
            }
            Action::Settle => {
                let store = self.hardware.store_that_settles(state, cpu, way);
                [
                    Some(Duty::Settle),
                    store.map(|store| Duty::SettleAt(goal(store))),
                ]
            }
            Action::Broadcast => {
                let numbers = self.hardware.broadcasts_to_do(state, cpu);
                [
                    numbers.into_iter().nth(way.index()).map(Duty::Broadcast),
                    None,
                ]
            }
            Action::Deliver => [Some(Duty::Interrupt), None],
            Action::DeliverNmi => [Some(Duty::Nmi), None],
            Action::Tick | Action::Start => [None, None],
        };
        done.into_iter().flatten().map(move |duty| (cpu, duty))
    }

    fn level(&self, state: &State, cpu: CpuId) -> Option<Level> {
        if self.hardware.nmi_node(state, cpu).is_some() {
            return Some(Level::Nmi);
        }
        if self.hardware.handler_node(state, cpu).is_some() {
            return Some(Level::Handler);
        }
        self.hardware.node(state, cpu).map(|_| Level::Operation)
    }

    fn due_in_buffers(&self, state: &State, cpu: CpuId) -> Vec<Duty> {
        let hardware = &self.hardware;
        let mut due = Vec::new();
        if hardware.has_buffered(state, cpu) {
            due.push(Duty::Drain);
        }
        if hardware.has_combining(state, cpu) {
            let leaving = goals(|way| hardware.combining_store(state, cpu, way));
            due.extend(leaving.map(Duty::Combined));
        }
        if hardware.may_settle(state, cpu) {
            due.push(Duty::Settle);
            let settling = goals(|way| hardware.store_that_settles(state, cpu, way));
            due.extend(settling.map(Duty::SettleAt));
        }
        let left = hardware.broadcasts_to_do(state, cpu).into_iter();
        due.extend(left.map(Duty::Broadcast));
        due
    }

    fn interrupts_due(&self, nodes: &Nodes, state: &State, cpu: CpuId) -> Vec<Duty> {
        let (hardware, program) = (&self.hardware, self.automaton.program);
        let mut due = Vec::new();
        let in_nmi = hardware.nmi_node(state, cpu).is_some();
        if hardware.is_nmi_pending(state, cpu) && program.nmi_handler.is_some() && !in_nmi {
            due.push(Duty::Nmi);
        }
        if self.takes_interrupts(nodes, state, cpu) {
            if hardware.is_pending(state, cpu) && program.handler.is_some() {
                due.push(Duty::Interrupt);
            }
            if program.timer_handler.is_some() && program.features.ticks != Ticks::Never {
                due.push(Duty::Tick);
            }
        }
        due
    }
}

/// Returns where stores go, one way after the other.
fn goals(store: impl Fn(Way) -> Option<WaitingStore>) -> impl Iterator<Item = Goal> {
    let ways = std::iter::successors(Some(Way::FIRST), |way| Some(way.next()));
    ways.map_while(store).map(goal)
}

fn goal(store: WaitingStore) -> Goal {
    /// No frame has these addresses.
    const OF_USER: Goal = (u64::MAX, 0);
    const OF_FENCE: Goal = (u64::MAX, 1);
    const OF_CELL: u64 = u64::MAX - 1;
    match store {
        WaitingStore::Cell { cell, .. } | WaitingStore::Translated { cell, .. } => {
            (OF_CELL, cell.0.into())
        }
        WaitingStore::Entry { table, index, .. }
        | WaitingStore::Accessed { table, index }
        | WaitingStore::Dirty { table, index } => (table.0, index),
        WaitingStore::User => OF_USER,
        WaitingStore::StoreFence | WaitingStore::FullFence => OF_FENCE,
    }
}
