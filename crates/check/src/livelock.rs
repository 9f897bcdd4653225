//! Livelocks: CPUs that go on for ever, each time round changing something, without anybody starting an operation and
//! without a timer interrupt.
//!
//! ```text
//!  CPU 0                          CPU 1
//!  head: takes lock a             head: takes lock b
//!        finds b taken                  finds a taken
//!        frees a, again                 frees b, again          and so on
//! ```
//!
//! What is proved with deadlocks ([`crate::standstill`]) and these is *rest*: from every state, if nobody starts an
//! operation and no timer interrupt comes, every execution ends, with all CPUs at rest. For one that does not end
//! is in finitely many states again and again, and these lie in one strongly connected component of the steps that
//! are neither starts nor timer interrupts. What it takes again and again in there makes a [`Round`] that puts nothing off:
//! that is what is looked for here, when all states are known. The reverse holds as well: whoever goes round so, and
//! everywhere in between, puts nothing off for ever. (Components of parts of a component are asked, too: what is put off
//! in the whole need not be come through.)
//!
//! Whether rest can still be *reached* is no second question. A state from which it cannot leads into a component that
//! is left no more. If that is one state without a step, all CPUs have ended, or wait, or the state is a deadlock. If
//! it has steps, all that is possible in it is done in it: it puts nothing off.
//!
//! Code that is extracted goes only forward, but for polls ([`crate::automaton`]). So every state of a component has a
//! CPU that is in an iteration of a poll; or else interrupts lead round, sent by handlers, and every state has
//! one that is pending or handled. A CPU outside of polls stays where it is, and if nothing holds it up there, others cannot go
//! round for ever. Only what is left after that is expanded once more: a few states, of which many wait for a word.
//!
//! Merged steps ([`crate::reduction`]) hide no round: a merged step ends before the head of a poll, so each iteration
//! begins in a state that is remembered, and what is merged is possible whatever others do, and changes nothing that is due on
//! others. A state in its form stands for those that differ in names: who comes back to a form can go round once more from there, by
//! steps that do the same under other names.

use std::time::Instant;

use lazytlb::CpuId;
use lazytlb_model::{Call, Property, State, Violation};

use crate::automaton::{NodeId, Nodes, Routine};
use crate::cycles::{Components, Edge, Graph, Vertex};
use crate::error::CheckError;
use crate::expand::{AfterViolation, successors};
use crate::explore::{Exploration, Limits};
use crate::fairness::{Due, Duties, Duty, Round};
use crate::hardware::number_for_people;
use crate::reduction::{CanonicalForm, Merge};
use crate::step::{Action, Step, StepError};
use crate::store::{StateId, Store};
use crate::system::{System, call_of};

/// CPUs that go on for ever.
pub(crate) struct Livelock {
    pub(crate) violation: Violation,
    /// The state in which they come round.
    pub(crate) from: StateId,
    /// The steps once round.
    pub(crate) round: Vec<Step>,
}

/// What looking for livelocks came to.
pub(crate) enum Looked {
    Nowhere,
    Found(Livelock),
    /// It ended before all was looked at.
    Unfinished(String),
}

/// What of a program's code may lead round.
#[derive(Clone, Copy)]
struct Suspects {
    /// Code polls.
    polls: bool,
    /// Handlers send interrupts: these may lead round without a poll.
    handlers_send: bool,
    /// Code sends interrupts that leads round: handlers may run again and again.
    interrupts_recur: bool,
}

impl Suspects {
    fn of(nodes: &Nodes) -> Suspects {
        let mut suspects = Suspects {
            polls: nodes.has_heads(),
            handlers_send: false,
            interrupts_recur: false,
        };
        for (_, node) in nodes.all() {
            let sends = matches!(node.next.call(), Some(Call::SendIpi(_) | Call::SendNmi(_)));
            let in_handler = matches!(node.routine, Routine::Handler | Routine::Nmi);
            suspects.handlers_send |= sends && in_handler;
            suspects.interrupts_recur |= sends && (in_handler || node.polls);
        }
        suspects
    }

    /// Says whether a state may be one that is come to again and again.
    fn may_recur<M: Merge>(self, system: &System<'_, M>, nodes: &Nodes, state: &State) -> bool {
        let hardware = &system.hardware;
        let mut goes_round = false;
        for cpu in hardware.cpus() {
            let in_handler = hardware.handler_node(state, cpu).is_some()
                || hardware.nmi_node(state, cpu).is_some();
            let is_interrupted = in_handler
                || hardware.is_pending(state, cpu)
                || hardware.is_nmi_pending(state, cpu);
            let mut places = hardware.places(state, cpu);
            goes_round |=
                places.any(|place| nodes.get(place).polls) || self.handlers_send && is_interrupted;
            let may_leave = in_handler && self.interrupts_recur;
            if let Some(active) = system.active_node(state, cpu)
                && !may_leave
                && goes_on(nodes, active)
            {
                return false;
            }
        }
        goes_round
    }
}

