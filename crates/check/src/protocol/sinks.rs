//! What the adapter's gathers free into.
//!
//! Compiled more than once, as `adapter.rs` is, and for that reason it names the protocol in one line, too.

use lazytlb as protocol;

use lazytlb::{FlushRange, Hw, Memory, PhysAddr, Promise, Promises, Spaces};
use lazytlb_check::{Ledger, ModelHw, SparingLazy};
use lazytlb_model::LocalCell;
use protocol::batches::{HeldBatch, NotHeld};
use protocol::device::Undrained;
use protocol::gather::FrameSink;
use protocol::shootdown::Flushed;

use super::reports::note_broadcast;

/// How many page tables of a space are held back: as few as show everything.
pub(super) const HELD_TABLES: usize = 1;
/// No frame, in a word that may hold one's address.
pub(super) const NO_FRAME: u64 = u64::MAX;

/// Where a CPU keeps the tables of a batch: a frame's address each, or [`NO_FRAME`].
pub(super) type HeldCells = [LocalCell; HELD_TABLES];

/// Gives frames back to the modelled machine, and says when a flush begins and returns.
pub(super) struct Sink<'a> {
    hw: &'a ModelHw,
    ledger: &'a Ledger,
    /// While a flush reaches lazy CPUs because nothing more can be held.
    reaching: Option<SparingLazy<'a>>,
    spaces: Spaces,
    driver: &'a dyn Fn(&ModelHw),
    promises: Vec<Promise>,
    /// Where this CPU keeps what it holds back, for each batch.
    held: &'a [HeldCells],
}

impl<'a> Sink<'a> {
    /// Makes one that frees into the modelled machine, for a flush of these spaces, and holds back in these cells.
    pub(super) fn new(
        hw: &'a ModelHw,
        ledger: &'a Ledger,
        spaces: Spaces,
        held: &'a [HeldCells],
    ) -> Self {
        Sink {
            hw,
            ledger,
            reaching: None,
            spaces,
            driver: &|_| {},
            promises: Vec::new(),
            held,
        }
    }

    /// Lets a driver do its part when a flush has returned.
    pub(super) fn with_driver(self, driver: &'a dyn Fn(&ModelHw)) -> Self {
        Sink { driver, ..self }
    }

    /// Lists the frames that this CPU holds back.
    pub(super) fn frames(&self) -> impl Iterator<Item = PhysAddr> {
        let words = self.held.iter().flatten();
        let words = words.map(|cell| self.hw.load_local(cell));
        words.filter(|frame| *frame != NO_FRAME).map(PhysAddr)
    }

    fn cells(&self, batch: HeldBatch) -> &HeldCells {
        &self.held[batch.number()]
    }

    /// Says whether it is so that no more can be held: that may not be had cheaper than it is.
    fn is_full(&self, why: NotHeld) -> bool {
        let walked = self.ledger.tables();
        let is_held = |cells: &HeldCells| {
            let mut cells = cells.iter();
            cells.any(|cell| self.hw.load_local(cell) != NO_FRAME)
        };
        match why {
            NotHeld::NoRoom => walked > HELD_TABLES as u64,
            NotHeld::NoBatch => self.held.iter().all(is_held),
            NotHeld::OfSpace(held) => held + walked > HELD_TABLES as u64,
            // No checked program holds so many.
            _ => false,
        }
    }
}

impl FrameSink for Sink<'_> {
    type Item = PhysAddr;
    fn flushing(&mut self, range: FlushRange) {
        let promise = self.hw.promise_begins(self.spaces, range);
        self.promises.push(promise);
    }
    fn flushed(&mut self, report: Flushed) {
        note_broadcast(self.hw, report);
        self.reaching = None;
        self.hw.has_flushed();
        (self.driver)(self.hw);
        for promise in self.promises.drain(..) {
            self.hw.promise_kept(promise);
        }
    }
    fn release(&mut self, frame: PhysAddr) {
        self.ledger.settle(frame);
        self.hw.free_frame(frame);
    }
    fn cannot_hold(&mut self, why: NotHeld) {
        if self.is_full(why) {
            self.reaching = Some(self.hw.reaches_lazy_cpus());
        }
    }
    fn room(&self) -> u64 {
        // The bound for a space keeps a batch's words from being too few.
        HELD_TABLES as u64
    }
    fn hold(&mut self, batch: HeldBatch, frame: PhysAddr) {
        let mut cells = self.cells(batch).iter();
        let free = cells.find(|cell| self.hw.load_local(cell) == NO_FRAME);
        let free = free.expect("no more are held than there is room for");
        self.hw.store_local(free, frame.0);
        self.ledger.settle(frame);
    }
    fn take_held(&mut self, batch: HeldBatch) -> Option<PhysAddr> {
        let mut cells = self.cells(batch).iter();
        cells.find_map(|cell| {
            let frame = self.hw.load_local(cell);
            (frame != NO_FRAME).then(|| {
                self.hw.store_local(cell, NO_FRAME);
                self.ledger.give(PhysAddr(frame));
                PhysAddr(frame)
            })
        })
    }
}

/// Keeps what is the driver's to read back from.
#[derive(Default)]
pub(super) struct DeviceSink(pub(super) Vec<Undrained<Window>>);

/// What a checked program unmaps of a device: it frees nothing.
pub(super) struct Window;

impl FrameSink for DeviceSink {
    type Item = Window;
    /// What is released needs no read back.
    fn release(&mut self, _: Window) {}
    fn release_device(&mut self, window: Undrained<Window>) {
        self.0.push(window);
    }
}
