//! One step of the whole system: a CPU's call, a delivered interrupt, or a store that drains.

use lazytlb::{CpuId, Interrupts};
use lazytlb_model::machine::Stop;
use lazytlb_model::{Call, Limit, Machine, MemoryModel, Outcome, Property, State, Violation};

use crate::automaton::{Automaton, ExtractionError, Missing, Next, Node, NodeId, Nodes, Routine};

/// What a step is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// The oldest store in the CPU's buffer becomes visible.
    Drain,
    /// One of the CPU's write-combining stores leaves, in the order that the number says.
    Combined(usize),
    /// The CPU does one of the invalidations that were broadcast to it.
    Broadcast(usize),
    /// The pending flush interrupt is delivered.
    Deliver,
    /// The pending NMI is delivered.
    DeliverNmi,
    /// The CPU's next seam call, in the way that the number says.
    Call(usize),
}

/// What may happen on a CPU of a program that uses nothing special, without store buffers and with them;
/// and all that may.
const BUFFERLESS_ACTIONS: [Action; 2] = [Action::Deliver, Action::Call(0)];
const SMALL_ACTIONS: [Action; 3] = [Action::Drain, Action::Deliver, Action::Call(0)];
const ALL_ACTIONS: [Action; 6] = [
    Action::Drain,
    Action::Combined(0),
    Action::Broadcast(0),
    Action::DeliverNmi,
    Action::Deliver,
    Action::Call(0),
];

/// A step: who, and what. With collapsing, the local calls that follow belong to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub(crate) cpu: usize,
    pub(crate) action: Action,
}

/// Whether steps that no other CPU can observe are merged with the step before them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reduction {
    /// They are merged, and so is disabling interrupts with the step after it: fewer states, the same
    /// verdicts.
    CollapseLocal,
    /// Every seam call is a step of its own.
    None,
}

impl From<Missing> for StepError {
    fn from(missing: Missing) -> Self {
        StepError::Unknown(missing)
    }
}

/// Why a step failed, other than by being impossible.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum StepError {
    Violation(Violation),
    Limit(Limit),
    Nondeterminism(String),
    FalseClaim(String),
    /// The step needs a node that the automaton does not have yet: [`Automaton::extend`], then again.
    Unknown(Missing),
}

impl From<Stop> for StepError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Violation(violation) => StepError::Violation(violation),
            Stop::Limit(limit) => StepError::Limit(limit),
        }
    }
}

impl From<ExtractionError> for StepError {
    fn from(error: ExtractionError) -> Self {
        match error {
            ExtractionError::Limit(limit) => StepError::Limit(limit),
            ExtractionError::FalseClaim(claim) => StepError::FalseClaim(claim.to_string()),
            error @ ExtractionError::Nondeterminism { .. } => {
                StepError::Nondeterminism(error.to_string())
            }
        }
    }
}

/// Whoever watches the calls of a step: a replay does, a search does not.
pub(crate) trait Watcher {
    /// A call is about to be tried.
    fn tries(&mut self, cpu: usize, routine: Routine, call: &Call);
    /// The call tried last was made.
    fn made(&mut self, answer: u64);
    /// The call tried last is not possible yet.
    fn was_blocked(&mut self);
}

/// Watches nothing.
pub(crate) struct Unwatched;

impl Watcher for Unwatched {
    fn tries(&mut self, _cpu: usize, _routine: Routine, _call: &Call) {}
    fn made(&mut self, _answer: u64) {}
    fn was_blocked(&mut self) {}
}

/// The transition system of a program on a machine: a pure function from states to states.
pub(crate) struct System<'p> {
    pub(crate) machine: Machine,
    pub(crate) automaton: Automaton<'p>,
    reduction: Reduction,
    /// Whether NMIs come: asked at every step, so it lies at hand.
    has_nmis: bool,
    /// What may happen on a CPU.
    first_actions: &'static [Action],
}

/// What trying a step came to.
pub(crate) enum Tried {
    /// The step is not possible in this state.
    Impossible,
    /// The state was changed.
    Done {
        /// Whether the machine could do the same call in another way.
        more: bool,
    },
}

