//! Polls, as a run of code against a log of answers has them.
//!
//! An iteration that finds nothing ends the run: what follows is the loop's head, a place that is known.
//! An iteration that finds something goes on with the code after the loop. See [`crate::rehearsal`] for how
//! a log looks.

use std::cell::Cell;

use lazytlb::{Hw, Interrupts, Poll};

use crate::model_hw::ModelHw;
use crate::rehearsal::{Log, PollAt};
use crate::run::Awaits;
use crate::unwinding;

impl Poll for ModelHw {
    fn poll<R>(&self, body: impl Fn(&Self) -> Option<R>) -> R {
        self.iterate(Awaits::Others, body)
    }

    fn poll_until_tick<R>(&self, body: impl Fn(&Self) -> Option<R>) -> R {
        self.iterate(Awaits::Tick, body)
    }
}

/// What tells what has changed, where a rehearsal differs.
const CAPTURED: &str = "a poll's body must not change what it captures";

impl ModelHw {
    fn iterate<R>(&self, awaits: Awaits, body: impl Fn(&Self) -> Option<R>) -> R {
        let found = Cell::new(None);
        self.iterate_until(awaits, &|hw| {
            let answer = body(hw);
            let finds = answer.is_some();
            found.set(answer);
            finds
        });
        found.take().expect("the poll ends when it is found")
    }

    /// Goes on until the body finds something, whatever that is: `iterate` is compiled for each body there is, of each protocol.
    fn iterate_until(&self, awaits: Awaits, finds: &dyn Fn(&Self) -> bool) {
        if std::thread::panicking() {
            return unwinding::poll(|| finds(self));
        }
        let (poll, iterations) = self.begin_poll(awaits);
        for iteration in iterations {
            self.rehearse(iteration, finds);
        }
        let interrupts = self.interrupts();
        match finds(self) {
            true => {
                self.borrow_run().polls.open.pop();
            }
            false => self.begin_again(poll, interrupts),
        }
    }

    /// Begins a poll, and returns what is to be rehearsed before its own iteration.
    fn begin_poll(&self, awaits: Awaits) -> (PollAt, Vec<Log>) {
        let mut run = self.borrow_run();
        let calls_before = run.position;
        let before = run
            .polls
            .last
            .filter(|last| last.calls_before == calls_before);
        let poll = PollAt {
            calls_before,
            polls_before: before.map_or(0, |last| last.polls_before + 1),
        };
        run.polls.last = Some(poll);
        run.polls.open.push(awaits);
        let iterations = match run.polls.is_rehearsing {
            true => Vec::new(),
            false => run.polls.rehearsal.take(poll),
        };
        (poll, iterations)
    }

    /// Goes through an iteration that finds nothing, beside the run's log.
    fn rehearse(&self, iteration: Log, finds: &dyn Fn(&Self) -> bool) {
        let mut run = self.borrow_run();
        let log = std::mem::replace(&mut run.log, iteration);
        let position = std::mem::replace(&mut run.position, 0);
        let last = run.polls.last;
        run.polls.is_rehearsing = true;
        drop(run);
        let found = finds(self);
        let mut run = self.borrow_run();
        if found || run.position < run.log.len() {
            let (made, before) = (run.position, run.log.len());
            let so = if found {
                "finds something"
            } else {
                "finds nothing"
            };
            run.diverged = Some(format!(
                "an iteration of a poll that comes after others {so} after {made} seam calls, where it made \
                 {before} and found nothing before: {CAPTURED}"
            ));
            drop(run);
            self.end_run();
        }
        run.log = log;
        run.position = position;
        run.polls.last = last;
        run.polls.is_rehearsing = false;
    }

    /// Ends a run whose poll has found nothing, and begins anew.
    fn begin_again(&self, poll: PollAt, interrupts: Interrupts) -> ! {
        assert!(
            self.interrupts() == interrupts,
            "an iteration of a poll ended without restoring interrupts"
        );
        let mut run = self.borrow_run();
        assert!(
            run.position > poll.calls_before || run.polls.is_rehearsing,
            "spin loop: an iteration of a poll made no seam call and found nothing; the next would do the same"
        );
        if run.polls.is_rehearsing || run.position < run.log.len() {
            let position = run.position;
            run.diverged = Some(format!(
                "an iteration of a poll found nothing after seam call {position}, where it went on before: \
                 {CAPTURED}"
            ));
        } else {
            run.polls.again = Some(poll);
        }
        drop(run);
        self.end_run()
    }
}
