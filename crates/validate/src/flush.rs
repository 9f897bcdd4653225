//! One flush: what the rule says of it, and what the recording shows.

use lazytlb_trace::{MmId, Tables};

use crate::cpu_set::{CpuSet, HowMany};
use crate::outcome::{Flushed, Local, Reach};
use crate::rule::{EACH_RULE, MaskRule};
use crate::shown::{Found, Shown, Too};
use crate::tally::{Class, Decision, Disagreement, Tallies};

/// How far a flush went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// No CPU was told.
    None,
    /// Its own CPU only.
    Local,
    /// Other CPUs were in the cpumask.
    Remote,
}

impl Path {
    fn name(self) -> &'static str {
        match self {
            Path::None => "none",
            Path::Local => "this CPU only",
            Path::Remote => "other CPUs too",
        }
    }
}

impl<N: HowMany> Flushed<N> {
    /// What a rule says of the path.
    pub(crate) fn path(&self, rule: MaskRule) -> Path {
        match (self.reach[rule as usize].is_empty(), self.local) {
            (false, _) => Path::Remote,
            (true, Local::Nothing) => Path::None,
            (true, _) => Path::Local,
        }
    }
}

/// A CPU's first event since a switch, as far as it tells when that was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The switch itself shows that it has written CR3.
    EndOfSwitch,
    /// An interrupt's handler.
    Handler,
    /// Anything else.
    Other,
}

/// What such an event tells of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shows {
    /// The CPU was not in doubt.
    Nothing,
    /// Whether the switch was over.
    Something,
}

/// What comes of comparing one decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Agrees,
    Disagrees(Class),
    /// It is told by what it would be compared with, or hangs on what is not known.
    Apart,
}

/// A flush that is under way.
#[derive(Debug)]
pub(crate) struct Open<N> {
    pub(crate) cpu: u16,
    pub(crate) time_ns: u64,
    /// The number of the event that it began with.
    pub(crate) began: u64,
    pub(crate) mm: MmId,
    /// What it raises its space's generation to at least, as long as nothing has shown the raise.
    pub(crate) to_raise: Option<u64>,
    pub(crate) tables: Tables,
    /// Whether the recording's reactions told what `tables` is.
    pub(crate) tables_told: bool,
    pub(crate) replayed: Flushed<N>,
    pub(crate) recorded: Recorded<N>,
    /// Whom other flushes of the space interrupt that are under way at the same time.
    pub(crate) raced: CpuSet<N>,
    /// CPUs whose state was known as the flush was asked for.
    pub(crate) known: CpuSet<N>,
    /// CPUs that switched about the time at which the cpumask and their state were read.
    pub(crate) switched: CpuSet<N>,
    /// Those of them that switched within a pace of it: either order is as likely.
    pub(crate) unsure: CpuSet<N>,
    /// CPUs that switched between the send and the arrival of the interrupt.
    pub(crate) crossed: CpuSet<N>,
    /// CPUs that were in a switch as interrupts were sent, or whose state hangs on a switch in an earlier window.
    pub(crate) unsettled: CpuSet<N>,
    /// CPUs that have shown nothing since a switch that began before: their next event tells whether it was over.
    pub(crate) maybe_in_switch: CpuSet<N>,
    /// Those of them whose next event is an interrupt's handler: nothing shows that the switch was over before.
    pub(crate) handled_next: CpuSet<N>,
    /// In which states the recording shows the CPUs while the initiator looked; `None` if it does not show them.
    pub(crate) found: Option<Found<N>>,
    /// The path that the rule says, by rule, as the flush was asked for.
    pub(crate) paths: [Path; EACH_RULE.len()],
    /// The number of the event with which interrupts are sent.
    pub(crate) sent: u64,
    /// When they were sent, and when the CPU then flushed for itself.
    pub(crate) sent_ns: u64,
    pub(crate) flushed_ns: Option<u64>,
    /// The initiator has come to choose whom to interrupt, and to send.
    pub(crate) has_sent: bool,
    /// The number of the event by which it has sent for sure.
    pub(crate) sent_by: u64,
    /// Targets that leave for `init_mm` in the replay.
    pub(crate) leaves: CpuSet<N>,
    /// Whom the replay interrupts.
    pub(crate) targets: CpuSet<N>,
    /// Targets whose interrupt has not been replayed yet.
    pub(crate) pending: CpuSet<N>,
}

