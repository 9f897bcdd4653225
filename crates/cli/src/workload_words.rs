//! How a workload is told, and what was counted on it.

use lazytlb_price::{Counts, Replayed};

use crate::numbers::grouped;
use crate::workload::Workload;

/// Tells a count, or between what it lies where the recording leaves something unknown.
pub(crate) fn counted(replayed: &Replayed, of: impl Fn(&Counts) -> u64) -> String {
    let (kept, freed) = (of(&replayed.counts), of(&replayed.if_freed().counts));
    match kept == freed {
        true => grouped(kept),
        false => format!(
            "{} to {}",
            grouped(kept.min(freed)),
            grouped(kept.max(freed))
        ),
    }
}

/// Describes a workload: what was read, and what the reader has doubts about.
pub(crate) fn describe(workload: &Workload) -> String {
    let summary = &workload.summary;
    let mut text = format!(
        "Workload: {}\n  {} events on {} CPUs; {} operations replayed, open loop",
        workload.name,
        grouped(summary.events),
        summary.cpus().count(),
        grouped(summary.operations.total()),
    );
    text.push_str("\n  ");
    text.push_str(&workload.agreement.summary());
    for warning in summary.warnings() {
        text.push_str("\n  warning: ");
        text.push_str(&warning);
    }
    text
}
