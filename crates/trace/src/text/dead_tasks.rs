//! Tasks that `perf script` gives the pid -1: those that are dead, and have still to leave their CPU.

use super::fields::prev_pid;
use crate::event::{Event, Kind};

/// Knows who a dead task was: who was switched to on its CPU, or ran there before.
#[derive(Default)]
pub(super) struct DeadTasks {
    cpus: Vec<Tasks>,
}

/// One CPU's tasks.
#[derive(Clone, Copy, Default)]
struct Tasks {
    current: Option<u32>,
    /// Who was switched away from, perhaps to die at once, and may have one event more: the flush of the switch.
    leaving: Option<u32>,
}

impl DeadTasks {
    /// Returns the pid of an event that has none; `None` if nobody was seen on its CPU.
    pub(super) fn pid(&self, event: &Event, fields: &[u8]) -> Option<u32> {
        if let Kind::SchedSwitch { .. } = event.kind {
            return prev_pid(fields).ok();
        }
        let tasks = self.cpus.get(usize::from(event.cpu))?;
        match event.kind {
            Kind::TlbFlush { reason: 0, .. } => tasks.leaving.or(tasks.current),
            _ => tasks.current,
        }
    }

    /// Notes an event.
    pub(super) fn observe(&mut self, event: &Event) {
        let cpu = usize::from(event.cpu);
        if cpu >= self.cpus.len() {
            self.cpus.resize(cpu + 1, Tasks::default());
        }
        let tasks = &mut self.cpus[cpu];
        tasks.leaving = None;
        match event.kind {
            Kind::SchedSwitch { next } => {
                tasks.current = Some(next);
                tasks.leaving = Some(event.pid);
            }
            // The flush of a switch is the leaving task's.
            Kind::TlbFlush { reason: 0, .. } => {}
            _ => tasks.current = Some(event.pid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Context;

    #[test]
    fn a_dead_task_is_the_one_that_ran_or_was_switched_to() {
        let mut tasks = DeadTasks::default();
        let mut see = |printed: Option<u32>, kind, fields: &str| {
            let mut event = Event {
                cpu: 1,
                time_ns: 0,
                pid: 0,
                context: Context::Unknown,
                kind,
            };
            let pid = printed.or_else(|| tasks.pid(&event, fields.as_bytes()));
            event.pid = pid.unwrap_or(0);
            tasks.observe(&event);
            pid
        };
        let flush = Kind::TlbFlush {
            pages: -1,
            reason: 0,
        };
        let switch = |next| Kind::SchedSwitch { next };
        let fields = |pid| {
            format!(
                " prev_comm=a prev_pid=1 prev_pid={pid} prev_prio=120 prev_state=S ==> next_comm= prev_pid=5 next_pid=9 next_prio=120"
            )
        };
        assert_eq!(see(None, flush, ""), None);
        assert_eq!(see(Some(7), Kind::ProcessExit, ""), Some(7));
        assert_eq!(see(None, Kind::Other, ""), Some(7));
        assert_eq!(see(None, switch(9), &fields(7)), Some(7));
        assert_eq!(see(None, flush, ""), Some(7));
        assert_eq!(see(Some(9), switch(8), ""), Some(9));
        assert_eq!(see(Some(9), flush, ""), Some(9));
        // Dead, and switched to without an event of its own.
        assert_eq!(see(None, switch(0), &fields(8)), Some(8));
        assert_eq!(see(None, flush, ""), Some(8));
        assert_eq!(see(Some(0), Kind::Other, ""), Some(0));
        // One dead task after the other.
        assert_eq!(see(Some(0), switch(3), ""), Some(0));
        assert_eq!(see(None, switch(4), &fields(3)), Some(3));
        assert_eq!(see(None, flush, ""), Some(3));
        assert_eq!(see(None, Kind::Other, ""), Some(4));
    }
}
