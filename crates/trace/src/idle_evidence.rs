//! What a recording shows of idle states: whether the kernel leaves the user space before it enters one.
//!
//! Linux leaves (`leave_mm`) right before the event `cpu_idle`, and says so by a `tlb_flush` of reason 0 in the idle
//! task. If it does, that is the CPU's last event before; nothing comes in between, as interrupts are off. And where an
//! interrupt makes an idle CPU leave its space, in or after a state, the CPU had not left before it.
//!
//! Neither shows itself at every entry: who has no user space loaded has nothing to leave.
//!
//! Source: Linux, drivers/cpuidle/cpuidle.c, `cpuidle_enter_state`; the reasons: `include/linux/mm_types.h`.

use crate::event::{Context, Event, Kind};
use crate::idle_states::{IdleStateIndex, TlbInIdle};

/// The idle task, of every CPU.
const IDLE_TASK: u32 = 0;
/// Linux `TLB_FLUSH_ON_TASK_SWITCH`.
const ON_TASK_SWITCH: u8 = 0;

/// Follows each CPU into and out of its idle states.
#[derive(Debug, Default)]
pub(crate) struct IdleEvidence {
    cpus: Vec<Cpu>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cpu {
    /// Whether its last event was the idle task's leaving a space.
    has_just_left: bool,
    /// The state that it entered last since it went idle.
    state: Option<IdleStateIndex>,
}

/// What an event shows of a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shown {
    /// The state.
    pub(crate) state: IdleStateIndex,
    /// What it does to translations; never [`TlbInIdle::Unknown`].
    pub(crate) tlb: TlbInIdle,
}

impl IdleEvidence {
    /// Follows an event; returns what it shows, if anything.
    pub(crate) fn observe(&mut self, event: &Event) -> Option<Shown> {
        let place = usize::from(event.cpu);
        if place >= self.cpus.len() {
            self.cpus.resize(place + 1, Cpu::default());
        }
        let cpu = &mut self.cpus[place];
        let had_just_left = std::mem::take(&mut cpu.has_just_left);
        match event.kind {
            Kind::CpuIdle {
                state: Some(number),
            } => {
                cpu.state = IdleStateIndex::new(number);
                let (true, Some(state)) = (had_just_left, cpu.state) else {
                    return None;
                };
                let tlb = TlbInIdle::Flushed;
                Some(Shown { state, tlb })
            }
            Kind::TlbFlush {
                reason: ON_TASK_SWITCH,
                ..
            } if event.pid == IDLE_TASK => {
                cpu.has_just_left = event.context == Context::Task;
                // It has left now: of the state, no later event shows more.
                let state = cpu.state.take()?;
                let tlb = TlbInIdle::Kept;
                (event.context == Context::Hardirq).then_some(Shown { state, tlb })
            }
            Kind::SchedSwitch { .. } => {
                cpu.state = None;
                None
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(events: &[(u32, Context, Kind)]) -> Vec<(usize, TlbInIdle)> {
        let mut evidence = IdleEvidence::default();
        let events = events.iter().map(|&(pid, context, kind)| Event {
            cpu: 3,
            time_ns: 0,
            pid,
            context,
            kind,
        });
        let shown = events.filter_map(|event| evidence.observe(&event));
        shown.map(|it| (it.state.as_usize(), it.tlb)).collect()
    }

    const LEAVES: Kind = Kind::TlbFlush {
        pages: -1,
        reason: 0,
    };

    fn enters(number: u32) -> (u32, Context, Kind) {
        let state = Some(number);
        (0, Context::Task, Kind::CpuIdle { state })
    }

    const WAKES: (u32, Context, Kind) = (0, Context::Task, Kind::CpuIdle { state: None });

    fn switches(from: u32, to: u32) -> (u32, Context, Kind) {
        (from, Context::Task, Kind::SchedSwitch { next: to })
    }

    #[test]
    fn who_leaves_right_before_a_state_shows_that_it_flushes() {
        let left = (0, Context::Task, LEAVES);
        let flushed = [(2, TlbInIdle::Flushed)];
        assert_eq!(shown(&[switches(9, 0), left, enters(2), WAKES]), flushed);
        assert_eq!(shown(&[enters(1), WAKES, left, enters(2), WAKES]), flushed);
    }

    #[test]
    fn who_is_made_to_leave_by_an_interrupt_had_not_left_before_the_state() {
        let interrupted = (0, Context::Hardirq, LEAVES);
        let kept = [(2, TlbInIdle::Kept)];
        // An interrupt comes in a halt, and after the event of an MWAIT.
        assert_eq!(shown(&[enters(2), interrupted, WAKES]), kept);
        assert_eq!(shown(&[enters(2), WAKES, interrupted, enters(1)]), kept);
        // It has left: what follows says nothing.
        assert_eq!(shown(&[enters(2), interrupted, interrupted, WAKES]), kept);
    }

    #[test]
    fn a_switch_of_tasks_shows_nothing_of_a_state() {
        // The space of the task that comes is loaded under the idle task's number.
        let loads = (0, Context::Task, LEAVES);
        let other = (5, Context::Task, Kind::ProcessExit);
        assert_eq!(
            shown(&[
                enters(1),
                WAKES,
                switches(0, 5),
                loads,
                other,
                switches(5, 0),
                enters(1)
            ]),
            []
        );
        let in_a_task = (5, Context::Hardirq, LEAVES);
        assert_eq!(shown(&[enters(1), WAKES, switches(0, 5), in_a_task]), []);
        // Nor does an interrupt before any state.
        assert_eq!(
            shown(&[switches(5, 0), (0, Context::Hardirq, LEAVES), enters(1)]),
            []
        );
        assert_eq!(shown(&[(0, Context::Unknown, LEAVES), enters(1)]), []);
    }
}
