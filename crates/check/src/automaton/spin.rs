//! Code that loops over seam calls to wait: told from what is left behind when places become many.
//!
//! Each answer in such a loop leads to a new place, and answers differ: with two words, a loop has more ways
//! through it than memory has room for, long before any single way is a thousand calls long. So whoever
//! explores looks for one as soon as there are [`MANY_PLACES`], and whenever they have doubled.

use std::collections::BTreeMap;

use lazytlb::CpuId;
use lazytlb_model::Call;

use super::{Automaton, Nodes};

/// Places of a program from which on it may be that its code spins.
pub(crate) const MANY_PLACES: usize = 1 << 16;

/// A loop that waits, by its looks.
pub(crate) struct SpinLoop<'a> {
    pub(crate) cpu: CpuId,
    /// The routine's name.
    pub(crate) routine: &'a str,
    /// The calls of one iteration.
    pub(crate) calls: Vec<Call>,
}

/// As often a loop goes round before it counts as one that spins.
const ROUNDS: usize = 4;

impl Automaton<'_> {
    /// Returns the loop in which the routine with most places goes round, if it does.
    pub(crate) fn spin_loop(&self, nodes: &Nodes) -> Option<SpinLoop<'_>> {
        let mut places = BTreeMap::new();
        for (id, node) in nodes.all() {
            let name = self.routine_name(node.cpu, node.routine);
            let (count, newest) = places.entry((node.cpu, name)).or_insert((0, id));
            *count += 1;
            *newest = id;
        }
        let (&(cpu, routine), &(_, newest)) = places.iter().max_by_key(|(_, (count, _))| *count)?;
        let calls: Vec<Call> = nodes
            .log_of(newest)
            .into_iter()
            .map(|(call, _)| call)
            .collect();
        let goes_round = |&period: &usize| {
            let last = &calls[calls.len() - ROUNDS * period..];
            last[period..] == last[..last.len() - period]
        };
        let period = (1..=calls.len() / ROUNDS).find(goes_round)?;
        Some(SpinLoop {
            cpu,
            routine,
            calls: calls[calls.len() - period..].to_vec(),
        })
    }
}
