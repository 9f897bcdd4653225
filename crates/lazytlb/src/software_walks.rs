//! Walks of page tables by software: code that follows entries without a lock, as get_user_pages_fast does.
//!
//! Such code used to be safe with nothing but interrupts off: a flush that freed tables interrupted every CPU that had the space
//! loaded, and waited. That holds no longer once flushes spare CPUs by hints, hold tables back, or go by broadcast, and it never held
//! for whoever walks the tables of a space that it has not loaded. So a walk is said to be under way ([`Tlb::walk`]), and whoever frees
//! tables waits until it has ended.
//!
//! ```text
//! walker                                     initiator
//! walkers |= itself, the first time (locked) entries cleared
//! is_walking = 1                             tlb_gen += 1 (locked)
//! fence                                      flush
//! reads entries                              for each of the walkers:
//! is_walking = 0                             waits until is_walking = 0; frees
//! ```
//!
//! I19: either the walker finds the entry cleared, or the initiator finds the walk. A table that is held back is not waited for, but kept
//! while anybody walks.
//!
//! Rejected: a set of walkers in each space (two locked instructions on a line that all its walkers share); waiting for walks of this space
//! alone (a second word, or a wider one, and walks are short).

use crate::cpu_set::members_of_word;
use crate::hw::{Hw, Poll};
use crate::interrupts::InterruptsOff;
use crate::kernel::{Kernel, SoftwareWalks};
use crate::pinned::{OnItsCpu, PreemptionIsOff};
use crate::tlb::Tlb;

/// A walk of page tables by software, under way on this CPU: no table is freed that it can reach, until it is dropped. Interrupts are
/// off as long.
#[derive(Debug)]
#[must_use = "tables may be freed under the walk once it is dropped"]
pub struct WalkGuard<'a, H: Hw> {
    hw: &'a H,
    is_walking: &'a H::Atomic,
    _off: InterruptsOff<'a, H>,
    _on_its_cpu: OnItsCpu<'a>,
}

impl<H: Hw> Drop for WalkGuard<'_, H> {
    fn drop(&mut self) {
        // A plain store: no load of the walk comes after it.
        self.hw.store(self.is_walking, 0);
    }
}

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Begins a walk of page tables by software, of any user space: from a root that stays, downwards, each entry read once.
    ///
    /// While the guard lives, no table that an entry leads to is freed. *Pages* may be: before one is used, take a reference to it, and read the
    /// entry that led to it once more. The space itself must stay, as one does that this CPU has loaded, or that the caller holds a reference to.
    ///
    /// Keep it short: who frees tables waits for it. Under it nothing may be flushed, nor waited for; a flush that frees tables panics there. Cost: a store, a fence, and a store at the end; a
    /// flush after tables were unhooked loads one word for each CPU that has ever walked.
    ///
    /// Interrupts may be in either state, and are off until the guard is dropped. Not from an NMI: that could come in the midst of another walk.
    ///
    /// # Panics
    /// If the kernel says that it has no such code ([`Kernel::software_walks`]), if a walk is under way on this CPU, or if its number is past
    /// [`Kernel::cpu_words`].
    ///
    /// Checked by: programs `walked-from-outside`, `walked-inside`, and the menus' operation `walk`.
    ///
    /// ```
    /// # mod machine { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/machine/mod.rs")); } use machine::*;
    /// use lazytlb::Policy;
    /// let (machine, tlb) = (Machine::default(), boot(Policy::Ipi));
    /// let walk = tlb.walk(&machine);
    /// // The kernel follows entries here, from the root down.
    /// drop(walk);
    /// ```
    pub fn walk<'a>(&'a self, hw: &'a K::Hw) -> WalkGuard<'a, K::Hw> {
        assert!(
            self.kernel.software_walks() == SoftwareWalks::Guarded,
            "nobody waits for walks by software: see `Kernel::software_walks`"
        );
        let off = InterruptsOff::new(hw);
        self.assert_in_use(hw.cpu());
        let is_walking = self.kernel.this_cpu(hw).is_walking();
        assert!(
            hw.load(is_walking) == 0,
            "a walk by software within another one"
        );
        let walkers = self.kernel.mm(self.kernel.init_mm());
        if !walkers.has_walker(hw, hw.cpu()) {
            walkers.add_walker(hw, hw.cpu());
        }
        hw.store(is_walking, 1);
        // I19: whoever clears an entry from now on sees the walk.
        hw.fence();
        WalkGuard {
            hw,
            is_walking,
            _off: off,
            _on_its_cpu: OnItsCpu::by(&PreemptionIsOff),
        }
    }

    /// Waits until each walk by software has ended that began before an entry was cleared.
    #[inline(always)]
    pub(crate) fn wait_for_walks(&self, hw: &K::Hw) {
        if self.kernel.software_walks() == SoftwareWalks::Guarded {
            self.wait_for_each_walk(hw);
        }
    }

    /// Not inlined: a kernel without such walks shall not pay for it.
    #[inline(never)]
    fn wait_for_each_walk(&self, hw: &K::Hw) {
        let own = self.kernel.this_cpu(hw).is_walking();
        assert!(
            hw.load(own) == 0,
            "a flush that frees page tables under a walk of the same CPU"
        );
        self.for_each_walker(hw, |is_walking| {
            // Who walks waits for nobody, so this CPU need not serve anybody meanwhile.
            hw.poll(|hw| (hw.load(is_walking) == 0).then_some(()));
        });
    }

    /// Says whether a walk by software is under way that may have begun before an entry was cleared.
    pub(crate) fn somebody_walks(&self, hw: &K::Hw) -> bool {
        let mut walks = 0;
        if self.kernel.software_walks() == SoftwareWalks::Guarded {
            self.for_each_walker(hw, |is_walking| walks |= hw.load(is_walking));
        }
        walks != 0
    }

    /// Goes through the CPUs that have ever walked, and where each says that it does.
    fn for_each_walker(&self, hw: &K::Hw, mut each: impl FnMut(&<K::Hw as Hw>::Atomic)) {
        let walkers = self.kernel.mm(self.kernel.init_mm());
        for word in 0..self.cpu_words() {
            let walkers = members_of_word(word, walkers.walkers_word(hw, word));
            walkers.for_each(|cpu| each(self.kernel.per_cpu(cpu).is_walking()));
        }
    }
}
