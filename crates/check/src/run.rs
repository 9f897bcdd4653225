//! A run of code under way: its log, how far it has got, and what it came to.

use lazytlb::Interrupts;
use lazytlb_model::Call;

use crate::rehearsal::{Log, PollAt, Rehearsal};

/// A run under way. Polls have their part of it in `poll.rs`.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) log: Log,
    pub(crate) position: usize,
    pub(crate) interrupts: Interrupts,
    next: Option<Call>,
    pub(crate) diverged: Option<String>,
    pub(crate) notes: Vec<&'static str>,
    pub(crate) polls: Polls,
}

/// The polls of a run.
#[derive(Default, Debug)]
pub(crate) struct Polls {
    /// Whom those wait for that the code is in.
    pub(crate) open: Vec<Awaits>,
    /// The one that began last, whether it is over or not.
    pub(crate) last: Option<PollAt>,
    /// What is to be rehearsed.
    pub(crate) rehearsal: Rehearsal,
    /// Whether an iteration is being rehearsed.
    pub(crate) is_rehearsing: bool,
    /// The poll whose iteration, the last in the log, found nothing.
    pub(crate) again: Option<PollAt>,
}

/// Whom a poll says that it waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Awaits {
    /// Other CPUs, and interrupts that they send.
    Others,
    /// A timer interrupt, too.
    Tick,
}

/// How a run against a log of answers ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ran {
    /// The code asks for this next, with interrupts in this state.
    Asks(Call, Interrupts),
    /// The iteration of a poll with which the log ends has found nothing: the poll begins anew.
    Again(PollAt),
    /// The code returned.
    Ended,
    /// The code panicked.
    Panicked(String),
    /// The code did something else than it did before with the same answers.
    Diverged(String),
}

/// Seam calls that one operation may make: more means a loop that spins instead of waiting.
pub(crate) const CALL_BUDGET: usize = 1000;

/// How a divergence in a rehearsal begins.
const AFTER_OTHERS: &str = "in an iteration of a poll that comes after others, ";

impl Run {
    pub(crate) fn new(log: Log, interrupts: Interrupts, rehearsal: Rehearsal) -> Self {
        Run {
            log,
            position: 0,
            interrupts,
            next: None,
            diverged: None,
            notes: Vec::new(),
            polls: Polls {
                rehearsal,
                ..Polls::default()
            },
        }
    }

    /// Returns the answer to a call; `None` if the run ends here, because the log does, or has another call.
    pub(crate) fn answer(&mut self, call: Call) -> Option<u64> {
        assert!(
            self.position < CALL_BUDGET,
            "spin loop: the operation made {CALL_BUDGET} seam calls. Code waits for a word by `pause_until`, \
             for more than one by `Poll::poll`"
        );
        let when = match self.polls.is_rehearsing {
            true => AFTER_OTHERS,
            false => "",
        };
        match self.log.get(self.position) {
            Some(&(logged, answer)) if logged == call => {
                self.position += 1;
                return Some(answer);
            }
            Some((logged, _)) => {
                let position = self.position;
                self.diverged = Some(format!(
                    "{when}seam call {position} was {logged:?} before, and is {call:?} now"
                ));
            }
            None if self.polls.is_rehearsing => {
                self.diverged = Some(format!("{when}it goes on with {call:?}"));
            }
            None => self.next = Some(call),
        }
        None
    }

    /// Says whether what the code asks is the first call of a poll, or might be.
    pub(crate) fn begins_poll(&self) -> bool {
        let last = self.polls.last;
        last.is_some_and(|last| last.calls_before == self.position)
    }

    /// Says how the run ended.
    pub(crate) fn came_to(&self, result: Result<(), String>, interrupts: Interrupts) -> Ran {
        let Run { position, log, .. } = self;
        match (&self.diverged, self.next, self.polls.again, result) {
            (Some(how), ..) => Ran::Diverged(how.clone()),
            (None, Some(next), ..) => Ran::Asks(next, self.interrupts),
            (None, None, Some(poll), _) => Ran::Again(poll),
            (None, None, None, Err(panicked)) => match self.polls.is_rehearsing {
                true => Ran::Diverged(format!("{AFTER_OTHERS}it panics: {panicked}")),
                false => Ran::Panicked(panicked),
            },
            (None, None, None, Ok(())) if *position < log.len() => Ran::Diverged(format!(
                "it ended after {position} seam calls, where it made {} before",
                log.len()
            )),
            (None, None, None, Ok(())) if self.interrupts != interrupts => {
                Ran::Panicked("the operation ended without restoring interrupts".to_owned())
            }
            (None, None, None, Ok(())) => Ran::Ended,
        }
    }
}

impl Polls {
    /// Says whom the polls wait for that the code is in.
    pub(crate) fn await_together(&self) -> Awaits {
        match self.open.contains(&Awaits::Tick) {
            true => Awaits::Tick,
            false => Awaits::Others,
        }
    }
}
