//! Automaton extraction: real code as a graph of seam calls and answers.
//!
//! A node is the next seam call after certain answers, an edge is an answer. A node is made when the
//! search first gets there, by running the operation against the answers on the way; from then on a step
//! of that code is a table look-up. So a CPU's whole local state is one number.
//!
//! The nodes of a routine are a tree, but for the answers that end an iteration of a poll.
//!
//! | file | what |
//! | --- | --- |
//! | `polls` | where those lead, and that it is right |
//! | `spin` | code that loops without them |
//! | `stretches` | whether code that starts for ever only compares generations |
//! | `ways` | the ways through the code, for a second run |

mod polls;
pub(crate) mod spin;
mod stretches;
pub(crate) mod ways;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::{Arc, RwLock, RwLockReadGuard};

use lazytlb::{CpuId, Interrupts};
use lazytlb_model::{Call, Limit};

use crate::claims::{Claims, FalseClaim};
use crate::iterations::Iterations;
use crate::model_hw::{Constants, ModelHw, RunReport};
use crate::program::Program;
use crate::rehearsal::{Log, Rehearsal};
use crate::rests_on::{Exhibit, RestsOn};
pub(crate) use crate::routine::Routine;
use crate::run::{Awaits, Ran};
use crate::watchdog::{Pulse, Running};

/// A node's number: a place in a CPU's code. A CPU that has ended, or is not in its handler, is at none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct NodeId(NonZeroU32);

impl NodeId {
    /// Returns the node with a number, which 0 is not.
    #[inline]
    pub(crate) fn from_number(number: u32) -> Option<NodeId> {
        NonZeroU32::new(number).map(NodeId)
    }

    /// Returns the number, which is not 0.
    #[inline]
    pub(crate) fn number(self) -> u32 {
        self.0.get()
    }

    #[inline]
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// What the code does next at a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    Call(Call),
    Ended,
    Panicked(String),
}

impl Next {
    /// Returns the call, if it is one.
    pub(crate) fn call(&self) -> Option<&Call> {
        match self {
            Next::Call(call) => Some(call),
            Next::Ended | Next::Panicked(_) => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) cpu: CpuId,
    pub(crate) routine: Routine,
    pub(crate) next: Next,
    pub(crate) interrupts: Interrupts,
    pub(crate) exhibit: Exhibit,
    /// Whom the code waits for, if it polls.
    pub(crate) awaits: Awaits,
    /// Whether a poll begins here: then answers may lead back to it.
    pub(crate) is_head: bool,
    /// Whether the code is in an iteration of a poll.
    pub(crate) polls: bool,
    /// The node before, and the answer that led here; `None` at a routine's start.
    from: Option<(NodeId, u64)>,
    /// The answers that were met, each with the node that it leads to: a new one, or the head of a poll that
    /// begins anew.
    edges: Vec<(u64, NodeId)>,
}

impl Node {
    #[inline]
    fn edge(&self, answer: u64) -> Option<NodeId> {
        self.edges
            .iter()
            .find(|&&(known, _)| known == answer)
            .map(|&(_, node)| node)
    }

    fn answered_call(&self) -> Call {
        match self.next {
            Next::Call(call) => call,
            Next::Ended | Next::Panicked(_) => unreachable!("only calls have answers"),
        }
    }
}

/// Why the automaton could not be extended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ExtractionError {
    #[error("{0}")]
    Limit(Limit),
    #[error("{0}")]
    FalseClaim(#[from] FalseClaim),
    /// A call that means nothing on this program's machine.
    #[error("{0}")]
    Misuse(String),
    #[error(
        "the code of CPU {}, {routine}, is not a function of the seam's answers: {how}. \
         Keep clocks, random numbers and state outside of modelled memory out of it",
        cpu.0
    )]
    Nondeterminism {
        cpu: CpuId,
        routine: String,
        how: String,
    },
}

/// A node that is not there yet: a routine's first one, or the one that an answer leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Missing {
    cpu: CpuId,
    routine: Routine,
    from: Option<(NodeId, u64)>,
}

/// Nodes by number, from 1 on.
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    /// The first node of each routine of each CPU.
    starts: Vec<Starts>,
    iterations: Iterations<NodeId>,
    /// Whether a poll begins at some node.
    has_heads: bool,
    reached_notes: BTreeSet<&'static str>,
    executions: u64,
}

