//! Which events have a meaning here, by group and name.

/// Kprobes, by the names that they must have; see [`crate::HOW_TO_RECORD`].
const KPROBES: [&str; 7] = [
    "switch_mm",
    "enter_lazy",
    "flush_mm_range",
    "flush_multi",
    "flush_func",
    "exit_mmap",
    "mmdrop",
];

/// Tracepoints, with their groups.
const TRACEPOINTS: [(&str, &str); 10] = [
    ("tlb", "tlb_flush"),
    ("sched", "sched_switch"),
    ("task", "task_newtask"),
    ("sched", "sched_process_fork"),
    ("sched", "sched_process_exec"),
    ("sched", "sched_process_exit"),
    ("power", "cpu_idle"),
    ("irq_vectors", "call_function_entry"),
    ("irq_vectors", "call_function_single_entry"),
    ("irq_vectors", "reschedule_entry"),
];

/// Names the events that have a meaning here: kprobes in any group, tracepoints in their own.
pub(crate) fn meaning(group: &str, name: &[u8]) -> Option<&'static str> {
    // A tracepoint of Linux 6.8 and later, which says nothing here.
    if (group, name) == ("mmap", b"exit_mmap") {
        return None;
    }
    let kprobe = KPROBES.into_iter().find(|known| known.as_bytes() == name);
    kprobe.or_else(|| {
        let known = |(_, known): &(&str, &str)| known.as_bytes() == name;
        let (its_group, name) = TRACEPOINTS.into_iter().find(known)?;
        (its_group == group).then_some(name)
    })
}

/// Says whether events of this name have a meaning in some group.
pub(crate) fn is_reserved(name: &[u8]) -> bool {
    let tracepoints = TRACEPOINTS.into_iter().map(|(_, known)| known);
    let mut known = KPROBES.into_iter().chain(tracepoints);
    known.any(|known| known.as_bytes() == name)
}
