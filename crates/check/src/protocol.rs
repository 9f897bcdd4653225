//! The protocol that the shipped programs exercise: `lazytlb`, or any other with the same entry points.
//!
//! [`Protocol`] is those entry points; `protocol/adapter.rs` implements it for `lazytlb`.

use lazytlb::{FlushRange, PhysAddr, Policy, Tables, VirtAddr};

use crate::model_hw::ModelHw;
use crate::program::Program;

mod adapter;

pub use adapter::{LazyTlb, WithPcids};

/// A space of a shipped program: 0 is the kernel's own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Space(pub usize);

/// An entry to remove, and the frame to free after the flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Removal {
    /// An address that the entry translates.
    pub addr: VirtAddr,
    /// The table that holds the entry.
    pub table: PhysAddr,
    /// The entry's index.
    pub index: u16,
    /// What the entry stood for.
    pub frees: Frees,
}

/// What is freed after a removal is flushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frees {
    /// Nothing.
    Nothing,
    /// A page's frame.
    Page(PhysAddr),
    /// A page table's frame.
    Table(PhysAddr),
}

/// A protocol with the entry points that kernels call: plug in your own, and the shipped programs judge
/// it.
pub trait Protocol: Send + Sync + 'static {
    /// Notes ([`ModelHw::note`]) of the outcomes that the entry points can have.
    const OUTCOMES: &'static [&'static str];

    /// Makes the protocol's state in a program: every CPU is in the kernel's own space, whose root is
    /// [`Program::first_root`]; the user spaces have these roots, and no CPU has loaded them.
    fn new(program: &mut Program, policy: Policy, user_roots: &[PhysAddr]) -> Self;
    /// Switches this CPU to a space.
    fn switch_mm(&self, hw: &ModelHw, space: Space);
    /// Enters lazy mode on this CPU.
    fn enter_lazy(&self, hw: &ModelHw);
    /// Flushes a range.
    fn flush(&self, hw: &ModelHw, space: Space, range: FlushRange, tables: Tables);
    /// Removes entries, flushes, and frees: with [`lazytlb::Memory::flush_begins`] before the flush,
    /// [`lazytlb::Memory::flush_returned`] after it, and [`lazytlb::Memory::free_frame`] for each frame.
    /// `driver` runs when the flush is done, and before anybody relies on it.
    fn remove(&self, hw: &ModelHw, space: Space, removals: &[Removal], driver: &dyn Fn(&ModelHw));
    /// Ends a space that nobody runs in any more.
    fn retire(&self, hw: &ModelHw, space: Space);
    /// Handles the flush interrupt.
    fn handle_flush_ipi(&self, hw: &ModelHw);
    /// Says, from an NMI, whether user memory may be touched on this CPU now. A protocol that does not know says no.
    fn may_touch_user_memory(&self, hw: &ModelHw) -> bool {
        let _ = hw;
        false
    }
}