/// What the recording shows of a flush.
#[derive(Debug, Default)]
pub(crate) struct Recorded<N> {
    pub(crate) path: Option<Path>,
    /// The generation that it asks for.
    pub(crate) generation: Option<u64>,
    /// The CPUs whose handler ran.
    pub(crate) arrived: CpuSet<N>,
    /// Those of them that left for `init_mm`.
    pub(crate) left: CpuSet<N>,
    /// The cpumask's first word at the request and as interrupts were sent.
    pub(crate) mask: Option<u64>,
    pub(crate) sent_mask: Option<u64>,
    pub(crate) trims: bool,
    /// Whether what is silent can be told from what did not happen.
    pub(crate) shows_every_arrival: bool,
    /// The path is what the request was made from.
    pub(crate) path_told: bool,
}

impl<N: HowMany> Recorded<N> {
    /// The other CPUs that the cpumask names as interrupts are sent.
    fn company(&self, initiator: u16) -> CpuSet<N> {
        let mut company = CpuSet::of_first_word(self.sent_mask.unwrap_or(0));
        company.remove(initiator);
        company
    }
}

impl<N: HowMany> Open<N> {
    /// Whether the initiator may still be at reading who is where: it flushes its own CPU after that.
    pub(crate) fn is_reading(&self) -> bool {
        self.replayed.local == Local::Flushes
            && match self.recorded.path {
                None => true,
                Some(Path::Remote) => self.flushed_ns.is_none(),
                Some(_) => false,
            }
    }

    /// Whether the flush may have been broadcast (INVLPGB), which came after the newer rule (Linux 6.15).
    fn is_broadcast_under(&self, rule: MaskRule) -> bool {
        rule == MaskRule::Lasting && self.replayed.may_be_global
    }

    /// Whether a CPU's state, as it was read, hangs on the order of a switch and of this flush.
    pub(crate) fn switched(&self, cpu: u16) -> bool {
        self.switched.contains(cpu) || self.unsettled.contains(cpu)
    }

    /// Compares it with what one rule says.
    pub(crate) fn compare(&self, rule: MaskRule, tallies: &mut Tallies) {
        if !self.replayed.known {
            tallies.apart(Decision::Path);
            return;
        }
        let reach = &self.replayed.reach[rule as usize];
        self.compare_path(rule, tallies);
        let in_company = self.recorded.path == Some(Path::Remote) || !reach.is_empty();
        if in_company {
            self.compare_targets(rule, tallies);
        }
    }

    /// Whether the next event of some CPU may yet explain a disagreement.
    pub(crate) fn hangs(&self, rule: MaskRule) -> bool {
        if self.maybe_in_switch.is_empty() || !self.replayed.known {
            return false;
        }
        let among = self.among(&self.replayed.reach[rule as usize]);
        let in_switch = |cpu: &u16| self.maybe_in_switch.contains(*cpu);
        let mut hanging = among.iter().filter(in_switch).peekable();
        if hanging.peek().is_none() {
            return false;
        }
        let unexplained = Verdict::Disagrees(Class::Unexplained);
        let targets = self.targets_under(rule);
        self.path_verdict(rule) == unexplained
            || hanging.any(|cpu| self.verdict(rule, &targets, cpu) == unexplained)
    }

    /// A CPU's first event since a switch. Says whether that tells anything of this flush.
    #[inline]
    pub(crate) fn next_shows(&mut self, cpu: u16, next: Next, before: Option<Shown>) -> Shows {
        if !self.maybe_in_switch.contains(cpu) {
            return Shows::Nothing;
        }
        if next != Next::Other {
            self.finds(cpu, before);
        }
        self.maybe_in_switch.remove(cpu);
        match next {
            Next::EndOfSwitch => self.unsettled.insert(cpu),
            Next::Handler => self.handled_next.insert(cpu),
            Next::Other => {}
        }
        Shows::Something
    }

