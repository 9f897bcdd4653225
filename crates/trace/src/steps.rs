//! Steps that wait for what is not known yet.

use std::collections::VecDeque;

use crate::event::Event;
use crate::operation::{Onto, Operation, OperationKind, Range, Tables};

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
    waiting: VecDeque<Option<Waiting>>,
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

/// What the first step is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    Event,
    Operation,
}

impl Steps {
    /// Adds an event. It is copied only if others wait before it, or it is not the one that was read last.
    #[inline]
    pub(crate) fn push_event(&mut self, event: &Event) {
        if self.waiting.is_empty() && self.source == Source::Latest {
            self.comes_latest_event = true;
        } else {
            self.waiting.push_back(Some(Waiting::Event(*event)));
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
        self.waiting.push_back(Some(Waiting::Operation(operation)));
    }

    /// Adds an operation that is not complete yet, and returns its number.
    pub(crate) fn push_open(&mut self, operation: Operation) -> u64 {
        let number = self.first + self.waiting.len() as u64;
        self.push(operation);
        self.open.push(number);
        number
    }

    /// Keeps places for operations that will be known later, and returns the first one's number.
    pub(crate) fn reserve(&mut self, places: u64) -> u64 {
        let first = self.first + self.waiting.len() as u64;
        for number in first..first + places {
            self.waiting.push_back(None);
            self.open.push(number);
        }
        first
    }

    /// Fills a place that was kept; nothing comes there if the operation is none, or the place is gone.
    pub(crate) fn fill(&mut self, number: u64, operation: Option<Operation>) {
        self.open.retain(|open| *open != number);
        let index = number
            .checked_sub(self.first)
            .and_then(|index| usize::try_from(index).ok());
        let place = index.and_then(|index| self.waiting.get_mut(index));
        match (place, operation) {
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
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        match self.waiting.get_mut(index)? {
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

    /// Goes on to the first step, if it is complete: writes what it is to its place. An event that was read last is there.
    #[inline]
    pub(crate) fn pop(&mut self, event: &mut Event, operation: &mut Operation) -> Option<Next> {
        if std::mem::take(&mut self.comes_latest_event) {
            return Some(Next::Event);
        }
        if self.waiting.is_empty() {
            return None;
        }
        self.pop_waiting(event, operation)
    }

    fn pop_waiting(&mut self, event: &mut Event, operation: &mut Operation) -> Option<Next> {
        if self.open.first() == Some(&self.first) {
            if self.waiting.len() < MOST {
                return None;
            }
            self.open.remove(0);
        }
        let next = match self.waiting.front()? {
            Some(Waiting::Event(waited)) => {
                *event = *waited;
                Some(Next::Event)
            }
            Some(Waiting::Operation(waited)) => {
                *operation = *waited;
                Some(Next::Operation)
            }
            None => None,
        };
        self.waiting.pop_front();
        self.first += 1;
        next.or_else(|| self.pop_waiting(event, operation))
    }
}
