//! Interrupts in flight: sent, and not yet arrived.

use lazytlb_trace::{Event, MmId};

use crate::cpu_set::{CpuSet, HowMany};
use crate::flush::{Next, Open, Path};
use crate::machine::Machine;
use crate::outcome::{Served, Switched};
use crate::pace::Pace;
use crate::rule::MaskRule;
use crate::shown::{Found, Shown};

/// Paces from an interrupt's send to its arrival: a switch that begins before then goes first.
const FLIGHT: u64 = 3;
/// The part of a pace that passes from the event of a switch to where the CPU's bit is in the cpumask.
const INTO_THE_MASK: u64 = 2;
/// Paces after which an interrupt has arrived for sure.
const ARRIVED: u64 = 64;
/// Paces that an initiator may take to have looked at every CPU; and a CPU from the event of a task switch to where its
/// stores are visible, if no kprobe shows the switch of spaces, which comes between.
const STORES: u64 = 4;
/// Paces within which a CPU that shows no event since is taken to be in its switch still, where no kprobe shows.
const IN_SWITCH: u64 = 40;

/// Interrupts in flight, and the machine that they reach.
#[derive(Default)]
pub(crate) struct Flights<N> {
    pub(crate) machine: Machine<N>,
    pub(crate) cpus: Vec<Watch<N>>,
    /// The CPUs whose flush is under way.
    pub(crate) open: Vec<u16>,
    /// The CPUs that have shown no event since their latest switch.
    pub(crate) in_switch: CpuSet<N>,
    /// The CPUs to which an interrupt, arrived since their latest switch to a space, was sent before the switch that
    /// preceded it: on which side of that it was served, the replay may have got wrong.
    pub(crate) crossed: CpuSet<N>,
    /// The time of the event with which a CPU's state last changed, of all CPUs.
    changed_ns: u64,
    /// Events so far.
    pub(crate) events: u64,
    pub(crate) pace: Pace,
    /// The recording tells when CPUs go idle.
    pub(crate) shows_idle: bool,
    /// The recording shows the switches of spaces (kprobes), and not only those of tasks.
    pub(crate) shows_spaces: bool,
}

/// What is watched on a CPU.
#[derive(Default)]
pub(crate) struct Watch<N> {
    pub(crate) awaiting: Option<Awaiting>,
    /// Who runs, and who is being left; see the reader's chain of tasks.
    pub(crate) runs: Option<(u32, u32)>,
    /// A task switch is missing: what it did cannot be seen.
    pub(crate) missed_switch: bool,
    pub(crate) flush: Option<Open<N>>,
    pub(crate) latest: Latest,
    /// The number, and the time, of the event with which its state last changed.
    pub(crate) changed: (u64, u64),
    /// What the recording shows that it has loaded, and had before that.
    pub(crate) shown: Option<Shown>,
    pub(crate) shown_before: Option<Shown>,
    /// The latest switch was to the idle task.
    pub(crate) goes_idle: bool,
    /// The number of the event with which it left for `init_mm` on request, and whose.
    pub(crate) left: (u64, u16),
    /// The number of the event since which it is in a task switch, with interrupts off.
    pub(crate) scheduled: Option<(u64, u64)>,
}

/// A switch whose effect the next event shows.
#[derive(Clone, Copy)]
pub(crate) struct Awaiting {
    pub(crate) mm: Option<MmId>,
    /// A flush of the space was under way.
    pub(crate) raced: bool,
    /// The state that it began in hangs on a switch in an earlier window.
    pub(crate) crossed: bool,
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

impl<N: HowMany> Watch<N> {
    /// Whether its switch writes CR3, which shows itself once that is done.
    fn shows_its_end(&self) -> bool {
        self.awaiting
            .is_some_and(|awaiting| awaiting.replayed != Switched::NOTHING)
    }
}

impl<N: HowMany> Flights<N> {
    #[inline]
    pub(crate) fn watch(&mut self, cpu: u16) -> &mut Watch<N> {
        let index = usize::from(cpu);
        if index >= self.cpus.len() {
            self.add_cpus_up_to(index);
        }
        &mut self.cpus[index]
    }

