//! Automaton extraction: real code as a graph of seam calls and answers.
//!
//! A node is the next seam call after certain answers, an edge is an answer. A node is made when the
//! search first gets there, by running the operation against the answers on the way; from then on a step
//! of that code is a table look-up. So a CPU's whole local state is one number.

use std::collections::BTreeSet;
use std::sync::{RwLock, RwLockReadGuard};

use lazytlb::{CpuId, Interrupts, Quirks};
use lazytlb_model::{Call, Limit};

use crate::claims::{Claims, FalseClaim};
use crate::model_hw::{ModelHw, Ran};
use crate::program::Program;

/// A node's number. 0 is no node: a CPU that has ended, or is not in its handler.
pub(crate) type NodeId = u16;

/// Which code a node belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Routine {
    /// A CPU's operation, by its index.
    Operation(usize),
    /// The flush interrupt's handler.
    Handler,
    /// The NMI's handler.
    Nmi,
}

/// What the code does next at a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    Call(Call),
    Ended,
    Panicked(String),
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) cpu: CpuId,
    pub(crate) routine: Routine,
    pub(crate) next: Next,
    pub(crate) interrupts: Interrupts,
    /// The node before, and the answer that led here; `None` at a routine's start.
    from: Option<(NodeId, u64)>,
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
}

/// Why the automaton could not be extended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ExtractionError {
    #[error("{0}")]
    Limit(Limit),
    #[error("{0}")]
    FalseClaim(#[from] FalseClaim),
    #[error(
        "the code of CPU {cpu}, {routine}, is not a function of the seam's answers: {how}. \
         Keep clocks, random numbers and state outside of modelled memory out of it"
    )]
    Nondeterminism {
        cpu: u16,
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

/// Nodes by number, with the slot 0 empty.
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    /// The first node of each routine of each CPU: operations, then the handlers.
    starts: Vec<Vec<NodeId>>,
    reached_notes: BTreeSet<&'static str>,
    executions: u64,
}

impl Nodes {
    #[inline]
    pub(crate) fn get(&self, id: NodeId) -> &Node {
        &self.nodes[usize::from(id) - 1]
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

    fn start_of(&self, cpu: CpuId, routine: Routine) -> Option<NodeId> {
        let starts = &self.starts[usize::from(cpu.0)];
        let index = match routine {
            Routine::Operation(index) => index,
            Routine::Handler => starts.len() - 2,
            Routine::Nmi => starts.len() - 1,
        };
        starts.get(index).copied().filter(|&id| id != 0)
    }

    pub(crate) fn operation_started(&self, cpu: usize, index: usize) -> bool {
        self.starts[cpu][index] != 0
    }
}

/// The automata of a program's operations, as far as they are known.
pub(crate) struct Automaton<'p> {
    pub(crate) program: &'p Program,
    quirks: Quirks,
    nodes: RwLock<Nodes>,
}

impl<'p> Automaton<'p> {
    pub(crate) fn new(program: &'p Program, quirks: Quirks) -> Self {
        let starts = program
            .operations
            .iter()
            .map(|operations| vec![0; operations.len() + 2])
            .collect();
        let nodes = Nodes {
            nodes: Vec::new(),
            starts,
            reached_notes: BTreeSet::new(),
            executions: 0,
        };
        Automaton {
            program,
            quirks,
            nodes: RwLock::new(nodes),
        }
    }

