//! The comparison: a recording's steps in, agreement out.

use lazytlb_trace::{
    Context, Event, FlushFunc, Kind, MmId, Onto, Operation, OperationKind, Step, Tables,
};

use crate::agreement::Agreement;
use crate::cpu_set::CpuSet;
use crate::evidence::Evidence;
use crate::flights::{Awaiting, Flights, Latest};
use crate::flush::{Open, Path};
use crate::machine::{Outcome, Served, Switched};
use crate::rule::{EACH_RULE, MaskRule};
use crate::tally::{Class, Decision, Disagreement, Tallies, Tally, Totals};

/// Replays the recorded kernel's rule, and compares.
#[derive(Default)]
pub struct Validation {
    flights: Flights,
    pub(crate) flushes: [Tallies; EACH_RULE.len()],
    /// Without PCIDs, and with them.
    pub(crate) switches: [Tally; 2],
    pub(crate) evidence: Evidence,
    pub(crate) totals: [Totals; EACH_RULE.len()],
}

impl Validation {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Knows the release of the recorded kernel, if the recording tells it.
    pub fn of_kernel(mut self, release: Option<&str>) -> Self {
        self.evidence.release = release.map(str::to_owned);
        self
    }

    /// Takes in the next step of a recording.
    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Event(event) => self.event(event),
            Step::Operation(operation) => self.operation(operation),
        }
    }

    /// Ends the comparison.
    pub fn finish(mut self) -> Agreement {
        for cpu in std::mem::take(&mut self.flights.open) {
            self.close(cpu, u64::MAX);
        }
        Agreement::of(&self.flushes, &self.switches, &self.totals, &self.evidence)
    }

    fn event(&mut self, event: &Event) {
        self.flights.events += 1;
        self.evidence.note(event);
        self.follow(event);
        self.settle_switch(event);
        if self.ends_flush(event) {
            self.close(event.cpu, event.time_ns);
        }
        let before = self.flights.watch(event.cpu).latest;
        if !matches!(event.kind, Kind::SwitchMm(_) | Kind::EnterLazy { .. }) {
            self.flights.watch(event.cpu).scheduled = None;
        }
        self.flights.watch(event.cpu).is_in_switch = false;
        if matches!(event.kind, Kind::CpuIdle { .. }) {
            // An idle CPU that is awake has taken its interrupts.
            self.flights.deliver(event.cpu, event.time_ns);
        }
        let latest = self.take_in(event, before);
        self.flights.watch(event.cpu).latest = latest;
    }

    /// Follows who runs, to see where a task switch is missing.
    fn follow(&mut self, event: &Event) {
        let watch = self.flights.watch(event.cpu);
        watch.missed_switch = match watch.runs {
            Some((next, leaving)) if event.pid == next || event.pid == leaving => false,
            None => false,
            Some(_) => {
                watch.awaiting = None;
                true
            }
        };
        let next = match event.kind {
            Kind::SchedSwitch { next } => next,
            _ => match watch.runs {
                Some((next, leaving)) if event.pid == leaving => next,
                _ => event.pid,
            },
        };
        watch.runs = Some((next, event.pid));
    }

    /// Compares a switch with the CPU's next event.
    fn settle_switch(&mut self, event: &Event) {
        let events = self.flights.events;
        let watch = self.flights.watch(event.cpu);
        let Some(awaiting) = watch.awaiting.take() else {
            return;
        };
        if matches!(event.kind, Kind::TlbFlush { reason: 0, .. }) {
            watch.finished = events;
        }
        let recorded = match event.kind {
            Kind::TlbFlush { reason: 0, pages }
                if event.context != Context::Hardirq && event.pid == awaiting.pid =>
            {
                if pages == 0 {
                    Outcome::Keep
                } else {
                    Outcome::Flush
                }
            }
            _ => Outcome::None,
        };
        let Switched {
            without_pcids,
            with_pcids,
        } = awaiting.replayed;
        for (tally, replayed) in self.switches.iter_mut().zip([without_pcids, with_pcids]) {
            match replayed {
                None => tally.apart += 1,
                Some(replayed) if replayed == recorded => tally.agreed += 1,
                Some(replayed) => tally.disagree(Disagreement {
                    decision: Decision::Switch,
                    time_ns: awaiting.time_ns,
                    cpu: event.cpu,
                    replayed: outcome_name(replayed),
                    recorded: outcome_name(recorded),
                    class: match awaiting.raced {
                        true => Class::GenerationRace,
                        false => Class::Unexplained,
                    },
                }),
            }
        }
    }

    /// Whether the CPU's flush is over with this event: what it does next.
    fn ends_flush(&self, event: &Event) -> bool {
        let watch = self.flights.cpus.get(usize::from(event.cpu));
        let Some(flush) = watch.and_then(|watch| watch.flush.as_ref()) else {
            return false;
        };
        match event.kind {
            Kind::SchedSwitch { .. }
            | Kind::EnterLazy { .. }
            | Kind::FlushMmRange(_)
            | Kind::ExitMmap { .. }
            | Kind::MmDrop { .. }
            | Kind::NewTask { .. }
            | Kind::ProcessFork { .. }
            | Kind::ProcessExec { .. }
            | Kind::ProcessExit
            | Kind::CpuIdle { .. } => true,
            Kind::SwitchMm(switch) => switch.task != 0 || switch.mm != MmId::INIT,
            Kind::TlbFlush { reason: 4, .. } => !self.evidence.has_kprobes(),
            Kind::TlbFlush { reason: 3, .. } => {
                !self.evidence.has_kprobes() && flush.recorded.path != Some(Path::Remote)
            }
            _ => false,
        }
    }

    fn take_in(&mut self, event: &Event, before: Latest) -> Latest {
        match event.kind {
            Kind::SwitchMm(switch) if switch.task == 0 && switch.mm == MmId::INIT => {
                match before {
                    Latest::Serves { initiator } => {
                        self.mark_left(event.cpu, initiator);
                        self.flights.watch(event.cpu).left = (self.flights.events, initiator);
                    }
                    Latest::Flushes => self.has_changed(event),
                    _ => {
                        self.flights.machine.leave(event.cpu, event.time_ns);
                        self.has_changed(event);
                    }
                }
                Latest::Other
            }
            Kind::SwitchMm(_) | Kind::EnterLazy { .. } => {
                self.has_changed(event);
                Latest::Other
            }
            Kind::SchedSwitch { .. } => {
                self.has_changed(event);
                let since = (self.flights.events, event.time_ns);
                self.flights.watch(event.cpu).scheduled = Some(since);
                Latest::Switch {
                    time_ns: event.time_ns,
                    pid: event.pid,
                }
            }
            Kind::FlushMulti(multi) => {
                if let Some(flush) = &mut self.flights.watch(event.cpu).flush {
                    flush.recorded.path = Some(Path::Remote);
                    flush.recorded.generation = multi.generation;
                    flush.recorded.sent_mask = multi.mask;
                    flush.recorded.trims = multi.trims == Some(true);
                }
                self.flights.sends(event.cpu, event.time_ns);
                Latest::Other
            }
            Kind::FlushFunc(func) => self.flush_func(event, &func),
            Kind::TlbFlush { reason, .. } => {
                self.tlb_flush(event, reason);
                Latest::Other
            }
            _ => Latest::Other,
        }
    }

    fn has_changed(&mut self, event: &Event) {
        let changed = (self.flights.events, event.time_ns);
        let watch = self.flights.watch(event.cpu);
        watch.changed = changed;
        watch.is_in_switch = true;
    }

    fn mark_left(&mut self, cpu: u16, initiator: u16) {
        if let Some(flush) = &mut self.flights.watch(initiator).flush {
            flush.recorded.left.insert(cpu);
        }
    }

    /// A request's handler runs: what is compared, never an input.
    fn flush_func(&mut self, event: &Event, func: &FlushFunc) -> Latest {
        let Ok(initiator) = u16::try_from(func.initiator) else {
            return Latest::Other;
        };
        if initiator == event.cpu {
            if let Some(flush) = &mut self.flights.watch(event.cpu).flush {
                flush.recorded.path.get_or_insert(Path::Local);
            }
            self.flights.flushes_itself(event);
            return Latest::Flushes;
        }
        let Some(flush) = self
            .flights
            .cpus
            .get_mut(usize::from(initiator))
            .and_then(|cpu| cpu.flush.as_mut())
        else {
            self.evidence.strays += 1;
            return Latest::Other;
        };
        if flush.recorded.generation.is_some() && flush.recorded.generation != func.generation {
            self.evidence.strays += 1;
            return Latest::Other;
        }
        flush.recorded.shows_every_arrival = true;
        flush.recorded.arrived.insert(event.cpu);
        Latest::Serves { initiator }
    }

    /// Without kprobes, `tlb_flush` shows what handlers did.
    fn tlb_flush(&mut self, event: &Event, reason: u8) {
        if self.evidence.has_kprobes() {
            if reason == 4 {
                self.flights.sends(event.cpu, event.time_ns);
            }
            return;
        }
        match (reason, event.context) {
            (3, _) => {
                self.flights.flushes_itself(event);
            }
            (1, _) | (0 | 5, Context::Hardirq) => self.serves(event, reason),
            _ => {}
        }
    }

    /// An interrupted CPU shows that it served somebody: whom, is told by the space that it has loaded.
    fn serves(&mut self, event: &Event, reason: u8) {
        self.evidence.seen_arrivals += 1;
        let loaded = self.flights.machine.loaded(event.cpu);
        let of_this_space = |cpu: &u16| {
            let flush = self.flights.cpus[usize::from(*cpu)].flush.as_ref();
            flush.is_some_and(|flush| {
                !flush.recorded.arrived.contains(event.cpu)
                    && flush.cpu != event.cpu
                    && match reason {
                        5 => Some(flush.mm) != loaded,
                        _ => Some(flush.mm) == loaded,
                    }
            })
        };
        let candidates = || self.flights.open.iter().copied().filter(of_this_space);
        let expects = |initiator: &u16| {
            let flush = self.flights.cpus[usize::from(*initiator)].flush.as_ref();
            flush.is_some_and(|flush| flush.targets.contains(event.cpu))
        };
        let Some(initiator) = candidates().find(expects).or_else(|| candidates().next()) else {
            self.evidence.strays += 1;
            return;
        };
        let Some(flush) = self.flights.watch(initiator).flush.as_mut() else {
            return;
        };
        flush.recorded.arrived.insert(event.cpu);
        if reason == 5 {
            // Tables are freed, or the mask is trimmed; which, the request did not tell.
            flush.pending.insert(event.cpu);
        }
        if reason == 0 {
            flush.recorded.left.insert(event.cpu);
        }
    }

    fn operation(&mut self, operation: &Operation) {
        let (cpu, now) = (operation.cpu, operation.time_ns);
        if let Some(state) = operation.initial {
            self.flights.machine.begin(cpu, state, now);
        }
        let latest = self.flights.watch(cpu).latest;
        match operation.kind {
            OperationKind::Switch { mm } => {
                self.flights.deliver(cpu, now);
                if !self.flights.machine.knows(mm) && self.evidence.is_new(mm) {
                    self.flights.machine.is_born(mm, now);
                }
                let same = self.flights.machine.loaded(cpu) == Some(mm)
                    && self.flights.machine.is_lazy(cpu);
                let replayed = self.flights.machine.switch(cpu, mm, now);
                self.await_switch(operation, latest, replayed, same);
            }
            OperationKind::GoLazy { onto } => {
                self.flights.deliver(cpu, now);
                self.flights.machine.go_lazy(cpu);
                if onto == Onto::Idle {
                    self.flights.watch(cpu).missed_switch = false;
                } else if !self.evidence.has_kprobes() {
                    self.await_switch(operation, latest, Switched::NOTHING, false);
                }
            }
            OperationKind::Flush { mm, tables, .. } => self.flush(operation, mm, tables),
            OperationKind::Retire { mm } => self.flights.machine.retire(mm),
        }
    }

    /// A switch that was asked before its effect is shown; one that was told by the effect is counted apart.
    fn await_switch(
        &mut self,
        operation: &Operation,
        latest: Latest,
        replayed: Switched,
        same: bool,
    ) {
        if std::mem::take(&mut self.flights.watch(operation.cpu).missed_switch) {
            self.switches.iter_mut().for_each(|tally| tally.apart += 1);
            return;
        }
        let pid = match latest {
            Latest::Switch { pid, time_ns } if time_ns == operation.time_ns => Some(pid),
            _ if self.evidence.has_kprobes() => Some(self.evidence.pid),
            _ => None,
        };
        match pid {
            Some(pid) => {
                let raced = self.flights.has_flush_of(operation);
                self.flights.watch(operation.cpu).awaiting = Some(Awaiting {
                    raced,
                    leaves_lazy: same,
                    replayed,
                    time_ns: operation.time_ns,
                    pid,
                });
            }
            None => self.switches.iter_mut().for_each(|tally| tally.apart += 1),
        }
    }

    fn flush(&mut self, operation: &Operation, mm: MmId, tables: Tables) {
        let (cpu, now) = (operation.cpu, operation.time_ns);
        if self.flights.watch(cpu).flush.is_some() {
            self.close(cpu, now);
        }
        self.flights.land(mm, cpu, now);
        let replayed = self.flights.machine.flush(cpu, mm, tables, now);
        let mut raced = false;
        for other in &self.flights.open {
            if let Some(flush) = self.flights.cpus[usize::from(*other)].flush.as_mut()
                && flush.mm == mm
            {
                flush.raced = true;
                raced = true;
            }
        }
        if !self.evidence.has_kprobes() {
            self.flights.hasten(mm, now);
        }
        let paths = EACH_RULE.map(|rule| replayed.path(rule));
        let pending = replayed.reach[MaskRule::Lasting as usize].targets(tables);
        let recorded = self.evidence.request(tables);
        let open = Open {
            cpu,
            time_ns: now,
            began: self.flights.events,
            mm,
            tables,
            tables_told: !self.evidence.has_kprobes() && !recorded.path_told,
            replayed,
            recorded,
            raced,
            paths,
            targets: pending.clone(),
            sent: self.flights.events,
            sent_ns: now,
            flushed_ns: None,
            leaves: CpuSet::default(),
            pending,
        };
        self.flights.watch(cpu).flush = Some(Box::new(open));
        self.flights.open.push(cpu);
    }

    /// The flush on a CPU is over: its interrupts have been served.
    fn close(&mut self, cpu: u16, now_ns: u64) {
        self.flights.open.retain(|other| *other != cpu);
        let Some(flush) = self.flights.watch(cpu).flush.take() else {
            return;
        };
        let mut flush = flush;
        for target in std::mem::take(&mut flush.pending).iter() {
            if self.flights.machine.arrive(target, flush.mm, now_ns) == Served::Left {
                flush.leaves.insert(target);
            }
        }
        for rule in EACH_RULE {
            flush.compare(rule, &self.flights, &mut self.flushes[rule as usize]);
            self.count(&flush, rule);
        }
        self.evidence.arrived += flush.recorded.arrived.len();
    }

    fn count(&mut self, flush: &Open, rule: MaskRule) {
        let reach = &flush.replayed.reach[rule as usize];
        if reach.is_empty() {
            return;
        }
        let targets = reach.targets(flush.tables);
        let unsure = |cpus: &CpuSet| {
            let unsure = cpus
                .iter()
                .filter(|cpu| self.flights.is_unsure(*cpu, flush));
            unsure.count() as u64
        };
        let (fewer, all) = (unsure(&targets), unsure(&reach.all()));
        let mut if_freed = reach.lazy.clone();
        if_freed.extend(&reach.elsewhere);
        let told = match flush.tables {
            Tables::Unknown => {
                let shown =
                    |cpu: &u16| flush.recorded.arrived.contains(*cpu) && !targets.contains(*cpu);
                if_freed.iter().filter(shown).count() as u64
            }
            _ => 0,
        };
        let unknown = match flush.tables {
            Tables::Unknown => reach.targets(Tables::Freed).len() - targets.len() - told,
            _ => all - fewer,
        };
        let totals = &mut self.totals[rule as usize];
        totals.shootdowns += targets.len() + told;
        totals.told += told;
        totals.fewer += fewer;
        totals.more += unknown;
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::None => "none",
        Outcome::Keep => "keep",
        Outcome::Flush => "flush",
    }
}
