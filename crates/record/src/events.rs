//! Which tracepoints are recorded.

use std::path::PathBuf;

/// A tracepoint, and what is lost without it.
pub(crate) struct Tracepoint {
    /// `system/event`.
    pub(crate) name: &'static str,
    /// What a reader cannot tell without it; `None` if nothing can be told without it.
    pub(crate) without: Option<&'static str>,
}

impl Tracepoint {
    /// The file that turns it on, in an instance.
    pub(crate) fn enable(&self) -> PathBuf {
        PathBuf::from(format!("events/{}/enable", self.name))
    }
}

/// All of them.
pub(crate) const TRACEPOINTS: &[Tracepoint] = &[
    Tracepoint {
        name: "sched/sched_switch",
        without: None,
    },
    Tracepoint {
        name: "tlb/tlb_flush",
        without: Some("what the kernel flushed"),
    },
    Tracepoint {
        name: "task/task_newtask",
        without: Some("which space a new task has"),
    },
    Tracepoint {
        name: "sched/sched_process_fork",
        without: Some("who made a task"),
    },
    Tracepoint {
        name: "sched/sched_process_exec",
        without: Some("when a task gets a new space"),
    },
    Tracepoint {
        name: "sched/sched_process_exit",
        without: Some("when a space ends"),
    },
    Tracepoint {
        name: "power/cpu_idle",
        without: Some("how deep a CPU slept when it was interrupted"),
    },
    Tracepoint {
        name: "irq_vectors/call_function_entry",
        without: Some("when IPIs to several CPUs arrived"),
    },
    Tracepoint {
        name: "irq_vectors/call_function_single_entry",
        without: Some("when IPIs to one CPU arrived"),
    },
    Tracepoint {
        name: "irq_vectors/reschedule_entry",
        without: Some("when reschedule IPIs arrived"),
    },
];
