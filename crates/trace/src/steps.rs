//! Steps that wait for what is not known yet.

use crate::event::Event;
use crate::operation::{Onto, Operation, OperationKind, Range, Tables};
use crate::step::Step;

/// Steps that may wait before the oldest of them goes, whatever is not known then.
const MOST: usize = 1 << 14;

/// Steps in the order of the recording.
///
/// Whether a flush frees tables shows itself, if at all, while it is under way; what a CPU that went lazy runs, without
/// `sched_switch`, by its next event. Until then the operation waits, and all that follows with it.
#[derive(Default)]
pub(crate) struct Steps {
    /// The event that was read last comes next, before all that waits: it was read as nothing did, and stays where it is.
    comes_latest_event: bool,
    /// Where the events are that are added.
    source: Source,
    /// Those that wait, behind some that are gone: they are taken out all at once, for a queue that runs in a ring is asked where
    /// it begins at every step.
    waiting: Vec<Option<Waiting>>,
    /// How many are gone.
    gone: usize,
    /// The first one is shown to whoever reads, and goes when the next one is asked for.
    is_first_shown: bool,
    /// The number of the first one.
    first: u64,
    /// The numbers of operations that are not complete, in ascending order.
    open: Vec<u64>,
}

/// Where an event is that is added.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Source {
    /// Where the reader has the event that it read last.
    #[default]
    Latest,
    /// Somewhere else: it was read before.
    Earlier,
}

/// A step that waits.
enum Waiting {
    Event(Event),
    Operation(Operation),
}

/// Where the next step is. It stays there until the one after it: copies of all steps would cost as much as reading them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Where the reader has the event that it read last.
    LatestEvent,
    /// First of those that wait: see [`Steps::shown`].
    Waiting,
}

impl Steps {
    /// Adds an event. It is copied only if others wait before it, or it is not the one that was read last.
    #[inline]
    pub(crate) fn push_event(&mut self, event: &Event) {
        if self.waiting.is_empty() && self.source == Source::Latest {
            self.comes_latest_event = true;
        } else {
            self.waiting.push(Some(Waiting::Event(*event)));
        }
    }

    /// Runs something that adds events which were read before.
    pub(crate) fn with_earlier_events<T>(&mut self, run: impl FnOnce(&mut Steps) -> T) -> T {
        self.source = Source::Earlier;
        let done = run(self);
        self.source = Source::Latest;
        done
    }

    /// Adds an operation that is complete.
    #[inline]
    pub(crate) fn push(&mut self, operation: Operation) {
        self.waiting.push(Some(Waiting::Operation(operation)));
    }

    /// Adds an operation that is not complete yet, and returns its number.
    pub(crate) fn push_open(&mut self, operation: Operation) -> u64 {
        let number = self.next_number();
        self.push(operation);
        self.open.push(number);
        number
    }

    /// Keeps places for operations that will be known later, and returns the first one's number.
    pub(crate) fn reserve(&mut self, places: u64) -> u64 {
        let first = self.next_number();
        for number in first..first + places {
            self.waiting.push(None);
            self.open.push(number);
        }
        first
    }

    /// Fills a place that was kept; nothing comes there if the operation is none, or the place is gone.
    pub(crate) fn fill(&mut self, number: u64, operation: Option<Operation>) {
        self.open.retain(|open| *open != number);
        match (self.place(number), operation) {
            (Some(place), operation) => *place = operation.map(Waiting::Operation),
            (None, Some(operation)) => self.push(operation),
            (None, None) => {}
        }
    }

    /// Completes an operation: tells whether its flush frees tables.
    pub(crate) fn complete(&mut self, number: u64, tables: Tables) {
        self.open.retain(|open| *open != number);
        if let Some(operation) = self.at(number)
            && let OperationKind::Flush { tables: known, .. } = &mut operation.kind
        {
            *known = tables;
        }
    }

    /// An operation stays as it is: nothing more will be known of it.
    pub(crate) fn leave(&mut self, number: u64) {
        self.open.retain(|open| *open != number);
    }

    /// Completes an operation: tells what a CPU that went lazy runs.
    pub(crate) fn complete_onto(&mut self, number: u64, known: Onto) {
        self.open.retain(|open| *open != number);
        if let Some(operation) = self.at(number)
            && let OperationKind::GoLazy { onto } = &mut operation.kind
        {
            *onto = known;
        }
    }