    #[cold]
    fn add_cpus_up_to(&mut self, index: usize) {
        assert!(
            index < N::END,
            "CPU {index}: the recording was said to have none from {} on",
            N::END
        );
        self.cpus.resize_with(index + 1, Watch::default);
    }

    /// Replays the interrupts that reach a CPU before its state changes: those sent before it switched interrupts off.
    pub(crate) fn deliver(&mut self, cpu: u16, now_ns: u64) {
        if self.open.is_empty() {
            return;
        }
        let (before, before_ns) = self.watch(cpu).scheduled.unwrap_or((self.events, now_ns));
        let flight_ns = FLIGHT * self.pace.ns();
        for index in 0..self.open.len() {
            let initiator = self.open[index];
            let Some(flush) = self.cpus[usize::from(initiator)].flush.as_ref() else {
                continue;
            };
            let lands = flush.sent_by < before && flush.sent_ns + flight_ns <= before_ns;
            if lands && flush.pending.contains(cpu) {
                self.serve(initiator, cpu, now_ns);
            }
        }
    }

    /// Replays the interrupts of flushes of a space whose initiators show nothing for long: they have arrived.
    pub(crate) fn land(&mut self, mm: MmId, initiator: u16, now_ns: u64) {
        let before = now_ns.saturating_sub(ARRIVED * self.pace.ns());
        for index in 0..self.open.len() {
            let other = self.open[index];
            let flush = self.cpus[usize::from(other)].flush.as_ref();
            if other != initiator
                && flush.is_some_and(|flush| flush.mm == mm && flush.sent_ns <= before)
            {
                self.land_all(other, now_ns);
            }
        }
    }

    /// The initiator goes on, and has sent no interrupts. If the replay does, they arrive here.
    pub(crate) fn sends_nothing(&mut self, cpu: u16, path: Path, now_ns: u64) {
        if let Some(flush) = &mut self.watch(cpu).flush
            && flush.recorded.path.is_none()
        {
            // That nobody was told at all is what remains if nothing else is shown.
            flush.recorded.path = Some(path).filter(|path| *path != Path::None);
            flush.pending = flush.targets.clone();
            self.land_all(cpu, now_ns);
        }
    }

    /// The initiator's flush is over: whatever of it has not been shown is taken to have happened by now.
    pub(crate) fn ends(&mut self, cpu: u16, now_ns: u64) {
        let Some(flush) = self.watch(cpu).flush.as_ref() else {
            return;
        };
        let is_sent = match flush.recorded.path {
            None => false,
            Some(Path::Remote) => flush.has_sent,
            Some(Path::None | Path::Local) => true,
        };
        if is_sent && flush.to_raise.is_none() && flush.pending.is_empty() {
            return;
        }
        self.raise(cpu, None);
        self.sends_nothing(cpu, Path::None, now_ns);
        self.sends_at_last(cpu, now_ns);
        self.land_all(cpu, now_ns);
    }

    /// Replays all interrupts of an initiator that have not arrived.
    pub(crate) fn land_all(&mut self, initiator: u16, now_ns: u64) {
        let flush = self.watch(initiator).flush.as_ref();
        let Some(flush) = flush.filter(|flush| !flush.pending.is_empty()) else {
            return;
        };
        for target in flush.pending.clone().iter() {
            self.serve(initiator, target, now_ns);
        }
    }

    /// Replays the arrival of an initiator's interrupt.
    fn serve(&mut self, initiator: u16, cpu: u16, now_ns: u64) {
        let about_ns = self.stores_ns();
        let changed = self.watch(cpu).changed;
        let watch = self.cpus.get_mut(usize::from(initiator));
        let Some(flush) = watch.and_then(|watch| watch.flush.as_mut()) else {
            return;
        };
        flush.pending.remove(cpu);
        if self.machine.arrive(cpu, flush.mm, now_ns) == Served::Left {
            flush.leaves.insert(cpu);
            if changed.0 >= flush.sent
                || changed.1 + about_ns > flush.sent_ns
                || flush.unsettled.contains(cpu)
            {
                self.crossed.insert(cpu);
            }
        }
    }

