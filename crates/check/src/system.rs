//! The transition system of a program on a machine: a pure function from states to states.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lazytlb::CpuId;
use lazytlb_model::{Call, MemoryModel, Property, State, Tick, Ticks, Violation};

use crate::automaton::{Automaton, Next, Node, NodeId, Nodes, Routine};
use crate::dead_words::DeadWords;
use crate::event::call_for_people;
use crate::hardware::{Called, Hardware, Tried, Way, number_for_people};
use crate::reduction::{CanonicalForm, Merge, Reduction, can_be_taken_along};
use crate::routine::OperationIndex;
use crate::step::{Action, CallWatcher, Step, StepError, Unwatched};

/// What may happen on a CPU of a program that uses nothing special, without store buffers and with them;
/// and all that may.
const BUFFERLESS_ACTIONS: [Action; 2] = [Action::Deliver, Action::Call];
const SMALL_ACTIONS: [Action; 3] = [Action::Drain, Action::Deliver, Action::Call];
const ALL_ACTIONS: [Action; 9] = [
    Action::Drain,
    Action::Combined,
    Action::Settle,
    Action::Broadcast,
    Action::DeliverNmi,
    Action::Deliver,
    Action::Tick,
    Action::Call,
    Action::Start,
];

/// A program on a machine, with the steps that are merged.
pub(crate) struct System<'p, M = Reduction> {
    pub(crate) hardware: Hardware,
    pub(crate) automaton: Automaton<'p>,
    pub(crate) merge: M,
    /// Words that are dead between operations, where operations start for ever.
    pub(crate) dead_words: Option<Arc<DeadWords>>,
    /// Whether NMIs come: asked at every step, so it lies at hand.
    pub(crate) has_nmis: bool,
    actions: &'static [Action],
    leaves_ways_out: AtomicBool,
}

impl<'p, M: Merge> System<'p, M> {
    pub(crate) fn new(hardware: Hardware, automaton: Automaton<'p>, merge: M) -> Self {
        let features = automaton.program.features_in_use();
        let uses_more = features.endless
            || features.nmis
            || features.ticks != Ticks::Never
            || features.broadcasts
            || features.write_combining > 0
            || hardware.machine().settles();
        let program = automaton.program;
        System {
            dead_words: features.endless.then(|| Arc::new(DeadWords::of(program))),
            has_nmis: features.nmis,
            actions: match hardware.machine().memory() {
                _ if uses_more => &ALL_ACTIONS,
                MemoryModel::Sc => &BUFFERLESS_ACTIONS,
                MemoryModel::Tso { .. } => &SMALL_ACTIONS,
            },
            hardware,
            automaton,
            merge,
            leaves_ways_out: AtomicBool::new(false),
        }
    }

    /// Notes that some ways of a step were not tried.
    pub(crate) fn leave_ways_out(&self) {
        self.leaves_ways_out.store(true, Ordering::Relaxed);
    }

    /// Says whether some ways of a step were not tried: then not all is explored.
    pub(crate) fn left_ways_out(&self) -> bool {
        self.leaves_ways_out.load(Ordering::Relaxed)
    }

    /// Returns the first state: every CPU before its first visible call.
    pub(crate) fn initial(&self, watcher: &mut impl CallWatcher) -> Result<Vec<u8>, StepError> {
        if let Some(violation) = self.hardware.machine().first_violation() {
            return Err(StepError::Violation(violation.clone()));
        }
        self.extending(|nodes| self.start(nodes, &mut Unwatched))?;
        // Everything is known now: once more, to be watched.
        self.start(&self.automaton.read(), watcher)
    }

    fn start(&self, nodes: &Nodes, watcher: &mut impl CallWatcher) -> Result<Vec<u8>, StepError> {
        let mut state = self.hardware.machine().initial();
        for cpu in self.hardware.cpus() {
            self.start_operation(nodes, &mut state, cpu, OperationIndex::FIRST)?;
            self.run_local(nodes, &mut state, cpu, watcher)?;
        }
        Ok(state)
    }

    /// Does something with the automaton, as often as it takes for every node that it needs to be known.
    pub(crate) fn extending<T>(
        &self,
        mut attempt: impl FnMut(&Nodes) -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        loop {
            let result = attempt(&self.automaton.read());
            match result {
                Err(StepError::Unknown(missing)) => self.automaton.extend(missing)?,
                known => return known,
            }
        }
    }

    /// Returns a state as it is remembered.
    pub(crate) fn formed(
        &self,
        form: &impl CanonicalForm,
        state: &State,
    ) -> Result<Vec<u8>, StepError> {
        let mut formed = state.to_vec();
        self.extending(|nodes| {
            formed.copy_from_slice(state);
            form.apply(&self.hardware, nodes, &mut formed)
        })?;
        Ok(formed)
    }

