//! Any stream of operations replays, and its counts fit each other.

use lazytlb::{Policy, Quirks};
use lazytlb_price::{Counts, PcidsOn, Replay, Sleep};
use lazytlb_trace::{
    IdleStateIndex, InitialState, Laziness, MmId, Onto, Operation, OperationKind, Range, Tables,
};
use proptest::prelude::*;

/// Few spaces, so that they meet, but more than a CPU has slots; 1 is init_mm.
fn any_mm() -> impl Strategy<Value = MmId> {
    prop_oneof![4 => 1..5_u64, 1 => 5..10_u64].prop_map(MmId)
}

fn any_range() -> impl Strategy<Value = Range> {
    let shift = prop_oneof![4 => Just(12), 1 => Just(21), 1 => Just(30), 1 => 0..64_u8];
    let pages = (any::<u64>(), prop_oneof![0..40_u64, any::<u64>()], shift).prop_map(
        |(start, pages, stride_shift)| Range::Pages {
            start,
            pages,
            stride_shift,
        },
    );
    prop_oneof![1 => Just(Range::All), 3 => pages]
}

fn any_kind() -> impl Strategy<Value = OperationKind> {
    let onto = prop_oneof![Just(Onto::Idle), Just(Onto::KernelThread)];
    let tables = prop_oneof![Just(Tables::Kept), Just(Tables::Freed)];
    prop_oneof![
        4 => any_mm().prop_map(|mm| OperationKind::Switch { mm }),
        4 => onto.prop_map(|onto| OperationKind::GoLazy { onto }),
        4 => (any_mm(), any_range(), tables)
            .prop_map(|(mm, range, tables)| OperationKind::Flush { mm, range, tables }),
        1 => any_mm().prop_map(|mm| OperationKind::Retire { mm }),
    ]
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let laziness = prop_oneof![Just(Laziness::Lazy), Just(Laziness::NotLazy)];
    let state = (proptest::option::of(any_mm()), laziness)
        .prop_map(|(mm, laziness)| InitialState { mm, laziness });
    let cpu = prop_oneof![8 => 0..6_u16, 1 => Just(200), 1 => Just(511)];
    // A reader tells the initial state at most once a CPU; a replay takes it whenever it comes.
    let initial = proptest::option::weighted(0.1, state);
    (cpu, any_kind(), initial).prop_map(|(cpu, kind, initial)| Operation {
        cpu,
        time_ns: 0,
        kind,
        initial,
    })
}

fn replay(policy: Policy, pcids: PcidsOn, operations: &[Operation]) -> Counts {
    let mut replay = Replay::on(policy, Quirks::default(), pcids);
    for operation in operations {
        let applied = replay.apply(operation);
        applied.expect("no CPU is past the capacity");
    }
    replay.finish()
}

fn any_sleep() -> impl Strategy<Value = Sleep> {
    let light = (0..4_u32, 0..1000_u64).prop_map(|(state, exit_latency_us)| Sleep::Light {
        state: IdleStateIndex::new(state).expect("a CPU can have ten"),
        exit_latency_us,
    });
    let others = [Sleep::Unknown, Sleep::Awake, Sleep::Flushed].map(Just);
    let [unknown, awake, flushed] = others;
    prop_oneof![2 => light, 1 => unknown, 1 => awake, 1 => flushed]
}

/// Before each operation, a CPU is told to sleep.
fn replay_asleep(policy: Policy, pcids: PcidsOn, stream: &[(u16, Sleep, Operation)]) -> Counts {
    let mut replay = Replay::on(policy, Quirks::default(), pcids);
    for (cpu, sleep, operation) in stream {
        replay.sleep(*cpu, *sleep);
        let applied = replay.apply(operation);
        applied.expect("no CPU is past the capacity");
    }
    replay.finish()
}

