//! The variant `best`: one step of the search is one transaction.
//!
//! A transaction is steps of one CPU that commute to the right past the steps of other CPUs, then at
//! most one that does not commute, then steps that commute to the left (Lipton's reduction). Stopping
//! early is always sound. A step commutes *up to a superset* of what is cached and tainted: the
//! protocol's control does not depend on the caches, both properties are monotone in them, and every
//! run of transactions is a real run. [`kind`] gives each reason.

use crate::config::{Config, Policy};
use crate::program::{Operation, operation};
use crate::state::{INIT_MM, Pc, State, USER};

/// How a step moves past the steps of other CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Later and earlier: no other CPU sees it.
    Both,
    /// Later.
    Right,
    /// Earlier.
    Left,
    /// Neither.
    Visible,
}

impl Config {
    /// Runs one transaction of a CPU's program, whose next step can be made.
    pub(crate) fn step_transaction(&self, state: &mut State, cpu: usize) {
        let mut kind = self.kind(state, cpu);
        let mut may_move_right = true;
        loop {
            let was_touch = operation(state, cpu) == Operation::Touch;
            self.step(state, cpu);
            may_move_right &= matches!(kind, Kind::Both | Kind::Right);
            // An interrupt may come here: after a touch too, but then it may as well come before,
            // because a touch changes nothing and `stale-use` has looked at that state.
            let is_interruptible = cpu != 0 && state.cpus[cpu].pc == Pc::Boundary && !was_touch;
            if is_interruptible || !self.can_step(state, cpu) {
                return;
            }
            kind = self.kind(state, cpu);
            let joins = match kind {
                Kind::Both | Kind::Left => true,
                Kind::Right | Kind::Visible => may_move_right,
            };
            if !joins {
                return;
            }
        }
    }

    /// Delivers the flush interrupt and runs the whole handler.
    ///
    /// It is one transaction because the initiator waits: no other CPU writes tlb_gen, the request or
    /// a page table, reads the cpumask, frees or taints before the acknowledgement.
    ///
    /// # Panics
    /// If the initiator does not wait for this CPU: the reason would not hold.
    pub(crate) fn deliver_transaction(&self, state: &mut State, cpu: usize) {
        self.deliver(state, cpu);
        while state.cpus[cpu].in_handler {
            let initiator_waits =
                state.shared.unacknowledged >> cpu & 1 != 0 && state.cpus[0].pc == Pc::Wait;
            assert!(
                initiator_waits,
                "the handler runs outside of its initiator's wait"
            );
            self.step(state, cpu);
        }
    }

    fn kind(&self, state: &State, cpu: usize) -> Kind {
        if cpu == 0 {
            self.kind_of_initiator(state)
        } else {
            self.kind_of_other(state, cpu)
        }
    }

    /// CPU 0: the only one that edits page tables, raises tlb_gen, sends requests and reads cpumask.
    fn kind_of_initiator(&self, state: &State) -> Kind {
        match (state.cpus[0].pc, operation(state, 0)) {
            // Later, so that others have cached more meanwhile.
            (
                Pc::Boundary,
                Operation::WriteTable { present: false } | Operation::WriteRoot { present: false },
            ) => Kind::Right,
            // Others add what memory maps after either order, because their caches are closed.
            (
                Pc::Boundary,
                Operation::WriteTable { present: true } | Operation::WriteRoot { present: true },
            ) => Kind::Both,
            // Nobody reaches a free frame.
            (Pc::Boundary, Operation::Alloc(_)) => Kind::Both,
            // Earlier, when others have more cached: nobody can add an entry for an unhooked frame.
            (Pc::Boundary, Operation::FreePage | Operation::FreeTable) => Kind::Left,
            (Pc::Boundary, Operation::Flush) => Kind::Visible,
            (Pc::FlushReadMask | Pc::FlushReadLazy, _) => Kind::Visible,
            // Only a handler looks at the request, and none runs before the interrupt.
            (Pc::PostMm | Pc::PostGen | Pc::PostRange | Pc::PostTargets | Pc::Notify, _) => {
                Kind::Both
            }
            // What makes a delivery possible may come earlier.
            (Pc::SendIpi, _) => Kind::Left,
            // Waits for others, so it begins a transaction; it taints.
            (Pc::Wait, _) => Kind::Visible,
            // The last call of a flush that waits for nobody taints, as early as it can.
            (Pc::Restore, Operation::Flush) if state.shared.targets == 0 => Kind::Left,
            // Its own words, its own bit in the cpumask and its own cache: only CPU 0 looks there.
            _ => Kind::Both,
        }
    }

    fn kind_of_other(&self, state: &State, cpu: usize) -> Kind {
        let me = &state.cpus[cpu];
        match me.pc {
            // Later, when more may be tainted: nothing that others do removes an entry or a taint.
            Pc::Boundary if operation(state, cpu) == Operation::Touch => Kind::Right,
            // The initiator reads it only where it skips lazy CPUs.
            Pc::ResumeClearLazy | Pc::LoadClearLazy | Pc::LazySet
                if self.policy == Policy::Defer =>
            {
                Kind::Visible
            }
            Pc::ResumeReadGen | Pc::LoadJoin | Pc::LoadLeave => Kind::Visible,
            // init_mm's generation never changes.
            Pc::LoadReadGen if me.next == USER => Kind::Visible,
            // Entering a space caches more the earlier it is; leaving it, the later it is.
            Pc::LoadCr3 if me.next == INIT_MM => Kind::Right,
            Pc::LoadCr3 => Kind::Left,
            // Removes entries that are cached and adds those that memory maps now.
            Pc::ResumeLoadCr3 => Kind::Visible,
            // Its own words, interrupts off and on, and a fence.
            _ => Kind::Both,
        }
    }
}
