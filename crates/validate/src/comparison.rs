//! The comparison: a recording's steps in, agreement out.

use lazytlb_trace::{
    Context, Event, Interrupt, Kind, Laziness, MmId, Onto, Operation, OperationKind, Step, Tables,
};

use crate::agreement::Agreement;
use crate::cpu_set::{CpuSet, HowMany};
use crate::evidence::Evidence;
use crate::flights::{Flights, Latest};
use crate::flush::{Next, Open, Path, Recorded, Shows};
use crate::machine::may_be_given_a_global_pcid;
use crate::outcome::{Outcome, Switched};
use crate::rule::{EACH_RULE, MaskRule};
use crate::shown::Shown;
use crate::tally::{Tallies, Tally, Totals};

/// Flushes that wait for a CPU's next event at most: more are a recording that disagrees throughout.
const UNDECIDED: usize = 256;

/// Replays the recorded kernel's rule, and compares.
#[derive(Default)]
pub(crate) struct Comparison<N> {
    pub(crate) flights: Flights<N>,
    pub(crate) flushes: [Tallies; EACH_RULE.len()],
    /// Without PCIDs, and with them.
    pub(crate) switches: [Tally; 2],
    pub(crate) evidence: Evidence,
    pub(crate) totals: [Totals; EACH_RULE.len()],
    /// Flushes that are over, and disagree; whether a switch explains that, a CPU's next event tells.
    undecided: Vec<Open<N>>,
}

impl<N: HowMany> Comparison<N> {
    /// Takes in the next step of a recording.
    pub(crate) fn step(&mut self, step: Step<'_>) {
        match step {
            Step::Event(event) => self.event(event),
            Step::Operation(operation) => self.operation(operation),
        }
    }

    /// Ends the comparison.
    pub(crate) fn finish(mut self) -> Agreement {
        for cpu in std::mem::take(&mut self.flights.open) {
            self.close(cpu, u64::MAX);
        }
        for flush in &self.undecided {
            decide(flush, &mut self.flushes);
        }
        Agreement::of(&self.flushes, &self.switches, &self.totals, &self.evidence)
    }

    fn event(&mut self, event: &Event) {
        self.flights.events += 1;
        self.evidence.note(event);
        self.flights.shows_spaces = self.evidence.has_kprobes();
        self.follow(event);
        if matches!(event.kind, Kind::Other) {
            // It may stand between a task switch and what that did.
            return;
        }
        let shown = self.settle_switch(event);
        if self.flights.in_switch.contains(event.cpu) {
            self.next_shows(event, shown);
            self.flights.in_switch.remove(event.cpu);
        }
        if self.ends_flush(event) {
            self.close(event.cpu, event.time_ns);
        }
        let watch = self.flights.watch(event.cpu);
        let before = watch.latest;
        if !matches!(event.kind, Kind::SwitchMm(_) | Kind::EnterLazy { .. }) {
            watch.scheduled = None;
        }
        if matches!(event.kind, Kind::CpuIdle { .. }) {
            // An idle CPU that is awake has taken its interrupts.
            self.flights.shows_idle = true;
            self.flights.deliver(event.cpu, event.time_ns);
        }
        let latest = self.take_in(event, before);
        self.flights.watch(event.cpu).latest = latest;
    }

