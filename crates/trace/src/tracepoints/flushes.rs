//! Flushes under way, as the initiators' tracepoints tell them.

use crate::event::Event;
use crate::operation::{MmId, Operation, Tables};
use crate::steps::Steps;

/// The flushes that interrupts were sent for and whose initiators have not gone on yet.
#[derive(Default)]
pub(crate) struct Flushes {
    open: Vec<Sent>,
}

struct Sent {
    cpu: u16,
    pid: u32,
    mm: MmId,
    /// The number of its operation, if that waits for what `tables` is.
    step: Option<u64>,
    /// CPUs that were lazy on the space, and have not moved since.
    lazy: Vec<u16>,
    /// A lazy CPU was interrupted; whether this flush alone can be the reason.
    found: Option<Reason>,
    /// The initiator's own flush was seen.
    joined: bool,
}

/// A flush whose own CPU has not flushed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum JustSent {
    Nothing,
    /// Its operation is out.
    Told,
    /// Its operation waits, and has this number.
    Waits(u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    This,
    OneOfSeveral,
}

impl Flushes {
    /// `remote ipi send`: its operation waits if lazy CPUs will tell what it frees.
    pub(crate) fn begin(
        &mut self,
        event: &Event,
        mm: MmId,
        lazy: Vec<u16>,
        operation: Operation,
        steps: &mut Steps,
    ) {
        let number = Some(steps.push_open(operation));
        self.open.push(Sent {
            cpu: event.cpu,
            pid: event.pid,
            mm,
            step: number,
            lazy,
            found: None,
            joined: false,
        });
    }

    /// A flush of which all is known.
    pub(crate) fn begin_told(&mut self, event: &Event, mm: MmId) {
        self.open.push(Sent {
            cpu: event.cpu,
            pid: event.pid,
            mm,
            step: None,
            lazy: Vec::new(),
            found: None,
            // What this CPU flushes next is another space.
            joined: true,
        });
    }

    /// Whether `local mm shootdown` belongs to the flush that was sent just before.
    pub(crate) fn join(&mut self, event: &Event) -> bool {
        let sent = self.open.iter_mut().find(|sent| sent.cpu == event.cpu);
        sent.is_some_and(|sent| !std::mem::replace(&mut sent.joined, true) && sent.pid == event.pid)
    }

    /// What this CPU sent just before, and did not flush for itself.
    pub(crate) fn sent_by(&self, event: &Event) -> JustSent {
        let mut sent = self.open.iter();
        let sent = sent.find(|sent| sent.cpu == event.cpu && !sent.joined && sent.pid == event.pid);
        match sent {
            None => JustSent::Nothing,
            Some(Sent { step: None, .. }) => JustSent::Told,
            Some(Sent {
                step: Some(number), ..
            }) => JustSent::Waits(*number),
        }
    }

    /// A CPU that was lazy on a space was interrupted: one of the flushes under way frees tables.
    pub(crate) fn found_lazy(&mut self, cpu: u16, mm: MmId) {
        let of_mm = |sent: &&mut Sent| sent.mm == mm && sent.lazy.contains(&cpu);
        let several = self.open.iter_mut().filter(of_mm).count() > 1;
        for sent in self.open.iter_mut().filter(of_mm) {
            sent.lazy.retain(|other| *other != cpu);
            if sent.found != Some(Reason::This) {
                sent.found = Some(match several {
                    true => Reason::OneOfSeveral,
                    false => Reason::This,
                });
            }
        }
    }

    /// An idle CPU was interrupted for a space that it does not have loaded: the flush under way frees tables.
    pub(crate) fn found_elsewhere(&mut self, cpu: u16) {
        let other = |sent: &&mut Sent| sent.cpu != cpu;
        let several = self.open.iter_mut().filter(other).count() > 1;
        for sent in self.open.iter_mut().filter(other) {
            if sent.found != Some(Reason::This) {
                sent.found = Some(match several {
                    true => Reason::OneOfSeveral,
                    false => Reason::This,
                });
            }
        }
    }

    /// A CPU switches: what it does from here on tells nothing.
    pub(crate) fn moves(&mut self, cpu: u16) {
        for sent in &mut self.open {
            sent.lazy.retain(|other| *other != cpu);
        }
    }

    /// The initiator goes on: its interrupts have been served.
    pub(crate) fn close(&mut self, cpu: u16, steps: &mut Steps) {
        let Some(index) = self.open.iter().position(|sent| sent.cpu == cpu) else {
            return;
        };
        let sent = self.open.swap_remove(index);
        if let Some(number) = sent.step {
            let tables = match (sent.found, sent.lazy.is_empty()) {
                // One that frees tables interrupts all of them. Whoever was interrupted went lazy meanwhile.
                (_, false) => Tables::Kept,
                (Some(Reason::This), true) => Tables::Freed,
                _ => Tables::Unknown,
            };
            steps.complete(number, tables);
        }
    }

    /// The flush of a CPU turned out to be another one: nothing more will be known of it.
    pub(crate) fn forget(&mut self, cpu: u16, steps: &mut Steps) {
        for sent in self.open.extract_if(.., |sent| sent.cpu == cpu) {
            if let Some(number) = sent.step {
                steps.leave(number);
            }
        }
    }
}
