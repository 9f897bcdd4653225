//! The protocol, one seam call a step, in the order of loads and stores of the real code.
//!
//! A register keeps its value as long as the real code's variable is used, then goes back to 0.

use crate::config::{Config, Mutant, Policy};
use crate::program::{Operation, operation};
use crate::state::{INIT_MM, Pc, Request, State, USER};

/// CPU 0, the only initiator.
const INITIATOR: usize = 0;

impl Config {
    /// Says whether a CPU's next call can be made: only a wait blocks.
    pub(crate) fn can_step(&self, state: &State, cpu: usize) -> bool {
        match state.cpus[cpu].pc {
            Pc::Boundary => operation(state, cpu) != Operation::Ended,
            Pc::Wait => state.shared.unacknowledged == 0,
            _ => true,
        }
    }

    /// Says whether the flush interrupt can be delivered to a CPU. Interrupts are on at boundaries
    /// only, but for CPU 0, which nobody interrupts.
    pub(crate) fn can_deliver(&self, state: &State, cpu: usize) -> bool {
        state.shared.pending & bit(cpu) != 0 && state.cpus[cpu].pc == Pc::Boundary
    }

    /// Delivers the flush interrupt: the handler begins, with interrupts off.
    pub(crate) fn deliver(&self, state: &mut State, cpu: usize) {
        state.shared.pending &= !bit(cpu);
        state.cpus[cpu].in_handler = true;
        state.cpus[cpu].pc = Pc::TakeInbox;
    }

    /// Makes a CPU's next seam call.
    pub(crate) fn step(&self, state: &mut State, cpu: usize) {
        match state.cpus[cpu].pc {
            Pc::Boundary => self.begin_operation(state, cpu),
            Pc::SwitchReadLoaded
            | Pc::ResumeReadLazy
            | Pc::ResumeClearLazy
            | Pc::ResumeFence
            | Pc::ResumeReadGen
            | Pc::ResumeReadFlushed
            | Pc::ResumeLoadCr3
            | Pc::ResumeSetFlushed
            | Pc::LazyReadLoaded
            | Pc::LazySet => self.step_switch(state, cpu),
            Pc::LoadReadLazy
            | Pc::LoadClearLazy
            | Pc::LoadJoin
            | Pc::LoadReadGen
            | Pc::LoadCr3
            | Pc::LoadSetLoaded
            | Pc::LoadSetFlushed
            | Pc::LoadLeave => self.step_load(state, cpu),
            Pc::TakeInbox
            | Pc::ReadRequestMm
            | Pc::ReadRequestGen
            | Pc::ReadRequestRange
            | Pc::Acknowledge => self.step_handler(state, cpu),
            Pc::ServeReadLoaded
            | Pc::ServeReadLazy
            | Pc::ServeReadFlushed
            | Pc::ServeReadGen
            | Pc::ServeInvlpg
            | Pc::ServeLoadCr3
            | Pc::ServeSetFlushed => self.step_serve(state, cpu),
            Pc::Restore
            | Pc::FlushReadMask
            | Pc::FlushReadLazy
            | Pc::PostMm
            | Pc::PostGen
            | Pc::PostRange
            | Pc::PostTargets
            | Pc::Notify
            | Pc::SendIpi
            | Pc::FlushDisable
            | Pc::Wait => self.step_flush(state, cpu),
        }
    }

