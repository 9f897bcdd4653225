//! The replay: a recorded stream of operations through the real protocol, under one policy.
//!
//! It is *open loop*: what the recorded kernel did in reaction steers nothing, and what the policy
//! does here changes nothing of what the workload asks next. Operations run one at a time in the
//! order of the recording, so races are not replayed.

use std::cell::Cell;

use lazytlb::{Policy, Quirks, Tables};
use lazytlb_trace::Operation;

use crate::counts::Counts;
use crate::pcids_on::PcidsOn;
use crate::replayer::{Capacity, Replaying, Setting, replaying};
use crate::requests::{ReplayError, Requests};
use crate::sleep::Sleep;

/// Replays a recording under one policy.
///
/// ```
/// use lazytlb::Policy;
/// use lazytlb_price::Replay;
/// use lazytlb_trace::{MmId, Onto, Operation, OperationKind, Range, Tables};
///
/// let shell = MmId(7);
/// let flush = OperationKind::Flush { mm: shell, range: Range::All, tables: Tables::Freed };
/// let mut replay = Replay::new(Policy::IpiOnTableFree);
/// for (cpu, kind) in [
///     (0, OperationKind::Switch { mm: shell }),
///     (0, OperationKind::GoLazy { onto: Onto::Idle }),
///     (1, OperationKind::Switch { mm: shell }),
///     (1, flush),
/// ] {
///     replay.apply(&Operation { cpu, time_ns: 0, kind, initial: None })?;
/// }
/// assert_eq!(replay.finish().ipis_to_idle, 1);
/// # Ok::<(), lazytlb_price::ReplayError>(())
/// ```
pub struct Replay {
    requests: Requests,
    setting: Setting,
    replayer: Box<dyn Replaying>,
}

impl Replay {
    /// Starts a replay on CPUs without known errata.
    pub fn new(policy: Policy) -> Self {
        Self::with_quirks(policy, Quirks::default())
    }

    /// Starts a replay on CPUs with these errata, which `defer-unless-quirk` asks for.
    pub fn with_quirks(policy: Policy, quirks: Quirks) -> Self {
        Self::on(policy, quirks, PcidsOn::No)
    }

    /// Starts a replay on CPUs with these errata, with or without PCIDs.
    pub fn on(policy: Policy, quirks: Quirks, pcids: PcidsOn) -> Self {
        Self::of(
            Setting {
                policy,
                quirks,
                pcids,
            },
            Capacity::Most,
        )
    }

    /// Starts a replay on a machine of this capacity.
    pub(crate) fn of(setting: Setting, capacity: Capacity) -> Self {
        Replay {
            // An operation asks a few things at most: that a space is made, what was loaded before, and what it says itself.
            requests: Requests::with_capacity(4),
            setting,
            replayer: replaying(setting, capacity),
        }
    }

    /// Takes flushes of which it is unknown whether they free page tables to do this; else, to keep them. The other end of
    /// what is unknown goes with `Freed`: lazy CPUs of which it is unknown what they run idle, and under `quarantine` a flush that
    /// frees page tables frees as many as its range may have; else, they run kernel threads, and it frees one.
    pub fn with_unknown_tables(mut self, unknown_tables: Tables) -> Self {
        self.replayer.set_unknown_tables(unknown_tables);
        self
    }

    /// Returns the policy.
    pub fn policy(&self) -> Policy {
        self.setting.policy
    }

    /// Says whether the CPUs have PCIDs.
    pub fn pcids(&self) -> PcidsOn {
        self.setting.pcids
    }

    /// Replays one operation.
    ///
    /// The first one of a CPU brings what the CPU had loaded before, which it gets first,
    /// uncounted. A space is made at its first sight, and its slot reused after its retire.
    /// Allocates only for CPUs and for spaces beyond the greatest number of them that lived so far.
    ///
    /// # Errors
    /// If the CPU's number is [`MAX_CPUS`](crate::MAX_CPUS) or more; the replay is as before.
    pub fn apply(&mut self, operation: &Operation) -> Result<(), ReplayError> {
        self.requests.push(operation)?;
        self.replayer.replay(self.requests.as_slice());
        self.requests.clear();
        Ok(())
    }

    /// Says how deep a CPU sleeps from here on, if it is idle; a CPU that goes idle is as it was told last.
    ///
    /// Before [`Sleep::Flushed`] an idle CPU leaves its space. A CPU past [`MAX_CPUS`](crate::MAX_CPUS) is ignored: no
    /// operation of it can be replayed either.
    pub fn sleep(&mut self, cpu: u16, sleep: Sleep) {
        self.requests.push_sleep(cpu, sleep);
        self.replayer.replay(self.requests.as_slice());
        self.requests.clear();
    }

    /// Returns the counts so far.
    pub fn counts(&self) -> Counts {
        self.replayer.counts()
    }

