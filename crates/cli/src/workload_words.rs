//! How a workload is told.

use crate::idle::idle_ipis;
use crate::numbers::grouped;
use crate::workload::Workload;
use crate::workloads::Workloads;

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
    for warning in workload.warnings() {
        text.push_str("\n  warning: ");
        text.push_str(&warning);
    }
    text
}

/// Tells by which idle states IPIs were priced, of each recording that knows its machine's.
pub(crate) fn idle_lines(workloads: &Workloads) -> Vec<String> {
    let each = workloads.each.iter().zip(workloads.labels());
    let told = |(one, label): (&Workload, String)| {
        let lines = idle_ipis(&one.replayed, one.summary.idle_states.as_ref())?;
        Some(match workloads.are_several() {
            true => format!("{label}: {lines}"),
            false => lines,
        })
    };
    each.filter_map(told).collect()
}