/// Says whether code outside of polls goes on at a place, whatever others do: at most, its own buffers drain first.
fn goes_on(nodes: &Nodes, id: NodeId) -> bool {
    let node = nodes.get(id);
    let needs_nobody = match call_of(node) {
        Call::Load(_)
        | Call::Store(..)
        | Call::Rmw(..)
        | Call::LoadLocal(_)
        | Call::StoreLocal(..)
        | Call::Fence
        | Call::DisableInterrupts
        | Call::RestoreInterrupts(_)
        | Call::SendIpi(_)
        | Call::SendNmi(_)
        | Call::LoadCr3(..)
        | Call::Invlpg(_)
        | Call::WriteEntry(..)
        | Call::PromiseBegins(..)
        | Call::PromiseKept(_)
        | Call::FlushBegins(..)
        | Call::FlushReturned(_) => true,
        // Others are asked when it comes to it.
        _ => false,
    };
    needs_nobody && !node.polls
}

/// States between two looks at the clock.
const BETWEEN_LOOKS: usize = 1 << 10;

impl<C, S, O, M> Exploration<'_, C, S, O, M>
where
    C: CanonicalForm,
    S: Store,
    O: crate::order::Order + Default,
    M: Merge,
{
    /// Looks for CPUs that go on for ever, when all states are known.
    ///
    /// # Errors
    /// As [`Exploration::run`].
    pub(crate) fn livelock(&mut self) -> Result<Looked, CheckError> {
        let suspects = Suspects::of(&self.system.automaton.read());
        let is_looked_at = self.system.automaton.program.looks_at(Property::Deadlock);
        if !is_looked_at || !(suspects.polls || suspects.handlers_send) {
            return Ok(Looked::Nowhere);
        }
        if suspects.handlers_send && self.store.first_kept() > 0 {
            let why = "handlers send interrupts, perhaps for ever: that is looked for in whole states only, not \
                       in fingerprints";
            return Ok(Looked::Unfinished(why.to_owned()));
        }
        let looked = self.among(suspects);
        looked.or_else(|error| {
            error.into_violation()?;
            unreachable!("every step was taken before, and violated nothing")
        })
    }

    fn among(&mut self, suspects: Suspects) -> Result<Looked, StepError> {
        let states = self.suspected(suspects);
        let graph = match self.graph(&states)? {
            Ok(graph) => graph,
            Err(limit) => return Ok(Looked::Unfinished(limit)),
        };
        let mut looking = Looking {
            system: &self.system,
            store: &self.store,
            components: Components::new(&graph),
            states: &states,
        };
        let over = || self.limits.reached_by(&self.store, &graph, self.started);
        let (best, limit) = looking.first_livelock(graph.vertices().collect(), over)?;
        // One that is found is one, however late.
        match (best, limit) {
            (Some(members), _) => Ok(looking.told(&members)?),
            (None, Some(limit)) => Ok(Looked::Unfinished(limit)),
            (None, None) => Ok(Looked::Nowhere),
        }
    }

    /// Lists the states that may be come to again and again.
    fn suspected(&self, suspects: Suspects) -> Vec<StateId> {
        let nodes = self.system.automaton.read();
        let mut state = vec![0; self.system.hardware.state_len()];
        let ids = self.store.first_kept()..self.store.len();
        ids.filter(|&id| {
            self.store.load(id, &mut state);
            suspects.may_recur(&self.system, &nodes, &state)
        })
        .collect()
    }

    /// Finds the steps among states that are neither starts nor timer interrupts; or the limit that is reached.
    fn graph(&mut self, states: &[StateId]) -> Result<Result<Graph, String>, StepError> {
        let mut base = vec![0; self.system.hardware.state_len()];
        let mut scratch = base.clone();
        let mut graph = Graph::new();
        for (index, &id) in states.iter().enumerate() {
            if index % BETWEEN_LOOKS == 0
                && let Some(limit) = self.limits.reached_by(&self.store, &graph, self.started)
            {
                return Ok(Err(limit));
            }
            self.store.load(id, &mut base);
            let store = &mut self.store;
            successors(
                &self.system,
                &self.form,
                &base,
                &mut scratch,
                |action| !matches!(action, Action::Start | Action::Tick),
                |_, step, next| {
                    let next = store.find(next, id, &base);
                    let to = next.and_then(|next| states.binary_search(&next).ok());
                    if let Some(to) = to.map(Vertex::from_index) {
                        graph.add_edge(Edge { step, to });
                    }
                },
                |_, _| AfterViolation::GoOn,
            )?;
            graph.add_vertex();
        }
        Ok(Ok(graph))
    }
}

