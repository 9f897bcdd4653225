//! Interrupts in flight: sent, and not yet arrived.

use lazytlb_trace::{Event, MmId, Operation, OperationKind};

use crate::flush::{Open, Path, Witness};
use crate::machine::{Machine, Served, Switched};
use crate::pace::Pace;
use crate::rule::MaskRule;

/// Paces from an interrupt's send to its arrival: a switch that begins before then goes first.
const FLIGHT: u64 = 2;
/// The part of a pace that passes from the raise of a generation to the send.
const HASTE: u64 = 3;
/// Paces after which an interrupt has arrived for sure.
const ARRIVED: u64 = 64;
/// Paces from the event of a switch to where its stores are visible to others.
const STORES: u64 = 4;
/// Paces within which a CPU that shows no event since is taken to be in its switch still.
const IN_SWITCH: u64 = 40;

/// Interrupts in flight, and the machine that they reach.
#[derive(Default)]
pub(crate) struct Flights {
    pub(crate) machine: Machine,
    pub(crate) cpus: Vec<Watch>,
    /// The CPUs whose flush is under way.
    pub(crate) open: Vec<u16>,
    /// Events so far.
    pub(crate) events: u64,
    pub(crate) pace: Pace,
}

/// What is watched on a CPU.
#[derive(Default)]
pub(crate) struct Watch {
    pub(crate) awaiting: Option<Awaiting>,
    /// Who runs, and who is being left; see the reader's chain of tasks.
    pub(crate) runs: Option<(u32, u32)>,
    /// A task switch is missing: what it did cannot be seen.
    pub(crate) missed_switch: bool,
    pub(crate) flush: Option<Box<Open>>,
    pub(crate) latest: Latest,
    /// The number, and the time, of the event with which its state last changed.
    pub(crate) changed: (u64, u64),
    /// It has shown no event since its latest switch.
    pub(crate) is_in_switch: bool,
    /// The number of the event that showed the end of its latest switch.
    pub(crate) finished: u64,
    /// The number of the event with which it left for `init_mm` on request, and whose.
    pub(crate) left: (u64, u16),
    /// The number of the event since which it is in a task switch, with interrupts off.
    pub(crate) scheduled: Option<(u64, u64)>,
}

/// A switch whose effect the next event shows.
#[derive(Clone, Copy)]
pub(crate) struct Awaiting {
    pub(crate) raced: bool,
    /// The space was loaded, and the CPU was lazy.
    pub(crate) leaves_lazy: bool,
    pub(crate) replayed: Switched,
    pub(crate) time_ns: u64,
    pub(crate) pid: u32,
}

/// A CPU's latest event, as far as its meaning hangs on it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Latest {
    #[default]
    Other,
    /// A task switch: what was asked follows.
    Switch { time_ns: u64, pid: u32 },
    /// It flushes for another CPU.
    Serves { initiator: u16 },
    /// It flushes for itself.
    Flushes,
}

impl Flights {
    pub(crate) fn watch(&mut self, cpu: u16) -> &mut Watch {
        let index = usize::from(cpu);
        if index >= self.cpus.len() {
            self.cpus.resize_with(index + 1, Watch::default);
        }
        &mut self.cpus[index]
    }

    /// Replays the interrupts that reach a CPU before its state changes: those sent before it switched interrupts off.
    pub(crate) fn deliver(&mut self, cpu: u16, now_ns: u64) {
        if self.open.is_empty() {
            return;
        }
        let (before, before_ns) = self.watch(cpu).scheduled.unwrap_or((self.events, now_ns));
        let flight_ns = FLIGHT * self.pace.ns();
        for initiator in &self.open {
            let Some(flush) = self.cpus[usize::from(*initiator)].flush.as_mut() else {
                continue;
            };
            let lands = flush.sent < before && flush.sent_ns + flight_ns <= before_ns;
            if lands && flush.pending.contains(cpu) {
                flush.pending.remove(cpu);
                if self.machine.arrive(cpu, flush.mm, now_ns) == Served::Left {
                    flush.leaves.insert(cpu);
                }
            }
        }
    }