    /// The initiator shows the generation that its flush has raised the space to; or it goes on, and has not shown it.
    pub(crate) fn raise(&mut self, cpu: u16, shown: Option<u64>) {
        let watch = self.cpus.get_mut(usize::from(cpu));
        let Some(flush) = watch.and_then(|cpu| cpu.flush.as_mut()) else {
            return;
        };
        if let Some(generation) = shown.or(flush.to_raise) {
            flush.to_raise = None;
            self.machine.raise(flush.mm, generation);
            self.machine.flushes_itself(cpu, flush.mm);
        }
    }

    /// The initiator has sent its interrupts, and flushes its own CPU: what lies between is the recording's pace.
    pub(crate) fn flushes_itself(&mut self, event: &Event) {
        self.sends_at_last(event.cpu, event.time_ns);
        let events = self.events;
        let index = usize::from(event.cpu);
        let Some(flush) = self.cpus.get_mut(index).and_then(|cpu| cpu.flush.as_mut()) else {
            return;
        };
        if flush.flushed_ns.is_none() && flush.recorded.path == Some(Path::Remote) {
            flush.flushed_ns = Some(event.time_ns);
            self.pace.note(event.time_ns.saturating_sub(flush.sent_ns));
        }
        flush.sent_by = events;
    }

    /// The initiator has sent by now, if it told others, and nothing showed when it began to.
    pub(crate) fn sends_at_last(&mut self, cpu: u16, now_ns: u64) {
        let flush = self.watch(cpu).flush.as_ref();
        if flush.is_some_and(|flush| flush.recorded.path == Some(Path::Remote) && !flush.has_sent) {
            self.sends(cpu, now_ns);
        }
    }

    /// The initiator reads who is where as it sends, a little later than the request.
    pub(crate) fn sends(&mut self, cpu: u16, now_ns: u64) {
        let events = self.events;
        let Some(flush) = self.watch(cpu).flush.as_mut() else {
            return;
        };
        let (mm, trims) = (flush.mm, flush.replayed.trims);
        self.land(mm, cpu, now_ns);
        let seen_ns = now_ns.saturating_sub(self.pace.ns() / INTO_THE_MASK);
        let reach = self.machine.reaches(cpu, mm, trims, seen_ns);
        let unsettled = self.unsettled(cpu, now_ns);
        let maybe_in_switch = self.maybe_in_switch(cpu);
        let found = self.found(mm, &unsettled);
        let [switched, unsure] = self.just_switched([self.stores_ns(), self.pace.ns()], now_ns);
        self.machine.sends(mm, &reach[MaskRule::Lasting as usize]);
        if let Some(flush) = self.watch(cpu).flush.as_mut() {
            flush.pending = reach[MaskRule::Lasting as usize].targets(flush.tables);
            flush.targets = flush.pending.clone();
            flush.unsettled.extend(&unsettled);
            flush.maybe_in_switch = maybe_in_switch;
            flush.found = found;
            flush.switched.extend(&switched);
            flush.unsure.extend(&unsure);
            flush.replayed.reach = reach;
            (flush.sent, flush.sent_ns) = (events, now_ns);
            (flush.sent_by, flush.has_sent) = (events, true);
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
            let in_time = now_ns.saturating_sub(awaiting.time_ns) <= pace;
            if in_time && awaiting.leaves_lazy && self.machine.loaded(number) == Some(mm) {
                awaiting.replayed = Switched::FLUSHES;
            }
        }
    }

    /// A flush of a space begins: switches to it that are under way read its generation before, or after.
    pub(crate) fn races(&mut self, mm: MmId) {
        let awaiting = self.cpus.iter_mut().filter_map(|cpu| cpu.awaiting.as_mut());
        awaiting
            .filter(|awaiting| awaiting.mm == Some(mm))
            .for_each(|awaiting| awaiting.raced = true);
    }

