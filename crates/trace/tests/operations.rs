//! The fixture's operations, one by one, and its summary.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod fixture;

use lazytlb_trace::{
    Header, InitialState, Laziness, MmId, Onto, Operation, OperationCounts, OperationKind, Range,
    RemoteShootdowns, Summary, Tables, TraceReader,
};

/// Makes an operation at 5 s and `micros` microseconds, without an initial state.
fn at(micros: u64, cpu: u16, kind: OperationKind) -> Operation {
    Operation {
        cpu,
        time_ns: 5_000_000_000 + micros * 1000,
        kind,
        initial: None,
    }
}

fn starting(mm: u64, laziness: Laziness, operation: Operation) -> Operation {
    let initial = Some(InitialState {
        mm: Some(MmId(mm)),
        laziness,
    });
    Operation {
        initial,
        ..operation
    }
}

fn switch(mm: u64) -> OperationKind {
    OperationKind::Switch { mm: MmId(mm) }
}

fn go_lazy(onto: Onto) -> OperationKind {
    OperationKind::GoLazy { onto }
}

fn retire(mm: u64) -> OperationKind {
    OperationKind::Retire { mm: MmId(mm) }
}

fn flush(mm: u64, range: Range, tables: Tables) -> OperationKind {
    OperationKind::Flush {
        mm: MmId(mm),
        range,
        tables,
    }
}

fn pages(start: u64, pages: u64, stride_shift: u8) -> Range {
    Range::Pages {
        start,
        pages,
        stride_shift,
    }
}

#[test]
fn the_fixture_gives_exactly_these_operations() {
    use Laziness::NotLazy;
    use Tables::{Freed, Kept};
    let expected = [
        starting(
            50,
            NotLazy,
            at(10, 0, flush(50, pages(0x4b_b000, 1, 12), Kept)),
        ),
        starting(1, NotLazy, at(22, 1, switch(51))),
        at(30, 1, switch(52)),
        at(32, 1, flush(51, Range::All, Freed)),
        at(34, 1, retire(51)),
        // 0x401000 bytes are two pages of 2 MiB and a bit.
        at(36, 1, flush(52, pages(0xff_0000_0000_0000, 3, 21), Freed)),
        starting(50, NotLazy, at(41, 2, go_lazy(Onto::KernelThread))),
        at(43, 2, go_lazy(Onto::Idle)),
        at(50, 0, flush(50, pages(0x7f00_0000_0000, 33, 12), Freed)),
        at(60, 3, retire(40)),
        starting(1, NotLazy, at(63, 3, switch(2))),
        at(64, 3, switch(1)),
        at(65, 3, flush(2, pages(0x7b7d_1fd4_9000, 1, 12), Kept)),
        at(70, 1, go_lazy(Onto::KernelThread)),
        at(71, 1, flush(52, Range::All, Freed)),
        at(76, 1, go_lazy(Onto::Idle)),
        at(77, 1, retire(52)),
        at(82, 2, switch(50)),
        at(91, 0, go_lazy(Onto::Idle)),
    ];
    let mut reader = TraceReader::new(fixture::TRACE.as_bytes(), "fixture").unwrap();
    for expected in expected {
        assert_eq!(reader.next_operation().unwrap(), Some(expected));
    }
    assert_eq!(reader.next_operation().unwrap(), None);
    assert_eq!(reader.next_operation().unwrap(), None);
}