    /// Replays the interrupts of flushes of a space whose initiators show nothing for long: they have arrived.
    pub(crate) fn land(&mut self, mm: MmId, initiator: u16, now_ns: u64) {
        let before = now_ns.saturating_sub(ARRIVED * self.pace.ns());
        for other in &self.open {
            let Some(flush) = self.cpus[usize::from(*other)].flush.as_mut() else {
                continue;
            };
            if flush.mm != mm || *other == initiator || flush.sent_ns > before {
                continue;
            }
            for target in std::mem::take(&mut flush.pending).iter() {
                if self.machine.arrive(target, mm, now_ns) == Served::Left {
                    flush.leaves.insert(target);
                }
            }
        }
    }

    /// The initiator has sent its interrupts, and flushes its own CPU: what lies between is the recording's pace.
    pub(crate) fn flushes_itself(&mut self, event: &Event) {
        let events = self.events;
        let index = usize::from(event.cpu);
        let Some(flush) = self.cpus.get_mut(index).and_then(|cpu| cpu.flush.as_mut()) else {
            return;
        };
        if flush.flushed_ns.is_none() && flush.recorded.path == Some(Path::Remote) {
            flush.flushed_ns = Some(event.time_ns);
            self.pace.note(event.time_ns.saturating_sub(flush.sent_ns));
        }
        flush.sent = events;
    }

    /// The initiator reads who is where as it sends, a little later than the request.
    pub(crate) fn sends(&mut self, cpu: u16, now_ns: u64) {
        let events = self.events;
        let Some(flush) = self.watch(cpu).flush.as_mut() else {
            return;
        };
        let (mm, trims) = (flush.mm, flush.replayed.trims);
        self.land(mm, cpu, now_ns);
        let reach = self.machine.reaches(cpu, mm, trims);
        if let Some(flush) = self.watch(cpu).flush.as_mut() {
            flush.pending = reach[MaskRule::Lasting as usize].targets(flush.tables);
            flush.targets = flush.pending.clone();
            flush.replayed.reach = reach;
            (flush.sent, flush.sent_ns) = (events, now_ns);
        }
    }

    /// Without kprobes, a flush shows itself as it sends interrupts: its generation was raised a little before, and a
    /// switch in between finds it.
    pub(crate) fn hasten(&mut self, mm: MmId, now_ns: u64) {
        let pace = self.pace.ns();
        for (watch, number) in self.cpus.iter_mut().zip(0_u16..) {
            let Some(awaiting) = watch.awaiting.as_mut() else {
                continue;
            };
            let in_time = now_ns.saturating_sub(awaiting.time_ns) <= pace / HASTE;
            if in_time && awaiting.leaves_lazy && self.machine.loaded(number) == Some(mm) {
                awaiting.replayed = Switched::FLUSHES;
            }
        }
    }

    pub(crate) fn has_flush_of(&self, operation: &Operation) -> bool {
        let OperationKind::Switch { mm } = operation.kind else {
            return false;
        };
        self.open.iter().any(|cpu| {
            let flush = self.cpus[usize::from(*cpu)].flush.as_ref();
            flush.is_some_and(|flush| flush.mm == mm)
        })
    }

    /// Whether a CPU's state as interrupts were sent lies within a race.
    pub(crate) fn is_unsure(&self, cpu: u16, flush: &Open) -> bool {
        let Some(watch) = self.cpus.get(usize::from(cpu)) else {
            return false;
        };
        let about = STORES * self.pace.ns();
        let ((number, time_ns), (left, initiator)) = (watch.changed, watch.left);
        let switched = number >= flush.began && time_ns <= flush.sent_ns + about;
        let was_switching = number < flush.began && time_ns + about > flush.sent_ns;
        let left_for_another = left >= flush.began && initiator != flush.cpu;
        switched
            || was_switching
            || left_for_another
            || watch.finished >= flush.began && number < flush.began
    }
}

impl Witness for Flights {
    fn switched(&self, cpu: u16, flush: &Open) -> bool {
        let Some(watch) = self.cpus.get(usize::from(cpu)) else {
            return false;
        };
        let (number, time_ns) = watch.changed;
        let (left, initiator) = watch.left;
        number >= flush.began
            || watch.finished >= flush.began
            || (left >= flush.began && initiator != flush.cpu)
            || time_ns + STORES * self.pace.ns() > flush.time_ns
            || (watch.is_in_switch && time_ns + IN_SWITCH * self.pace.ns() > flush.time_ns)
    }
}
