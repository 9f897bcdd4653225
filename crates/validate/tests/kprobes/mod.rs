//! The kprobes of the recordings, to hide them.

/// What they are called: those that mean something, and one that never did.
pub(crate) const KPROBES: [&str; 8] = [
    "switch_mm",
    "enter_lazy",
    "flush_mm_range",
    "flush_multi",
    "flush_func",
    "exit_mmap",
    "mmdrop",
    "leave_mm",
];

/// Says whether a line of text is an event of one.
pub(crate) fn is_kprobe(line: &str) -> bool {
    KPROBES
        .iter()
        .any(|name| line.contains(&format!(": {name}: ")))
}