    /// Tries a step on `state`. After an error or [`Tried::Impossible`], the state is worthless.
    #[inline(always)]
    pub(crate) fn step(
        &self,
        nodes: &Nodes,
        state: &mut State,
        step: Step,
        watcher: &mut impl CallWatcher,
    ) -> Result<Tried, StepError> {
        let Step { cpu, action, way } = step;
        let tried = match action {
            Action::Drain => self.hardware.drain(state, cpu)?,
            Action::Combined => self.hardware.drain_combining(state, cpu, way)?,
            Action::Settle => self.hardware.settle(state, cpu, way)?,
            Action::Broadcast => self.hardware.receive_broadcast(state, cpu, way)?,
            Action::DeliverNmi => self.deliver_nmi(nodes, state, cpu, way)?,
            Action::Deliver => self.deliver(nodes, state, cpu, way)?,
            Action::Tick => return self.take_tick(nodes, state, cpu, Tick::Counted, way),
            Action::Call => self.step_call(nodes, state, cpu, way, watcher)?,
            Action::Start => self.start_offered(nodes, state, cpu, way, watcher)?,
        };
        if tried != Tried::Impossible {
            self.run_local(nodes, state, cpu, watcher)?;
        }
        Ok(tried)
    }

    #[inline(always)]
    fn step_call(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: CpuId,
        way: Way,
        watcher: &mut impl CallWatcher,
    ) -> Result<Tried, StepError> {
        let Some(id) = self.active_node(state, cpu) else {
            return Ok(Tried::Impossible);
        };
        match self.make_call(nodes, state, cpu, id, way, watcher)? {
            Called::Blocked => Ok(Tried::Impossible),
            Called::Returned(_, ways) => {
                if self.merge.takes_next_along(call_of(nodes.get(id))) {
                    self.run_local(nodes, state, cpu, watcher)?;
                    self.take_next_along(nodes, state, cpu, watcher)?;
                }
                Ok(Tried::Done(ways))
            }
        }
    }

    /// Makes the visible call that follows in the same step, if it is possible now. If it is not possible
    /// yet, the state in between stays, or a deadlock in it would be lost.
    pub(crate) fn take_next_along(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: CpuId,
        watcher: &mut impl CallWatcher,
    ) -> Result<(), StepError> {
        let Some(id) = self.active_node(state, cpu) else {
            return Ok(());
        };
        let next = nodes.get(id);
        // An NMI comes even so.
        if can_be_taken_along(next, call_of(next)) && !self.has_nmis {
            self.make_call(nodes, state, cpu, id, Way::FIRST, watcher)?;
        }
        Ok(())
    }

    /// Makes the call at a CPU's active node, and moves the CPU on unless it is blocked.
    #[inline]
    pub(crate) fn make_call(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: CpuId,
        id: NodeId,
        way: Way,
        watcher: &mut impl CallWatcher,
    ) -> Result<Called, StepError> {
        let node = nodes.get(id);
        let call = call_of(node);
        if let Some(dead) = &self.dead_words
            && let Some(word) = dead.read_by(self.hardware.machine(), state, cpu, call)
        {
            return Err(StepError::ReadsDead(word));
        }
        watcher.call_begins(cpu, node.routine, call, state);
        let exhibit = &node.exhibit;
        let shows = exhibit.waits() && self.hardware.shows(state, cpu, call);
        let called = self.hardware.call(state, cpu, call, way)?;
        match called {
            Called::Blocked => watcher.call_is_blocked(),
            Called::Returned(answer, _) => {
                if shows {
                    exhibit.is_shown();
                }
                watcher.call_returns(answer);
                self.settle(nodes, state, cpu, nodes.successor(id, answer)?)?;
            }
        }
        Ok(called)
    }

    /// Says whether it is worth the copy of a state to try an action there: `false` only if it is
    /// impossible in every way.
    #[inline(always)]
    pub(crate) fn may_be_possible(&self, state: &State, cpu: CpuId, action: Action) -> bool {
        match action {
            Action::Drain => self.hardware.has_buffered(state, cpu),
            Action::Combined => self.hardware.has_combining(state, cpu),
            Action::Settle => self.hardware.may_settle(state, cpu),
            Action::Broadcast => self.hardware.has_broadcasts(state, cpu),
            Action::DeliverNmi => {
                self.hardware.is_nmi_pending(state, cpu)
                    && self.automaton.program.nmi_handler.is_some()
            }
            Action::Deliver => self.hardware.is_pending(state, cpu),
            Action::Tick => self.automaton.program.timer_handler.is_some(),
            Action::Call => self.active_node(state, cpu).is_some(),
            Action::Start => self.offered(state, cpu).next().is_some(),
        }
    }