    /// The first call of an operation; for the kernel's own accesses, the only one.
    fn begin_operation(&self, state: &mut State, cpu: usize) {
        let operation = operation(state, cpu);
        let memory = &mut state.memory;
        match operation {
            // Interrupts go off.
            Operation::SwitchToUser => return state.cpus[cpu].pc = Pc::SwitchReadLoaded,
            Operation::EnterLazy => return state.cpus[cpu].pc = Pc::LazyReadLoaded,
            Operation::Flush => {
                state.shared.tlb_gen += 1;
                state.cpus[cpu].request = Request {
                    mm: USER,
                    new_gen: state.shared.tlb_gen,
                    is_one_page: true,
                };
                return state.cpus[cpu].pc = Pc::FlushReadMask;
            }
            // The property `stale-use` looks at the state in which a touch comes next.
            Operation::Touch => {}
            Operation::Alloc(kind) => memory.alloc(kind),
            Operation::WriteTable { present } => memory.write_table(present),
            Operation::WriteRoot { present } => memory.write_root(present),
            Operation::FreePage => memory.free_page(),
            Operation::FreeTable => memory.free_table(),
            Operation::Ended => unreachable!("a program that has ended has no step"),
        }
        state.cpus[cpu].at += 1;
    }

    /// `switch_mm`, `resume` and `enter_lazy`.
    fn step_switch(&self, state: &mut State, cpu: usize) {
        let (shared, me) = (&mut state.shared, &mut state.cpus[cpu]);
        me.pc = match me.pc {
            Pc::SwitchReadLoaded if me.loaded_mm == USER => Pc::ResumeReadLazy,
            Pc::SwitchReadLoaded => {
                me.next = USER;
                Pc::LoadReadLazy
            }
            Pc::ResumeReadLazy if shared.is_lazy & bit(cpu) == 0 => Pc::Restore,
            Pc::ResumeReadLazy => Pc::ResumeClearLazy,
            Pc::ResumeClearLazy => {
                shared.is_lazy &= !bit(cpu);
                Pc::ResumeFence
            }
            Pc::ResumeFence => Pc::ResumeReadGen,
            Pc::ResumeReadGen => {
                me.current = shared.tlb_gen;
                Pc::ResumeReadFlushed
            }
            Pc::ResumeReadFlushed if me.current == me.flushed_to => {
                me.current = 0;
                Pc::Restore
            }
            Pc::ResumeReadFlushed => Pc::ResumeLoadCr3,
            Pc::ResumeLoadCr3 => {
                state.memory.load_cr3(cpu, true);
                Pc::ResumeSetFlushed
            }
            Pc::ResumeSetFlushed => {
                me.flushed_to = std::mem::take(&mut me.current);
                Pc::Restore
            }
            Pc::LazyReadLoaded if me.loaded_mm == INIT_MM => Pc::Restore,
            Pc::LazyReadLoaded if self.policy == Policy::InitMm => {
                me.next = INIT_MM;
                Pc::LoadReadLazy
            }
            Pc::LazyReadLoaded => Pc::LazySet,
            Pc::LazySet => {
                shared.is_lazy |= bit(cpu);
                Pc::Restore
            }
            pc => unreachable!("{pc:?} is no call of a switch"),
        };
    }

