//! Replays that cannot come out differently, whatever the recording: they are run once.
//!
//! A policy is asked two questions (`lazytlb`, `switch` and `targets`): whether a CPU that goes lazy leaves for init_mm, and
//! whether a flush interrupts a lazy target. Two replays on the same kind of CPUs that get the same answers to both, and are
//! told the same of each flush and of each CPU that goes lazy, do the same, step by step.

use lazytlb::{GarbageWalksAccepted, Policy, Quirks};

use crate::pcids_on::PcidsOn;

/// What a recording's operations may leave unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unknown {
    /// Nothing: kprobes tell tables, and `sched_switch` whether a lazy CPU idles.
    Nothing,
    /// Whether a flush frees page tables. Tracepoints follow `sched_switch`, so each of them that goes lazy is known to idle, or not.
    Tables,
    /// Whether a lazy CPU idles.
    Onto,
}

/// Returns the policy that this one is on CPUs with these errata, by the name of another.
///
/// `defer-unless-quirk` never leaves for init_mm, as both others; where no erratum makes walks of garbage fatal it spares
/// lazy targets, as `defer`, else it interrupts them, as `ipi`.
pub(crate) fn same_policy(policy: Policy, quirks: Quirks) -> Policy {
    match policy {
        Policy::DeferUnlessQuirk if quirks.garbage_walk_is_fatal() => Policy::Ipi,
        Policy::DeferUnlessQuirk => Policy::Defer(GarbageWalksAccepted),
        other => other,
    }
}