    /// A flush of a space begins: whom do others interrupt that are under way, which race with whom it does?
    pub(crate) fn raced_with(&mut self, mm: MmId, targets: &CpuSet<N>) -> CpuSet<N> {
        let mut raced = CpuSet::default();
        for other in &self.open {
            if let Some(flush) = self.cpus[usize::from(*other)].flush.as_mut()
                && flush.mm == mm
            {
                flush.raced.extend(targets);
                raced.extend(&flush.targets);
            }
        }
        raced
    }

    pub(crate) fn has_flush_of(&self, mm: MmId) -> bool {
        self.open.iter().any(|cpu| {
            let flush = self.cpus[usize::from(*cpu)].flush.as_ref();
            flush.is_some_and(|flush| flush.mm == mm)
        })
    }

    /// A CPU shows that an initiator's interrupt has arrived: did it switch while that was in flight?
    pub(crate) fn arrives(&mut self, cpu: u16, initiator: u16) {
        let flush = self.cpus.get(usize::from(initiator));
        let Some(flush) = flush.and_then(|cpu| cpu.flush.as_ref()) else {
            return;
        };
        let (sent, unsettled) = (flush.sent, flush.unsettled.contains(cpu));
        if unsettled || self.watch(cpu).changed.0 >= sent {
            self.crossed.insert(cpu);
        }
    }

    /// Whether the state of a CPU hangs on the order of a switch and of an interrupt that was in flight.
    pub(crate) fn is_crossed(&self, cpu: u16) -> bool {
        let mut open = self.open_flushes();
        self.crossed.contains(cpu) || open.any(|flush| self.has_switched_in_flight(cpu, flush))
    }

    /// Whether a CPU has switched since a flush sent it an interrupt, which has not arrived.
    fn has_switched_in_flight(&self, cpu: u16, flush: &Open<N>) -> bool {
        let changed = self.cpus.get(usize::from(cpu)).map(|watch| watch.changed);
        flush.targets.contains(cpu)
            && !flush.recorded.arrived.contains(cpu)
            && changed.is_some_and(|(event, _)| event >= flush.sent)
    }

    /// The flushes that are under way.
    fn open_flushes(&self) -> impl Iterator<Item = &Open<N>> {
        let flush_on = |cpu: &u16| self.cpus[usize::from(*cpu)].flush.as_ref();
        self.open.iter().filter_map(flush_on)
    }

    /// The CPUs whose state at this moment is not settled.
    pub(crate) fn unsettled(&self, initiator: u16, now_ns: u64) -> CpuSet<N> {
        let mut unsettled = self.crossed.clone();
        for flush in self.open_flushes() {
            let switched = |cpu: &u16| self.has_switched_in_flight(*cpu, flush);
            let switched = flush.targets.iter().filter(switched);
            switched.for_each(|cpu| unsettled.insert(cpu));
        }
        for cpu in self.in_switch.iter() {
            let watch = &self.cpus[usize::from(cpu)];
            let shows_its_end = watch.shows_its_end() || (watch.goes_idle && self.shows_idle);
            let just_began = watch.changed.1 + self.in_switch_ns() > now_ns;
            if shows_its_end || just_began {
                unsettled.insert(cpu);
            }
        }
        unsettled.remove(initiator);
        unsettled
    }

    /// The other CPUs that have shown nothing since their switch.
    pub(crate) fn maybe_in_switch(&self, initiator: u16) -> CpuSet<N> {
        let mut silent = self.in_switch.clone();
        silent.remove(initiator);
        silent
    }

    /// A CPU's first event since a switch: was it in that switch as interrupts were sent?
    pub(crate) fn next_shows(&mut self, cpu: u16, next: Next) {
        let before = self.watch(cpu).shown_before;
        for index in 0..self.open.len() {
            let initiator = self.open[index];
            if let Some(flush) = self.watch(initiator).flush.as_mut() {
                flush.next_shows(cpu, next, before);
            }
        }
    }