    /// `load`: the other space's root goes into CR3.
    fn step_load(&self, state: &mut State, cpu: usize) {
        let (shared, me) = (&mut state.shared, &mut state.cpus[cpu]);
        let to_user = me.next == USER;
        let mutant = self.mutant;
        let after_lazy = || match mutant {
            Some(Mutant::LeaveFirst) if !to_user => Pc::LoadLeave,
            Some(Mutant::GenLate) if !to_user => Pc::LoadCr3,
            Some(Mutant::JoinLate) => Pc::LoadReadGen,
            _ if to_user => Pc::LoadJoin,
            _ => Pc::LoadReadGen,
        };
        // Within this scenario the former space is the other one of two.
        let end = if to_user || mutant == Some(Mutant::LeaveFirst) {
            self.after_load(me.in_handler)
        } else {
            Pc::LoadLeave
        };
        me.pc = match me.pc {
            Pc::LoadReadLazy if shared.is_lazy & bit(cpu) != 0 => Pc::LoadClearLazy,
            Pc::LoadReadLazy => after_lazy(),
            Pc::LoadClearLazy => {
                shared.is_lazy &= !bit(cpu);
                after_lazy()
            }
            Pc::LoadJoin => {
                shared.cpumask |= bit(cpu);
                match mutant {
                    Some(Mutant::JoinLate) => Pc::LoadSetLoaded,
                    Some(Mutant::GenLate) => Pc::LoadCr3,
                    _ => Pc::LoadReadGen,
                }
            }
            Pc::LoadReadGen => {
                me.current = if to_user { shared.tlb_gen } else { 1 };
                if mutant == Some(Mutant::GenLate) {
                    Pc::LoadSetLoaded
                } else {
                    Pc::LoadCr3
                }
            }
            Pc::LoadCr3 => {
                state.memory.load_cr3(cpu, to_user);
                match mutant {
                    Some(Mutant::JoinLate) if to_user => Pc::LoadJoin,
                    Some(Mutant::GenLate) => Pc::LoadReadGen,
                    _ => Pc::LoadSetLoaded,
                }
            }
            Pc::LoadSetLoaded => {
                me.loaded_mm = me.next;
                Pc::LoadSetFlushed
            }
            Pc::LoadSetFlushed => {
                me.flushed_to = std::mem::take(&mut me.current);
                me.next = 0;
                end
            }
            Pc::LoadLeave => {
                shared.cpumask &= !bit(cpu);
                if mutant == Some(Mutant::LeaveFirst) {
                    Pc::LoadReadGen
                } else {
                    self.after_load(me.in_handler)
                }
            }
            pc => unreachable!("{pc:?} is no call of a load"),
        };
        self.end_handler_if_acknowledged_first(state, cpu);
    }

    /// `handle_flush_ipi`.
    fn step_handler(&self, state: &mut State, cpu: usize) {
        let (shared, me) = (&mut state.shared, &mut state.cpus[cpu]);
        me.pc = match me.pc {
            Pc::TakeInbox => {
                let taken = shared.inbox & bit(cpu);
                shared.inbox &= !taken;
                if taken == 0 {
                    me.in_handler = false;
                    Pc::Boundary
                } else {
                    Pc::ReadRequestMm
                }
            }
            Pc::ReadRequestMm => {
                me.request.mm = shared.request.mm;
                Pc::ReadRequestGen
            }
            Pc::ReadRequestGen => {
                me.request.new_gen = shared.request.new_gen;
                Pc::ReadRequestRange
            }
            Pc::ReadRequestRange => {
                me.request.is_one_page = shared.request.is_one_page;
                if self.mutant == Some(Mutant::AckFirst) {
                    Pc::Acknowledge
                } else {
                    Pc::ServeReadLoaded
                }
            }
            Pc::Acknowledge => {
                shared.unacknowledged &= !bit(cpu);
                if self.mutant == Some(Mutant::AckFirst) {
                    Pc::ServeReadLoaded
                } else {
                    me.in_handler = false;
                    Pc::Boundary
                }
            }
            pc => unreachable!("{pc:?} is no call of the handler"),
        };
    }

    /// `serve`: for an initiator in the handler, or for oneself in a flush.
    fn step_serve(&self, state: &mut State, cpu: usize) {
        let (shared, me) = (&mut state.shared, &mut state.cpus[cpu]);
        let end = if me.in_handler {
            Pc::Acknowledge
        } else {
            Pc::Restore
        };
        me.pc = match me.pc {
            Pc::ServeReadLoaded if me.loaded_mm != me.request.mm => {
                me.request = Request::default();
                end
            }
            Pc::ServeReadLoaded => Pc::ServeReadLazy,
            Pc::ServeReadLazy if shared.is_lazy & bit(cpu) != 0 => {
                me.request = Request::default();
                me.next = INIT_MM;
                Pc::LoadReadLazy
            }
            Pc::ServeReadLazy => Pc::ServeReadFlushed,
            Pc::ServeReadFlushed if me.flushed_to >= me.request.new_gen => {
                me.request = Request::default();
                end
            }
            Pc::ServeReadFlushed => Pc::ServeReadGen,
            Pc::ServeReadGen => {
                me.current = shared.tlb_gen;
                let request = std::mem::take(&mut me.request);
                if request.is_one_page
                    && request.new_gen == me.flushed_to + 1
                    && me.current == request.new_gen
                {
                    Pc::ServeInvlpg
                } else {
                    Pc::ServeLoadCr3
                }
            }
            Pc::ServeInvlpg => {
                state.memory.invlpg(cpu);
                Pc::ServeSetFlushed
            }
            Pc::ServeLoadCr3 => {
                state.memory.load_cr3(cpu, true);
                Pc::ServeSetFlushed
            }
            Pc::ServeSetFlushed => {
                me.flushed_to = std::mem::take(&mut me.current);
                end
            }
            pc => unreachable!("{pc:?} is no call of serve"),
        };
        self.end_handler_if_acknowledged_first(state, cpu);
    }

