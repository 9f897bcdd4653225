//! The fixture's operations, one by one, and its summary.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod fixture;

use lazytlb_trace::{
    Header, InitialState, Laziness, MmId, Onto, Operation, OperationCounts, OperationKind, Range,
    RemoteShootdowns, Tables, TraceReader,
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