impl Limits {
    /// Says which limit of memory or time is reached, with a graph beside the store.
    fn reached_by(&self, store: &impl Store, graph: &Graph, started: Instant) -> Option<String> {
        let bytes = (store.memory_bytes() + graph.memory_bytes()) as u64;
        if bytes >= self.max_memory_bytes {
            let mebibytes = self.max_memory_bytes >> 20;
            return Some(format!(
                "the limit of {mebibytes} MiB was reached while looking for livelocks"
            ));
        }
        let is_late =
            self.max_time != std::time::Duration::MAX && started.elapsed() >= self.max_time;
        is_late.then(|| {
            format!(
                "the limit of {:?} was reached while looking for livelocks",
                self.max_time
            )
        })
    }
}

/// Looks at components.
struct Looking<'a, 'g, 'p, S, M> {
    system: &'a System<'p, M>,
    store: &'a S,
    components: Components<'g>,
    states: &'a [StateId],
}

impl<S: Store, M: Merge> Looking<'_, '_, '_, S, M> {
    /// Returns the states of a component in which CPUs go on for ever: the one that is soonest come to. If a limit
    /// is reached, it is returned, too.
    fn first_livelock(
        &mut self,
        all: Vec<Vertex>,
        over: impl Fn() -> Option<String>,
    ) -> Result<(Option<Vec<Vertex>>, Option<String>), StepError> {
        let mut best: Option<Vec<Vertex>> = None;
        let mut waiting = vec![all];
        while let Some(part) = waiting.pop() {
            for (index, component) in self.components.among(&part).into_iter().enumerate() {
                if index % BETWEEN_LOOKS == 0
                    && let Some(limit) = over()
                {
                    return Ok((best, Some(limit)));
                }
                let first = component.iter().min();
                if best.as_ref().is_some_and(|best| best.iter().min() <= first) {
                    continue;
                }
                match self.round(&component)?.puts_off() {
                    None => best = (!self.is_ignored(&component)).then_some(component).or(best),
                    Some(due) => waiting.extend(self.without(&component, due)?),
                }
            }
        }
        Ok((best, None))
    }

    /// Returns what is met by whoever goes everywhere in a component.
    fn round(&self, component: &[Vertex]) -> Result<Round, StepError> {
        let mut round = Round::default();
        for &vertex in component {
            let state = self.state(vertex);
            round.comes_through(&self.duties(&state)?);
            for edge in self.components.edges_within(vertex) {
                round.takes(self.system.duties_done(&state, edge.step));
            }
        }
        Ok(round)
    }

    /// Returns what is left of a component for whoever avoids what they cannot put off.
    fn without(&self, component: &[Vertex], due: Due) -> Result<Vec<Vec<Vertex>>, StepError> {
        let (mut left, mut nobody_awaits) = (Vec::new(), Vec::new());
        for &vertex in component {
            let duties = self.duties(&self.state(vertex))?;
            if !duties.forbid(due) {
                left.push(vertex);
            }
            // Or nobody waits for a timer interrupt: then it need not come.
            if due.1 == Duty::Tick && !duties.await_tick() {
                nobody_awaits.push(vertex);
            }
        }
        let mut parts = vec![left, nobody_awaits];
        parts.retain(|part| !part.is_empty());
        Ok(parts)
    }

    /// Says whether the program leaves out what is wrong with going round here: a CPU sleeps meanwhile, and nobody
    /// looks at lost wake-ups.
    fn is_ignored(&self, component: &[Vertex]) -> bool {
        let nodes = self.system.automaton.read();
        let sleeps = |state: &State| {
            let mut cpus = self.system.hardware.cpus();
            cpus.any(|cpu| self.system.halted_at(&nodes, state, cpu).is_some())
        };
        let program = self.system.automaton.program;
        !program.looks_at(Property::LostWakeup)
            && component.iter().any(|&vertex| sleeps(&self.state(vertex)))
    }

    /// Returns the livelock of a component: a way round that puts nothing off, from the state that is soonest come to.
    fn told(&mut self, component: &[Vertex]) -> Result<Looked, StepError> {
        self.components.separate(component);
        let first = *component.iter().min().expect("it has a step");
        let mut way: Vec<Edge> = Vec::new();
        loop {
            let at = way.last().map_or(first, |edge| edge.to);
            let back = match at == first && !way.is_empty() {
                true => Vec::new(),
                false => {
                    let back = self.components.way(at, |_, edge| edge.to == first);
                    back.unwrap_or_default()
                }
            };
            let closed: Vec<Edge> = way.iter().chain(&back).copied().collect();
            let Some(due) = self.round_along(first, &closed)?.puts_off() else {
                return Ok(Looked::Found(Livelock {
                    violation: self.violation(first, &closed),
                    from: self.states[first.index()],
                    round: closed.into_iter().map(|edge| edge.step).collect(),
                }));
            };
            let Some(on) = self.way_to_do(at, due)? else {
                let why = "CPUs go on for ever, but how was not found";
                return Ok(Looked::Unfinished(why.to_owned()));
            };
            way.extend(on);
        }
    }

    /// Returns what is met on a way.
    fn round_along(&self, first: Vertex, way: &[Edge]) -> Result<Round, StepError> {
        let mut round = Round::default();
        let mut at = first;
        for edge in way {
            let state = self.state(at);
            round.comes_through(&self.duties(&state)?);
            round.takes(self.system.duties_done(&state, edge.step));
            at = edge.to;
        }
        Ok(round)
    }

    /// Returns a shortest way to where something that is due is done, or need not be.
    fn way_to_do(&self, from: Vertex, due: Due) -> Result<Option<Vec<Edge>>, StepError> {
        let mut failed = None;
        let way = self.components.way(from, |at, edge| {
            let state = self.state(at);
            if self
                .system
                .duties_done(&state, edge.step)
                .any(|done| done == due)
            {
                return true;
            }
            match self.duties(&self.state(edge.to)) {
                Ok(duties) => duties.excuse(due),
                Err(error) => {
                    failed = Some(error);
                    true
                }
            }
        });
        failed.map_or(Ok(way), Err)
    }

    fn state(&self, vertex: Vertex) -> Vec<u8> {
        let mut state = vec![0; self.system.hardware.state_len()];
        self.store.load(self.states[vertex.index()], &mut state);
        state
    }

    fn duties(&self, state: &State) -> Result<Duties, StepError> {
        self.system
            .extending(|nodes| self.system.duties(nodes, state))
    }

    /// Describes CPUs that go on for ever.
    fn violation(&self, first: Vertex, round: &[Edge]) -> Violation {
        let mut going: Vec<(CpuId, Vec<String>)> = Vec::new();
        let nodes = self.system.automaton.read();
        let mut at = first;
        for edge in round {
            let state = self.state(at);
            let cpu = edge.step.cpu;
            if edge.step.action == Action::Call
                && let Some(active) = self.system.active_node(&state, cpu)
            {
                let routine = nodes.get(active).routine;
                let routine = format!("\"{}\"", self.system.automaton.routine_name(cpu, routine));
                match going.iter_mut().find(|(known, _)| *known == cpu) {
                    Some((_, routines)) if routines.contains(&routine) => {}
                    Some((_, routines)) => routines.push(routine),
                    None => going.push((cpu, vec![routine])),
                }
            }
            at = edge.to;
        }
        going.sort();
        let state = self.state(first);
        let name = |cpu: CpuId| format!("CPU {}", cpu.0);
        let in_routines = going.iter();
        let mut doing: Vec<String> = in_routines
            .map(|(cpu, routines)| format!("{} in {}", name(*cpu), routines.join(" and ")))
            .collect();
        for cpu in self.system.hardware.cpus() {
            let is_going = going.iter().any(|(known, _)| *known == cpu);
            if let Some(place) = self.system.active_node(&state, cpu).filter(|_| !is_going) {
                let routine = self
                    .system
                    .automaton
                    .routine_name(cpu, nodes.get(place).routine);
                doing.push(format!("{} waits in \"{routine}\"", name(cpu)));
            }
        }
        let names: Vec<String> = going.iter().map(|(cpu, _)| name(*cpu)).collect();
        let so = match &names[..] {
            [only] => format!("{only} goes on for ever, and does not come to rest"),
            [one, other] => format!("{one} and {other} go on for ever, and neither comes to rest"),
            _ => format!(
                "{} go on for ever, and none comes to rest",
                names.join(", ")
            ),
        };
        let cpu = match &going[..] {
            [(only, _)] => Some(number_for_people(*only)),
            _ => None,
        };
        Violation {
            property: Property::Deadlock,
            cpu,
            frame: None,
            through: None,
            what: format!("{so}: {}", doing.join("; ")),
        }
    }
}
