//! Short streams on CPUs with PCIDs, whose counts were worked out by hand.

use lazytlb::{GarbageWalksAccepted, Policy, Quirks};
use lazytlb_price::{Counts, PcidsOn, Replay};
use lazytlb_trace::{MmId, Onto, Operation, OperationKind, Range, Tables};

const A: MmId = MmId(7);
const B: MmId = MmId(8);
const SAFE: [Policy; 3] = [Policy::InitMm, Policy::Ipi, Policy::IpiOnTableFree];

fn switch(mm: MmId) -> OperationKind {
    OperationKind::Switch { mm }
}

fn idle() -> OperationKind {
    OperationKind::GoLazy { onto: Onto::Idle }
}

fn flush(mm: MmId, tables: Tables) -> OperationKind {
    let range = Range::Pages {
        start: 0x40_0000,
        pages: 2,
        stride_shift: 12,
    };
    OperationKind::Flush { mm, range, tables }
}

fn replay(policy: Policy, pcids: PcidsOn, stream: &[(u16, OperationKind)]) -> Counts {
    let mut replay = Replay::on(policy, Quirks::default(), pcids);
    assert_eq!((replay.policy(), replay.pcids()), (policy, pcids));
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
}

/// `(CR3 loads that flush, that keep, refills after loads)`.
fn loads(counts: Counts) -> (u64, u64, u64) {
    (counts.cr3_flush, counts.cr3_keep, counts.refills_after_load)
}

/// A, B, A again: the third load keeps. Without PCIDs it is as expensive as the first.
#[test]
fn a_space_that_comes_back_is_kept_and_refills_nothing() {
    let stream = [(0, switch(A)), (0, switch(B)), (0, switch(A))];
    for &policy in Policy::ALL {
        let on = replay(policy, PcidsOn::Yes, &stream);
        assert_eq!(loads(on), (2, 1, 2), "{policy}");
        assert_eq!((on.full_flushes, on.ipis), (0, 0), "{policy}");
        let off = replay(policy, PcidsOn::No, &stream);
        assert_eq!(loads(off), (3, 0, 3), "{policy}");
    }
}

/// CPU 0 is back in B, which CPU 1 flushes a page of: A, which was flushed meanwhile, is behind; B is not.
#[test]
fn a_slot_that_is_behind_is_flushed_at_its_load_and_not_interrupted_before() {
    let stream = [
        (0, switch(A)),
        (0, switch(B)),
        (0, switch(A)),
        (0, switch(B)),
        (1, switch(A)),
        (1, flush(A, Tables::Kept)),
        (0, switch(A)),
        (0, switch(B)),
    ];
    for &policy in Policy::ALL {
        let on = replay(policy, PcidsOn::Yes, &stream);
        // Flushed: A and B at first, A on CPU 1, A behind. Kept: A, B, and B at the end.
        assert_eq!(loads(on), (4, 3, 4), "{policy}");
        assert_eq!((on.ipis, on.lazy_skipped), (0, 0), "{policy}");
    }
}

/// Six slots: the seventh space takes that of the first, and the first, back again, that of the second.
#[test]
fn the_seventh_space_recycles_the_slot_of_the_first() {
    let all: Vec<_> = (10..17).map(|id| (0, switch(MmId(id)))).collect();
    let six = [&all[..6], &all[..6]].concat();
    let seven = [&all[..], &all[..]].concat();
    for &policy in Policy::ALL {
        let kept = replay(policy, PcidsOn::Yes, &six);
        assert_eq!(loads(kept), (6, 6, 6), "{policy}");
        // First in, first out: each comes back just after its slot was taken.
        let recycled = replay(policy, PcidsOn::Yes, &seven);
        assert_eq!(loads(recycled), (14, 0, 14), "{policy}");
        let back = [&all[..], &all[1..3], &all[..1]].concat();
        let counts = replay(policy, PcidsOn::Yes, &back);
        // The second and third space still have theirs; the first does not.
        assert_eq!(loads(counts), (8, 2, 8), "{policy}");
    }
}

/// Out and back twice; in the second stay a page is flushed.
#[test]
fn init_mm_leaves_and_comes_back_by_loads_that_keep_unless_it_missed_a_flush() {
    let stream = [
        (0, switch(A)),
        (1, switch(A)),
        (1, idle()),
        (1, switch(A)),
        (1, idle()),
        (0, flush(A, Tables::Kept)),
        (1, switch(A)),
    ];
    let on = replay(Policy::InitMm, PcidsOn::Yes, &stream);
    // Kept: two ways out, and the first way back. Flushed: both CPUs at first, and the second way back. Two INVLPGs of
    // pages, and one on each way out. Locked: a CPU joins four times and leaves twice, and the generation.
    let expected = Counts {
        operations: 7,
        cr3_flush: 3,
        cr3_keep: 3,
        refills_after_load: 3,
        invlpg: 4,
        locked: 7,
        ..Counts::default()
    };
    assert_eq!(on, expected);
    let off = replay(Policy::InitMm, PcidsOn::No, &stream);
    let expected = Counts {
        cr3_flush: 6,
        cr3_keep: 0,
        refills_after_load: 4,
        invlpg: 2,
        ..expected
    };
    assert_eq!(off, expected);
}

/// CPU 1 goes on from A to B by a load that keeps, and is in the cpumask of A from then on.
#[test]
fn a_flush_that_frees_tables_interrupts_a_cpu_elsewhere_once_and_not_twice() {
    let away = [
        (1, switch(A)),
        (1, switch(B)),
        (1, switch(A)),
        (1, switch(B)),
        (0, switch(A)),
    ];
    let flushes = |tables: &[Tables]| {
        let flushes = tables.iter().map(|&tables| (0, flush(A, tables)));
        away.into_iter().chain(flushes).collect::<Vec<_>>()
    };
    for policy in SAFE {
        let kept = replay(policy, PcidsOn::Yes, &flushes(&[Tables::Kept; 2]));
        assert_eq!((kept.ipis, kept.invlpg), (0, 4), "{policy}");
        let once = replay(policy, PcidsOn::Yes, &flushes(&[Tables::Freed]));
        let twice = replay(policy, PcidsOn::Yes, &flushes(&[Tables::Freed; 2]));
        for (counts, pages) in [(once, 2), (twice, 4)] {
            assert_eq!((counts.ipis, counts.ipis_elsewhere), (1, 1), "{policy}");
            assert_eq!((counts.shootdowns, counts.ipis_to_running), (1, 1));
            // The pages on CPU 0, and one on CPU 1 that ends its walks.
            assert_eq!(counts.invlpg, pages + 1, "{policy}");
        }
        let off = replay(policy, PcidsOn::No, &flushes(&[Tables::Freed; 2]));
        assert_eq!((off.ipis, off.ipis_elsewhere, off.invlpg), (0, 0, 4));
    }
}

/// It idles in B when A ends: an IPI wakes it.
#[test]
fn a_space_that_ends_interrupts_a_cpu_that_idles_elsewhere() {
    let stream = [
        (1, switch(A)),
        (1, switch(B)),
        (1, switch(A)),
        (1, switch(B)),
        (1, idle()),
        (0, OperationKind::Retire { mm: A }),
        (0, OperationKind::Retire { mm: A }),
    ];
    let counts = replay(Policy::Defer(GarbageWalksAccepted), PcidsOn::Yes, &stream);
    let expected = (1, 1, 1);
    let ipis = (
        counts.ipis_to_idle,
        counts.ipis_elsewhere,
        counts.ipis_at_retire,
    );
    assert_eq!((ipis, counts.ipis), (expected, 1));
}