    /// The initiator may have found a CPU in this state.
    pub(crate) fn finds(&mut self, cpu: u16, shown: Option<Shown>) {
        if let (Some(found), Some(shown)) = (self.found.as_mut(), shown) {
            found.note(cpu, self.mm, shown);
        }
    }

    /// The CPUs that the replay or the recording names.
    fn among(&self, reach: &Reach<N>) -> CpuSet<N> {
        let mut among = reach.all();
        among.extend(&self.recorded.arrived);
        among.extend(&self.recorded.company(self.cpu));
        among
    }

    fn path_verdict(&self, rule: MaskRule) -> Verdict {
        let replayed = self.paths[rule as usize];
        let recorded = self.recorded.path.unwrap_or(Path::None);
        if self.recorded.path_told {
            return Verdict::Apart;
        }
        if replayed == recorded {
            return Verdict::Agrees;
        }
        let among = self.among(&self.replayed.reach[rule as usize]);
        if among.iter().any(|cpu| !self.known.contains(cpu)) {
            return Verdict::Apart;
        }
        let switched = among.iter().any(|cpu| self.switched(cpu));
        Verdict::Disagrees(match (replayed, recorded) {
            _ if switched => Class::SwitchInWindow,
            (Path::Remote, Path::None) if self.is_broadcast_under(rule) => Class::Broadcast,
            _ => Class::Unexplained,
        })
    }

    fn compare_path(&self, rule: MaskRule, tallies: &mut Tallies) {
        match self.path_verdict(rule) {
            Verdict::Apart => tallies.apart(Decision::Path),
            Verdict::Agrees => tallies.agree(Decision::Path),
            Verdict::Disagrees(class) => tallies.disagree(Disagreement {
                decision: Decision::Path,
                time_ns: self.time_ns,
                cpu: self.cpu,
                replayed: self.paths[rule as usize].name(),
                recorded: self.recorded.path.unwrap_or(Path::None).name(),
                class,
            }),
        }
    }

    /// The CPUs that are interrupted by the rule.
    fn targets_under(&self, rule: MaskRule) -> CpuSet<N> {
        self.replayed.reach[rule as usize].targets(self.tables)
    }

    /// Says of a CPU whether it was interrupted if, and only if, it is among the rule's targets.
    fn verdict(&self, rule: MaskRule, targets: &CpuSet<N>, cpu: u16) -> Verdict {
        let reach = &self.replayed.reach[rule as usize];
        let (should, did) = (targets.contains(cpu), self.recorded.arrived.contains(cpu));
        if self.is_told(reach, cpu) || !self.known.contains(cpu) {
            return Verdict::Apart;
        }
        if should == did {
            return Verdict::Agrees;
        }
        let caught_up = self.raced.contains(cpu) || self.switched(cpu);
        if should && !self.recorded.shows_every_arrival && caught_up {
            // It may have caught up by another flush, or as it came to the space: then its handler is silent.
            return Verdict::Apart;
        }
        Verdict::Disagrees(self.class(rule, cpu, should))
    }

