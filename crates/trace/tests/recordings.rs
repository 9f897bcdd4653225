//! The project's own recordings of Linux 6.1, against the counts that were taken from them by
//! other means (`grep -c`, /proc/interrupts and a replay in another language).
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::PathBuf;

use lazytlb_trace::{Compression, MmId, OperationCounts, RemoteShootdowns, TraceReader};

/// Holds what a recording must show.
struct Expected {
    events: u64,
    operations: OperationCounts,
    remote: RemoteShootdowns,
    local_flushes: u64,
    left_for_init_mm: u64,
    named: &'static [(&'static str, u64)],
    /// For CPUs 0 to 7: the space loaded at the first operation that shows it.
    initial: [u64; 8],
}

fn check(workload: &str, expected: &Expected) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../traces");
    let path = directory.join(format!("linux61-smp8-{workload}.trace.txt.xz"));
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return;
    }
    let mut reader = TraceReader::open(&path).unwrap();
    let mut initial = [None; 8];
    while let Some(operation) = reader.next_operation().unwrap() {
        if let Some(state) = operation.initial {
            assert_eq!(initial[usize::from(operation.cpu)], None);
            initial[usize::from(operation.cpu)] = state.mm;
        }
    }
    let summary = reader.summary();
    assert_eq!(reader.compression(), Compression::Xz);
    assert_eq!(summary.events, expected.events);
    assert_eq!(summary.header.unwrap().entries_written, expected.events);
    assert_eq!(summary.header.unwrap().online_cpus, Some(8));
    assert_eq!(summary.operations, expected.operations);
    assert_eq!(summary.remote_shootdowns, expected.remote);
    assert_eq!(summary.local_flushes, expected.local_flushes);
    assert_eq!(summary.left_for_init_mm, expected.left_for_init_mm);
    assert_eq!((summary.chain_repairs, summary.missing_retires), (0, 0));
    assert_eq!(summary.cpus().count(), 8);
    assert_eq!(summary.warnings(), Vec::<String>::new());
    for (name, count) in expected.named {
        assert_eq!(summary.events_named(name), *count, "{name}");
    }
    assert_eq!(initial, expected.initial.map(|mm| Some(MmId(mm))));
}

#[test]
fn threads_has_the_known_counts() {
    check(
        "threads",
        &Expected {
            events: 302_390,
            // 31240 switch_mm, of which 5576 are reactions.
            operations: OperationCounts {
                switch: 25_664,
                go_lazy: 31_270,
                flush: 5835,
                retire: 7,
            },
            // A replay of is_lazy from the first event on counts 5573: it cannot know that CPU 5,
            // whose first event is such an arrival, was lazy. The switch that follows shows it.
            remote: RemoteShootdowns {
                arrived: 9545,
                found_lazy: 5574,
            },
            local_flushes: 5832,
            left_for_init_mm: 5576,
            named: &[
                ("switch_mm", 31_240),
                ("sched_switch", 56_924),
                ("flush_multi", 5771),
            ],
            initial: [1, 1, 9, 58, 1, 1, 1, 1],
        },
    );
}

#[test]
fn mixed_has_the_known_counts() {
    check(
        "mixed",
        &Expected {
            events: 173_627,
            // 21493 switch_mm, of which 1369 are reactions.
            operations: OperationCounts {
                switch: 20_124,
                go_lazy: 12_940,
                flush: 15_907,
                retire: 1042,
            },
            remote: RemoteShootdowns {
                arrived: 2159,
                found_lazy: 789,
            },
            local_flushes: 15_391,
            left_for_init_mm: 1369,
            named: &[
                ("switch_mm", 21_493),
                ("sched_switch", 31_733),
                ("leave_mm", 2),
            ],
            initial: [1, 1, 1, 58, 1, 1, 1, 9],
        },
    );
}
