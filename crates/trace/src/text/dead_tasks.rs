//! Tasks that `perf script` gives the pid -1: those that are dead, and have still to leave their CPU.

use crate::event::{Event, Kind};

/// Knows who a dead task was: who ran on its CPU before, or was switched to.
#[derive(Default)]
pub(super) struct DeadTasks {
    latest: Vec<Option<u32>>,
}

impl DeadTasks {
    /// Returns the pid of an event of this CPU that has none; `None` if nobody was seen there.
    pub(super) fn pid(&self, cpu: u16) -> Option<u32> {
        self.latest.get(usize::from(cpu)).copied().flatten()
    }

    /// Notes an event, `printed` with its pid or not.
    pub(super) fn observe(&mut self, event: &Event, printed: Option<u32>) {
        let Some(pid) = printed else {
            return;
        };
        let cpu = usize::from(event.cpu);
        if cpu >= self.latest.len() {
            self.latest.resize(cpu + 1, None);
        }
        self.latest[cpu] = Some(match event.kind {
            // Whoever lacks a pid next is not the one that had one here.
            Kind::SchedSwitch { next } => next,
            _ => pid,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Context;

    #[test]
    fn a_dead_task_is_the_one_that_ran_or_was_switched_to() {
        let mut tasks = DeadTasks::default();
        assert_eq!(tasks.pid(1), None);
        let mut see = |printed: Option<u32>, kind| {
            let pid = printed.or(tasks.pid(1));
            let event = Event {
                cpu: 1,
                time_ns: 0,
                pid: pid.unwrap_or(0),
                context: Context::Unknown,
                kind,
            };
            tasks.observe(&event, printed);
            pid
        };
        assert_eq!(see(Some(7), Kind::ProcessExit), Some(7));
        assert_eq!(see(None, Kind::Other), Some(7));
        assert_eq!(see(None, Kind::SchedSwitch { next: 9 }), Some(7));
        assert_eq!(see(None, Kind::Other), Some(7));
        assert_eq!(see(Some(9), Kind::SchedSwitch { next: 7 }), Some(9));
        assert_eq!(see(None, Kind::SchedSwitch { next: 0 }), Some(7));
        assert_eq!(see(Some(0), Kind::Other), Some(0));
        assert_eq!(tasks.pid(0), None);
    }
}
