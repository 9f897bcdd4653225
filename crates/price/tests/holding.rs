//! Short streams under `quarantine`, whose counts were worked out by hand; and what the shipped recordings hold back.

use std::path::PathBuf;

use lazytlb::{Policy, Quirks, Tables as AsIf};
use lazytlb_price::{Counts, PcidsOn, Replay, Replayed, price_trace_on};
use lazytlb_trace::{MmId, Onto, Operation, OperationKind, Range, Tables, TraceReader};

const A: MmId = MmId(7);
const B: MmId = MmId(8);
const IDLE: OperationKind = OperationKind::GoLazy { onto: Onto::Idle };
/// The bound for each space.
const MOST: u64 = 64;

const fn switch(mm: MmId) -> OperationKind {
    OperationKind::Switch { mm }
}

/// One page, with its tables: from one to three.
fn free(mm: MmId) -> OperationKind {
    let range = Range::Pages {
        start: 0x40_0000,
        pages: 1,
        stride_shift: 12,
    };
    let tables = Tables::Freed;
    OperationKind::Flush { mm, range, tables }
}

fn free_all(mm: MmId) -> OperationKind {
    let (range, tables) = (Range::All, Tables::Freed);
    OperationKind::Flush { mm, range, tables }
}

/// At the end of what is unknown at which each flush frees one table, and at the other.
fn replay(stream: &[(u16, OperationKind)]) -> [Counts; 2] {
    [AsIf::Kept, AsIf::Freed].map(|end| {
        let mut replay = Replay::new(Policy::Quarantine).with_unknown_tables(end);
        for &(cpu, kind) in stream {
            let operation = Operation {
                cpu,
                time_ns: 0,
                kind,
                initial: None,
            };
            let applied = replay.apply(&operation);
            applied.expect("the streams name few CPUs");
        }
        replay.finish()
    })
}

/// `(held, most at one time, of one space, batches that came back, fallbacks)`.
fn held(counts: Counts) -> (u64, u64, u64, u64, u64) {
    (
        counts.tables_held,
        counts.tables_held_peak,
        counts.tables_held_peak_of_a_space,
        counts.batches_released,
        counts.hold_fallbacks,
    )
}

const BESIDE_AN_IDLE_CPU: [(u16, OperationKind); 3] = [(1, switch(A)), (1, IDLE), (0, switch(A))];

#[test]
fn a_lazy_cpu_is_spared_and_its_tables_come_back_after_it_has_flushed() {
    let before = [
        &BESIDE_AN_IDLE_CPU[..],
        &[(0, free(A)), (0, free(A)), (0, IDLE)],
    ]
    .concat();
    let [fewest, most] = replay(&before);
    assert_eq!((fewest.ipis, fewest.lazy_skipped), (0, 2));
    assert_eq!(
        (held(fewest), held(most)),
        ((2, 2, 2, 0, 0), (6, 6, 6, 0, 0))
    );
    // CPU 1 comes back with a flush, and CPU 0 gives both up at once when it goes lazy again.
    let after = [&before[..], &[(1, switch(A)), (0, switch(A)), (0, IDLE)]].concat();
    let [fewest, most] = replay(&after);
    assert_eq!((fewest.ipis, most.ipis), (0, 0));
    assert_eq!(
        (held(fewest), held(most)),
        ((2, 2, 2, 1, 0), (6, 6, 6, 1, 0))
    );
    let once = replay(&before)[0];
    assert_eq!(fewest.full_flushes - once.full_flushes, 1, "CPU 1's");
}

#[test]
fn nothing_is_held_where_nobody_is_lazy() {
    let [fewest, most] = replay(&[
        (1, switch(A)),
        (0, switch(A)),
        (0, free(A)),
        (0, free_all(A)),
    ]);
    for counts in [fewest, most] {
        assert_eq!((counts.ipis_to_running, held(counts)), (2, (0, 0, 0, 0, 0)));
    }
}

