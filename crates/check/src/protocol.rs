//! The protocol that the shipped programs exercise: `lazytlb`, or any other with the same entry points.
//!
//! [`Protocol`] is those entry points; `protocol/adapter.rs` implements it for `lazytlb`, on `protocol/storage.rs`, with what it frees into in
//! `protocol/sinks.rs`, and notes their outcomes ([`notes`]) by `protocol/reports.rs`; `protocol/promise_of_change.rs` has what an implementation says of a
//! change in steps.

use lazytlb::{
    Fetched, FlushRange, Hw, PageRange, PhysAddr, Policy, Promises, Quirks, Spaces, Tables,
    VirtAddr,
};

use crate::model_hw::ModelHw;
use crate::program::Program;

mod adapter;
pub mod notes;
mod promise_of_change;
mod reports;
mod sinks;
mod storage;

pub use adapter::{LazyTlb, TwoWords, WithBroadcast, WithPcids};
pub use promise_of_change::PromiseOfChange;

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
    /// The frame of a page table that leads nowhere any more.
    Table(PhysAddr),
    /// The frame of a page table that is detached with whatever it leads to: any address may have been below.
    Subtree(PhysAddr),
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

/// Pages that stay mapped and change their type or their size.
#[derive(Clone, Copy)]
pub struct PageChange<'a> {
    /// The pages, in the size that they had.
    pub pages: PageRange,
    /// Whether instructions may be fetched from there.
    pub fetched: Fetched,
    /// Writes absent entries.
    pub clear: &'a dyn Fn(&ModelHw),
    /// Writes the new ones, over whatever is there.
    pub make: &'a dyn Fn(&ModelHw),
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
    /// Returns the notes ([`ModelHw::note`]) of the outcomes that the entry points can have.
    fn outcomes() -> &'static [&'static str]
    where
        Self: Sized;

    /// Makes the protocol's state in a program: every CPU is in the kernel's own space, whose root is
    /// [`Program::first_root`]; the user spaces have these roots, and no CPU has loaded them.
    fn new(program: &mut Program, policy: Policy, user_roots: &[PhysAddr]) -> Self
    where
        Self: Sized;
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
    /// As [`Protocol::remove`], with no room to gather anything in: each frame is flushed and freed before the next entry goes.
    ///
    /// A protocol that gathers nothing does as there, with one entry after the other.
    fn remove_one_by_one(&self, hw: &ModelHw, space: Space, removals: &[Removal]) {
        let each = removals.chunks(1);
        each.for_each(|removal| self.remove(hw, space, removal, &|_| {}));
    }
    /// Removes an entry that maps a device's frame, flushes, and lets the driver read back before anybody relies on it. A protocol
    /// that has no such thing treats it as any other page.
    fn unmap_device(
        &self,
        hw: &ModelHw,
        space: Space,
        removal: &Removal,
        read_back: &dyn Fn(&ModelHw),
    ) {
        self.remove(hw, space, std::slice::from_ref(removal), read_back);
    }
    /// Changes the type of memory. A protocol that has no such thing breaks, flushes as if tables were freed, and makes.
    fn change_type(&self, hw: &ModelHw, space: Space, change: &PageChange<'_>) {
        (change.clear)(hw);
        self.flush(hw, space, FlushRange::Pages(change.pages), Tables::Freed);
        (change.make)(hw);
    }
    /// Changes the size of pages; the tables stay. A protocol that has no such thing does as for a change of type.
    fn change_size(&self, hw: &ModelHw, space: Space, change: &PageChange<'_>) {
        self.change_type(hw, space, change);
    }
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
    /// Flushes several ranges as [`Protocol::flush_together`] does: sends `sent`, then adds `added`, which it leaves to the wait to send.
    ///
    /// A protocol whose wait sends nothing by itself sends both.
    fn flush_and_add(&self, hw: &ModelHw, sent: &[Part], added: &[Part]) {
        self.flush_together(hw, &[sent, added].concat(), &|_| {});
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
    /// Runs a walk of page tables by software, under whatever keeps tables from being freed meanwhile: in a program that
    /// [walks](Program::walks_by_software). A protocol that has no such thing turns interrupts off, which is enough where every flush that frees
    /// tables interrupts all who may walk them.
    fn walk(&self, hw: &ModelHw, walk: &dyn Fn(&ModelHw)) {
        let former = hw.disable_interrupts();
        walk(hw);
        hw.restore_interrupts(former);
    }
    /// Flushes kernel addresses in every space, on every CPU that is online; begins the promise before and keeps it after. A protocol that has no such thing
    /// does nothing, and is found out.
    fn flush_kernel(&self, hw: &ModelHw, removed: KernelRemoval) {
        let promise = hw.promise_begins(Spaces::All, removed.range);
        hw.promise_kept(promise);
    }
    /// Says whether a CPU with these errata may come online. A protocol that does not look at errata takes any.
    fn admits(&self, hw: &ModelHw, quirks: Quirks) -> bool {
        let _ = (hw, quirks);
        true
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