    fn compare_targets(&self, rule: MaskRule, tallies: &mut Tallies) {
        let reach = &self.replayed.reach[rule as usize];
        let mut cpus = reach.all();
        cpus.extend(&self.recorded.arrived);
        let targets = self.targets_under(rule);
        let mut worst = None;
        for cpu in cpus.iter() {
            let (should, did) = (targets.contains(cpu), self.recorded.arrived.contains(cpu));
            let lazy = reach.lazy.contains(cpu) && !should;
            let decision = if lazy {
                Decision::Skipped
            } else {
                Decision::Interrupted
            };
            let class = match self.verdict(rule, &targets, cpu) {
                Verdict::Apart => {
                    tallies.apart(decision);
                    continue;
                }
                Verdict::Agrees => {
                    tallies.agree(decision);
                    if did {
                        self.compare_left(cpu, tallies);
                    }
                    continue;
                }
                Verdict::Disagrees(class) => class,
            };
            worst = worst.max(Some(class));
            let names = ["not interrupted", "interrupted"];
            tallies.disagree(Disagreement {
                decision,
                time_ns: self.time_ns,
                cpu,
                replayed: names[usize::from(should)],
                recorded: names[usize::from(did)],
                class,
            });
        }
        match worst {
            None => tallies.agree(Decision::Targets),
            Some(class) => tallies.disagree(Disagreement {
                decision: Decision::Targets,
                time_ns: self.time_ns,
                cpu: self.cpu,
                replayed: "another set",
                recorded: "this set",
                class,
            }),
        }
    }

    /// Whether the recording's reactions told what they would be compared with.
    fn is_told(&self, reach: &Reach<N>, cpu: u16) -> bool {
        let depends = reach.lazy.contains(cpu) || reach.elsewhere.contains(cpu);
        depends && (self.tables_told || self.tables == Tables::Unknown)
    }

    /// Whether some state in which the recording shows a CPU while the initiator looked gives what was recorded.
    fn is_found_so(&self, rule: MaskRule, cpu: u16) -> bool {
        let lazy = self.tables == Tables::Freed;
        let away = rule == MaskRule::Lasting && (lazy || self.replayed.trims);
        let too = Too { lazy, away };
        match (&self.found, self.recorded.arrived.contains(cpu)) {
            (None, _) => true,
            (Some(found), true) => found.explains_interrupt(cpu, too),
            (Some(found), false) => found.explains_silence(cpu, too),
        }
    }

    fn class(&self, rule: MaskRule, cpu: u16, should: bool) -> Class {
        let reach = &self.replayed.reach[rule as usize];
        let found = self.is_found_so(rule, cpu);
        let in_mask = |mask: Option<u64>| mask.map(|mask| cpu < 64 && mask >> cpu & 1 == 1);
        let went_lazy = !should && self.went_lazy_before_it_arrived(cpu);
        if found && (self.switched(cpu) || went_lazy) {
            Class::SwitchInWindow
        } else if found && self.raced.contains(cpu) {
            Class::GenerationRace
        } else if !should && (self.recorded.trims || reach.elsewhere.contains(cpu))
            || reach.trimmed.contains(cpu)
        {
            Class::Trim
        } else if should
            && in_mask(self.recorded.mask) == Some(true)
            && in_mask(self.recorded.sent_mask) == Some(false)
        {
            Class::ParavirtualSkip
        } else {
            Class::Unexplained
        }
    }

    /// Whether a CPU that the rule leaves alone as lazy was in the switch to lazy mode until the interrupt arrived.
    ///
    /// The switch ends with its stores, which no event shows; it does so before interrupts are served. That it was not
    /// over as interrupts were sent, the recording shows by two things: nothing of this CPU comes between, and it was
    /// lazy as its handler ran, which left for `init_mm`.
    fn went_lazy_before_it_arrived(&self, cpu: u16) -> bool {
        self.handled_next.contains(cpu) && self.recorded.left.contains(cpu)
    }

    fn compare_left(&self, cpu: u16, tallies: &mut Tallies) {
        let (should, did) = (self.leaves.contains(cpu), self.recorded.left.contains(cpu));
        if should == did {
            tallies.agree(Decision::Left);
            return;
        }
        let names = ["flushes", "leaves for init_mm"];
        let crossed = self.crossed.contains(cpu) || self.switched(cpu);
        let class = match (crossed, self.raced.contains(cpu)) {
            (true, _) => Class::SwitchInWindow,
            (false, true) => Class::GenerationRace,
            (false, false) => Class::Unexplained,
        };
        tallies.disagree(Disagreement {
            decision: Decision::Left,
            time_ns: self.time_ns,
            cpu,
            replayed: names[usize::from(should)],
            recorded: names[usize::from(did)],
            class,
        });
    }
}
