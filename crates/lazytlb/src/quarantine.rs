//! Page tables that are held back: defer the free, not the flush.
//!
//! Under [`Policy::Quarantine`] a flush after page tables were unhooked spares lazy CPUs, as one that frees none does under
//! every policy. A spared CPU may still walk those tables, on a walk that began before or from its paging-structure caches. So
//! a [`crate::Gather`] does not release them: it *holds* them, until every CPU that was spared has flushed past them, or has
//! left the space.
//!
//! ```text
//! initiator                                  CPU that is lazy in the space
//! entries cleared
//! reserve: held_tables += n  (bound?)
//! tlb_gen += 1
//! sees it lazy: spared |= that CPU; no IPI
//! batch awaits it; the sink holds n tables
//! pages are released                         walks a held table: absent entries only
//!                                            comes back, and is behind: a CR3 load that flushes
//!                                            spared &= !itself
//! release_held: awaits &= spared & cpumask   (or leaves: its bit in the cpumask goes)
//! nobody is left: n tables are released; held_tables -= n
//! ```
//!
//! A CPU's batches are its own: holding and giving up take no lock. A CPU has as many as it has slots, one a space; a further
//! gather in the same space adds to its batch, which then awaits whoever may walk any of it. What is held is counted for each
//! space and in all ([`Kernel::held_tables_of_a_space`]); a gather that would pass a bound
//! first gives up what it can, and if that does not help interrupts lazy CPUs after all: one IPI for all that is held of the space.
//!
//! Roots are never held: they stay until no CPU has them loaded ([`Tlb::reap`](crate::Tlb::reap)). A held table's entries are absent, or lead to what is
//! held with it.
//!
//! Rejected: a generation on each batch, and each CPU's progress published for others to compare with it. It costs every switch a store
//! and who gives up two remote loads a CPU, and a reader must not mix one space's progress with another's.

use crate::batches::{HeldBatch, NotHeld};
use crate::cpu_set::{CpuSet, members_of_word};
use crate::gather::FrameSink;
use crate::hw::Hw;
use crate::interrupts::InterruptsOff;
use crate::kernel::Kernel;
use crate::mm::{Mm, MmHandle};
use crate::policy::Policy;
use crate::tlb::Tlb;

