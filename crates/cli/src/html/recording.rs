//! How a workload was recorded, and what is unknown of it.

use lazytlb_report::{Block, Cell, Section};

use crate::numbers::grouped;
use crate::workload::Workload;

/// Makes the section; `yardstick` says what losses are measured by.
pub(super) fn section(workload: &Workload, yardstick: String) -> Section {
    let summary = &workload.summary;
    let (operations, shootdowns) = (&summary.operations, &summary.remote_shootdowns);
    let duration = summary.first_time_ns.zip(summary.last_time_ns);
    let seconds = duration.map_or(0.0, |(first, last)| last.saturating_sub(first) as f64 / 1e9);
    let lost = match summary.header {
        None => "unknown: the recording has no header that says".to_owned(),
        Some(header) => grouped(
            header
                .entries_written
                .saturating_sub(header.entries_in_buffer),
        ),
    };
    let facts = [
        ("recording", workload.name.clone()),
        ("events", grouped(summary.events)),
        ("events that were lost", lost),
        ("CPUs seen", summary.cpus().count().to_string()),
        ("duration", format!("{seconds:.3} s")),
        ("operations replayed", grouped(operations.total())),
        ("of them, switches", grouped(operations.switch)),
        ("of them, CPUs that go lazy", grouped(operations.go_lazy)),
        ("of them, flushes", grouped(operations.flush)),
        ("of them, spaces that end", grouped(operations.retire)),
        (
            "the recorded kernel's own: shootdowns that arrived",
            grouped(shootdowns.arrived),
        ),
        ("of them, at a lazy CPU", grouped(shootdowns.found_lazy)),
        (
            "the recorded kernel's own: local flushes",
            grouped(summary.local_flushes),
        ),
    ];
    let rows = facts
        .into_iter()
        .map(|(name, value)| vec![Cell::text(name), Cell::text(value)]);
    let events = summary.events_by_name().into_iter();
    let events = events.map(|(name, count)| vec![Cell::text(name), Cell::text(grouped(count))]);
    let mut blocks = vec![Block::table(
        "What was recorded, and what was made of it",
        &["what", "#value"],
        rows.collect(),
    )];
    blocks.extend(unknown(workload, yardstick));
    blocks.push(Block::table(
        "Events by name",
        &["event", "#lines"],
        events.collect(),
    ));
    Section::new("The recording", blocks)
}

fn unknown(workload: &Workload, yardstick: String) -> impl Iterator<Item = Block> {
    let warnings = workload.warnings().into_iter();
    let warnings = warnings.map(|text| Block::Warning { text });
    let limits = [
        workload.agreement.summary(),
        "The replay is open loop: what the recorded kernel did in reaction steers nothing, and what a policy does changes \
         nothing of what the workload asks next. Operations run one at a time, so races are not replayed."
            .to_owned(),
        yardstick,
    ];
    warnings.chain([Block::List {
        items: limits.into(),
    }])
}