    /// Returns what may happen on a CPU.
    #[inline]
    pub(crate) fn actions(&self) -> &'static [Action] {
        self.actions
    }

    /// Says whether an action can be done in several ways.
    pub(crate) fn has_ways(
        &self,
        nodes: &Nodes,
        state: &State,
        cpu: CpuId,
        action: Action,
    ) -> bool {
        match action {
            Action::Call => {
                let active = self.active_node(state, cpu);
                active.is_some_and(|id| call_of(nodes.get(id)).has_ways())
            }
            Action::Combined | Action::Settle | Action::Broadcast | Action::Start => true,
            Action::Deliver | Action::DeliverNmi | Action::Tick => {
                self.halted_at(nodes, state, cpu).is_some()
            }
            Action::Drain => false,
        }
    }

    /// Says whether every CPU has ended its program and is out of its handler.
    pub(crate) fn all_ended(&self, state: &State) -> bool {
        let mut cpus = self.hardware.cpus();
        cpus.all(|cpu| self.active_node(state, cpu).is_none())
    }

    /// Says whether the program has ended in a state from which nothing but timer interrupts can lead on. What
    /// still waits for a translation then never had one: no execution ends there.
    pub(crate) fn is_end(&self, state: &State) -> bool {
        self.all_ended(state) && !self.hardware.machine().waits_untranslated(state)
    }

    #[inline(always)]
    pub(crate) fn active_node(&self, state: &State, cpu: CpuId) -> Option<NodeId> {
        if self.has_nmis
            && let Some(id) = self.hardware.nmi_node(state, cpu)
        {
            return Some(id);
        }
        let (node, handler) = self.hardware.node_and_handler_node(state, cpu);
        handler.or(node)
    }

    /// Puts a CPU at a node; from an ended routine it moves on to what comes next.
    #[inline(always)]
    pub(crate) fn settle(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: CpuId,
        id: NodeId,
    ) -> Result<(), StepError> {
        let node = nodes.get(id);
        let place = match (&node.next, node.routine) {
            (Next::Call(_), _) => Some(id),
            (Next::Ended, Routine::Handler | Routine::Nmi | Routine::Timer) => None,
            (Next::Ended, Routine::Operation(index)) => {
                return self.end_operation(nodes, state, cpu, index);
            }
            (Next::Panicked(message), _) => return Err(self.panicked(node, message)),
        };
        Ok(self.hardware.set_node(state, cpu, node.routine, place)?)
    }

    /// Says why the code has so many places, if it spins.
    #[cold]
    pub(crate) fn spin_loop(&self) -> Option<StepError> {
        let nodes = self.automaton.read();
        let spin = self.automaton.spin_loop(&nodes)?;
        let calls = spin.calls.iter();
        let calls: Vec<String> = calls
            .map(|call| call_for_people(self.automaton.program, call))
            .collect();
        Some(StepError::SpinLoop(format!(
            "spin loop: CPU {} makes the same calls in \"{}\" again and again ({}), and so the program has {} \
             places in its code, and more to come. Code waits for a word by `pause_until`, for more than one by \
             `Poll::poll`",
            spin.cpu.0,
            spin.routine,
            calls.join("; "),
            nodes.count(),
        )))
    }

    /// Makes the CPU's calls as long as they belong to the step before them.
    pub(crate) fn run_local(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: CpuId,
        watcher: &mut impl CallWatcher,
    ) -> Result<(), StepError> {
        while let Some(id) = self.active_node(state, cpu) {
            let node = nodes.get(id);
            let call = call_of(node);
            // A poll of local calls alone would go round here for ever.
            let is_local = !node.is_head
                && self
                    .merge
                    .is_made_at_once(&self.hardware, state, cpu, node, call);
            if !is_local {
                return Ok(());
            }
            let called = self.make_call(nodes, state, cpu, id, Way::FIRST, watcher)?;
            assert!(called != Called::Blocked, "a local call never blocks");
        }
        Ok(())
    }

    #[cold]
    fn panicked(&self, node: &Node, message: &str) -> StepError {
        let routine = self.automaton.routine_name(node.cpu, node.routine);
        StepError::Violation(Violation {
            property: Property::Panic,
            cpu: Some(number_for_people(node.cpu)),
            frame: None,
            through: None,
            what: format!("CPU {} panics in \"{routine}\": {message}", node.cpu.0),
        })
    }
}

#[inline]
pub(crate) fn call_of(node: &Node) -> &Call {
    match &node.next {
        Next::Call(call) => call,
        Next::Ended | Next::Panicked(_) => {
            unreachable!("a CPU never rests where its code has ended")
        }
    }
}