    /// `shoot_down` but for its local part, and the end of every operation.
    fn step_flush(&self, state: &mut State, cpu: usize) {
        let (shared, me) = (&mut state.shared, &mut state.cpus[cpu]);
        me.pc = match me.pc {
            Pc::FlushReadMask => {
                let others = shared.cpumask & !bit(cpu);
                if self.policy == Policy::Defer {
                    shared.left = others;
                } else {
                    shared.targets = others;
                }
                after_choice(shared.targets, shared.left)
            }
            Pc::FlushReadLazy => {
                let one = shared.left & shared.left.wrapping_neg();
                shared.left &= !one;
                shared.targets |= one & !shared.is_lazy;
                after_choice(shared.targets, shared.left)
            }
            Pc::PostMm => {
                shared.request.mm = me.request.mm;
                Pc::PostGen
            }
            Pc::PostGen => {
                shared.request.new_gen = me.request.new_gen;
                Pc::PostRange
            }
            Pc::PostRange => {
                shared.request.is_one_page = me.request.is_one_page;
                Pc::PostTargets
            }
            Pc::PostTargets => {
                shared.unacknowledged = shared.targets;
                shared.left = shared.targets;
                Pc::Notify
            }
            Pc::Notify => {
                let one = shared.left & shared.left.wrapping_neg();
                shared.left &= !one;
                shared.inbox |= one;
                if shared.left == 0 {
                    Pc::SendIpi
                } else {
                    Pc::Notify
                }
            }
            Pc::SendIpi => {
                shared.pending |= shared.targets;
                Pc::FlushDisable
            }
            Pc::FlushDisable => Pc::ServeReadLoaded,
            Pc::Restore if cpu == INITIATOR && shared.targets != 0 => Pc::Wait,
            Pc::Restore | Pc::Wait => {
                if operation(state, cpu) == Operation::Flush {
                    state.memory.taint();
                    state.shared.targets = 0;
                }
                let me = &mut state.cpus[cpu];
                me.at += 1;
                return me.pc = Pc::Boundary;
            }
            pc => unreachable!("{pc:?} is no call of a flush"),
        };
    }

    const fn after_load(&self, in_handler: bool) -> Pc {
        if in_handler {
            Pc::Acknowledge
        } else {
            Pc::Restore
        }
    }

    /// Under [`Mutant::AckFirst`] serving is the last thing that the handler does.
    fn end_handler_if_acknowledged_first(&self, state: &mut State, cpu: usize) {
        let me = &mut state.cpus[cpu];
        if self.mutant == Some(Mutant::AckFirst) && me.pc == Pc::Acknowledge {
            me.in_handler = false;
            me.pc = Pc::Boundary;
        }
    }
}

/// Returns what follows the choice of targets, or of one of them.
const fn after_choice(targets: u8, left: u8) -> Pc {
    match (left, targets) {
        (0, 0) => Pc::FlushDisable,
        (0, _) => Pc::PostMm,
        _ => Pc::FlushReadLazy,
    }
}

const fn bit(cpu: usize) -> u8 {
    1 << cpu
}
