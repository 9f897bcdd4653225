//! The lock under which several CPUs change the page tables of one space.

use lazytlb::{Hw, Poll};
use lazytlb_model::AtomicCell;

use crate::model_hw::ModelHw;
use crate::protocol::Protocol;

/// How the page-table lock of a space is taken, and what is done under it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum PageTableLock {
    /// Interrupts stay on. The lock is held until what was changed is flushed, and freed.
    #[default]
    InterruptsOn,
    /// Interrupts are off from before it is taken until it is released (`spin_lock_irq`). It is held until what was
    /// changed is flushed, and freed: a protocol must be able to flush with interrupts off. Whoever spins for it serves
    /// others meanwhile ([`crate::Protocol::serve_inbox`]): the one that has it may wait for them.
    InterruptsOff,
    /// Interrupts are off likewise, and only the entries are changed under the lock. What was changed is flushed
    /// ([`crate::Protocol::flush`]) and freed once it is released, with interrupts on.
    FlushAfterUnlock,
}

impl PageTableLock {
    /// Every way to take it.
    pub const ALL: [PageTableLock; 3] = [
        PageTableLock::InterruptsOn,
        PageTableLock::InterruptsOff,
        PageTableLock::FlushAfterUnlock,
    ];

    /// Returns the name that people type.
    pub fn name(self) -> &'static str {
        match self {
            PageTableLock::InterruptsOn => "interrupts-on",
            PageTableLock::InterruptsOff => "interrupts-off",
            PageTableLock::FlushAfterUnlock => "flush-after-unlock",
        }
    }

    /// Says in a line what is done under it.
    pub fn about(self) -> &'static str {
        match self {
            PageTableLock::InterruptsOn => {
                "taken with interrupts on, and held until what was changed is flushed and freed"
            }
            PageTableLock::InterruptsOff => {
                "interrupts are off while a CPU spins for it and holds it, until what was changed is flushed and freed: \
                 the flush must not need interrupts, and whoever spins serves others' flushes"
            }
            PageTableLock::FlushAfterUnlock => {
                "interrupts are off while a CPU spins for it and holds it, and only the entries are changed under it: \
                 flushed and freed is after the unlock, with interrupts on"
            }
        }
    }
}

/// The lock of a space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lock {
    pub(crate) cell: AtomicCell,
    pub(crate) taken: PageTableLock,
}

/// Does something under a lock, if there is one. With interrupts off, whoever spins for it does what others wait for.
pub(crate) fn locked<T>(
    hw: &ModelHw,
    protocol: &dyn Protocol,
    lock: Option<Lock>,
    run: impl FnOnce() -> T,
) -> T {
    let Some(Lock { cell, taken }) = lock else {
        return run();
    };
    let former = match taken {
        PageTableLock::InterruptsOn => None,
        PageTableLock::InterruptsOff | PageTableLock::FlushAfterUnlock => {
            Some(hw.disable_interrupts())
        }
    };
    let serves = taken == PageTableLock::InterruptsOff;
    hw.poll(|hw| {
        if serves {
            protocol.serve_inbox(hw);
        }
        (hw.swap(&cell, 1) == 0).then_some(())
    });
    let done = run();
    hw.store(&cell, 0);
    if let Some(former) = former {
        hw.restore_interrupts(former);
    }
    done
}
