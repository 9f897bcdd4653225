//! What lies beside the seam, as the checker implements it: calls like any other.

use lazytlb::{
    Access, Entry, FlushRange, FrameKind, Memory, PhysAddr, Promise, Promises, Spaces, VirtAddr,
};
use lazytlb_model::{Breach, Call};

use super::ModelHw;

impl Memory for ModelHw {
    fn read_entry(&self, table: PhysAddr, index: u16) -> Entry {
        Entry(self.ask(Call::ReadEntry(table, index)))
    }
    fn write_entry(&self, table: PhysAddr, index: u16, entry: Entry) {
        self.ask(Call::WriteEntry(table, index, entry));
    }
    fn alloc_frame(&self, kind: FrameKind) -> PhysAddr {
        PhysAddr(self.ask(Call::AllocFrame(kind)))
    }
    fn free_frame(&self, frame: PhysAddr) {
        self.ask(Call::FreeFrame(frame));
    }
    fn touch(&self, addr: VirtAddr, access: Access) {
        self.ask(Call::Touch(addr, access));
    }
    fn flush_begins(&self, root: PhysAddr, range: FlushRange) {
        self.ask(Call::FlushBegins(root, range));
    }
    fn flush_returned(&self, root: PhysAddr) {
        self.ask(Call::FlushReturned(root));
    }
}

impl ModelHw {
    /// Says that a frame is lost, which the code was given to be freed: [`Property::LeakedFrame`](lazytlb_model::Property::LeakedFrame).
    /// For whoever sees what it is given and what it frees, as a sink of frames does.
    pub fn loses_frame(&self, frame: PhysAddr) {
        self.ask(Call::Breaks(Breach::Loses(frame)));
    }
}

impl Promises for ModelHw {
    fn promise_begins(&self, spaces: Spaces, range: FlushRange) -> Promise {
        Promise(self.ask(Call::PromiseBegins(spaces, range)))
    }
    fn promise_kept(&self, promise: Promise) {
        self.ask(Call::PromiseKept(promise.0));
    }
}
