//! Which steps lead nowhere: where code polls, or timer interrupts come, a state may have successors for ever
//! and still be a deadlock.
//!
//! A CPU that polls goes round in a circle of the automaton. It *idles* in a state if it can go once round, from
//! the head of its loop and back to the very same state, without anything changing that another CPU or an
//! interrupt could notice: it reads, and modifies only what stays as it was, such as an empty inbox that it
//! takes. (What it changes in its own part of the state it must have changed back, and what it stores must
//! be what memory holds.) While others do nothing it will go round so for ever, and whatever they do, it
//! notices: there is no sleep that it would have to be woken from.
//!
//! ```text
//!  CPU 0                        CPU 1
//!  head: load b → 0, again      head: load a → 0, again       both idle, nobody else can act: a deadlock
//!  head: load b → 0, again      a = 1 waits in the buffer     it will drain: none yet
//!  head: load b → 0, again      head: a pending interrupt     it will be delivered: none yet
//! ```
//!
//! Where hardware has a choice (a cached translation or a walk, an Accessed bit that speculation may have
//! set), it may choose alike for ever: one way round is enough.
//!
//! Timer interrupts are no help to a wait that does not say so ([`lazytlb::Poll::poll_until_tick`]): a state from
//! which only they lead on is a deadlock. If a CPU says so, it is one only if no timer interrupt changes
//! anything. That is asked of one more than a bound on their number allows, or the bound would be taken for
//! a deadlock.

use std::collections::HashSet;

use lazytlb::{CpuId, Interrupts, ValueKind};
use lazytlb_model::{Call, Property, State, Tick, Violation};

use crate::automaton::{Node, Nodes, Routine};
use crate::event::{answered_call_for_people, call_for_people};
use crate::hardware::{Tried, Way, Ways};
use crate::program::Program;
use crate::reduction::Merge;
use crate::run::Awaits;
use crate::step::{Action, CallWatcher, Step, StepError, Unwatched};
use crate::system::{System, call_of};