#[test]
fn beyond_the_bound_one_interrupt_is_for_all_that_was_held() {
    let flushes = (0..MOST + 2).map(|_| (0, free(A)));
    let stream: Vec<_> = BESIDE_AN_IDLE_CPU.into_iter().chain(flushes).collect();
    let [fewest, most] = replay(&stream);
    assert_eq!(held(fewest), (MOST, MOST, MOST, 1, 1));
    // 21 flushes of three tables fit; then CPU 1 has left.
    assert_eq!(held(most), (63, 63, 63, 1, 1));
    for counts in [fewest, most] {
        assert_eq!((counts.ipis, counts.ipis_to_idle), (1, 1));
    }
}

#[test]
fn a_flush_of_everything_frees_one_table_or_more_than_may_be_held() {
    let stream = [&BESIDE_AN_IDLE_CPU[..], &[(0, free_all(A))]].concat();
    let [fewest, most] = replay(&stream);
    assert_eq!((fewest.ipis, held(fewest)), (0, (1, 1, 1, 0, 0)));
    assert_eq!((most.ipis, held(most)), (1, (0, 0, 0, 0, 1)));
}

/// The space ends while CPU 0 holds a table of it: it is gone when CPU 0 has given that up, and CPU 1 goes on meanwhile.
#[test]
fn a_dead_space_stays_until_its_tables_have_come_back() {
    let stream = [
        &BESIDE_AN_IDLE_CPU[..],
        &[
            (0, free(A)),
            (0, switch(B)),
            (2, OperationKind::Retire { mm: A }),
        ],
        // A new space takes no slot of the dead one.
        &[
            (2, switch(MmId(9))),
            (1, switch(MmId(9))),
            (2, free(MmId(9))),
        ],
        &[(0, IDLE), (2, IDLE)],
    ]
    .concat();
    let [fewest, _] = replay(&stream);
    assert_eq!((fewest.ipis_at_retire, fewest.ipis_to_idle), (1, 1));
    assert_eq!(held(fewest), (1, 1, 1, 1, 0));
}

#[test]
fn what_holding_costs_is_counted() {
    let [fewest, _] = replay(&[&BESIDE_AN_IDLE_CPU[..], &[(0, free(A)), (0, IDLE)]].concat());
    let linux = {
        let mut replay = Replay::new(Policy::IpiOnTableFree);
        for (cpu, kind) in [&BESIDE_AN_IDLE_CPU[..], &[(0, IDLE)]].concat() {
            let operation = Operation {
                cpu,
                time_ns: 0,
                kind,
                initial: None,
            };
            replay.apply(&operation).expect("there are two CPUs");
        }
        replay.finish()
    };
    // The generation; counted in the space and in all before it is held; CPU 1's bit as it is spared.
    assert_eq!(fewest.locked - linux.locked, 4);
    // Each CPU as it comes asks whether it was spared: two. CPU 0: that CPU 1 is lazy; whether it was spared itself, as it flushes what it has
    // removed; whom its batch awaits; and as it goes lazy, whether CPU 1 is still spared, and still there.
    assert_eq!(fewest.remote_reads, 7);
}

fn recording(name: &str, pcids: PcidsOn) -> Replayed {
    let file = format!("linux61-smp8-{name}.trace.txt.xz");
    let traces = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../traces");
    let mut reader = TraceReader::open(traces.join(file)).expect("the recording is shipped");
    let quirks = Quirks::default();
    let replayed = price_trace_on(&mut reader, &[Policy::Quarantine], &[pcids], quirks, |_| {});
    replayed.expect("the recording is complete")[0]
}

#[test]
fn on_the_shipped_recordings_the_bounds_are_kept_and_reached() {
    for (name, pcids, fewest, most) in [
        (
            "threads",
            PcidsOn::No,
            (1504, 64, 64, 911, 8),
            (6731, 63, 63, 338, 1042),
        ),
        (
            "threads",
            PcidsOn::Yes,
            (1504, 64, 64, 911, 8),
            (6731, 63, 63, 338, 1042),
        ),
        (
            "mixed",
            PcidsOn::No,
            (467, 65, 64, 386, 0),
            (1599, 67, 63, 183, 229),
        ),
        (
            "mixed",
            PcidsOn::Yes,
            (586, 65, 64, 472, 0),
            (1765, 71, 63, 206, 301),
        ),
    ] {
        let replayed = recording(name, pcids);
        let ends = (held(replayed.counts), held(replayed.if_freed().counts));
        assert_eq!(ends, (fewest, most), "{name}, PCIDs {}", pcids.name());
    }
}