    /// Returns the nodes to read. A thread must let go of them before it extends the automaton.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Nodes> {
        self.nodes.read().expect("no holder of this lock panics")
    }

    /// Counts the runs of real code so far.
    pub(crate) fn executions(&self) -> u64 {
        self.read().executions
    }

    /// Returns the expected notes, and the operations, that no execution reached.
    pub(crate) fn unreached(&self) -> Vec<String> {
        let nodes = self.read();
        let notes = self.program.expected_notes.iter();
        let mut unreached: Vec<String> = notes
            .filter(|&note| !nodes.reached_notes.contains(note))
            .map(|&note| note.to_owned())
            .collect();
        for (cpu, operations) in self.program.operations.iter().enumerate() {
            for (index, operation) in operations.iter().enumerate() {
                if !nodes.operation_started(cpu, index) {
                    unreached.push(format!("CPU {cpu}: {}", operation.name));
                }
            }
        }
        unreached
    }

    fn code(&self, cpu: CpuId, routine: Routine) -> Option<&dyn Fn(&ModelHw)> {
        match routine {
            Routine::Operation(index) => self
                .program
                .operation_of(cpu, index)
                .map(|operation| &*operation.run as _),
            Routine::Handler => self.program.handler.as_deref().map(|run| run as _),
            Routine::Nmi => self.program.nmi_handler.as_deref().map(|run| run as _),
        }
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
        let mut log = Vec::new();
        let mut before = from;
        while let Some((id, answer)) = before {
            let node = nodes.get(id);
            let Next::Call(call) = node.next else {
                unreachable!("only calls have answers")
            };
            log.push((call, answer));
            before = node.from;
        }
        log.reverse();
        let interrupts = match routine {
            Routine::Operation(_) => Interrupts::Enabled,
            Routine::Handler | Routine::Nmi => Interrupts::Disabled,
        };
        let code = self
            .code(cpu, routine)
            .expect("callers name routines that exist");
        let report = ModelHw::run(cpu, self.quirks, interrupts, log.clone(), code);
        nodes.executions += 1;
        nodes.reached_notes.extend(report.notes);
        let (next, interrupts) = match report.ran {
            Ran::Asks(call, interrupts) => (Next::Call(call), interrupts),
            Ran::Ended => (Next::Ended, interrupts),
            Ran::Panicked(message) => (Next::Panicked(message), interrupts),
            Ran::Diverged(how) => {
                let routine = self.routine_name(cpu, routine).to_owned();
                return Err(ExtractionError::Nondeterminism {
                    cpu: cpu.0,
                    routine,
                    how,
                });
            }
        };
        self.test_claims(cpu, routine, &log, &next)?;
        let limit = Limit {
            what: "places in its code",
            most: usize::from(NodeId::MAX),
        };
        let id =
            NodeId::try_from(nodes.nodes.len() + 1).map_err(|_| ExtractionError::Limit(limit))?;
        nodes.nodes.push(Node {
            cpu,
            routine,
            next,
            interrupts,
            from,
            edges: Vec::new(),
        });
        match (from, routine) {
            (Some((before, answer)), _) => {
                nodes.nodes[usize::from(before) - 1]
                    .edges
                    .push((answer, id));
            }
            (None, Routine::Operation(index)) => nodes.starts[usize::from(cpu.0)][index] = id,
            (None, Routine::Handler) => {
                let slot = self.program.operations[usize::from(cpu.0)].len();
                nodes.starts[usize::from(cpu.0)][slot] = id;
            }
            (None, Routine::Nmi) => {
                let slot = self.program.operations[usize::from(cpu.0)].len() + 1;
                nodes.starts[usize::from(cpu.0)][slot] = id;
            }
        }
        Ok(())
    }

    /// Tests what the program's words claim, where the code gets to a new place.
    fn test_claims(
        &self,
        cpu: CpuId,
        routine: Routine,
        log: &[(Call, u64)],
        next: &Next,
    ) -> Result<(), FalseClaim> {
        let claims = Claims::of(self.program);
        if log.is_empty() {
            claims.test_first_values()?;
        }
        let call = match next {
            Next::Call(call) => Some(call),
            Next::Ended | Next::Panicked(_) => None,
        };
        claims.test(cpu, self.routine_name(cpu, routine), log, call)
    }

    /// Returns a routine's name for people.
    pub(crate) fn routine_name(&self, cpu: CpuId, routine: Routine) -> &str {
        match routine {
            Routine::Operation(index) => self
                .program
                .operation_of(cpu, index)
                .map_or("an operation", |operation| &operation.name),
            Routine::Handler => "flush interrupt",
            Routine::Nmi => "NMI",
        }
    }
}
