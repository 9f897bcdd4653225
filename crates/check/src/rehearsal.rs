//! Iterations of polls that a run goes through before the one that its log has.
//!
//! The log of a run has one iteration of each poll that it passes: the one that found something, or, of the
//! polls that the code is in, the one under way. So a log does not grow while code polls, and nothing in it
//! says where a poll begins: the code does, when it is run.
//!
//! ```text
//! code:  a(); poll(|| b() == 1 && c() == 2); d();
//! log of a place after the loop:   a, b → 1, c → 2          (however often the loop went round)
//! log of a place within it:        a, b → 1
//! ```
//!
//! That holds only if an iteration does the same whichever came before it. So the automaton runs code once
//! more, with iterations that found nothing before that one: a rehearsal. If the code then asks for something
//! else, its body has changed what it captures, and the check ends in an error.

use std::collections::BTreeMap;

use lazytlb_model::Call;

/// Seam calls and their answers, in the order in which code made them.
pub(crate) type Log = Vec<(Call, u64)>;

/// A poll of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct PollAt {
    /// How many seam calls of the log precede its loop.
    pub(crate) calls_before: usize,
    /// How many polls begin at the same place of the log before this one: those around it, and those that
    /// found something without a call.
    pub(crate) polls_before: usize,
}

/// What a run goes through first, at each of its polls: iterations that find nothing.
#[derive(Clone, Default, Debug)]
pub(crate) struct Rehearsal(BTreeMap<PollAt, Vec<Log>>);

impl Rehearsal {
    /// Adds iterations of a poll.
    pub(crate) fn add(&mut self, poll: PollAt, iterations: Vec<Log>) {
        if !iterations.is_empty() {
            self.0.insert(poll, iterations);
        }
    }

    /// Says whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the iterations of a poll out.
    pub(crate) fn take(&mut self, poll: PollAt) -> Vec<Log> {
        self.0.remove(&poll).unwrap_or_default()
    }
}