    /// Returns the IPIs that each CPU was sent so far, from CPU 0 on. They add up to [`Counts::ipis`].
    pub fn ipis_received(&self) -> impl Iterator<Item = u64> + '_ {
        self.replayer.ipis_received().iter().map(Cell::get)
    }

    /// Ends the replay and returns its counts.
    pub fn finish(self) -> Counts {
        self.counts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::MAX_CPUS;
    use lazytlb::GarbageWalksAccepted;
    use lazytlb_trace::{InitialState, Laziness, MmId, Onto, OperationKind, Range};

    const SHELL: MmId = MmId(7);
    const OTHER: MmId = MmId(8);

    fn run(replay: &mut Replay, operations: &[(u16, OperationKind)]) {
        for &(cpu, kind) in operations {
            let operation = Operation {
                cpu,
                time_ns: 0,
                kind,
                initial: None,
            };
            replay.apply(&operation).unwrap();
        }
    }

    fn switch(mm: MmId) -> OperationKind {
        OperationKind::Switch { mm }
    }

    fn idle() -> OperationKind {
        OperationKind::GoLazy { onto: Onto::Idle }
    }

    fn flush_all(mm: MmId) -> OperationKind {
        OperationKind::Flush {
            mm,
            range: Range::All,
            tables: lazytlb_trace::Tables::Freed,
        }
    }

    #[test]
    fn retiring_a_space_that_runs_somewhere_repairs_and_goes_on() {
        for &policy in Policy::ALL {
            let mut replay = Replay::new(policy);
            let retire = OperationKind::Retire { mm: SHELL };
            run(
                &mut replay,
                &[(0, switch(SHELL)), (3, switch(SHELL)), (0, retire)],
            );
            let counts = replay.counts();
            assert_eq!((counts.repairs, counts.ipis), (2, 0), "{policy}");
            // The CPUs are in init_mm now: two more loads, no flush of the dead space.
            run(&mut replay, &[(0, switch(OTHER)), (3, switch(SHELL))]);
            assert_eq!(replay.finish().cr3_flush, 4, "{policy}");
        }
    }

    #[test]
    fn an_idle_cpu_in_a_dead_space_is_interrupted_at_its_retire() {
        let mut replay = Replay::new(Policy::Defer(GarbageWalksAccepted));
        let stream = [
            (1, switch(SHELL)),
            (1, idle()),
            (0, flush_all(SHELL)),
            (0, OperationKind::Retire { mm: SHELL }),
        ];
        run(&mut replay, &stream);
        let counts = replay.finish();
        assert_eq!((counts.lazy_skipped, counts.ipis_to_idle), (1, 1));
        assert_eq!((counts.ipis, counts.ipis_at_retire), (1, 1));
    }

    #[test]
    fn a_warm_start_is_not_counted_and_is_seen_by_flushes() {
        let mut replay = Replay::new(Policy::Ipi);
        let first_of_cpu_1 = Operation {
            cpu: 1,
            time_ns: 0,
            kind: idle(),
            initial: Some(InitialState {
                mm: Some(SHELL),
                laziness: Laziness::NotLazy,
            }),
        };
        replay.apply(&first_of_cpu_1).unwrap();
        // Going lazy is counted, the switch before it is not.
        let expected = Counts {
            operations: 1,
            locked: 1,
            ..Counts::default()
        };
        assert_eq!(replay.counts(), expected);
        run(&mut replay, &[(0, flush_all(SHELL))]);
        assert_eq!(replay.finish().ipis_to_idle, 1);
    }

    #[test]
    fn a_quirk_makes_deferral_interrupt() {
        let stream = [
            (0, switch(SHELL)),
            (1, switch(SHELL)),
            (1, idle()),
            (0, flush_all(SHELL)),
        ];
        let quirks = Quirks::NONE.with_erratum_383();
        for (quirks, ipis) in [(Quirks::default(), 0), (quirks, 1)] {
            let mut replay = Replay::with_quirks(Policy::DeferUnlessQuirk, quirks);
            run(&mut replay, &stream);
            assert_eq!(replay.finish().ipis_to_idle, ipis);
        }
    }

    #[test]
    fn the_kernels_own_space_is_neither_flushed_nor_retired() {
        let mut replay = Replay::new(Policy::Ipi);
        let stream = [
            (0, switch(MmId::INIT)),
            (0, flush_all(MmId::INIT)),
            (0, OperationKind::Retire { mm: MmId::INIT }),
            (0, OperationKind::Retire { mm: MmId(99) }),
        ];
        run(&mut replay, &stream);
        let expected = Counts {
            operations: 4,
            ..Counts::default()
        };
        assert_eq!(replay.finish(), expected);
    }

    #[test]
    fn a_cpu_past_the_capacity_is_an_error_and_changes_nothing() {
        let mut replay = Replay::new(Policy::Ipi);
        let operation = Operation {
            cpu: MAX_CPUS,
            time_ns: 0,
            kind: switch(SHELL),
            initial: None,
        };
        let error = replay.apply(&operation).unwrap_err();
        assert_eq!(error, ReplayError::CpuOutOfRange { cpu: 512 });
        run(&mut replay, &[(MAX_CPUS - 1, switch(SHELL))]);
        assert_eq!(replay.finish().operations, 1);
    }
}