    /// Returns an operation that still waits.
    fn at(&mut self, number: u64) -> Option<&mut Operation> {
        match self.place(number)? {
            Some(Waiting::Operation(operation)) => Some(operation),
            Some(Waiting::Event(_)) | None => None,
        }
    }

    /// A flush turns out to be the last one of its space.
    pub(crate) fn was_last(&mut self, number: u64) {
        self.complete(number, Tables::Freed);
        if let Some(operation) = self.at(number)
            && let OperationKind::Flush { range, .. } = &mut operation.kind
        {
            *range = Range::All;
        }
    }

    /// Nothing more will be known.
    pub(crate) fn complete_all(&mut self) {
        self.open.clear();
    }

    /// Goes on to the next step, if it is complete, and says where it is.
    #[inline]
    pub(crate) fn go_on(&mut self) -> Option<Next> {
        if std::mem::take(&mut self.comes_latest_event) {
            return Some(Next::LatestEvent);
        }
        if self.waiting.is_empty() {
            return None;
        }
        self.go_on_waiting()
    }

    #[inline]
    fn go_on_waiting(&mut self) -> Option<Next> {
        if self.is_first_shown {
            self.is_first_shown = false;
            self.drop_first();
        }
        loop {
            if self.open.first() == Some(&self.first) {
                if self.waiting.len() - self.gone < MOST {
                    return None;
                }
                self.give_first_up();
            }
            if self.waiting.get(self.gone)?.is_some() {
                self.is_first_shown = true;
                return Some(Next::Waiting);
            }
            self.drop_first();
        }
    }

    /// The first one has waited for long enough.
    #[cold]
    fn give_first_up(&mut self) {
        self.open.remove(0);
    }

    #[inline]
    fn drop_first(&mut self) {
        self.first += 1;
        self.gone += 1;
        if self.gone == self.waiting.len() {
            self.waiting.clear();
            self.gone = 0;
        } else if self.gone == MOST {
            self.take_out_what_is_gone();
        }
    }

    #[cold]
    fn take_out_what_is_gone(&mut self) {
        self.waiting.drain(..self.gone);
        self.gone = 0;
    }

    /// Returns the number of what is added next.
    fn next_number(&self) -> u64 {
        self.first + (self.waiting.len() - self.gone) as u64
    }

    /// Returns the place of a number, if it is not gone.
    fn place(&mut self, number: u64) -> Option<&mut Option<Waiting>> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.waiting.get_mut(self.gone + index)
    }

    /// Returns the first step that waits, if it is shown.
    #[inline]
    pub(crate) fn shown(&self) -> Option<Step<'_>> {
        match self.waiting.get(self.gone)?.as_ref()? {
            Waiting::Event(event) => Some(Step::Event(event)),
            Waiting::Operation(operation) => Some(Step::Operation(operation)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::MmId;

    fn operation(time_ns: u64) -> Operation {
        Operation {
            cpu: 0,
            time_ns,
            kind: OperationKind::Retire { mm: MmId(1) },
            initial: None,
        }
    }

    fn next_time(steps: &mut Steps) -> Option<u64> {
        steps.go_on()?;
        match steps.shown() {
            Some(Step::Operation(operation)) => Some(operation.time_ns),
            _ => panic!("an operation is shown"),
        }
    }

    #[test]
    fn what_waits_comes_in_order_and_is_found_by_its_number() {
        let mut steps = Steps::default();
        let length = 3 * MOST as u64;
        for time in 0..length {
            steps.push(operation(time));
        }
        let open = steps.push_open(operation(length));
        let places = steps.reserve(2);
        steps.push(operation(length + 3));
        for time in 0..length {
            assert_eq!(next_time(&mut steps), Some(time));
        }
        assert_eq!(next_time(&mut steps), None, "it is not complete");
        steps.leave(open);
        assert_eq!(next_time(&mut steps), Some(length));
        assert_eq!(next_time(&mut steps), None, "its place is kept");
        steps.fill(places, None);
        steps.fill(places + 1, Some(operation(length + 2)));
        assert_eq!(next_time(&mut steps), Some(length + 2));
        assert_eq!(next_time(&mut steps), Some(length + 3));
        assert_eq!(next_time(&mut steps), None);
        assert!(steps.waiting.is_empty());
    }

    #[test]
    fn no_more_wait_than_may() {
        let mut steps = Steps::default();
        steps.push_open(operation(0));
        for time in 1..MOST as u64 {
            assert_eq!(next_time(&mut steps), None);
            steps.push(operation(time));
        }
        assert_eq!(next_time(&mut steps), Some(0));
    }
}