proptest! {
    /// What is known of sleeps is a part of what is counted; and unless a CPU leaves before it sleeps, the rest is counted as
    /// without.
    #[test]
    fn what_is_known_of_sleeps_is_counted_beside_the_rest(
        stream in proptest::collection::vec((0..6_u16, any_sleep(), any_operation()), 0..200),
        kept in any::<bool>(),
    ) {
        let mut stream = stream;
        if kept {
            stream.retain(|(_, sleep, _)| *sleep != Sleep::Flushed);
        }
        let operations: Vec<Operation> = stream.iter().map(|(_, _, operation)| *operation).collect();
        for (&policy, pcids) in Policy::ALL.iter().flat_map(|policy| PcidsOn::ALL.map(|pcids| (policy, pcids))) {
            let counts = replay_asleep(policy, pcids, &stream);
            let by_state: u64 = counts.ipis_by_idle_state.iter().sum();
            prop_assert!(by_state <= counts.ipis_to_known_sleep);
            prop_assert!(counts.ipis_to_known_sleep <= counts.ipis_to_idle);
            prop_assert!(counts.shootdowns_to_known_sleep <= counts.shootdowns_to_idle);
            prop_assert!(counts.idle_wait_us <= counts.idle_wake_us);
            prop_assert!(counts.idle_wake_us < 1000 * by_state.max(1));
            if policy == Policy::InitMm {
                prop_assert_eq!(counts.left_before_sleep, 0);
            }
            if counts.left_before_sleep == 0 {
                let rest = Counts {
                    shootdowns_to_known_sleep: 0,
                    idle_wait_us: 0,
                    ipis_to_known_sleep: 0,
                    ipis_by_idle_state: Default::default(),
                    idle_wake_us: 0,
                    ..counts
                };
                prop_assert_eq!(rest, replay(policy, pcids, &operations));
            }
        }
    }

    #[test]
    fn every_stream_replays_and_its_counts_fit_each_other(
        operations in proptest::collection::vec(any_operation(), 0..200)
    ) {
        let to_lazy = |counts: Counts| counts.ipis_to_lazy + counts.ipis_to_idle;
        let [init_mm, ipi, on_table_free] = [Policy::InitMm, Policy::Ipi, Policy::IpiOnTableFree].map(|p| replay(p, PcidsOn::No, &operations));
        for &policy in Policy::ALL {
            let counts = replay(policy, PcidsOn::No, &operations);
            prop_assert_eq!(counts.operations, operations.len() as u64);
            prop_assert_eq!(counts.ipis, counts.ipis_to_running + to_lazy(counts));
            prop_assert!(counts.shootdowns <= counts.ipis);
            prop_assert!(counts.shootdowns_to_idle <= counts.ipis_to_idle);
            prop_assert!(counts.ipis_at_retire <= counts.ipis);
            prop_assert!(counts.refills_after_load <= counts.cr3_flush);
            prop_assert!(counts.refills_after_flush <= counts.full_flushes);
            // What a policy does about lazy CPUs changes nothing for those that run.
            prop_assert_eq!(counts.ipis_to_running, init_mm.ipis_to_running);
            prop_assert_eq!((counts.invlpg, counts.repairs), (init_mm.invlpg, init_mm.repairs));
        }
        prop_assert_eq!(to_lazy(init_mm), 0);
        prop_assert_eq!(init_mm.lazy_skipped + ipi.lazy_skipped, 0);
        // An IPI ends a lazy stay, so each stay meets at most one; `ipi` misses no occasion.
        prop_assert!(to_lazy(ipi) >= to_lazy(on_table_free));
    }

    /// With PCIDs the same loads happen, and whoever was interrupted without is so with them. But a lazy CPU that is interrupted
    /// because it is elsewhere from a space catches up with the one that it has loaded, too.
    #[test]
    fn pcids_spare_refills_and_never_the_load_itself(
        operations in proptest::collection::vec(any_operation(), 0..200)
    ) {
        for &policy in Policy::ALL {
            let [off, on] = PcidsOn::ALL.map(|pcids| replay(policy, pcids, &operations));
            prop_assert_eq!((off.cr3_keep, off.ipis_elsewhere), (0, 0));
            prop_assert_eq!(on.repairs, off.repairs);
            // Under `quarantine` a CPU that is lazy elsewhere is spared, too, and catches up when it has to.
            let spared_elsewhere = policy == Policy::Quarantine && on.lazy_skipped != off.lazy_skipped;
            if policy == Policy::InitMm || (on.ipis_elsewhere == 0 && !spared_elsewhere) {
                prop_assert_eq!(on.cr3_flush + on.cr3_keep, off.cr3_flush, "{}", policy);
                prop_assert!(on.refills_after_load <= off.refills_after_load);
                prop_assert_eq!(on.full_flushes, off.full_flushes);
                prop_assert_eq!(on.ipis - on.ipis_elsewhere, off.ipis);
                prop_assert_eq!(on.lazy_skipped, off.lazy_skipped);
                prop_assert!(on.invlpg >= off.invlpg + on.ipis_elsewhere);
            }
            // A load of a user space flushes and refills, and one of init_mm keeps.
            prop_assert_eq!(on.refills_after_load, on.cr3_flush);
        }
    }
}
