//! The replay: a recorded stream of operations through the real protocol, under one policy.
//!
//! It is *open loop*: what the recorded kernel did in reaction steers nothing, and what the policy
//! does here changes nothing of what the workload asks next. Operations run one at a time in the
//! order of the recording, so races are not replayed.

use lazytlb::{CpuId, FlushRange, MmHandle, PageRange, PageSize, Policy, Quirks, Tables, VirtAddr};
use lazytlb_trace::{InitialState, Laziness, MmId, Onto, Operation, OperationKind, Range};

use crate::counts::{Counts, Effect};
use crate::holding::Freed;
use crate::machine::{Activity, CountingMachine, MAX_CPUS, PcidsOn};
use crate::sleep::Sleep;
use crate::spaces::INIT_MM;

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
    machine: CountingMachine,
    policy: Policy,
    pcids: PcidsOn,
    /// What a flush is taken to do of which it is unknown whether it frees page tables.
    unknown_tables: Tables,
}

/// Says why an operation cannot be replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The CPU's number is past the capacity of CPU sets.
    #[error(
        "CPU {cpu} is past the {MAX_CPUS} CPUs that a replay has: record fewer CPUs \
         (`tracing_cpumask`)"
    )]
    CpuOutOfRange {
        /// The CPU's number.
        cpu: u16,
    },
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
        Replay {
            machine: CountingMachine::new(policy, quirks, pcids),
            policy,
            pcids,
            unknown_tables: Tables::Kept,
        }
    }

    /// Takes flushes of which it is unknown whether they free page tables to do this; else, to keep them. The other end of
    /// what is unknown goes with `Freed`: lazy CPUs of which it is unknown what they run idle, and under `quarantine` a flush that
    /// frees page tables frees as many as its range may have; else, they run kernel threads, and it frees one.
    pub fn with_unknown_tables(self, unknown_tables: Tables) -> Self {
        Replay {
            unknown_tables,
            ..self
        }
    }

    /// Returns the policy.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Says whether the CPUs have PCIDs.
    pub fn pcids(&self) -> PcidsOn {
        self.pcids
    }

    /// Replays one operation.
    ///
    /// The first one of a CPU brings what the CPU had loaded before, which it gets first,
    /// uncounted. A space is made at its first sight, and its slot reused after its retire.
    /// Allocates only for CPUs and for spaces beyond the greatest number of them that lived so far.
    ///
    /// # Errors
    /// If the CPU's number is [`MAX_CPUS`] or more; the replay is as before.
    pub fn apply(&mut self, operation: &Operation) -> Result<(), ReplayError> {
        let cpu = CpuId(operation.cpu);
        if cpu.0 >= MAX_CPUS {
            return Err(ReplayError::CpuOutOfRange { cpu: cpu.0 });
        }
        self.machine.become_cpu(cpu);
        if let Some(initial) = operation.initial {
            self.warm_up(initial);
        }
        self.machine.tally().count(Effect::Operation);
        match operation.kind {
            OperationKind::Switch { mm } => self.switch(mm),
            OperationKind::GoLazy { onto } => self.go_lazy(onto),
            OperationKind::Flush { mm, range, tables } => self.flush(mm, range, tables),
            OperationKind::Retire { mm } => self.retire(mm),
        }
        Ok(())
    }

    /// Says how deep a CPU sleeps from here on, if it is idle; a CPU that goes idle is as it was told last.
    ///
    /// Before [`Sleep::Flushed`] an idle CPU leaves its space. A CPU past [`MAX_CPUS`] is ignored: no operation of it can be
    /// replayed either.
    pub fn sleep(&mut self, cpu: u16, sleep: Sleep) {
        if cpu < MAX_CPUS {
            self.machine.become_cpu(CpuId(cpu));
            self.machine.set_sleep(sleep);
        }
    }

    /// Returns the counts so far.
    pub fn counts(&self) -> Counts {
        self.machine.tally().counts()
    }

    /// Ends the replay and returns its counts.
    pub fn finish(self) -> Counts {
        self.counts()
    }

    fn space(&mut self, mm: MmId) -> MmHandle {
        self.machine.spaces_mut().find_or_make(mm.0)
    }

    #[cold]
    fn warm_up(&mut self, initial: InitialState) {
        // Without an id nobody else can name the space either.
        let Some(mm) = initial.mm else { return };
        let mm = self.space(mm);
        self.machine.uncounted(|machine| {
            machine.tlb().switch_mm(machine, mm);
            if initial.laziness == Laziness::Lazy {
                machine.tlb().enter_lazy(machine);
            }
        });
        self.machine.set_activity(match initial.laziness {
            // Which of the two is told by the operation that follows.
            Laziness::Lazy => Activity::KernelThread,
            Laziness::NotLazy => Activity::Running,
        });
    }

    fn switch(&mut self, mm: MmId) {
        let mm = self.space(mm);
        self.machine.tlb().switch_mm(&self.machine, mm);
        self.machine.set_activity(Activity::Running);
    }

    fn go_lazy(&mut self, onto: Onto) {
        self.machine.tlb().enter_lazy(&self.machine);
        self.machine.set_activity(match onto {
            Onto::Idle => Activity::Idle,
            Onto::KernelThread => Activity::KernelThread,
            // Unknown: the end that is asked for, as with tables.
            Onto::Unknown if self.unknown_tables == Tables::Freed => Activity::Idle,
            Onto::Unknown => Activity::KernelThread,
        });
        self.give_up();
    }

    fn flush(&mut self, mm: MmId, range: Range, tables: lazytlb_trace::Tables) {
        let mm = self.space(mm);
        // The protocol never flushes the kernel's own space.
        if mm == INIT_MM {
            return;
        }
        let tables = match tables {
            // Unknown: the lowest count, until both ends are asked for.
            lazytlb_trace::Tables::Kept => Tables::Kept,
            lazytlb_trace::Tables::Unknown => self.unknown_tables,
            lazytlb_trace::Tables::Freed => Tables::Freed,
        };
        let range = flush_range(range);
        let report = match (self.policy, tables) {
            (Policy::Quarantine, Tables::Freed) => {
                self.give_up();
                self.machine.flush_and_hold(mm, range, self.freed())
            }
            _ => self.machine.tlb().flush(&self.machine, mm, range, tables),
        };
        let machine = &self.machine;
        let skipped = u64::from(report.lazy_skipped);
        machine.tally().add(Effect::LazySkipped, skipped);
        let elsewhere = u64::from(report.elsewhere);
        machine.tally().add(Effect::IpiElsewhere, elsewhere);
    }

    fn retire(&mut self, id: MmId) {
        let Some(mm) = self.machine.spaces().find(id.0) else {
            return;
        };
        if mm == INIT_MM {
            return;
        }
        self.machine.evict_running(mm);
        let report = self.machine.tlb().retire(&self.machine, mm);
        let interrupted = u64::from(report.interrupted);
        self.machine.tally().add(Effect::IpiAtRetire, interrupted);
        let elsewhere = u64::from(report.elsewhere);
        self.machine.tally().add(Effect::IpiElsewhere, elsewhere);
        self.machine.deliver_interrupts();
        self.machine.spaces_mut().forget(id.0);
        self.give_up();
        // Other CPUs may hold tables of it, and give them up later.
        assert!(
            self.policy == Policy::Quarantine || !self.machine.tlb().has_retired(&self.machine),
            "every CPU has left"
        );
    }

    /// Says how many page tables a flush frees that frees some.
    fn freed(&self) -> Freed {
        match self.unknown_tables {
            Tables::Kept => Freed::Fewest,
            Tables::Freed | Tables::Held => Freed::Most,
        }
    }

    /// Frees what the current CPU holds back or has retired, as far as nobody can reach it any more.
    fn give_up(&mut self) {
        self.machine.release_held();
        while let Some(reaped) = self.machine.tlb().reap(&self.machine) {
            self.machine.spaces_mut().free(reaped.mm);
        }
    }
}

