//! Recordings of the same work, with kprobes and from tracepoints alone: what is lost, and that the choice is the same.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::Read;
use std::path::Path;

use lazytlb::{Policy, Quirks};
use lazytlb_price::{Costs, Counts, Decision, PcidsOn, Replayed, price_trace_on};
use lazytlb_trace::TraceReader;

const KPROBES: [&str; 7] = [
    ": switch_mm: ",
    ": enter_lazy: ",
    ": flush_mm_range: ",
    ": flush_multi: ",
    ": flush_func: ",
    ": exit_mmap: ",
    ": mmdrop: ",
];
const SAFE: [Policy; 3] = [Policy::InitMm, Policy::Ipi, Policy::IpiOnTableFree];

fn priced(text: &str) -> Vec<Replayed> {
    let mut reader = TraceReader::new(text.as_bytes(), "t").unwrap();
    price_trace_on(&mut reader, &SAFE, &PcidsOn::ALL, Quirks::default(), |_| {}).unwrap()
}

/// The text of a shipped recording, with its kprobes' events and without.
fn both(name: &str) -> [String; 2] {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../traces");
    let file = std::fs::File::open(path.join(format!("linux61-smp8-{name}.trace.txt.xz"))).unwrap();
    let mut whole = String::new();
    let mut decoder = liblzma::read::XzDecoder::new(file);
    decoder.read_to_string(&mut whole).unwrap();
    let is_left =
        |line: &&str| !line.starts_with('#') && !KPROBES.iter().any(|kprobe| line.contains(kprobe));
    let alone: Vec<&str> = whole.lines().filter(is_left).collect();
    let alone = alone.join("\n") + "\n";
    [whole, alone]
}

fn choice(replayed: &[Replayed], pcids: PcidsOn) -> Policy {
    let of_kind = |one: &&Replayed| one.pcids == pcids;
    let kept: Vec<Replayed> = replayed.iter().filter(of_kind).copied().collect();
    let freed: Vec<Replayed> = kept.iter().map(|one| one.if_freed()).collect();
    let decision = Decision::among(&[&kept, &freed], &Costs::shipped());
    decision.unwrap().choice.policy
}

/// How far a number is from what lies between two others, in percent of it.
fn off(exact: u64, one: u64, other: u64) -> f64 {
    let (low, high) = (one.min(other), one.max(other));
    let beyond = low.saturating_sub(exact) + exact.saturating_sub(high);
    100.0 * beyond as f64 / exact.max(1) as f64
}

#[test]
fn tracepoints_alone_lead_to_the_same_choice_by_counts_within_a_tenth() {
    for name in ["threads", "mixed"] {
        let [exact, alone] = both(name).map(|text| priced(&text));
        for pcids in PcidsOn::ALL {
            assert_eq!(choice(&exact, pcids), choice(&alone, pcids), "{name}");
        }
        for (exact, alone) in exact.iter().zip(&alone) {
            assert_eq!(exact.counts_if_freed, None);
            let freed = alone.counts_if_freed.unwrap();
            let counts: [fn(&Counts) -> u64; 3] = [
                |counts| counts.ipis,
                |counts| counts.cr3_flush + counts.cr3_keep,
                |counts| counts.full_flushes,
            ];
            for count in counts {
                let (exact_count, kept) = (count(&exact.counts), count(&alone.counts));
                let percent = off(exact_count, kept, count(&freed));
                assert!(
                    percent < 10.0,
                    "{name}, {}: {exact_count}, {kept} to {}: {percent:.1} %",
                    exact.policy,
                    count(&freed)
                );
            }
        }
    }
}
