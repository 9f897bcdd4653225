//! A short stream of operations whose counts were worked out by hand, for each policy.

use lazytlb::{GarbageWalksAccepted, Policy};
use lazytlb_price::{Counts, Replay};
use lazytlb_trace::{MmId, Onto, Operation, OperationKind, Range, Tables};

const A: MmId = MmId(7);
const B: MmId = MmId(8);

fn stream() -> Vec<(u16, OperationKind)> {
    let switch = |mm| OperationKind::Switch { mm };
    let go_lazy = |onto| OperationKind::GoLazy { onto };
    let flush = |mm, range, tables| OperationKind::Flush { mm, range, tables };
    let pages = |pages, stride_shift| Range::Pages {
        start: 0x40_0000,
        pages,
        stride_shift,
    };
    vec![
        (0, switch(A)),                            //  1
        (1, switch(A)),                            //  2
        (2, switch(A)),                            //  3
        (1, go_lazy(Onto::Idle)),                  //  4
        (2, go_lazy(Onto::KernelThread)),          //  5
        (0, flush(A, pages(2, 12), Tables::Kept)), //  6
        (1, switch(A)),                            //  7
        (1, go_lazy(Onto::Idle)),                  //  8
        (0, flush(A, Range::All, Tables::Freed)),  //  9
        (1, switch(A)),                            // 10
        (2, switch(B)),                            // 11
        (0, switch(B)),                            // 12
        (1, go_lazy(Onto::KernelThread)),          // 13
        (0, OperationKind::Retire { mm: A }),      // 14
        (1, switch(B)),                            // 15
        (0, flush(B, pages(1, 21), Tables::Kept)), // 16
    ]
}

fn replay(policy: Policy) -> Counts {
    let mut replay = Replay::new(policy);
    for (cpu, kind) in stream() {
        let operation = Operation {
            cpu,
            time_ns: 0,
            kind,
            initial: None,
        };
        let applied = replay.apply(&operation);
        applied.expect("the stream names three CPUs");
    }
    replay.finish()
}

// What the steps cost:
// - a load of another root (L): 1 cr3_flush; 1 locked for a user space that is entered, 1 for one
//   that is left; 1 refill if a user space is entered
// - going lazy, under every policy but init-mm: 1 locked (the exchange that sets the flag), 4 times:
//   at 4, 5, 8, 13
// - coming back from lazy mode (R): 1 fence; if behind, 1 full flush and 1 refill
// - a flush (F): 1 locked for the generation; a remote read for each CPU in the mask if lazy ones
//   are skipped; for each target 2 locked (the bit in its inbox set, and cleared); what it
//   invalidates
// - a lazy target also leaves for init_mm: L with 1 locked, no refill
// - a retire (14), besides: 1 locked, to mark the space
// In all of them: 1-3 are L with 1 locked each: locked 3, cr3 3, refills 3. 12 is L with 2 locked.
// 6 invalidates 2 pages on CPU 0; 9 everything; 16 one page on each of 3 CPUs: invlpg 5.
// 16 has two running targets: 5 locked, 1 shootdown, 2 IPIs.

#[test]
fn init_mm_pays_a_load_on_each_way_out_and_back() {
    // 4, 5, 8, 13: L to init_mm. 7, 10, 11, 15: L from it. cr3: 3 + 4 + 4 + 1 (at 12) = 12.
    // refills after loads: 3 + 4 + 1 = 8. locked: 3 + 4 + 4 + 2 (12) + 3 (6, 9, 14) + 1 (14)
    // + 5 (16) = 22.
    let expected = Counts {
        operations: 16,
        shootdowns: 1,
        ipis: 2,
        ipis_to_running: 2,
        cr3_flush: 12,
        full_flushes: 1,
        invlpg: 5,
        refills_after_load: 8,
        refills_after_flush: 1,
        locked: 22,
        ..Counts::default()
    };
    assert_eq!(replay(Policy::InitMm), expected);
}

