//! Knows which task runs on a CPU.

/// Follows one CPU's tasks through `sched_switch`, and checks the chain with every other event.
///
/// Between its `sched_switch` and the switch of stacks, a CPU's events still carry the *previous*
/// pid: `enter_lazy` and `switch_mm` of a task switch do so always. After that, another pid than
/// the switch announced means that a `sched_switch` is missing (some kernels never show some
/// tasks as `prev`), and the event's own pid is right.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskChain {
    /// The pid that runs, or is being switched to; `None` before the CPU's first event.
    next: Option<u32>,
    /// The pid that is being left, as long as events may still carry it.
    leaving: Option<u32>,
}

/// What an event's pid says about the chain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// It fits, or it is the CPU's first.
    Closed,
    /// It does not: the chain now follows the event.
    Repaired,
}

impl TaskChain {
    /// Checks the pid of any event, and adopts it where the chain does not close.
    #[inline]
    pub(crate) fn observe(&mut self, pid: u32) -> Link {
        if self.next == Some(pid) {
            self.leaving = None;
            return Link::Closed;
        }
        if self.leaving == Some(pid) {
            return Link::Closed;
        }
        let first = self.next.is_none();
        self.next = Some(pid);
        self.leaving = None;
        if first { Link::Closed } else { Link::Repaired }
    }

    /// Notes a `sched_switch` from the task `pid`, which was observed, to `next`.
    #[inline]
    pub(crate) fn switch(&mut self, pid: u32, next: u32) {
        self.next = Some(next);
        self.leaving = Some(pid);
    }

    /// Returns the pid that runs, or is being switched to.
    #[inline]
    pub(crate) fn current(&self) -> Option<u32> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_task_switch_carry_the_previous_pid() {
        let mut chain = TaskChain::default();
        assert_eq!(chain.observe(7), Link::Closed);
        chain.switch(7, 0);
        assert_eq!(chain.observe(7), Link::Closed);
        assert_eq!(chain.current(), Some(0));
        assert_eq!(chain.observe(0), Link::Closed);
        assert_eq!(chain.observe(7), Link::Repaired);
        assert_eq!(chain.current(), Some(7));
    }

    #[test]
    fn a_missing_switch_is_repaired_once() {
        let mut chain = TaskChain::default();
        chain.observe(0);
        chain.switch(0, 9);
        assert_eq!(chain.observe(12), Link::Repaired);
        assert_eq!(chain.observe(12), Link::Closed);
        assert_eq!(chain.current(), Some(12));
    }
}
