//! The protocol that the shipped programs exercise: `lazytlb`, or any other with the same entry points.
//!
//! [`Protocol`] is those entry points; `protocol/adapter.rs` implements it for `lazytlb`, and notes their outcomes ([`notes`]).

use lazytlb::{FlushRange, PhysAddr, Policy, Promises, Spaces, Tables, VirtAddr};

use crate::model_hw::ModelHw;
use crate::program::Program;

mod adapter;
pub mod notes;

pub use adapter::{LazyTlb, TwoWords, WithBroadcast, WithPcids};

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

/// What a flush is for: a range of a space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// The space.
    pub space: Space,
    /// The range.
    pub range: FlushRange,
    /// Whether tables are freed after it.
    pub tables: Tables,
}

/// What the kernel has removed of what it maps for itself, in every space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelRemoval {
    /// The addresses.
    pub range: FlushRange,
    /// Whether tables are freed after the flush.
    pub tables: Tables,
}

/// What became of a space that was retired without waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Nobody can reach it: its root may be freed.
    Now,
    /// [`Protocol::reap`] will say so, on the same CPU.
    Later,
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
    /// Flushes several ranges, in spaces that may differ, and waits once. `before_wait` runs when all is sent, where code may
    /// do what it likes: flush something else, too.
    ///
    /// A protocol that has no such thing flushes one after the other, and then runs `before_wait`.
    fn flush_together(&self, hw: &ModelHw, parts: &[Part], before_wait: &dyn Fn(&ModelHw)) {
        for part in parts {
            self.flush(hw, part.space, part.range, part.tables);
        }
        before_wait(hw);
    }
    /// Gives up what this CPU holds back and nobody can walk any more. A protocol that holds nothing back does nothing.
    fn release_held(&self, hw: &ModelHw) {
        let _ = hw;
    }
    /// Gives up all that this CPU holds back, and interrupts who could walk it.
    fn reclaim_now(&self, hw: &ModelHw) {
        let _ = hw;
    }
    /// Does what other CPUs wait for, in a loop with interrupts off. A protocol that has no such thing does nothing.
    fn serve_inbox(&self, hw: &ModelHw) {
        let _ = hw;
    }
    /// Ends a space that nobody runs in any more, and does not wait. One that has no such thing waits.
    fn start_retiring(&self, hw: &ModelHw, space: Space) -> Ended {
        self.retire(hw, space);
        Ended::Now
    }
    /// Returns a space that has ended [later](Ended::Later).
    fn reap(&self, hw: &ModelHw) -> Option<Space> {
        let _ = hw;
        None
    }
    /// Flushes kernel addresses in every space, on every CPU that is online; begins the promise before and keeps it after. A protocol that has no such thing
    /// does nothing, and is found out.
    fn flush_kernel(&self, hw: &ModelHw, removed: KernelRemoval) {
        let promise = hw.promise_begins(Spaces::All, removed.range);
        hw.promise_kept(promise);
    }
    /// Takes this CPU into those that [`Protocol::flush_kernel`] reaches.
    fn cpu_online(&self, hw: &ModelHw) {
        let _ = hw;
    }
    /// Takes it out of them again.
    fn cpu_offline(&self, hw: &ModelHw) {
        let _ = hw;
    }
    /// As [`Protocol::new`], with a second root for each user space, which is loaded in user mode. A protocol that has no
    /// such thing leaves CPUs under the first one.
    fn isolated(
        program: &mut Program,
        policy: Policy,
        user_roots: &[PhysAddr],
        user_halves: &[PhysAddr],
    ) -> Self
    where
        Self: Sized,
    {
        let _ = user_halves;
        Self::new(program, policy, user_roots)
    }
    /// Loads the user half of the loaded space, with interrupts off, before user mode.
    fn load_user_half(&self, hw: &ModelHw) {
        let _ = hw;
    }
    /// Loads the kernel half, with interrupts off, after user mode.
    fn load_kernel_half(&self, hw: &ModelHw) {
        let _ = hw;
    }
    /// Says, from an NMI, whether user memory may be touched on this CPU now. A protocol that does not know says no.
    fn may_touch_user_memory(&self, hw: &ModelHw) -> bool {
        let _ = hw;
        false
    }
}