/// What giving up held tables did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Released {
    /// Items that were released to the sink.
    pub items: u64,
    /// Batches that this CPU still holds.
    pub batches_left: u32,
    /// CPUs that were sent the interrupt and have left: by [`Tlb::reclaim_now`] alone.
    pub interrupted: u32,
}

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Says that this CPU walks nothing of a space any more that was removed, after it has flushed that.
    #[inline(always)]
    pub(crate) fn walks_nothing_removed(&self, hw: &K::Hw, mm: &Mm<K::Hw, WORDS>) {
        if self.policy() == Policy::Quarantine && mm.is_spared(hw, hw.cpu()) {
            mm.clear_spared(hw, hw.cpu());
        }
    }

    /// Says whether page tables of a space may be held back: what the kernel maps for itself is flushed on every CPU.
    pub(crate) fn holds_back(&self, mm: MmHandle) -> bool {
        self.policy() == Policy::Quarantine && mm != self.kernel.init_mm()
    }

    /// Reserves room to hold back so many tables of a space, in a batch of this CPU; or says why they must be freed at once.
    /// I12: counted before they are held, so the count is never below what is held, and a bound that it keeps is kept.
    pub(crate) fn reserve(
        &self,
        hw: &K::Hw,
        mm: MmHandle,
        tables: u64,
    ) -> Result<HeldBatch, NotHeld> {
        let _off = InterruptsOff::new(hw);
        let me = self.kernel.this_cpu(hw);
        let batch = me.batches.pin(hw, mm).ok_or(NotHeld::NoBatch)?;
        let (space, all) = (self.kernel.mm(mm), self.kernel.mm(self.kernel.init_mm()));
        let of_space = space.hold(hw, tables, self.kernel.held_tables_of_a_space());
        let counted = of_space.map_err(NotHeld::OfSpace).and_then(|()| {
            let in_all = all.hold(hw, tables, self.kernel.held_tables_in_all());
            in_all.map_err(|held| {
                space.give_up(hw, tables);
                NotHeld::InAll(held)
            })
        });
        if counted.is_err() {
            me.batches.unpin(hw, batch);
        }
        counted.map(|()| batch)
    }

    /// Lets a batch wait for all CPUs that were spared in its space.
    pub(crate) fn await_spared(&self, hw: &K::Hw, mm: MmHandle, batch: HeldBatch) {
        let _off = InterruptsOff::new(hw);
        let batches = &self.kernel.this_cpu(hw).batches;
        for word in 0..self.cpu_words() {
            // Whoever it awaited before, and still has to, is among them.
            let spared = self.kernel.mm(mm).spared_word(hw, word);
            batches.set_awaits(hw, batch, word, spared);
        }
    }

    /// Ends a reservation, of which so many tables were not held after all.
    pub(crate) fn end_reservation(
        &self,
        hw: &K::Hw,
        mm: MmHandle,
        batch: HeldBatch,
        not_held: u64,
    ) {
        let _off = InterruptsOff::new(hw);
        self.kernel.this_cpu(hw).batches.unpin(hw, batch);
        self.count_given_up(hw, mm, not_held);
    }

    fn count_given_up(&self, hw: &K::Hw, mm: MmHandle, tables: u64) {
        if tables == 0 {
            return;
        }
        // In all first: the last access to the space, which may go then (I13).
        let all = self.kernel.mm(self.kernel.init_mm());
        all.give_up(hw, tables);
        self.kernel.mm(mm).give_up(hw, tables);
    }

    /// Releases to `sink` the tables that this CPU holds back and nobody can walk any more. Interrupts nobody.
    ///
    /// Call it where the kernel can free memory: from a timer, when idle, after an exit. The sink must be one over the same
    /// storage as those that held them, this CPU's. Cost: for each batch, two loads for each word of CPUs in use, of words
    /// that other CPUs write.
    ///
    /// Preemption must be off. Interrupts may be in either state, and are off inside.
    ///
    /// What this CPU holds it alone can give up: before it goes offline, call [`Tlb::reclaim_now`].
    pub fn release_held<S: FrameSink>(&self, hw: &K::Hw, sink: &mut S) -> Released {
        self.release_batches(hw, sink, || self.somebody_walks(hw))
    }

    /// Releases those batches that nobody can walk any more, neither hardware nor software.
    fn release_batches<S: FrameSink>(
        &self,
        hw: &K::Hw,
        sink: &mut S,
        somebody_walks: impl Fn() -> bool,
    ) -> Released {
        let mut released = Released::default();
        if self.policy() != Policy::Quarantine {
            return released;
        }
        let _off = InterruptsOff::new(hw);
        let me = self.kernel.this_cpu(hw);
        for (batch, mm) in me.batches.iter(hw) {
            let may_be_walked = || !self.still_awaited(hw, mm, batch).is_empty();
            if me.batches.is_pinned(hw, batch) || may_be_walked() || somebody_walks() {
                released.batches_left += 1;
                continue;
            }
            let mut items = 0;
            while let Some(item) = sink.take_held(batch) {
                sink.release(item);
                items += 1;
            }
            me.batches.set_free(hw, batch);
            self.count_given_up(hw, mm, items);
            released.items += items;
        }
        released
    }

    /// Releases to `sink` all tables that this CPU holds back, and interrupts the CPUs that could still walk them: for an allocator
    /// under pressure, and before this CPU goes offline.
    ///
    /// Cost: one IPI to all targets, a locked instruction each, a wait, and what [`Tlb::release_held`] costs. Interrupts and
    /// locks are as for [`Tlb::flush`].
    pub fn reclaim_now<S: FrameSink>(&self, hw: &K::Hw, sink: &mut S) -> Released {
        if self.policy() != Policy::Quarantine {
            return Released::default();
        }
        let cpu = hw.cpu();
        let targets = self.awaited(hw);
        if !targets.is_empty() {
            let again = self.tell(hw, cpu, &targets);
            self.wait_for(hw, cpu, &targets, again);
        }
        // From here on, what a handler holds back was unhooked after the walks that were waited for. Who walks waits for nobody, so this CPU need
        // not serve anybody meanwhile.
        let _off = InterruptsOff::new(hw);
        self.wait_for_walks(hw);
        // A walk that has begun since finds none of what is held.
        let released = self.release_batches(hw, sink, || false);
        Released {
            interrupted: targets.len(),
            ..released
        }
    }

    /// Says whether this CPU holds tables back.
    pub fn holds_tables(&self, hw: &K::Hw) -> bool {
        let _off = InterruptsOff::new(hw);
        let mut batches = self.kernel.this_cpu(hw).batches.iter(hw);
        batches.next().is_some()
    }

    /// Returns the CPUs that some batch of this one awaits.
    fn awaited(&self, hw: &K::Hw) -> CpuSet<WORDS> {
        let _off = InterruptsOff::new(hw);
        let mut awaited = CpuSet::EMPTY;
        for (batch, mm) in self.kernel.this_cpu(hw).batches.iter(hw) {
            awaited.insert_all(&self.still_awaited(hw, mm, batch));
        }
        awaited
    }

    /// Takes those off whom a batch awaits who have flushed or left since, and returns the others.
    fn still_awaited(&self, hw: &K::Hw, mm: MmHandle, batch: HeldBatch) -> CpuSet<WORDS> {
        let batches = &self.kernel.this_cpu(hw).batches;
        let mut awaited = CpuSet::EMPTY;
        for word in 0..self.cpu_words() {
            let before = batches.awaits(hw, batch, word);
            if before == 0 {
                continue;
            }
            let still = before & self.kernel.mm(mm).spared_word(hw, word);
            if still != before {
                batches.set_awaits(hw, batch, word, still);
            }
            members_of_word(word, still).for_each(|cpu| awaited.insert(cpu));
        }
        awaited
    }
}