impl<'p> System<'p> {
    pub(crate) fn new(machine: Machine, automaton: Automaton<'p>, reduction: Reduction) -> Self {
        let features = &automaton.program.features;
        let uses_more = features.nmis || features.broadcasts || features.write_combining > 0;
        System {
            has_nmis: features.nmis,
            first_actions: match machine.memory() {
                _ if uses_more => &ALL_ACTIONS,
                MemoryModel::Sc => &BUFFERLESS_ACTIONS,
                MemoryModel::Tso { .. } => &SMALL_ACTIONS,
            },
            machine,
            automaton,
            reduction,
        }
    }

    /// Returns the first state: every CPU before its first visible call.
    pub(crate) fn initial(&self, watcher: &mut impl Watcher) -> Result<Vec<u8>, StepError> {
        if let Some(violation) = self.machine.first_violation() {
            return Err(StepError::Violation(violation.clone()));
        }
        self.extending(|nodes| {
            let mut state = self.machine.initial();
            for cpu in 0..self.machine.layout().cpus() {
                self.start_operation(nodes, &mut state, cpu, 0)?;
                self.run_local(nodes, &mut state, cpu, &mut Unwatched)?;
            }
            Ok(())
        })?;
        // Everything is known now: once more, to be watched.
        let (nodes, mut state) = (self.automaton.read(), self.machine.initial());
        for cpu in 0..self.machine.layout().cpus() {
            self.start_operation(&nodes, &mut state, cpu, 0)?;
            self.run_local(&nodes, &mut state, cpu, watcher)?;
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

    /// Tries a step on `state`. After an error or [`Tried::Impossible`], the state is worthless.
    #[inline]
    pub(crate) fn step(
        &self,
        nodes: &Nodes,
        state: &mut State,
        step: Step,
        watcher: &mut impl Watcher,
    ) -> Result<Tried, StepError> {
        let (cpu, layout) = (step.cpu, self.machine.layout());
        let mut more = false;
        match step.action {
            Action::Drain => {
                if !self.machine.drain(state, cpu)? {
                    return Ok(Tried::Impossible);
                }
            }
            Action::Combined(choice) => {
                let Some(another) = self.machine.drain_combining(state, cpu, choice)? else {
                    return Ok(Tried::Impossible);
                };
                more = another;
            }
            Action::Broadcast(which) => {
                let requests = layout.broadcasts(state, cpu);
                let mut pending = (0..8)
                    .filter(|number| requests >> number & 1 != 0)
                    .skip(which);
                let Some(number) = pending.next() else {
                    return Ok(Tried::Impossible);
                };
                more = pending.next().is_some();
                self.machine.receive_broadcast(state, cpu, number)?;
            }
            Action::DeliverNmi => {
                let free = layout.nmi_node(state, cpu) == 0;
                if !free || !self.machine.can_deliver_nmi(state, cpu) {
                    return Ok(Tried::Impossible);
                }
                let handler = nodes.start(CpuId(cpu as u16), Routine::Nmi)?;
                self.wake(nodes, state, cpu)?;
                self.machine.deliver_nmi(state, cpu);
                self.settle(nodes, state, cpu, handler)?;
            }
            Action::Deliver => {
                let has_handler = self.automaton.program.handler.is_some();
                if !has_handler || !self.takes_interrupt(nodes, state, cpu) {
                    return Ok(Tried::Impossible);
                }
                let handler = nodes.start(CpuId(cpu as u16), Routine::Handler)?;
                self.wake(nodes, state, cpu)?;
                self.machine.deliver(state, cpu);
                self.settle(nodes, state, cpu, handler)?;
            }
            Action::Call(choice) => {
                let Some(id) = self.active_node(state, cpu) else {
                    return Ok(Tried::Impossible);
                };
                let call = call_of(nodes.get(id));
                match self.make_call(nodes, state, cpu, choice, watcher)? {
                    Outcome::Blocked => return Ok(Tried::Impossible),
                    Outcome::Done { more: another, .. } => more = another,
                }
                if *call == Call::DisableInterrupts && self.reduction == Reduction::CollapseLocal {
                    self.run_local(nodes, state, cpu, watcher)?;
                    self.go_on(nodes, state, cpu, watcher)?;
                }
            }
        }
        debug_assert_eq!(state.len(), layout.len());
        self.run_local(nodes, state, cpu, watcher)?;
        Ok(Tried::Done { more })
    }

    /// Makes the call after disabling interrupts in the same step, if it is possible now.
    ///
    /// Disabling them is a right-mover: whatever other CPUs do between it and this CPU's next call they might
    /// as well do before it, because they cannot tell, and this CPU takes no interrupt in between. If the
    /// next call is not possible yet, the state in between stays, or a deadlock in it would be lost.
    fn go_on(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: usize,
        watcher: &mut impl Watcher,
    ) -> Result<(), StepError> {
        let Some(id) = self.active_node(state, cpu) else {
            return Ok(());
        };
        let next = nodes.get(id);
        // The local calls in between may have restored interrupts: then one may come before the next call.
        // What may go on in several ways, one step cannot tell. And an NMI comes even so.
        if next.interrupts == Interrupts::Disabled && !call_of(next).has_ways() && !self.has_nmis {
            self.make_call(nodes, state, cpu, 0, watcher)?;
        }
        Ok(())
    }

    /// Makes a CPU's next call, and moves the CPU on unless it is blocked. There must be a next call.
    fn make_call(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: usize,
        choice: usize,
        watcher: &mut impl Watcher,
    ) -> Result<Outcome, StepError> {
        let id = self.active_node(state, cpu).expect("the caller looked");
        let node = nodes.get(id);
        let call = call_of(node);
        watcher.tries(cpu, node.routine, call);
        let outcome = self.machine.call(state, cpu, call, choice)?;
        match outcome {
            Outcome::Blocked => watcher.was_blocked(),
            Outcome::Done { answer, .. } => {
                watcher.made(answer);
                self.settle(nodes, state, cpu, nodes.successor(id, answer)?)?;
            }
        }
        Ok(outcome)
    }

    /// Says whether it is worth the copy of a state to try a step there: `false` only if it is impossible.
    pub(crate) fn may_be_possible(&self, state: &State, step: Step) -> bool {
        let layout = self.machine.layout();
        match step.action {
            Action::Drain => layout.buffered_len(state, step.cpu) > 0,
            Action::Combined(slot) => slot < layout.combining_len(state, step.cpu),
            Action::Broadcast(_) => layout.broadcasts(state, step.cpu) != 0,
            Action::DeliverNmi => {
                layout.is_nmi_pending(state, step.cpu)
                    && self.automaton.program.nmi_handler.is_some()
            }
            Action::Deliver => layout.is_pending(state, step.cpu),
            Action::Call(_) => self.active_node(state, step.cpu).is_some(),
        }
    }

    /// Returns the actions to try on a CPU: those that number their ways, with the first.
    pub(crate) fn first_actions(&self) -> &'static [Action] {
        self.first_actions
    }

    /// Says whether a CPU's next call can be made in several ways.
    pub(crate) fn has_ways(&self, state: &State, cpu: usize) -> bool {
        let nodes = self.automaton.read();
        self.active_node(state, cpu)
            .is_some_and(|id| call_of(nodes.get(id)).has_ways())
    }

    /// An interrupt ends a CPU's sleep.
    fn wake(&self, nodes: &Nodes, state: &mut State, cpu: usize) -> Result<(), StepError> {
        if !self.is_halted(nodes, state, cpu) {
            return Ok(());
        }
        let id = self.machine.layout().node(state, cpu);
        self.settle(nodes, state, cpu, nodes.successor(id, 0)?)
    }

    /// Says whether a CPU sleeps, and is in no handler.
    fn is_halted(&self, nodes: &Nodes, state: &State, cpu: usize) -> bool {
        let layout = self.machine.layout();
        let in_handler = layout.handler_node(state, cpu) != 0 || layout.nmi_node(state, cpu) != 0;
        match layout.node(state, cpu) {
            0 => false,
            id => !in_handler && *call_of(nodes.get(id)) == Call::Halt,
        }
    }

    /// Says whether every CPU has ended its program and is out of its handler.
    pub(crate) fn all_ended(&self, state: &State) -> bool {
        (0..self.machine.layout().cpus()).all(|cpu| self.active_node(state, cpu).is_none())
    }

    /// Describes a state in which nobody can take a step.
    pub(crate) fn deadlock(&self, state: &State) -> Violation {
        let waiting: Vec<String> = (0..self.machine.layout().cpus())
            .filter_map(|cpu| self.active_node(state, cpu).map(|id| (cpu, id)))
            .map(|(cpu, id)| {
                let nodes = self.automaton.read();
                let node = nodes.get(id);
                let routine = self.automaton.routine_name(node.cpu, node.routine);
                let interrupts = match node.interrupts {
                    Interrupts::Enabled => "on",
                    Interrupts::Disabled => "off",
                };
                format!("CPU {cpu} waits in \"{routine}\" with interrupts {interrupts}")
            })
            .collect();
        let nodes = self.automaton.read();
        let sleeps =
            (0..self.machine.layout().cpus()).any(|cpu| self.is_halted(&nodes, state, cpu));
        let (property, so) = match sleeps {
            true => (
                Property::LostWakeup,
                ", and no interrupt is left that would wake the one that sleeps",
            ),
            false => (Property::Deadlock, ""),
        };
        let what = format!("no CPU can go on: {}{so}", waiting.join("; "));
        Violation {
            property,
            cpu: None,
            frame: None,
            through: None,
            what,
        }
    }

    #[inline(always)]
    fn active_node(&self, state: &State, cpu: usize) -> Option<NodeId> {
        let layout = self.machine.layout();
        if self.has_nmis {
            let nmi = layout.nmi_node(state, cpu);
            if nmi != 0 {
                return Some(nmi);
            }
        }
        let handler = layout.handler_node(state, cpu);
        let id = if handler == 0 {
            layout.node(state, cpu)
        } else {
            handler
        };
        (id != 0).then_some(id)
    }

    fn takes_interrupt(&self, nodes: &Nodes, state: &State, cpu: usize) -> bool {
        let layout = self.machine.layout();
        if !self.machine.can_deliver(state, cpu)
            || layout.handler_node(state, cpu) != 0
            || self.has_nmis && layout.nmi_node(state, cpu) != 0
        {
            return false;
        }
        match layout.node(state, cpu) {
            0 => true,
            // STI; HLT: nothing comes between the two.
            id => {
                let node = nodes.get(id);
                node.interrupts == Interrupts::Enabled || node.next == Next::Call(Call::Halt)
            }
        }
    }

    /// Puts a CPU at a node; from an ended routine it goes on to what comes next.
    fn settle(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: usize,
        id: NodeId,
    ) -> Result<(), StepError> {
        let (layout, node) = (self.machine.layout(), nodes.get(id));
        match (&node.next, node.routine) {
            (Next::Call(_), Routine::Operation(_)) => layout.set_node(state, cpu, id),
            (Next::Call(_), Routine::Handler) => layout.set_handler_node(state, cpu, id),
            (Next::Panicked(message), _) => return Err(self.panicked(cpu, node, message)),
            (Next::Call(_), Routine::Nmi) => layout.set_nmi_node(state, cpu, id),
            (Next::Ended, Routine::Handler) => layout.set_handler_node(state, cpu, 0),
            (Next::Ended, Routine::Nmi) => layout.set_nmi_node(state, cpu, 0),
            (Next::Ended, Routine::Operation(index)) => {
                return self.start_operation(nodes, state, cpu, index + 1);
            }
        }
        Ok(())
    }

    fn start_operation(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: usize,
        index: usize,
    ) -> Result<(), StepError> {
        let id = CpuId(cpu as u16);
        if self.automaton.program.operation_of(id, index).is_none() {
            self.machine.layout().set_node(state, cpu, 0);
            return Ok(());
        }
        self.settle(
            nodes,
            state,
            cpu,
            nodes.start(id, Routine::Operation(index))?,
        )
    }

    /// Runs the CPU's calls as long as no other CPU can tell when they happen.
    fn run_local(
        &self,
        nodes: &Nodes,
        state: &mut State,
        cpu: usize,
        watcher: &mut impl Watcher,
    ) -> Result<(), StepError> {
        if self.reduction == Reduction::None {
            return Ok(());
        }
        while let Some(id) = self.active_node(state, cpu) {
            let node = nodes.get(id);
            let call = call_of(node);
            if !self.machine.is_local(state, cpu, call, node.interrupts) {
                return Ok(());
            }
            let outcome = self.make_call(nodes, state, cpu, 0, watcher)?;
            assert!(outcome != Outcome::Blocked, "a local call never blocks");
        }
        Ok(())
    }

    fn panicked(&self, cpu: usize, node: &Node, message: &str) -> StepError {
        let routine = self.automaton.routine_name(node.cpu, node.routine);
        StepError::Violation(Violation {
            property: Property::Panic,
            cpu: Some(cpu as u8),
            frame: None,
            through: None,
            what: format!("CPU {cpu} panics in \"{routine}\": {message}"),
        })
    }
}

fn call_of(node: &Node) -> &Call {
    match &node.next {
        Next::Call(call) => call,
        _ => unreachable!("a CPU never rests where its code has ended"),
    }
}
