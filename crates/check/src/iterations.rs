//! The polls of an automaton: iterations that found nothing, and what is rehearsed of them.
//!
//! In the automaton a poll is a circle. The answer that ends an iteration without a find leads back to the
//! place where the iteration began, the loop's *head*; so a place's log, from the start along the tree, has one
//! iteration of each poll. How a rehearsal shows that this is all there is to know: [`crate::rehearsal`].
//!
//! ```text
//!            ┌───── c → 0 ──────┐
//!            ▼                  │
//!  a ──►  b (head)  ── 1 ──►  c ── 2 ──►  d
//! ```
//!
//! The first iteration of each poll is rehearsed at once, for longer than code tries before it gives up; before
//! a verdict, when all are known, the end of every way is, with many different ones.

use std::collections::BTreeMap;

use crate::rehearsal::{Log, PollAt, Rehearsal};

/// Iterations that found nothing, by the head of their loop. A place may be the head of several.
pub(crate) struct Iterations<Head>(BTreeMap<(Head, PollsBefore), Vec<Log>>);

/// As [`PollAt::polls_before`].
type PollsBefore = usize;

/// What is rehearsed at each poll.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Amount {
    /// One iteration for longer than code tries before it gives up: the one that was met last.
    OneForLong,
    /// [`MANY`], different ones as far as there are.
    Many,
    /// The same, in the other order.
    ManyBackwards,
}

/// More than a bounded retry has attempts, and still only a millisecond.
const LONG: usize = 10_000;
const MANY: usize = 64;

impl Amount {
    fn of(self, known: &[Log]) -> Vec<Log> {
        let latest = known.iter().rev();
        match self {
            Amount::OneForLong => latest.take(1).cycle().take(LONG).cloned().collect(),
            Amount::Many => known.iter().cycle().take(MANY).cloned().collect(),
            Amount::ManyBackwards => latest.cycle().take(MANY).cloned().collect(),
        }
    }
}

impl<Head: Copy + Ord> Iterations<Head> {
    pub(crate) const NONE: Self = Iterations(BTreeMap::new());

    /// Adds an iteration that found nothing; says whether it is the first one of its poll.
    pub(crate) fn add(&mut self, head: Head, poll: PollAt, iteration: Log) -> bool {
        let known = self.0.entry((head, poll.polls_before)).or_default();
        known.push(iteration);
        known.len() == 1
    }

    /// Says whether no poll is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Says what is to be rehearsed on the way along these places, from the start of a routine.
    pub(crate) fn rehearsal(&self, way: &[Head], amount: Amount) -> Rehearsal {
        let mut rehearsal = Rehearsal::default();
        for (calls_before, &head) in way.iter().enumerate() {
            let polls = self
                .0
                .range((head, PollsBefore::MIN)..=(head, PollsBefore::MAX));
            for (&(_, polls_before), known) in polls {
                let poll = PollAt {
                    calls_before,
                    polls_before,
                };
                rehearsal.add(poll, amount.of(known));
            }
        }
        rehearsal
    }
}
