//! What code was given to be freed.

use std::cell::{Cell, RefCell};

use lazytlb::PhysAddr;

use crate::model_hw::ModelHw;

/// The frames that a protocol was given to be freed, and has neither freed nor kept to be freed later: when it returns, nothing may be left.
///
/// Whoever gives frames says so, and whoever gets them back ([`lazytlb::FrameSink`]).
#[derive(Default, Debug)]
pub struct Ledger {
    given: RefCell<Vec<PhysAddr>>,
    tables: Cell<u64>,
}

impl Ledger {
    /// Says that a frame is given.
    pub fn give(&self, frame: PhysAddr) {
        self.given.borrow_mut().push(frame);
    }

    /// Says that a frame is given that CPUs may walk.
    pub fn give_table(&self, frame: PhysAddr) {
        self.tables.update(|tables| tables + 1);
        self.give(frame);
    }

    /// Returns how many such frames were given.
    pub fn tables(&self) -> u64 {
        self.tables.get()
    }

    /// Says that a frame has come back, or is kept to be freed.
    pub fn settle(&self, frame: PhysAddr) {
        self.given.borrow_mut().retain(|given| *given != frame);
    }

    /// Ends it: what is left is lost ([`lazytlb_model::Property::LeakedFrame`]).
    pub fn close(&self, hw: &ModelHw) {
        for lost in self.given.take() {
            hw.loses_frame(lost);
        }
    }
}
