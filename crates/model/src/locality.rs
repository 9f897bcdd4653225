//! Which calls are local: no other CPU can tell whether they came before or after its own steps.
//!
//! A search need not explore the orders of a local call with other CPUs' steps: it makes the call at once.
//! The argument, case by case (each commutes with every step of every other CPU, and neither disables nor
//! enables one):
//!
//! * A private word, with interrupts off: nobody else accesses it (checked on each access), and this CPU's
//!   own handler cannot come in between.
//! * Loading an atomic that no *other* CPU ever writes, with interrupts off: likewise. Who writes what is
//!   learnt while exploring (`writers.rs`); if a writer turns up late, the search starts again.
//! * Waiting until an atomic is 0, once it is: if other CPUs and this one's own handler only ever clear bits
//!   in it, it stays so, and the CPU that waits does not write it. A pending interrupt is as deliverable after.
//! * Restoring interrupts: it only adds behaviour, all of which the state after it has.
//! * Nothing at all in a program with NMIs, which come between any two calls.
//! * Nothing that has to wait for a write-combining store, or an MFENCE, of this CPU: it blocks.
//! * Nothing while a store of this CPU waits untranslated: what a load reads, the store cannot go to.
//! * Disabling interrupts that are off already, and a fence with nothing to drain: they do nothing.

use lazytlb::{Interrupts, Until};

use crate::call::{Call, Family};
use crate::features::Features;
use crate::index::Cpu;
use crate::machine::Machine;
use crate::state::State;

impl Machine {
    /// Says whether a call of a CPU, made with interrupts in this state, is local, and will not block.
    #[inline(always)]
    pub fn is_local(
        &self,
        state: &State,
        cpu: impl Into<Cpu>,
        call: &Call,
        interrupts: Interrupts,
    ) -> bool {
        let cpu = self.view(state, cpu.into());
        if self.rarely_local
            && (self.features.nmis || cpu.waits_for_own(call) || cpu.has_late_store())
        {
            return false;
        }
        let are_off = interrupts == Interrupts::Disabled;
        match call.family() {
            Family::OwnWord | Family::DisablesInterrupts => are_off,
            Family::RestoresInterrupts => true,
            Family::FullFence => {
                // Where it serializes, it ends what fetches may still read (H40): an interrupt may come before.
                let has_nothing_to_do = cpu.buffered_len() == 0 && cpu.combining_len() == 0;
                has_nothing_to_do && cpu.owes_nothing() && cpu.former().next().is_none()
            }
            Family::LoadsCell(cell) => are_off && self.writers.assume_no_other(cell, cpu.context()),
            Family::WaitsForCell(cell, Until::Zero) => {
                cpu.load(cell) == 0 && self.writers.assume_others_clear(cell, cpu.context())
            }
            Family::WaitsForCell(_, Until::Equals(_) | Until::AtLeast(_))
            | Family::WritesCell(_)
            | Family::SendsInterrupt
            | Family::HasWays
            | Family::Other => false,
        }
    }

    /// Says whether a call was taken for local that is not, by what was learnt since. Then all that was
    /// explored is worthless, and the search must start again: with what this machine knows by now, it
    /// ends. If it [needs more features](Machine::needs_more_features), it must be made anew with them.
    pub fn locality_was_wrong(&self) -> bool {
        self.writers.assumption_is_broken()
            || self.needs_more_features()
            || self.stores_may_be_late && self.entry_writers.assumption_is_broken()
    }

    /// Says whether the program uses what its features do not say: then what was explored lacks something, and
    /// the search must start again, with [`Machine::features_that_turned_up`].
    pub fn needs_more_features(&self) -> bool {
        self.turned_up.is_anything()
    }

    /// Returns the features of the program, with those that it turned out to use.
    pub fn features_that_turned_up(&self) -> Features {
        self.turned_up.added_to(self.features)
    }

    /// Starts again with what is known, for a new search.
    pub fn restart(&self) {
        self.writers.forget_assumptions();
        self.entry_writers.forget_assumptions();
    }

    /// Learns what another machine with the same program knows about who writes what.
    pub fn learn_from(&self, other: &Machine) {
        self.writers.learn_from(&other.writers);
        self.entry_writers.learn_from(&other.entry_writers);
    }
}
