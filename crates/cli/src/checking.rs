//! How a checker is made, and one question checked.

use std::time::Duration;

use lazytlb::Policy;
use lazytlb_check::{Checker, Verdict};
use lazytlb_model::{CpuModel, MemoryModel};

use crate::arguments::Bounds;
use crate::progress::Display;
use crate::subject::Subject;

/// Makes a checker with the bounds of the command line.
pub(crate) fn checker(cpu_model: CpuModel, memory: MemoryModel, bounds: &Bounds) -> Checker {
    Checker::new()
        .cpu_model(cpu_model)
        .memory(memory)
        .max_states(bounds.max_states.unwrap_or(u64::MAX))
        .max_time(
            bounds
                .max_seconds
                .map_or(Duration::MAX, Duration::from_secs),
        )
        .max_memory_bytes(
            bounds
                .max_memory
                .map_or_else(memory_to_spare, |mebibytes| mebibytes << 20),
        )
        .threads(usize::from(bounds.threads))
}

/// Returns how much memory states may take if nobody says: half of what is available, because tables that
/// grow need as much again for a moment. Without a number from the system, all that is asked for.
pub(crate) fn memory_to_spare() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = info
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes = available.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.map_or(u64::MAX, |kibibytes| kibibytes * 1024 / 2)
}

/// Checks one policy.
pub(crate) fn check(
    checker: &Checker,
    subject: &Subject,
    policy: Policy,
) -> anyhow::Result<Verdict> {
    let display = Display::new(format!("checking {policy} on {subject}"));
    let build = || subject.build(policy);
    Ok(checker.try_check_built(build, |progress| display.search(progress))?)
}