/// The first nodes of a CPU's routines, as far as they are known.
#[derive(Clone)]
struct Starts {
    operations: Vec<Option<NodeId>>,
    handler: Option<NodeId>,
    nmi: Option<NodeId>,
    timer: Option<NodeId>,
}

impl Nodes {
    #[inline]
    pub(crate) fn get(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// Returns how many there are.
    pub(crate) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Says whether a poll begins at some node.
    #[inline]
    pub(crate) fn has_heads(&self) -> bool {
        self.has_heads
    }

    /// Returns the node that an answer leads to.
    #[inline]
    pub(crate) fn successor(&self, id: NodeId, answer: u64) -> Result<NodeId, Missing> {
        let node = self.get(id);
        let from = Some((id, answer));
        node.edge(answer).ok_or(Missing {
            cpu: node.cpu,
            routine: node.routine,
            from,
        })
    }

    /// Returns a routine's first node. The routine must exist.
    pub(crate) fn start(&self, cpu: CpuId, routine: Routine) -> Result<NodeId, Missing> {
        self.start_of(cpu, routine).ok_or(Missing {
            cpu,
            routine,
            from: None,
        })
    }

    /// Returns the calls and answers that led to a node from its routine's start: whoever moves a CPU to
    /// another place of the same code maps these, and follows them from the start.
    pub(crate) fn log_of(&self, id: NodeId) -> Log {
        self.log_along(self.get(id).from)
    }

    fn log_along(&self, from: Option<(NodeId, u64)>) -> Log {
        let way = self.way(from).into_iter();
        way.map(|(id, answer)| (self.get(id).answered_call(), answer))
            .collect()
    }

    /// Returns the nodes from a routine's start on, each with the answer that leads on.
    fn way(&self, from: Option<(NodeId, u64)>) -> Vec<(NodeId, u64)> {
        let before = |&(id, _): &(NodeId, u64)| self.get(id).from;
        let mut way: Vec<_> = std::iter::successors(from, before).collect();
        way.reverse();
        way
    }

    /// Returns a routine's first node, if some execution came to it.
    pub(crate) fn start_of(&self, cpu: CpuId, routine: Routine) -> Option<NodeId> {
        let starts = &self.starts[usize::from(cpu.0)];
        match routine {
            Routine::Operation(index) => starts.operations[index.get()],
            Routine::Handler => starts.handler,
            Routine::Nmi => starts.nmi,
            Routine::Timer => starts.timer,
        }
    }

    /// Adds a node, where it was missing.
    fn add(&mut self, node: Node) -> Result<(), Limit> {
        let id = u32::try_from(self.nodes.len() + 1).ok();
        let id = id.and_then(NodeId::from_number).ok_or(Limit {
            what: "places in its code",
            most: u32::MAX as usize,
        })?;
        let (cpu, routine, from) = (node.cpu, node.routine, node.from);
        self.has_heads |= node.is_head;
        self.nodes.push(node);
        if let Some((before, answer)) = from {
            self.nodes[before.index()].edges.push((answer, id));
            return Ok(());
        }
        let starts = &mut self.starts[usize::from(cpu.0)];
        match routine {
            Routine::Operation(index) => starts.operations[index.get()] = Some(id),
            Routine::Handler => starts.handler = Some(id),
            Routine::Nmi => starts.nmi = Some(id),
            Routine::Timer => starts.timer = Some(id),
        }
        Ok(())
    }
}

/// The automata of a program's operations, as far as they are known.
pub(crate) struct Automaton<'p> {
    pub(crate) program: &'p Program,
    constants: Constants,
    pulse: Arc<Pulse>,
    nodes: RwLock<Nodes>,
}

impl<'p> Automaton<'p> {
    pub(crate) fn new(program: &'p Program, constants: Constants, pulse: Arc<Pulse>) -> Self {
        let starts = program.operations.iter().map(|operations| Starts {
            operations: vec![None; operations.len()],
            handler: None,
            nmi: None,
            timer: None,
        });
        let nodes = Nodes {
            nodes: Vec::new(),
            starts: starts.collect(),
            iterations: Iterations::NONE,
            has_heads: false,
            reached_notes: BTreeSet::new(),
            executions: 0,
        };
        Automaton {
            program,
            constants,
            pulse,
            nodes: RwLock::new(nodes),
        }
    }

