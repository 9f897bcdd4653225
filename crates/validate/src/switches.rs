//! Switches: what the rule says of each, beside what the CPU's next event shows.

use lazytlb_trace::{Context, Event, Kind, Operation, OperationKind};

use crate::comparison::Comparison;
use crate::cpu_set::HowMany;
use crate::flights::{Awaiting, Latest};
use crate::outcome::{Outcome, Switched};
use crate::tally::{Class, Decision, Disagreement};

impl<N: HowMany> Comparison<N> {
    /// Follows who runs, to see where a task switch is missing.
    pub(crate) fn follow(&mut self, event: &Event) {
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

    /// Compares a switch with the CPU's next event, and returns what that shows of it.
    pub(crate) fn settle_switch(&mut self, event: &Event) -> Outcome {
        let awaiting = &mut self.flights.watch(event.cpu).awaiting;
        // To take nothing would copy as much as to take something.
        if awaiting.is_none() {
            return Outcome::None;
        }
        let Some(awaiting) = awaiting.take() else {
            return Outcome::None;
        };
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
        let class = self.class_of_switch(&awaiting, recorded);
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
                    class,
                }),
            }
        }
        recorded
    }

    /// Why a switch came out otherwise, if it did.
    fn class_of_switch(&self, awaiting: &Awaiting, recorded: Outcome) -> Class {
        let raced = |mm| self.flights.has_flush_of(mm);
        let is_global = |mm| self.flights.machine.may_be_global(mm);
        if awaiting.crossed {
            Class::SwitchInWindow
        } else if awaiting.raced || awaiting.mm.is_some_and(raced) {
            Class::GenerationRace
        } else if awaiting.replayed.with_pcids == Some(Outcome::Flush)
            && recorded != Outcome::Flush
            && self.evidence.is_from_614()
            && awaiting.mm.is_some_and(is_global)
        {
            // A space with a global PCID is up to date on every CPU.
            Class::Broadcast
        } else {
            Class::Unexplained
        }
    }

    /// A switch that was asked before its effect is shown; one that was told by the effect is counted apart.
    pub(crate) fn await_switch(
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
        let mm = match operation.kind {
            OperationKind::Switch { mm } => Some(mm),
            _ => None,
        };
        let crossed = self.flights.is_crossed(operation.cpu);
        // Whatever it had loaded before, now it runs in this space.
        if mm.is_some() {
            self.flights.crossed.remove(operation.cpu);
        }
        let pid = match latest {
            Latest::Switch { pid, time_ns } if time_ns == operation.time_ns => Some(pid),
            _ if self.evidence.has_kprobes() => Some(self.evidence.pid),
            _ => None,
        };
        match pid {
            Some(pid) => {
                let raced = mm.is_some_and(|mm| self.flights.has_flush_of(mm));
                self.flights.watch(operation.cpu).awaiting = Some(Awaiting {
                    mm,
                    raced,
                    crossed,
                    leaves_lazy: same,
                    replayed,
                    time_ns: operation.time_ns,
                    pid,
                });
            }
            None => self.switches.iter_mut().for_each(|tally| tally.apart += 1),
        }
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::None => "none",
        Outcome::Keep => "keep",
        Outcome::Flush => "flush",
    }
}