    /// A CPU's first event since a switch: what it tells of flushes that came meanwhile.
    fn next_shows(&mut self, event: &Event, shown: Outcome) {
        let next = match event.kind {
            _ if shown != Outcome::None => Next::EndOfSwitch,
            Kind::FlushFunc(func) if func.initiator != u64::from(event.cpu) => Next::Handler,
            Kind::TlbFlush { .. } if event.context == Context::Hardirq => Next::Handler,
            Kind::Interrupt(Interrupt::CallFunction | Interrupt::CallFunctionSingle) => {
                Next::Handler
            }
            _ => Next::Other,
        };
        self.flights.next_shows(event.cpu, next);
        let before = self.flights.watch(event.cpu).shown_before;
        let undecided = &mut self.undecided;
        undecided.retain_mut(|flush| match flush.next_shows(event.cpu, next, before) {
            Shows::Nothing => true,
            Shows::Something if is_undecided(flush) => true,
            Shows::Something => {
                decide(flush, &mut self.flushes);
                false
            }
        });
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
                self.flights
                    .shows(event.cpu, Shown::RUNS_INIT, event.time_ns);
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
                self.flights.raise(event.cpu, multi.generation);
                Latest::Other
            }
            Kind::FlushFunc(func) => self.flush_func(event, &func),
            Kind::TlbFlush { reason, .. } => {
                self.tlb_flush(event, reason, before);
                Latest::Other
            }
            _ => Latest::Other,
        }
    }

    fn has_changed(&mut self, event: &Event) {
        self.flights.changes(event.cpu, event.time_ns);
        self.flights.watch(event.cpu).goes_idle = false;
    }

    fn operation(&mut self, operation: &Operation) {
        let (cpu, now) = (operation.cpu, operation.time_ns);
        if let Some(state) = operation.initial {
            let seen = self.evidence.seen_generation();
            self.flights.machine.begin(cpu, state, seen, now);
            if let (Some(mm), None) = (state.mm, self.flights.watch(cpu).shown) {
                let lazy = state.laziness == Laziness::Lazy;
                self.flights.shows(cpu, Shown { mm, lazy }, now);
            }
        }
        let latest = self.flights.watch(cpu).latest;
        match operation.kind {
            OperationKind::Switch { mm } => {
                self.flights.shows(cpu, Shown { mm, lazy: false }, now);
                self.flights.deliver(cpu, now);
                if !self.flights.machine.knows(mm) && self.evidence.is_new(mm) {
                    self.flights.machine.is_born(mm, now);
                }
                let same = self.flights.machine.loaded(cpu) == Some(mm)
                    && self.flights.machine.is_lazy(cpu);
                let seen = self.evidence.seen_generation();
                let replayed = self.flights.machine.switch(cpu, mm, seen, now);
                self.await_switch(operation, latest, replayed, same);
            }
            OperationKind::GoLazy { onto } => {
                if let Some(Shown { mm, .. }) = self.flights.watch(cpu).shown {
                    let lazy = mm != MmId::INIT;
                    self.flights.shows(cpu, Shown { mm, lazy }, now);
                }
                self.flights.deliver(cpu, now);
                self.flights.machine.go_lazy(cpu);
                if onto == Onto::Idle {
                    let watch = self.flights.watch(cpu);
                    watch.missed_switch = false;
                    watch.goes_idle = true;
                } else if !self.evidence.has_kprobes() {
                    self.await_switch(operation, latest, Switched::NOTHING, false);
                }
            }
            OperationKind::Flush { mm, tables, .. } => self.flush(operation, mm, tables),
            OperationKind::Retire { mm } => self.flights.machine.retire(mm),
        }
    }

    fn flush(&mut self, operation: &Operation, mm: MmId, tables: Tables) {
        let (cpu, now) = (operation.cpu, operation.time_ns);
        if self.flights.watch(cpu).flush.is_some() {
            self.close(cpu, now);
        }
        self.flights.land(mm, cpu, now);
        let seen = self.evidence.seen_generation();
        let replayed = self.flights.machine.flush(cpu, mm, tables, seen, now);
        let targets = replayed.reach[MaskRule::Lasting as usize].targets(tables);
        let raced = self.flights.raced_with(mm, &targets);
        let unsettled = self.flights.unsettled(cpu, now);
        let within_ns = [self.flights.stores_ns(), self.flights.pace.ns()];
        let [switched, unsure] = self.flights.just_switched(within_ns, now);
        if self.evidence.has_kprobes() {
            self.flights.races(mm);
        } else {
            self.flights.hasten(mm, now);
        }
        let paths = [
            replayed.path(MaskRule::Eager),
            replayed.path(MaskRule::Lasting),
        ];
        let recorded: Recorded<N> = self.evidence.request(tables);
        // Nothing is in flight before the initiator shows that it sends.
        let has_sent = recorded.path == Some(Path::Remote);
        let mut pending = CpuSet::default();
        if has_sent {
            pending.extend(&targets);
            let reach = &replayed.reach[MaskRule::Lasting as usize];
            // A look at the space is spared where it would change nothing.
            if replayed.may_be_global != may_be_given_a_global_pcid(reach) {
                self.flights.machine.sends(mm, reach);
            }
        }
        let maybe_in_switch = self.flights.maybe_in_switch(cpu);
        let known = self.flights.machine.known_cpus().clone();
        let tables_told = !self.evidence.has_kprobes() && !recorded.path_told;
        let events = self.flights.events;
        self.flights.open.push(cpu);
        // Made where it stays: it is some hundred bytes.
        self.flights.watch(cpu).flush = Some(Open {
            cpu,
            time_ns: now,
            began: events,
            mm,
            to_raise: seen.after_one_flush(),
            tables,
            tables_told,
            replayed,
            recorded,
            raced,
            known,
            switched,
            unsure,
            crossed: CpuSet::default(),
            unsettled,
            maybe_in_switch,
            handled_next: CpuSet::default(),
            found: None,
            paths,
            targets,
            sent: events,
            sent_ns: now,
            flushed_ns: None,
            has_sent,
            sent_by: events,
            leaves: CpuSet::default(),
            pending,
        });
    }

    /// The flush on a CPU is over: its interrupts have been served.
    fn close(&mut self, cpu: u16, now_ns: u64) {
        let mut open = self.flights.open.iter();
        if let Some(index) = open.position(|other| *other == cpu) {
            self.flights.open.remove(index);
        }
        self.flights.ends(cpu, now_ns);
        let watch = self.flights.cpus.get(usize::from(cpu));
        let Some(flush) = watch.and_then(|watch| watch.flush.as_ref()) else {
            return;
        };
        for rule in EACH_RULE {
            count(&self.flights, flush, rule, &mut self.totals[rule as usize]);
        }
        self.evidence.arrived += flush.recorded.arrived.len();
        if self.undecided.len() < UNDECIDED && is_undecided(flush) {
            self.undecided.extend(self.flights.watch(cpu).flush.take());
        } else {
            decide(flush, &mut self.flushes);
            self.flights.watch(cpu).flush = None;
        }
    }
}