    /// Returns the nodes to read. A thread must let go of them before it extends the automaton, or reads
    /// once more.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Nodes> {
        self.nodes.read().expect("no holder of this lock panics")
    }

    /// Counts the runs of real code so far.
    pub(crate) fn executions(&self) -> u64 {
        self.read().executions
    }

    /// Counts what the places of the code have shown that a verdict rests on.
    pub(crate) fn rests_on(&self) -> RestsOn {
        let mut rests_on = RestsOn::default();
        for node in &self.read().nodes {
            let in_handler = !matches!(node.routine, Routine::Operation(_));
            rests_on.interrupts_taken += u64::from(in_handler && node.next.call().is_some());
            rests_on.count(&node.exhibit);
        }
        rests_on
    }

    /// Returns the expected notes, and the operations, that no execution reached.
    pub(crate) fn unreached(&self) -> Vec<String> {
        let nodes = self.read();
        let notes = self.program.expected_notes.iter();
        let mut unreached: Vec<String> = notes
            .filter(|&note| !nodes.reached_notes.contains(note))
            .map(|&note| note.to_owned())
            .collect();
        for (cpu, index, operation) in self.program.all_operations() {
            if nodes.start_of(cpu, Routine::Operation(index)).is_none() {
                unreached.push(format!("CPU {}: {}", cpu.0, operation.name));
            }
        }
        unreached
    }

    /// Runs the code along the answers to a new node, and adds it.
    pub(crate) fn extend(&self, missing: Missing) -> Result<(), ExtractionError> {
        let Missing { cpu, routine, from } = missing;
        let mut nodes = self.nodes.write().expect("no holder of this lock panics");
        let known = match from {
            Some((id, answer)) => nodes.get(id).edge(answer),
            None => nodes.start_of(cpu, routine),
        };
        if known.is_some() {
            return Ok(());
        }
        let log = nodes.log_along(from);
        let report = self.run(missing, log.clone(), Rehearsal::default());
        nodes.executions += 1;
        nodes.reached_notes.extend(report.notes);
        let (next, interrupts) = match report.ran {
            Ran::Asks(call, interrupts) => (Next::Call(call), interrupts),
            Ran::Again(poll) => return self.begin_again(&mut nodes, missing, poll),
            Ran::Ended => (Next::Ended, routine.interrupts()),
            Ran::Panicked(message) => (Next::Panicked(message), routine.interrupts()),
            Ran::Diverged(how) => return Err(self.nondeterminism(missing, how)),
        };
        self.test_claims(missing, &log, &next)?;
        if let Some(call) = next.call() {
            self.program.test_call(routine, call).map_err(|mistake| {
                let routine = self.routine_name(cpu, routine);
                ExtractionError::Misuse(format!("in \"{routine}\" of CPU {}: {mistake}", cpu.0))
            })?;
        }
        let node = Node {
            cpu,
            routine,
            exhibit: Exhibit::of(next.call()),
            next,
            interrupts,
            awaits: report.awaits,
            is_head: report.begins_poll,
            polls: report.polls,
            from,
            edges: Vec::new(),
        };
        nodes.add(node).map_err(ExtractionError::Limit)
    }

    /// Runs the code of a routine against a log.
    fn run(&self, Missing { cpu, routine, .. }: Missing, log: Log, before: Rehearsal) -> RunReport {
        let code = self.program.code(cpu, routine);
        let code = code.expect("callers name routines that exist");
        let running = Running {
            cpu,
            routine,
            calls: log.len(),
            amid: None,
        };
        self.pulse.while_running(running, || {
            ModelHw::run_rehearsed(cpu, self.constants, routine.interrupts(), log, before, code)
        })
    }

    fn nondeterminism(
        &self,
        Missing { cpu, routine, .. }: Missing,
        how: String,
    ) -> ExtractionError {
        let routine = self.routine_name(cpu, routine).to_owned();
        ExtractionError::Nondeterminism { cpu, routine, how }
    }

    /// Tests what the program's words claim, where the code gets to a new place.
    fn test_claims(
        &self,
        Missing { cpu, routine, .. }: Missing,
        log: &[(Call, u64)],
        next: &Next,
    ) -> Result<(), FalseClaim> {
        let claims = Claims::of(self.program);
        if log.is_empty() {
            claims.test_first_values()?;
        }
        claims.test(cpu, self.routine_name(cpu, routine), log, next.call())
    }

    /// Returns a routine's name for people.
    pub(crate) fn routine_name(&self, cpu: CpuId, routine: Routine) -> &str {
        self.program.routine_name(cpu, routine)
    }
}
