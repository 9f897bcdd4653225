//! Handlers of interrupts, and what an initiator does itself: what is compared, never an input.

use lazytlb_trace::{Context, Event, FlushFunc};

use crate::comparison::Comparison;
use crate::cpu_set::HowMany;
use crate::flights::Latest;
use crate::flush::Path;

impl<N: HowMany> Comparison<N> {
    pub(crate) fn mark_left(&mut self, cpu: u16, initiator: u16) {
        if let Some(flush) = &mut self.flights.watch(initiator).flush {
            flush.recorded.left.insert(cpu);
        }
    }

    /// A request's handler runs: what is compared, never an input.
    pub(crate) fn flush_func(&mut self, event: &Event, func: &FlushFunc) -> Latest {
        let Ok(initiator) = u16::try_from(func.initiator) else {
            return Latest::Other;
        };
        if initiator == event.cpu {
            self.flights
                .sends_nothing(event.cpu, Path::Local, event.time_ns);
            if let Some(flush) = &mut self.flights.watch(event.cpu).flush {
                flush.recorded.shows_every_arrival = true;
            }
            self.flights.raise(event.cpu, func.generation);
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
        self.flights.arrives(event.cpu, initiator);
        Latest::Serves { initiator }
    }

    /// Without kprobes, `tlb_flush` shows what handlers did.
    pub(crate) fn tlb_flush(&mut self, event: &Event, reason: u8, before: Latest) {
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
            // An idle CPU leaves on its own (Linux `leave_mm`).
            (0, Context::Task) if event.pid == 0 && !matches!(before, Latest::Switch { .. }) => {
                self.flights.machine.leave(event.cpu, event.time_ns);
            }
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
        self.flights.arrives(event.cpu, initiator);
    }
}