/// Whether the next event of some CPU may yet explain a disagreement.
fn is_undecided<N: HowMany>(flush: &Open<N>) -> bool {
    EACH_RULE.iter().any(|rule| flush.hangs(*rule))
}

/// Compares a flush.
fn decide<N: HowMany>(flush: &Open<N>, flushes: &mut [Tallies; EACH_RULE.len()]) {
    for rule in EACH_RULE {
        flush.compare(rule, &mut flushes[rule as usize]);
    }
}

/// Counts whom a rule interrupts.
fn count<N: HowMany>(flights: &Flights<N>, flush: &Open<N>, rule: MaskRule, totals: &mut Totals) {
    let reach = &flush.replayed.reach[rule as usize];
    if reach.is_empty() {
        return;
    }
    let targets = reach.targets(flush.tables);
    let unsure = |cpus: &CpuSet<N>| {
        let unsure = cpus.iter().filter(|cpu| flights.is_unsure(*cpu, flush));
        unsure.count() as u64
    };
    let fewer = unsure(&targets);
    let (told, unknown) = match flush.tables {
        Tables::Unknown => {
            let (mut told, mut unknown) = (0, 0);
            let mut if_freed = |cpu| match flush.recorded.arrived.contains(cpu) {
                _ if targets.contains(cpu) => {}
                true => told += 1,
                false => unknown += 1,
            };
            reach.lazy.iter().for_each(&mut if_freed);
            reach.elsewhere.iter().for_each(&mut if_freed);
            (told, unknown)
        }
        Tables::Kept | Tables::Freed => (0, unsure(&reach.all()) - fewer),
    };
    totals.shootdowns += targets.len() + told;
    totals.told += told;
    totals.fewer += fewer;
    totals.more += unknown;
}