#[test]
fn ipi_interrupts_each_lazy_stay_once() {
    // 6 ends both stays (idle, kernel thread), 9 that of CPU 1 (idle), 14 that of CPU 1 (thread).
    // Each costs L to init_mm: 4; 7, 10, 11, 15: L from it. cr3: 3 + 4 + 4 + 1 = 12.
    // locked: 3 + 4 (going lazy) + 4 * 3 (IPIs with leaving) + 4 (7, 10, 11, 15) + 2 (12)
    // + 3 (6, 9, 14) + 1 (14) + 5 = 34.
    let expected = Counts {
        operations: 16,
        shootdowns: 4,
        shootdowns_to_idle: 2,
        ipis: 6,
        ipis_to_running: 2,
        ipis_to_lazy: 2,
        ipis_to_idle: 2,
        ipis_at_retire: 1,
        cr3_flush: 12,
        full_flushes: 1,
        invlpg: 5,
        refills_after_load: 8,
        refills_after_flush: 1,
        locked: 34,
        ..Counts::default()
    };
    assert_eq!(replay(Policy::Ipi), expected);
}

#[test]
fn ipi_on_table_free_skips_at_the_first_flush_only() {
    // 6 skips both (2 reads); 7 is R, behind. 9 ends both stays, 14 that of CPU 1: 3 L to init_mm.
    // 10, 11, 15: L from it. cr3: 3 + 3 + 3 + 1 = 10; refills after loads: 3 + 3 + 1 = 7.
    // full flushes: 7, 9. reads: 2 (6) + 2 (16: both run).
    // locked: 3 + 4 + 3 * 3 + 3 + 2 + 3 + 1 (14) + 5 = 30.
    let expected = Counts {
        operations: 16,
        shootdowns: 3,
        shootdowns_to_idle: 1,
        ipis: 5,
        ipis_to_running: 2,
        ipis_to_lazy: 2,
        ipis_to_idle: 1,
        ipis_at_retire: 1,
        lazy_skipped: 2,
        cr3_flush: 10,
        full_flushes: 2,
        invlpg: 5,
        refills_after_load: 7,
        refills_after_flush: 2,
        locked: 30,
        fences: 1,
        remote_reads: 4,
        ..Counts::default()
    };
    assert_eq!(replay(Policy::IpiOnTableFree), expected);
}

#[test]
fn deferral_interrupts_lazy_cpus_at_a_retire_only() {
    // 6 and 9 skip both (4 reads); 7 and 10 are R, behind. 11: L from A to B (2 locked).
    // 14 ends the stay of CPU 1: L to init_mm; 15: L from it. cr3: 3 + 1 (11) + 1 (12) + 2 = 7.
    // refills after loads: 3 + 1 + 1 + 1 = 6. full flushes: 7, 9, 10. reads: 4 + 2 (16).
    // locked: 3 + 4 + 2 (11) + 2 (12) + 3 + 1 (14) + 1 (15) + 3 (6, 9, 14) + 5 = 24.
    let expected = Counts {
        operations: 16,
        shootdowns: 2,
        ipis: 3,
        ipis_to_running: 2,
        ipis_to_lazy: 1,
        ipis_at_retire: 1,
        lazy_skipped: 4,
        cr3_flush: 7,
        full_flushes: 3,
        invlpg: 5,
        refills_after_load: 6,
        refills_after_flush: 3,
        locked: 24,
        fences: 2,
        remote_reads: 6,
        ..Counts::default()
    };
    assert_eq!(replay(Policy::Defer(GarbageWalksAccepted)), expected);
    assert_eq!(replay(Policy::DeferUnlessQuirk), expected);
}

#[test]
fn counts_survive_the_way_through_json() {
    let counts = replay(Policy::Ipi);
    let json = serde_json::to_value(counts).unwrap();
    assert_eq!(json["ipis_to_idle"], 2);
    assert_eq!(serde_json::from_value::<Counts>(json).unwrap(), counts);
}
