//! All replays of one pass count as each does by itself, though some of them are one.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use std::path::Path;

use lazytlb::{Policy, Quirks, Tables};
use lazytlb_price::{Counts, PcidsOn, Replay, price_trace_on};
use lazytlb_trace::TraceReader;

fn shipped() -> String {
    use std::io::Read;
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../traces/linux61-smp8-mixed.trace.txt.xz");
    let mut text = String::new();
    let file = std::fs::File::open(path).unwrap();
    liblzma::read::XzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// The lines of the recording with one of these in it.
fn only(text: &str, names: &[&str]) -> String {
    let lines = text.lines();
    let kept = lines.filter(|line| names.iter().any(|name| line.contains(name)));
    kept.collect::<Vec<_>>().join("\n") + "\n"
}

/// One replay by itself, as if flushes did this of which it is unknown.
fn alone(text: &str, mut replay: Replay) -> Counts {
    let mut reader = TraceReader::new(text.as_bytes(), "t").unwrap();
    while let Some(operation) = reader.next_operation().unwrap() {
        replay.apply(&operation).unwrap();
    }
    replay.finish()
}

/// Whether a recording leaves something unknown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    Nothing,
    Something,
}

fn check(text: &str, leaves: Leaves) {
    for quirks in [Quirks::default(), Quirks::NONE.with_erratum_383()] {
        let mut reader = TraceReader::new(text.as_bytes(), "t").unwrap();
        let all = price_trace_on(&mut reader, Policy::ALL, &PcidsOn::ALL, quirks, |_| {}).unwrap();
        assert_eq!(all.len(), 2 * Policy::ALL.len());
        for one in all {
            let replay = |end| Replay::on(one.policy, quirks, one.pcids).with_unknown_tables(end);
            assert_eq!(one.counts, alone(text, replay(Tables::Kept)), "{one:?}");
            let freed = alone(text, replay(Tables::Freed));
            // How many page tables a flush frees that may be held back, no recording tells.
            let is_known = leaves == Leaves::Nothing && one.policy != Policy::Quarantine;
            let expected = (!is_known).then_some(freed);
            assert_eq!(one.counts_if_freed, expected, "{one:?}");
        }
    }
}

#[test]
fn with_kprobes_they_count_alike() {
    check(&shipped(), Leaves::Nothing);
}

#[test]
fn from_tracepoints_alone_they_count_alike() {
    let names = ["tlb_flush:", "sched_", "task_newtask:", "cpu_idle:"];
    check(&only(&shipped(), &names), Leaves::Something);
}

#[test]
fn without_task_switches_they_count_alike() {
    let names = ["switch_mm:", "enter_lazy:", "flush_mm_range:", "mmdrop:"];
    check(&only(&shipped(), &names), Leaves::Something);
}
