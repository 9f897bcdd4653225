//! Steps that wait for what is not known yet.

use std::collections::VecDeque;

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
    waiting: VecDeque<Option<Step>>,
    /// The number of the first one.
    first: u64,
    /// The numbers of operations that are not complete, in ascending order.
    open: Vec<u64>,
}

impl Steps {
    /// Adds a step, and returns its number.
    #[inline]
    pub(crate) fn push(&mut self, step: Step) -> u64 {
        self.waiting.push_back(Some(step));
        self.first + self.waiting.len() as u64 - 1
    }

    /// Adds an operation that is not complete yet, and returns its number.
    pub(crate) fn push_open(&mut self, operation: Operation) -> u64 {
        let number = self.push(Step::Operation(operation));
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
            (Some(place), operation) => *place = operation.map(Step::Operation),
            (None, Some(operation)) => {
                self.push(Step::Operation(operation));
            }
            (None, None) => {}
        }
    }

    /// Completes an operation: tells whether its flush frees tables.
    pub(crate) fn complete(&mut self, number: u64, tables: Tables) {
        self.open.retain(|open| *open != number);
        if let Some(Step::Operation(operation)) = self.at(number)
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
        if let Some(Step::Operation(operation)) = self.at(number)
            && let OperationKind::GoLazy { onto } = &mut operation.kind
        {
            *onto = known;
        }
    }

    /// Returns a step that still waits.
    pub(crate) fn at(&mut self, number: u64) -> Option<&mut Step> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.waiting.get_mut(index)?.as_mut()
    }

    /// A flush turns out to be the last one of its space.
    pub(crate) fn was_last(&mut self, number: u64) {
        self.complete(number, Tables::Freed);
        if let Some(Step::Operation(operation)) = self.at(number)
            && let OperationKind::Flush { range, .. } = &mut operation.kind
        {
            *range = Range::All;
        }
    }

    /// Nothing more will be known.
    pub(crate) fn complete_all(&mut self) {
        self.open.clear();
    }

    /// Returns the first step, if it is complete.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Step> {
        if self.open.first() == Some(&self.first) {
            if self.waiting.len() < MOST {
                return None;
            }
            self.open.remove(0);
        }
        let step = self.waiting.pop_front()?;
        self.first += 1;
        match step {
            Some(step) => Some(step),
            None => self.pop(),
        }
    }
}