    /// The recording shows what a CPU has loaded from now on.
    pub(crate) fn shows(&mut self, cpu: u16, shown: Shown, now_ns: u64) {
        let window_ns = STORES * self.pace.ns();
        let watch = self.watch(cpu);
        watch.shown_before = watch.shown.replace(shown);
        for index in 0..self.open.len() {
            let initiator = self.open[index];
            if let Some(flush) = self.watch(initiator).flush.as_mut()
                && (flush.is_reading() || now_ns <= flush.sent_ns + window_ns)
            {
                flush.finds(cpu, Some(shown));
            }
        }
    }

    /// The states in which an initiator that looks now finds the CPUs.
    fn found(&self, mm: MmId, unsettled: &CpuSet<N>) -> Option<Found<N>> {
        if !self.shows_spaces {
            return None;
        }
        let mut found = Found::default();
        for (watch, cpu) in self.cpus.iter().zip(0_u16..) {
            let before = watch
                .shown_before
                .filter(|_| self.in_switch.contains(cpu) && unsettled.contains(cpu));
            for shown in watch.shown.into_iter().chain(before) {
                found.note(cpu, mm, shown);
            }
        }
        Some(found)
    }

    /// Whether a CPU's state as interrupts were sent lies within a race.
    pub(crate) fn is_unsure(&self, cpu: u16, flush: &Open<N>) -> bool {
        let Some(watch) = self.cpus.get(usize::from(cpu)) else {
            return false;
        };
        let (left, initiator) = watch.left;
        let left_for_another = left >= flush.began && initiator != flush.cpu;
        flush.unsure.contains(cpu) || left_for_another
    }

    /// A CPU's state changes with the latest event: which flushes may have read it before, or after?
    pub(crate) fn changes(&mut self, cpu: u16, now_ns: u64) {
        self.watch(cpu).changed = (self.events, now_ns);
        self.changed_ns = self.changed_ns.max(now_ns);
        self.in_switch.insert(cpu);
        let (pace_ns, window_ns) = (self.pace.ns(), STORES * self.pace.ns());
        for initiator in &self.open {
            let Some(flush) = self.cpus[usize::from(*initiator)].flush.as_mut() else {
                continue;
            };
            if flush.is_reading() || now_ns <= flush.sent_ns + pace_ns {
                flush.unsure.insert(cpu);
            }
            if flush.is_reading() || now_ns <= flush.sent_ns + window_ns {
                flush.switched.insert(cpu);
            }
            if flush.targets.contains(cpu) && !flush.recorded.arrived.contains(cpu) {
                flush.crossed.insert(cpu);
            }
        }
    }

    /// From the event of a switch to where its stores are visible, as long as the CPU shows nothing else.
    ///
    /// Where kprobes show the switch of spaces, its stores lie between that and the CPU's next event.
    pub(crate) fn stores_ns(&self) -> u64 {
        match self.shows_spaces {
            true => 0,
            false => STORES * self.pace.ns(),
        }
    }

    /// How long a CPU that shows nothing since may be in its switch, unless its next event tells.
    ///
    /// With kprobes that event does tell: a switch that others have overtaken catches up, or a handler finds it lazy.
    fn in_switch_ns(&self) -> u64 {
        match self.shows_spaces {
            true => 0,
            false => IN_SWITCH * self.pace.ns(),
        }
    }

    /// The CPUs whose state changed so shortly before, for each of some times.
    pub(crate) fn just_switched<const TIMES: usize>(
        &self,
        within_ns: [u64; TIMES],
        now_ns: u64,
    ) -> [CpuSet<N>; TIMES] {
        let mut switched = std::array::from_fn(|_| CpuSet::default());
        let longest_ns = within_ns.iter().max().copied().unwrap_or_default();
        if self.changed_ns + longest_ns <= now_ns {
            return switched;
        }
        for (watch, cpu) in self.cpus.iter().zip(0_u16..) {
            for (switched, within_ns) in switched.iter_mut().zip(within_ns) {
                if watch.changed.1 + within_ns > now_ns {
                    switched.insert(cpu);
                }
            }
        }
        switched
    }
}