impl<M: Merge> System<'_, M> {
    /// Says whether a step may be one that leads nowhere: it begins an iteration of a poll, or is a timer
    /// interrupt. All others are progress.
    #[inline(always)]
    pub(crate) fn may_lead_nowhere(&self, nodes: &Nodes, state: &State, step: Step) -> bool {
        match step.action {
            Action::Call => nodes.has_heads() && self.is_at_head(nodes, state, step.cpu),
            Action::Tick | Action::Start => true,
            Action::Drain
            | Action::Combined
            | Action::Settle
            | Action::Broadcast
            | Action::DeliverNmi
            | Action::Deliver => false,
        }
    }

    fn is_at_head(&self, nodes: &Nodes, state: &State, cpu: CpuId) -> bool {
        let active = self.active_node(state, cpu);
        active.is_some_and(|id| nodes.get(id).is_head)
    }

    /// Returns what is wrong with a state from which no other steps lead on than those that may lead nowhere, if
    /// anything is.
    ///
    /// # Errors
    /// If a node is not known yet.
    pub(crate) fn stuck(
        &self,
        nodes: &Nodes,
        state: &State,
    ) -> Result<Option<Violation>, StepError> {
        let machine = self.hardware.machine();
        if machine.waits_untranslated(state) {
            return Ok(None);
        }
        if self.all_ended(state) {
            let unkept = machine.unkept_promise(state);
            return Ok(
                match unkept.is_some() && self.ticks_keep_promises(nodes, state)? {
                    true => None,
                    false => unkept.or_else(|| self.lock_at_rest(state)),
                },
            );
        }
        if !self.stands_still(nodes, state)? {
            return Ok(None);
        }
        let deadlock = self.deadlock(nodes, state);
        let is_ignored = self.automaton.program.ignored.contains(&deadlock.property);
        Ok((!is_ignored).then_some(deadlock))
    }

    /// Returns the violation of a lock that is taken while every CPU is at rest, in a program without end: whoever
    /// starts next would find it so.
    fn lock_at_rest(&self, state: &State) -> Option<Violation> {
        let program = self.automaton.program;
        if !program.features.endless {
            return None;
        }
        let values = self.hardware.machine().atomic_values(state);
        let mut words = program.atomics.iter().zip(values);
        let (taken, _) = words.find(|(word, value)| word.kind == ValueKind::Lock && *value != 0)?;
        Some(Violation {
            property: Property::Deadlock,
            cpu: None,
            frame: None,
            through: None,
            what: format!(
                "every CPU is at rest, and the lock \"{}\" is taken",
                taken.name
            ),
        })
    }

    /// Says whether nobody will ever do anything.
    fn stands_still(&self, nodes: &Nodes, state: &State) -> Result<bool, StepError> {
        let awaits = self.awaits(nodes, state);
        for cpu in self.hardware.cpus() {
            if !self.idles(nodes, state, cpu, awaits)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Says whether every promise that is open when all CPUs have ended is kept by timer interrupts that are still to
    /// come: they take turns on all CPUs, a few rounds, and what they lead to runs to its end. Whether the bound
    /// on their number allows them is not asked, or the bound would be taken for a promise that is never kept.
    fn ticks_keep_promises(&self, nodes: &Nodes, state: &State) -> Result<bool, StepError> {
        let machine = self.hardware.machine();
        let mut open = machine.open_promises(state);
        let mut state = state.to_vec();
        if self.automaton.program.timer_handler.is_none() {
            return Ok(open.is_empty());
        }
        for _ in 0..ROUNDS_OF_TICKS {
            for cpu in self.hardware.cpus() {
                let ticked = self.take_tick(nodes, &mut state, cpu, Tick::Uncounted, Way::FIRST);
                match or_unknown(ticked)? {
                    Some(Tried::Done(_)) => {}
                    Some(Tried::Impossible) => continue,
                    None => return Ok(false),
                }
                for _ in 0..MOST_STEPS_AFTER_A_TICK {
                    let still = machine.open_promises(&state);
                    open.retain(|promise| still.contains(promise));
                    if open.is_empty() {
                        return Ok(true);
                    }
                    if !self.goes_on(nodes, &mut state)? {
                        break;
                    }
                }
            }
        }
        Ok(false)
    }

    /// Takes a step, whichever is possible first, that is no timer interrupt; says whether there was one.
    fn goes_on(&self, nodes: &Nodes, state: &mut Vec<u8>) -> Result<bool, StepError> {
        for cpu in self.hardware.cpus() {
            for &action in self.actions() {
                if matches!(action, Action::Tick | Action::Start)
                    || !self.may_be_possible(state, cpu, action)
                {
                    continue;
                }
                let way = Way::FIRST;
                let mut next = state.clone();
                let tried = self.try_step(nodes, &mut next, Step { cpu, action, way });
                if let Some(Tried::Done(_)) = or_unknown(tried)? {
                    *state = next;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Says whether some CPU waits for a timer interrupt.
    fn awaits(&self, nodes: &Nodes, state: &State) -> Awaits {
        let mut cpus = self.hardware.cpus();
        let awaits_tick = cpus.any(|cpu| {
            let active = self.active_node(state, cpu);
            active.is_some_and(|id| nodes.get(id).awaits == Awaits::Tick)
        });
        match awaits_tick {
            true => Awaits::Tick,
            false => Awaits::Others,
        }
    }

    /// Describes a state in which nobody will ever do anything.
    fn deadlock(&self, nodes: &Nodes, state: &State) -> Violation {
        let waits = |cpu: CpuId| {
            let node = nodes.get(self.active_node(state, cpu)?);
            let routine = self.automaton.routine_name(node.cpu, node.routine);
            let interrupts = match node.interrupts {
                Interrupts::Enabled => "on",
                Interrupts::Disabled => "off",
            };
            let what = self.awaited(nodes, state, cpu, node);
            let cpu = cpu.0;
            Some(format!(
                "CPU {cpu} waits in \"{routine}\" with interrupts {interrupts}{what}"
            ))
        };
        let waiting: Vec<String> = self.hardware.cpus().filter_map(waits).collect();
        let mut cpus = self.hardware.cpus();
        let (property, mut so) = match cpus.any(|cpu| self.halted_at(nodes, state, cpu).is_some()) {
            true => (
                Property::LostWakeup,
                ", and no interrupt is left that would wake the one that sleeps".to_owned(),
            ),
            false => (Property::Deadlock, String::new()),
        };
        let mut cpus = self.hardware.cpus();
        let may_tick = cpus.any(|cpu| self.hardware.can_tick(state, cpu, Tick::Counted));
        if may_tick && self.awaits(nodes, state) == Awaits::Others {
            so += "; a timer interrupt may help, but code that waits for one says so by `poll_until_tick`";
        }
        Violation {
            property,
            cpu: None,
            frame: None,
            through: None,
            what: format!("no CPU can go on: {}{so}", waiting.join("; ")),
        }
    }

    /// Says what a CPU waits for, in brackets.
    fn awaited(&self, nodes: &Nodes, state: &State, cpu: CpuId, node: &Node) -> String {
        let program = self.automaton.program;
        let call = call_of(node);
        match call {
            Call::Halt => String::new(),
            Call::PauseUntil(cell, _) => {
                let values = self.hardware.machine().atomic_values(state);
                let (call, is) = (call_for_people(program, call), values[usize::from(cell.0)]);
                format!(" ({call}: it is {is})")
            }
            call if !node.is_head => format!(" ({})", call_for_people(program, call)),
            _ => {
                let mut reads = Reads {
                    program,
                    begun: None,
                    calls: Vec::new(),
                };
                let mut polling = state.to_vec();
                let step = call_in(cpu, Way::FIRST);
                while reads.calls.len() < MOST_CALLS_SHOWN {
                    let tried = self.step(nodes, &mut polling, step, &mut reads);
                    let went_on = matches!(tried, Ok(Tried::Done(_)));
                    if !went_on || polling == state {
                        break;
                    }
                }
                format!(" (polls: {})", reads.calls.join("; "))
            }
        }
    }

    /// Says whether a CPU does nothing in a state that anybody could notice, now and later.
    fn idles(
        &self,
        nodes: &Nodes,
        state: &State,
        cpu: CpuId,
        awaits: Awaits,
    ) -> Result<bool, StepError> {
        if !self.tick_changes_nothing(nodes, state, cpu, awaits)? {
            return Ok(false);
        }
        let cannot_act = self.active_node(state, cpu).is_none()
            || !self.is_possible(nodes, state, cpu, Action::Call)?;
        Ok(cannot_act || self.comes_to(nodes, state, state.to_vec(), cpu, awaits)?)
    }

    /// Says whether a timer interrupt that comes now leaves all as it was. Where nobody waits for one, it does
    /// not matter.
    fn tick_changes_nothing(
        &self,
        nodes: &Nodes,
        state: &State,
        cpu: CpuId,
        awaits: Awaits,
    ) -> Result<bool, StepError> {
        if awaits == Awaits::Others || self.automaton.program.timer_handler.is_none() {
            return Ok(true);
        }
        let mut ticked = state.to_vec();
        match or_unknown(self.take_tick(nodes, &mut ticked, cpu, Tick::Uncounted, Way::FIRST))? {
            None => Ok(false),
            Some(Tried::Impossible) => Ok(true),
            Some(Tried::Done(_)) if ticked == state => Ok(true),
            Some(Tried::Done(_)) => self.comes_to(nodes, state, ticked, cpu, Awaits::Others),
        }
    }

    /// Says whether the calls of a CPU may lead from a state to another one, without changing on the way what
    /// others can notice, or coming to where an interrupt must be taken.
    fn comes_to(
        &self,
        nodes: &Nodes,
        goal: &State,
        from: Vec<u8>,
        cpu: CpuId,
        awaits: Awaits,
    ) -> Result<bool, StepError> {
        let mut waiting = vec![from];
        let mut seen = HashSet::new();
        while let Some(state) = waiting.pop() {
            let mut way = Some(Way::FIRST);
            while let Some(this) = way {
                let mut next = state.clone();
                let called = self.call_and_drain(nodes, &mut next, cpu, this);
                way = match &called {
                    Ok(Tried::Done(Ways::Last) | Tried::Impossible) => None,
                    Ok(Tried::Done(Ways::More)) => Some(this.next()),
                    Err(_) => (self.has_ways(nodes, &state, cpu, Action::Call)
                        && this < Way::LAST_AFTER_VIOLATIONS)
                        .then(|| this.next()),
                };
                let is_quiet = matches!(or_unknown(called)?, Some(Tried::Done(_)))
                    && self.hardware.is_same_for_others(goal, &next, cpu)
                    && !self.must_act(nodes, &next, cpu)?
                    && self.tick_changes_nothing(nodes, &next, cpu, awaits)?;
                if is_quiet && next == goal {
                    return Ok(true);
                }
                if is_quiet && seen.insert(next.clone()) {
                    waiting.push(next);
                }
            }
        }
        Ok(false)
    }

    /// Makes a CPU's next call, and lets its store buffer drain.
    fn call_and_drain(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: CpuId,
        way: Way,
    ) -> Result<Tried, StepError> {
        let called = self.try_step(nodes, state, call_in(cpu, way))?;
        let drain = Step {
            cpu,
            action: Action::Drain,
            way: Way::FIRST,
        };
        while called != Tried::Impossible && self.hardware.has_buffered(state, cpu) {
            if self.try_step(nodes, state, drain)? == Tried::Impossible {
                break;
            }
        }
        Ok(called)
    }

    /// Tries a step beside the search, whose inner loop shall have the other copy of this code.
    #[cold]
    #[inline(never)]
    fn try_step(&self, nodes: &Nodes, state: &mut State, step: Step) -> Result<Tried, StepError> {
        self.step(nodes, state, step, &mut Unwatched)
    }

    /// Says whether something will happen on a CPU sooner or later, whatever its code does.
    fn must_act(&self, nodes: &Nodes, state: &State, cpu: CpuId) -> Result<bool, StepError> {
        for &action in self.actions() {
            let comes_by_itself = match action {
                Action::Call | Action::Tick | Action::Start => false,
                Action::Drain
                | Action::Combined
                | Action::Settle
                | Action::Broadcast
                | Action::DeliverNmi
                | Action::Deliver => true,
            };
            if comes_by_itself && self.is_possible(nodes, state, cpu, action)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn is_possible(
        &self,
        nodes: &Nodes,
        state: &State,
        cpu: CpuId,
        action: Action,
    ) -> Result<bool, StepError> {
        if !self.may_be_possible(state, cpu, action) {
            return Ok(false);
        }
        let way = Way::FIRST;
        let step = Step { cpu, action, way };
        let tried = self.try_step(nodes, &mut state.to_vec(), step);
        Ok(or_unknown(tried)? != Some(Tried::Impossible))
    }
}

/// Timer interrupts that each CPU may take to keep promises which are open when all have ended.
const ROUNDS_OF_TICKS: usize = 4;
/// Steps that one of them may lead to.
const MOST_STEPS_AFTER_A_TICK: usize = 10_000;
/// Calls of an iteration that a report names.
const MOST_CALLS_SHOWN: usize = 12;

fn call_in(cpu: CpuId, way: Way) -> Step {
    let action = Action::Call;
    Step { cpu, action, way }
}

/// Collects the calls of a poll, with their answers.
struct Reads<'p> {
    program: &'p Program,
    begun: Option<Call>,
    calls: Vec<String>,
}

impl CallWatcher for Reads<'_> {
    fn call_begins(&mut self, _cpu: CpuId, _routine: Routine, call: &Call, _state: &State) {
        self.begun = Some(*call);
    }

    fn call_returns(&mut self, answer: u64) {
        if let Some(call) = self.begun.take() {
            self.calls
                .push(answered_call_for_people(self.program, &call, answer));
        }
    }

    fn call_is_blocked(&mut self) {
        self.begun = None;
    }
}

/// Returns what a step came to, or `None` if it would end the search: then the search finds that by itself.
///
/// # Errors
/// If a node is not known yet.
fn or_unknown(tried: Result<Tried, StepError>) -> Result<Option<Tried>, StepError> {
    match tried {
        Ok(tried) => Ok(Some(tried)),
        Err(
            error @ (StepError::Unknown(_) | StepError::ReadsDead(_) | StepError::StoresUnstored),
        ) => Err(error),
        Err(_) => Ok(None),
    }
}
