//! The end of a space.
//!
//! A space is *retired* when nobody runs in it any more, from wherever the last reference to it is dropped. CPUs that still
//! have it loaded lazily are interrupted and leave; nobody waits for them. Once no CPU is in its cpumask, it can be
//! *reaped*: only then the root may be freed. While a CPU's bit is set there, the space lives, and that CPU alone clears it, with
//! its last access to the space. Nobody enters a retired space, so a cpumask that was empty once, word by word, stays so.

use crate::addr::PhysAddr;
use crate::hw::Hw;
use crate::interrupts::InterruptsOff;
use crate::kernel::Kernel;
use crate::mm::{Mm, MmHandle};
use crate::policy::Tables;
use crate::targets::{Chosen, Occasion};
use crate::tlb::Tlb;

/// What retiring a space did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Retired {
    /// CPUs that were sent the interrupt: they leave.
    pub interrupted: u32,
    /// How many of them had another space loaded.
    pub elsewhere: u32,
}

/// A space that no CPU can reach any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Reaped {
    /// Its handle, which is dead: the protocol does not ask for it again, and the [`Mm`] may go.
    pub mm: MmHandle,
    /// The root, which may be freed, with all tables below it.
    pub root: PhysAddr,
    /// The root for user mode, if it had one: likewise.
    pub user_root: Option<PhysAddr>,
}

impl<K: Kernel<WORDS, SLOTS>, const WORDS: usize, const SLOTS: usize> Tlb<K, WORDS, SLOTS> {
    /// Retires a space: every CPU that has it loaded leaves for init_mm, whatever the policy, this one at once.
    ///
    /// In any context but an NMI: with interrupts on or off, in an interrupt handler that came in the middle of a flush, on a CPU that has
    /// the space loaded. It never waits. From here on no CPU may be asked to switch to it; one that is just coming to it
    /// leaves again, and says so ([`crate::Switched::Retired`]). No reference count keeps a space alive for lazy
    /// CPUs. A space that is retired already is left as it is.
    ///
    /// The root, the tables and the [`Mm`] must live until [`Tlb::reap`] returns the space, on *this* CPU.
    ///
    /// Cost: as [`Tlb::flush`] without the wait, with an IPI to each CPU in the cpumask.
    ///
    /// # Panics
    /// If it is the kernel's own space.
    ///
    /// Checked by: programs `exit`, `retire-anywhere`.
    pub fn retire(&self, hw: &K::Hw, mm: MmHandle) -> Retired {
        assert!(
            mm != self.kernel.init_mm(),
            "the kernel's own space is never retired"
        );
        // A handler may retire, too: the list is this CPU's.
        let _off = InterruptsOff::new(hw);
        let (me, handle, mm) = (self.kernel.this_cpu(hw), mm, self.kernel.mm(mm));
        if mm.set_retired(hw) {
            return Retired {
                interrupted: 0,
                elsewhere: 0,
            };
        }
        mm.set_retired_before(hw, me.last_retired(hw));
        me.set_last_retired(hw, Some(handle));
        mm.bump_tlb_gen(hw);
        let mut chosen = Chosen::nobody();
        let occasion = Occasion::EndOfSpace;
        self.choose_targets(hw, handle, mm, Tables::Freed, occasion, &mut chosen);
        if chosen.count > 0 {
            self.tell(hw, hw.cpu(), &chosen.targets);
        }
        if me.loaded_mm(hw) == handle {
            self.leave_for_init_mm(hw, me, handle);
        }
        self.leave_behind(hw, me);
        Retired {
            interrupted: chosen.count,
            elsewhere: chosen.elsewhere,
        }
    }

    /// Returns a space that this CPU has retired and no CPU can reach any more, or `None` if there is none *yet*.
    ///
    /// Call it until it returns `None`, where the kernel can free memory: from a timer, when idle, after an exit. Cost: a load for
    /// each word of CPUs in use, for each space that is retired and not reaped.
    ///
    /// Preemption must be off. Interrupts may be in either state, and are off inside.
    ///
    /// What this CPU has retired it alone can reap: the list is in words of its own, so that retiring takes no lock. So before it goes offline, reap until
    /// [`Tlb::has_retired`] says no: that waits only until the CPUs in those spaces take their interrupt. What is left all the same is not lost: this
    /// CPU reaps it when it is back online.
    pub fn reap(&self, hw: &K::Hw) -> Option<Reaped> {
        let _off = InterruptsOff::new(hw);
        let me = self.kernel.this_cpu(hw);
        let mut after: Option<&Mm<K::Hw, WORDS>> = None;
        let mut next = me.last_retired(hw);
        while let Some(handle) = next {
            let mm = self.kernel.mm(handle);
            next = mm.retired_before(hw);
            if self.is_deserted(hw, mm) && mm.held_tables(hw) == 0 {
                match after {
                    Some(after) => after.set_retired_before(hw, next),
                    None => me.set_last_retired(hw, next),
                }
                self.release_global_id(hw, mm);
                return Some(Reaped {
                    mm: handle,
                    root: mm.root(),
                    user_root: mm.user_root(),
                });
            }
            after = Some(mm);
        }
        None
    }

    /// Says whether this CPU has retired a space that is not reaped yet.
    pub fn has_retired(&self, hw: &K::Hw) -> bool {
        let _off = InterruptsOff::new(hw);
        self.kernel.this_cpu(hw).last_retired(hw).is_some()
    }

    /// Says whether no CPU is in the cpumask.
    fn is_deserted(&self, hw: &K::Hw, mm: &Mm<K::Hw, WORDS>) -> bool {
        (0..self.cpu_words()).all(|word| mm.cpumask_word(hw, word) == 0)
    }
}