#[test]
fn the_fixtures_summary_tells_the_recorded_kernels_reactions() {
    let mut reader = TraceReader::new(fixture::TRACE.as_bytes(), "fixture").unwrap();
    while reader.next_operation().unwrap().is_some() {}
    let summary = reader.summary();
    assert_eq!((summary.lines, summary.events), (64, 52));
    assert_eq!(
        summary.operations,
        OperationCounts {
            switch: 5,
            go_lazy: 5,
            flush: 6,
            retire: 3
        }
    );
    assert_eq!(summary.operations.total(), 19);
    // Two arrive at CPU 2; the second finds it running.
    assert_eq!(
        summary.remote_shootdowns,
        RemoteShootdowns {
            arrived: 2,
            found_lazy: 1
        }
    );
    assert_eq!((summary.local_flushes, summary.left_for_init_mm), (3, 3));
    // kworker/2:0 runs on CPU 2 where the chain says idle.
    assert_eq!((summary.chain_repairs, summary.missing_retires), (1, 0));
    assert_eq!(summary.first_time_ns, Some(5_000_001_000));
    assert_eq!(summary.last_time_ns, Some(5_000_092_000));
    assert_eq!(
        summary.cpus().map(|(cpu, _)| cpu).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    assert_eq!(
        summary.header,
        Some(Header {
            entries_in_buffer: 52,
            entries_written: 52,
            online_cpus: Some(4)
        })
    );
    assert_eq!(summary.events_named("tlb_flush"), 5);
    assert_eq!(
        summary
            .events_by_name()
            .iter()
            .map(|(_, count)| count)
            .sum::<u64>(),
        52
    );
    assert_eq!(summary.warnings().len(), 1);
}

#[test]
fn a_lazy_cpu_starts_lazy() {
    let text = "\
 sh-9 [001] d.Z.. 1.000001: flush_mm_range: mm=0xf0 start=0x0 end=0x1000 stride=12 freed=0 ctx=7
 <idle>-0 [002] d..2. 1.000002: sched_switch: prev_pid=0 ==> next_comm=kworker next_pid=3 next_prio=1
 <idle>-0 [002] d.Z1. 1.000003: enter_lazy: mm=0xf0 tsk=0xe0 loaded=0xf0
 <idle>-0 [003] d.Z1. 1.000004: switch_mm: next=0xf0 tsk=0xe0 loaded=0xf0 lazy=1 nctx=7
 <idle>-0 [004] d.Z1. 1.000005: switch_mm: next=0xf0 tsk=0xe0 loaded=0xf8 lazy=1 nctx=7
";
    let mut reader = TraceReader::new(text.as_bytes(), "text").unwrap();
    let mut initial = Vec::new();
    while let Some(operation) = reader.next_operation().unwrap() {
        initial.push((operation.cpu, operation.initial));
    }
    let lazy = |mm| {
        Some(InitialState {
            mm,
            laziness: Laziness::Lazy,
        })
    };
    let known = lazy(Some(MmId(7)));
    // CPU 1's flush has no mask, and CPU 4's pointer was never named.
    assert_eq!(
        initial,
        [(1, None), (2, known), (3, known), (4, lazy(None))]
    );
}

/// Returns what each CPU went on to that went lazy.
fn went_onto(text: &str) -> (Vec<Onto>, Summary) {
    let mut reader = TraceReader::new(text.as_bytes(), "text").unwrap();
    let mut all = Vec::new();
    while let Some(operation) = reader.next_operation().unwrap() {
        if let OperationKind::GoLazy { onto } = operation.kind {
            all.push(onto);
        }
    }
    (all, reader.summary().clone())
}

/// A task whose CPU goes lazy, without `sched_switch`.
const GOES_LAZY: &str = "\
 sh-9 [001] d.Z1. 1.000001: switch_mm: next=0xf0 tsk=0xe0 nctx=7
 sh-9 [001] d.Z.. 1.000002: flush_mm_range: mm=0xf0 start=0x0 end=0x1000 stride=12 freed=0 ctx=7
 sh-9 [001] d.Z1. 1.000003: enter_lazy: mm=0xf0 tsk=0xe8 loaded=0xf0
 ab-5 [000] d.Z1. 1.000004: mmdrop: mm=0xf8 ctx=8
";

#[test]
fn without_sched_switch_the_next_event_tells_what_a_lazy_cpu_runs() {
    for (next, onto) in [
        (
            "<idle>-0 [001] d..1. 1.000009: cpu_idle: state=1 cpu_id=1",
            Onto::Idle,
        ),
        (
            "<idle>-0 [001] d.h1. 1.000009: tlb_flush: pages:-1 reason:flush on task switch (0)",
            Onto::Idle,
        ),
        (
            "kworker/1:1-70 [001] d.h1. 1.000009: tlb_flush: pages:-1 reason:flush on task switch (0)",
            Onto::KernelThread,
        ),
        // It exits.
        (
            "sh-9 [001] d.h1. 1.000009: tlb_flush: pages:-1 reason:local mm shootdown (3)",
            Onto::KernelThread,
        ),
    ] {
        let (all, summary) = went_onto(&format!("{GOES_LAZY} {next}\n"));
        assert_eq!((all, summary.unknown_onto), (vec![onto], 0), "{next}");
    }
    // Whom the idle task leaves for is no idle task.
    let leaves_idle = GOES_LAZY.replace("sh-9", "<idle>-0");
    assert_eq!(went_onto(&leaves_idle).0, [Onto::KernelThread]);
}

#[test]
fn a_lazy_cpu_without_another_event_is_unknown_and_counted() {
    let (all, summary) = went_onto(GOES_LAZY);
    assert_eq!((all, summary.unknown_onto), (vec![Onto::Unknown], 1));
    let warnings = summary.warnings();
    assert!(
        warnings.iter().any(|it| it.contains("1 of 1 times")),
        "{warnings:?}"
    );
}

#[test]
fn a_missing_sched_switch_is_repaired_from_the_pid_column() {
    // CPU 1 goes from 9 to the idle task unseen; its next event shows pid 0, and then a kernel
    // thread's switch to idle is missing as well.
    let text = "\
 sh-9 [001] d.Z.. 1.000001: flush_mm_range: mm=0xf0 start=0x0 end=0x1000 stride=12 freed=0 ctx=7
 <idle>-0 [001] d..1. 1.000002: cpu_idle: state=1
 <idle>-0 [001] d..2. 1.000003: sched_switch: prev_pid=0 ==> next_comm=kworker next_pid=3 next_prio=1
 <idle>-0 [001] d.Z1. 1.000004: enter_lazy: mm=0xf0 tsk=0xe0 loaded=0xf0
 <idle>-0 [001] d.Z1. 1.000005: switch_mm: next=0xf0 tsk=0xe0 nctx=7
";
    let mut reader = TraceReader::new(text.as_bytes(), "text").unwrap();
    let mut kinds = Vec::new();
    while let Some(operation) = reader.next_operation().unwrap() {
        kinds.push(operation.kind);
    }
    assert_eq!(kinds[1], go_lazy(Onto::KernelThread));
    assert_eq!(reader.summary().chain_repairs, 1);
}
