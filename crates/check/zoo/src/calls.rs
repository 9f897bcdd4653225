//! Function calls on other CPUs by interrupt, as most kernels have them: right here in every exhibit, and none's subject.
//!
//! An initiator writes whom it waits for, interrupts them, and waits until every bit is gone. A target looks who waits
//! for it, catches up, and clears its bits after that.

use lazytlb::{CpuSet, Hw, Until};
use lazytlb_check::Program;
use lazytlb_model::AtomicCell;

use crate::setting::{bit, index};

/// For each initiator, the CPUs that it waits for.
#[derive(Clone, Copy)]
pub(crate) struct Calls<A, const CPUS: usize> {
    waits_for: [A; CPUS],
}

impl<const CPUS: usize> Calls<AtomicCell, CPUS> {
    pub(crate) fn new(program: &mut Program) -> Self {
        Calls {
            waits_for: std::array::from_fn(|cpu| {
                program.atomic(format!("CPUs that CPU {cpu} waits for"), 0)
            }),
        }
    }
}

impl<A, const CPUS: usize> Calls<A, CPUS> {
    /// Interrupts the CPUs of a set, does something meanwhile, and returns when all of them have caught up. Interrupts are on.
    pub(crate) fn call<H: Hw<Atomic = A>>(&self, hw: &H, targets: u64, meanwhile: impl FnOnce()) {
        let mine = &self.waits_for[index(hw.cpu())];
        if targets != 0 {
            // A locked instruction: what was stored before is visible to whoever the interrupt comes to (H36).
            hw.swap(mine, targets);
            hw.send_ipi(&CpuSet::<1>::from_words([targets]));
        }
        meanwhile();
        if targets != 0 {
            hw.pause_until(mine, Until::Zero);
        }
    }

    /// Handles the interrupt.
    pub(crate) fn serve<H: Hw<Atomic = A>>(&self, hw: &H, catch_up: impl FnOnce()) {
        let me = bit(hw.cpu());
        let asked: [bool; CPUS] =
            std::array::from_fn(|initiator| hw.load(&self.waits_for[initiator]) & me != 0);
        if !asked.contains(&true) {
            return;
        }
        catch_up();
        for (word, asked) in self.waits_for.iter().zip(asked) {
            if asked {
                hw.fetch_and(word, !me);
            }
        }
    }
}
