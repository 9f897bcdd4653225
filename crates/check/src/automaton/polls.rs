//! Polls in the automaton: where an iteration that finds nothing leads, and whether it matters which came
//! before. [`crate::iterations`] has the picture.

use super::{Automaton, ExtractionError, Missing, Next, Node, NodeId, Nodes};
use crate::iterations::Amount;
use crate::rehearsal::{PollAt, Rehearsal};
use crate::run::Ran;

impl Node {
    pub(super) fn came_to(&self) -> Ran {
        match &self.next {
            Next::Call(call) => Ran::Asks(*call, self.interrupts),
            Next::Ended => Ran::Ended,
            Next::Panicked(message) => Ran::Panicked(message.clone()),
        }
    }
}

impl Nodes {
    fn missing(&self, from: (NodeId, u64)) -> Missing {
        let Node { cpu, routine, .. } = *self.get(from.0);
        Missing {
            cpu,
            routine,
            from: Some(from),
        }
    }

    /// Lists the answers after which a poll begins anew, each with the head of its loop.
    pub(super) fn answers_that_begin_again(&self) -> impl Iterator<Item = ((NodeId, u64), NodeId)> {
        let edges = self.all().flat_map(|(id, node)| {
            let edges = node.edges.iter();
            edges.map(move |&(answer, to)| ((id, answer), to))
        });
        edges.filter(|&(from, to)| self.get(to).from != Some(from))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        let numbered = (1..).zip(&self.nodes);
        numbered.filter_map(|(number, node)| Some((NodeId::from_number(number)?, node)))
    }
}

/// Ways through the code that are rehearsed with one iteration for long.
const MOST_FOR_LONG: usize = 100;

impl Automaton<'_> {
    /// Lets an answer lead back to the head of a poll, and notes the iteration that it ends.
    pub(super) fn begin_again(
        &self,
        nodes: &mut Nodes,
        missing: Missing,
        poll: PollAt,
    ) -> Result<(), ExtractionError> {
        let from = missing
            .from
            .expect("an iteration that finds nothing made calls");
        let way = nodes.way(missing.from);
        let (head, _) = way[poll.calls_before];
        let log = nodes.log_along(missing.from);
        let iteration = log[poll.calls_before..].to_vec();
        self.test_claims(missing, &log, &Next::Ended)?;
        if nodes.iterations.add(head, poll, iteration) {
            self.rehearse(nodes, missing, &Ran::Again(poll), Amount::OneForLong)?;
        }
        nodes.nodes[from.0.index()].edges.push((from.1, head));
        Ok(())
    }

    /// Runs code once more, with iterations before those of its log, and holds against it that it comes to the
    /// same.
    pub(super) fn rehearse(
        &self,
        nodes: &Nodes,
        missing: Missing,
        expected: &Ran,
        amount: Amount,
    ) -> Result<(), ExtractionError> {
        if nodes.iterations.is_empty() {
            return Ok(());
        }
        let way: Vec<NodeId> = nodes
            .way(missing.from)
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        let rehearsal = nodes.iterations.rehearsal(&way, amount);
        if rehearsal.is_empty() {
            return Ok(());
        }
        let how = match self
            .run(missing, nodes.log_along(missing.from), rehearsal)
            .ran
        {
            ran if ran == *expected => return Ok(()),
            Ran::Diverged(how) => how,
            ran => format!(
                "after other iterations of a poll it comes to {ran:?}, and without them to {expected:?}: a \
                 poll's body must not change what it captures"
            ),
        };
        Err(self.nondeterminism(missing, how))
    }

    /// Rehearses the end of every way through the code, with all iterations that were met.
    ///
    /// # Errors
    /// If what comes after an iteration depends on those before it.
    pub(crate) fn rehearse_all(&self) -> Result<(), ExtractionError> {
        let nodes = self.read();
        if nodes.iterations.is_empty() {
            return Ok(());
        }
        let ends = nodes.all().filter(|(_, node)| node.edges.is_empty());
        let ends = ends.filter_map(|(_, node)| Some((node.from?, Some(node.came_to()))));
        let again = nodes
            .answers_that_begin_again()
            .map(|(from, _)| (from, None));
        let ways: Vec<_> = ends.chain(again).collect();
        let every = ways.len().div_ceil(MOST_FOR_LONG);
        for (number, (from, came_to)) in ways.into_iter().enumerate() {
            let missing = nodes.missing(from);
            // Which of the polls that begin at one place begins anew, only a run says.
            let plain = || self.run(missing, nodes.log_along(missing.from), Rehearsal::default());
            let came_to = came_to.unwrap_or_else(|| plain().ran);
            let mut amounts = vec![Amount::Many, Amount::ManyBackwards];
            amounts.extend((number % every == 0).then_some(Amount::OneForLong));
            for amount in amounts {
                self.rehearse(&nodes, missing, &came_to, amount)?;
            }
        }
        Ok(())
    }
}
