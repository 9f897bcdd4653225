//! The parts of what replays count add up to the whole.

#![allow(clippy::unwrap_used)] // A test that fails is to panic.

use std::path::Path;

use lazytlb::{Policy, Quirks};
use lazytlb_price::{PcidsOn, Replayed, Split, price_trace_watched};
use lazytlb_trace::{Step, TraceReader};

/// Splits a recording by a key of each operation, and adds the parts up again.
fn parts<K: Ord>(
    text: &[u8],
    key: impl Fn(u16, u64) -> K,
) -> (Vec<Replayed>, Vec<(K, Vec<Replayed>)>) {
    let mut reader = TraceReader::new(text, "test").unwrap();
    let mut split = Split::default();
    let watch = |step: Step<'_>, replays: &lazytlb_price::Replays<'_>| {
        if let Step::Operation(operation) = step {
            split.add(key(operation.cpu, operation.time_ns), replays);
        }
    };
    let quirks = Quirks::default();
    let whole = price_trace_watched(
        &mut reader,
        Policy::ALL,
        &PcidsOn::ALL,
        quirks,
        |_| {},
        watch,
    )
    .unwrap();
    let parts = split.into_parts(&whole);
    (whole, parts)
}

fn sum<K>(parts: &[(K, Vec<Replayed>)]) -> Vec<Replayed> {
    let tables: Vec<&[Replayed]> = parts.iter().map(|(_, table)| &table[..]).collect();
    Replayed::sum(&tables)
}

fn shipped() -> Vec<u8> {
    use std::io::Read;
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../traces/linux61-smp8-mixed.trace.txt.xz");
    let mut text = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    liblzma::read::XzDecoder::new(file)
        .read_to_end(&mut text)
        .unwrap();
    text
}

#[test]
fn parts_of_a_recording_with_kprobes_add_up_to_the_whole() {
    let text = shipped();
    let (whole, by_cpu) = parts(&text, |cpu, _| cpu);
    assert_eq!(by_cpu.len(), 8);
    assert_eq!(sum(&by_cpu), whole);
    let (whole, by_time) = parts(&text, |_, time_ns| time_ns / 1_000_000_000);
    assert!(by_time.len() > 10, "{}", by_time.len());
    assert_eq!(sum(&by_time), whole);
}

#[test]
fn parts_add_up_in_both_scenarios_where_it_is_unknown_what_flushes_free() {
    // The tracepoints of the same recording.
    let text = String::from_utf8(shipped()).unwrap();
    let tracepoints = [
        "tlb_flush:",
        "sched_",
        "task_newtask:",
        "cpu_idle:",
        "call_function",
    ];
    let kept = text
        .lines()
        .filter(|line| tracepoints.iter().any(|name| line.contains(name)));
    let kept: Vec<&str> = kept.collect();
    let (whole, by_cpu) = parts((kept.join("\n") + "\n").as_bytes(), |cpu, _| cpu);
    let differs = |one: &Replayed| one.counts_if_freed.is_some_and(|freed| freed != one.counts);
    assert!(whole.iter().any(differs), "{whole:?}");
    assert_eq!(sum(&by_cpu), whole);
}

#[test]
fn the_handlers_that_an_operation_interrupts_are_its_own() {
    let text = b"\
  <idle>-0 [001] d.Z1. 1.000001: switch_mm: (f+0x35/0x470) next=0xf0 tsk=0xe0 nctx=7\n\
      sh-9 [001] d.Z1. 1.000002: enter_lazy: (f+0xd/0x30) mm=0xf0 tsk=0xe8 loaded=0xf0\n\
      sh-9 [000] d.Z.. 1.000003: flush_mm_range: (f+0x5/0x170) mm=0xf0 start=0x1000 \
end=0x3000 stride=12 freed=1 ctx=7\n";
    let (_, by_cpu) = parts(text, |cpu, _| cpu);
    let ipi = |table: &[Replayed]| {
        let mut all = table.iter();
        let own = all.find(|one| (one.policy, one.pcids) == (Policy::Ipi, PcidsOn::No));
        own.unwrap().counts
    };
    let [(0, flusher), (1, sleeper)] = &by_cpu[..] else {
        panic!("two CPUs: {by_cpu:?}");
    };
    // CPU 1 loads the space; that it leaves for init_mm is CPU 0's doing.
    assert_eq!((ipi(flusher).ipis, ipi(flusher).cr3_flush), (1, 1));
    assert_eq!((ipi(sleeper).ipis, ipi(sleeper).cr3_flush), (0, 1));
}