/// Translates a recorded range.
///
/// A stride that is no page size widens to everything (Linux gives one only together with "all").
/// A range without a page still interrupts CPUs, which then invalidate nothing: one page comes
/// nearest, because to a request "no pages" means "all".
fn flush_range(range: Range) -> FlushRange {
    let Range::Pages {
        start,
        pages,
        stride_shift,
    } = range
    else {
        return FlushRange::All;
    };
    let sizes = [PageSize::Size4K, PageSize::Size2M, PageSize::Size1G];
    let size = sizes
        .into_iter()
        .find(|size| size.shift() == u32::from(stride_shift));
    match size {
        Some(size) => FlushRange::Pages(PageRange {
            start: VirtAddr(start),
            len_pages: pages.max(1),
            size,
        }),
        None => FlushRange::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lazytlb::GarbageWalksAccepted;

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

    #[test]
    fn strides_become_page_sizes_or_everything() {
        let range = |stride_shift, pages| {
            flush_range(Range::Pages {
                start: 0x4000_0000,
                pages,
                stride_shift,
            })
        };
        let pages = |len_pages, size| {
            FlushRange::Pages(PageRange {
                start: VirtAddr(0x4000_0000),
                len_pages,
                size,
            })
        };
        assert_eq!(range(12, 3), pages(3, PageSize::Size4K));
        assert_eq!(range(21, 3), pages(3, PageSize::Size2M));
        assert_eq!(range(30, 3), pages(3, PageSize::Size1G));
        assert_eq!(range(12, 0), pages(1, PageSize::Size4K));
        assert_eq!(range(0, 4096), FlushRange::All);
        assert_eq!(flush_range(Range::All), FlushRange::All);
    }
}
