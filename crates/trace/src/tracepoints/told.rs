//! What an event tells, and where it goes.

use crate::event::Event;
use crate::operation::{InitialState, MmId, Operation, OperationKind};
use crate::steps::Steps;
use crate::summary::Summary;

/// Where the operations of an exec or exit go: to where the other space was loaded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) next: u64,
    pub(crate) end: u64,
    pub(crate) time_ns: u64,
}

impl Places {
    /// Names so many places from a number on, which belong to an event.
    pub(crate) fn of(event: &Event, next: u64, count: u64) -> Places {
        Places {
            next,
            end: next + count,
            time_ns: event.time_ns,
        }
    }
}

/// A switch, a flush and a retirement.
pub(crate) const PLACES: u64 = 3;

/// An event, and where what it tells goes.
pub(crate) struct Told<'a> {
    pub(crate) event: &'a Event,
    pub(crate) summary: &'a mut Summary,
    pub(crate) steps: &'a mut Steps,
    pub(crate) places: Option<Places>,
}

impl Told<'_> {
    /// What follows belongs to an earlier moment.
    pub(crate) fn go_back(&mut self, places: Places) {
        self.places = Some(places);
    }

    /// What follows belongs here.
    pub(crate) fn come_back(&mut self) {
        if let Some(places) = self.places.take() {
            for number in places.next..places.end {
                self.steps.fill(number, None);
            }
        }
    }

    pub(crate) fn of(&self, initial: Option<InitialState>, kind: OperationKind) -> Operation {
        Operation {
            cpu: self.event.cpu,
            time_ns: self.event.time_ns,
            kind,
            initial,
        }
    }

    pub(crate) fn operation(&mut self, initial: Option<InitialState>, kind: OperationKind) {
        let mut operation = self.of(initial, kind);
        if let Some(places) = self
            .places
            .as_mut()
            .filter(|places| places.next < places.end)
        {
            operation.time_ns = places.time_ns;
            self.steps.fill(places.next, Some(operation));
            places.next += 1;
        } else {
            self.steps.push(operation);
        }
    }

    pub(crate) fn retire(&mut self, mm: MmId) {
        self.summary.operations.retire += 1;
        self.operation(None, OperationKind::Retire { mm });
    }
}
