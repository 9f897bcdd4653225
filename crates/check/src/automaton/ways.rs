//! The ways through the code that a search has found: what a second run goes along.

use std::collections::BTreeSet;

use lazytlb::CpuId;

use super::{Automaton, NodeId, Nodes, Routine};
use crate::rehearsal::Log;
use crate::run::Ran;

/// A way through a routine, from its start to where nothing is known to follow. Every place is on one.
#[derive(Clone, Debug)]
pub(crate) struct WayThrough {
    pub(crate) cpu: CpuId,
    pub(crate) routine: Routine,
    /// The calls and answers on the way.
    pub(crate) log: Log,
    /// The places at which those calls are made, and the one that the way leads to, if it is not one of them.
    pub(crate) places: Vec<NodeId>,
    /// What the code comes to; `None` if a poll begins anew.
    pub(crate) comes_to: Option<Ran>,
}

impl WayThrough {
    /// Says whether two ways go through the same code, on one CPU.
    pub(crate) fn is_of_same_code(&self, other: &WayThrough) -> bool {
        (self.cpu, self.routine) == (other.cpu, other.routine)
    }
}

impl Nodes {
    /// Lists the places that lead on to no new one. Each place is one, or on the way to one.
    pub(super) fn ends(&self) -> Vec<NodeId> {
        let passed = self.all().filter_map(|(_, node)| Some(node.from?.0));
        let passed: BTreeSet<NodeId> = passed.collect();
        let ends = self.all().map(|(id, _)| id);
        ends.filter(|id| !passed.contains(id)).collect()
    }
}

impl Automaton<'_> {
    /// Lists all ways, routine by routine.
    pub(crate) fn ways(&self) -> Vec<WayThrough> {
        let nodes = self.read();
        let way = |from, cpu, routine, to: Option<NodeId>| {
            let places = nodes.way(from).into_iter().map(|(id, _)| id);
            WayThrough {
                cpu,
                routine,
                log: nodes.log_along(from),
                places: places.chain(to).collect(),
                comes_to: to.map(|id| nodes.get(id).came_to()),
            }
        };
        let ends = nodes.ends().into_iter();
        let mut ways: Vec<WayThrough> = ends
            .map(|id| (id, nodes.get(id)))
            .map(|(id, node)| way(node.from, node.cpu, node.routine, Some(id)))
            .collect();
        for (from, head) in nodes.answers_that_begin_again() {
            let node = nodes.get(head);
            ways.push(way(Some(from), node.cpu, node.routine, None));
        }
        ways.sort_by_key(|way| (way.cpu, way.routine));
        ways
    }
}