/// Says whether a replay comes out alike at both ends of what is unknown.
///
/// Without PCIDs, whether a flush frees tables matters to the choice of lazy targets alone, and there to `ipi-on-table-free`
/// alone: a CPU that has another space loaded is in no cpumask, and nothing is left behind (`Tlb::leave_behind`). With PCIDs
/// CPUs are elsewhere, and are interrupted if tables are freed. Whether a lazy CPU idles is counted under every policy.
pub(crate) fn ends_are_alike(policy: Policy, pcids: PcidsOn, unknown: Unknown) -> bool {
    let looks_at_tables = match policy {
        Policy::Defer(GarbageWalksAccepted)
        | Policy::DeferUnlessQuirk
        | Policy::InitMm
        | Policy::Ipi => pcids == PcidsOn::Yes,
        // One that is not known here may look.
        _ => true,
    };
    match unknown {
        // How many page tables a flush frees, no recording tells.
        Unknown::Nothing => policy != Policy::Quarantine,
        Unknown::Tables => !looks_at_tables,
        Unknown::Onto => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::Replay;
    use crate::replayer::{Capacity, Setting};
    use lazytlb::Tables;
    use lazytlb_trace::{InitialState, Laziness, MmId, Onto, Operation, OperationKind, Range};
    use proptest::prelude::*;

    fn operation(cpu: u16, kind: OperationKind) -> Operation {
        Operation {
            cpu,
            time_ns: 0,
            kind,
            initial: None,
        }
    }

    fn flush(mm: u64, tables: lazytlb_trace::Tables) -> OperationKind {
        let range = Range::Pages {
            start: 0,
            pages: 3,
            stride_shift: 12,
        };
        OperationKind::Flush {
            mm: MmId(mm),
            range,
            tables,
        }
    }

    fn switch(mm: u64) -> OperationKind {
        OperationKind::Switch { mm: MmId(mm) }
    }

    fn go_lazy() -> OperationKind {
        OperationKind::GoLazy { onto: Onto::Idle }
    }

    /// All is known but tables, as from tracepoints.
    fn any_operation() -> impl Strategy<Value = Operation> {
        let onto = prop_oneof![Just(Onto::Idle), Just(Onto::KernelThread)];
        let tables = prop_oneof![
            Just(lazytlb_trace::Tables::Kept),
            Just(lazytlb_trace::Tables::Freed),
            Just(lazytlb_trace::Tables::Unknown)
        ];
        let kind = prop_oneof![
            4 => (1..9_u64).prop_map(switch),
            4 => onto.prop_map(|onto| OperationKind::GoLazy { onto }),
            4 => (1..9_u64, tables).prop_map(|(mm, tables)| flush(mm, tables)),
            1 => (1..9_u64).prop_map(|mm| OperationKind::Retire { mm: MmId(mm) }),
        ];
        let cpu = prop_oneof![8 => 0..6_u16, 1 => Just(200)];
        let laziness = prop_oneof![Just(Laziness::Lazy), Just(Laziness::NotLazy)];
        let state = (1..9_u64, laziness).prop_map(|(mm, laziness)| InitialState {
            mm: Some(MmId(mm)),
            laziness,
        });
        let initial = proptest::option::weighted(0.1, state);
        (cpu, kind, initial).prop_map(|(cpu, kind, initial)| Operation {
            initial,
            ..operation(cpu, kind)
        })
    }

    fn quirks() -> [Quirks; 3] {
        [
            Quirks::default(),
            Quirks::NONE.with_erratum_383(),
            Quirks::NONE.with_walks_assume_dram(),
        ]
    }

    proptest! {
        /// After each operation, whatever came before.
        #[test]
        fn what_is_said_to_come_out_alike_does(
            stream in proptest::collection::vec(any_operation(), 0..120),
        ) {
            for (&policy, pcids) in Policy::ALL.iter().flat_map(|one| PcidsOn::ALL.map(|on| (one, on))) {
                for quirks in quirks() {
                    let replay = |policy, end| Replay::on(policy, quirks, pcids).with_unknown_tables(end);
                    let mut kept = replay(policy, Tables::Kept);
                    let mut same = replay(same_policy(policy, quirks), Tables::Kept);
                    let other_end = match ends_are_alike(policy, pcids, Unknown::Tables) {
                        true => Tables::Freed,
                        false => Tables::Kept,
                    };
                    let mut end = replay(policy, other_end);
                    for operation in &stream {
                        for one in [&mut kept, &mut same, &mut end] {
                            one.apply(operation).expect("no CPU is past the capacity");
                        }
                        prop_assert_eq!(kept.counts(), same.counts());
                        prop_assert_eq!(kept.counts(), end.counts());
                    }
                }
            }
        }
    }

    proptest! {
        /// How many CPUs a machine is compiled for is no part of a setting.
        #[test]
        fn a_machine_for_few_cpus_counts_as_one_for_many(
            stream in proptest::collection::vec(any_operation(), 0..120),
            end in prop_oneof![Just(Tables::Kept), Just(Tables::Freed)],
        ) {
            for (&policy, pcids) in Policy::ALL.iter().flat_map(|one| PcidsOn::ALL.map(|on| (one, on))) {
                let setting = Setting { policy, quirks: Quirks::default(), pcids };
                let [few, many] = [Capacity::OneWord, Capacity::Most].map(|capacity| {
                    let mut replay = Replay::of(setting, capacity).with_unknown_tables(end);
                    for operation in stream.iter().filter(|operation| operation.cpu < 64) {
                        replay.apply(operation).expect("no CPU is past the capacity");
                    }
                    let received: Vec<u64> = replay.ipis_received().collect();
                    (replay.finish(), received)
                });
                prop_assert_eq!(few, many);
            }
        }
    }

    #[test]
    fn as_many_cpus_fit_as_a_recording_has() {
        for (end, capacity) in [
            (Some(64), Capacity::OneWord),
            (Some(65), Capacity::Most),
            (None, Capacity::Most),
        ] {
            assert_eq!(Capacity::of_cpus_below(end), capacity);
        }
    }

    #[test]
    fn what_is_not_said_to_come_out_alike_can_come_out_differently() {
        // CPU 1 is lazy in space 7, and CPU 2 elsewhere.
        let stream = [
            (0, switch(7)),
            (1, switch(7)),
            (2, switch(8)),
            (2, switch(7)),
            (1, go_lazy()),
            // With PCIDs this keeps what is cached, and so CPU 2 stays in the cpumask.
            (2, switch(8)),
            (0, flush(7, lazytlb_trace::Tables::Unknown)),
        ];
        for (&policy, pcids) in Policy::ALL
            .iter()
            .flat_map(|one| PcidsOn::ALL.map(|on| (one, on)))
        {
            let counts = [Tables::Kept, Tables::Freed].map(|end| {
                let mut replay =
                    Replay::on(policy, Quirks::default(), pcids).with_unknown_tables(end);
                for &(cpu, kind) in &stream {
                    let applied = replay.apply(&operation(cpu, kind));
                    applied.expect("no CPU is past the capacity");
                }
                replay.finish()
            });
            assert_eq!(
                counts[0] == counts[1],
                ends_are_alike(policy, pcids, Unknown::Tables),
                "{policy}, PCIDs {}",
                pcids.name()
            );
        }
    }
}
