//! The result.

use serde::Serialize;

use crate::evidence::Evidence;
use crate::rule::{EACH_RULE, KernelRule, MaskRule};
use crate::tally::{Class, Decision, Disagreement, Tallies, Tally, Totals};

/// How far replay and recording agree.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// The rule that was replayed.
    pub rule: KernelRule,
    /// What of the recording chose it.
    pub chosen_by: String,
    /// Whether the recorded kernel used PCIDs: a CR3 write that keeps was seen.
    pub pcids: bool,
    /// Each kind of decision.
    pub kinds: Vec<KindOfDecision>,
    /// Shootdown interrupts.
    pub shootdowns: Shootdowns,
    /// CPUs that the recording names, and of which it has no event.
    pub silent_cpus: Vec<u16>,
    /// What the events contradict by themselves: ids of spaces, or the context that they were recorded in.
    pub impossible: Vec<String>,
}

/// The decisions of one kind, counted.
#[derive(Clone, Debug, Serialize)]
pub struct KindOfDecision {
    /// Which kind.
    pub decision: Decision,
    /// Decisions that were compared.
    pub compared: u64,
    /// Of them, those that came out alike.
    pub agreed: u64,
    /// Decisions that cannot be compared: told by what they would be compared with, or of a past not recorded.
    pub apart: u64,
    /// The others, by class.
    pub classes: Vec<(Class, u64)>,
    /// The first ones.
    pub first: Vec<Disagreement>,
}

impl KindOfDecision {
    fn of(decision: Decision, tally: &Tally) -> Self {
        KindOfDecision {
            decision,
            compared: tally.compared(),
            agreed: tally.agreed,
            apart: tally.apart,
            classes: Class::ALL
                .into_iter()
                .map(|class| (class, tally.classes[class as usize]))
                .filter(|(_, count)| *count > 0)
                .collect(),
            first: tally.first.clone(),
        }
    }

    /// Returns the agreement, 1 if nothing was compared.
    pub fn share(&self) -> f64 {
        match self.compared {
            0 => 1.0,
            compared => self.agreed as f64 / compared as f64,
        }
    }

    /// Returns how many decisions no class explains.
    pub fn unexplained(&self) -> u64 {
        self.of_class(Class::Unexplained)
    }

    fn of_class(&self, class: Class) -> u64 {
        let found = self.classes.iter().find(|(other, _)| *other == class);
        found.map_or(0, |(_, count)| *count)
    }
}

/// Shootdown interrupts: targets of flushes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Shootdowns {
    /// What the recording shows.
    pub recorded: u64,
    /// Whether that is all of them; else at least so many.
    pub recorded_all: bool,
    /// What the replayed rule says.
    pub replayed: u64,
    /// Of them, those whose flush is told to free tables by the reaction alone.
    pub told: u64,
    /// The least that it can be: races, and facts that are unknown.
    pub lowest: u64,
    /// The most.
    pub highest: u64,
    /// What the counters of `/proc/interrupts` say, if they were given or the recording has them.
    pub counted: Option<u64>,
}

impl Agreement {
    pub(crate) fn of(
        flushes: &[Tallies; EACH_RULE.len()],
        switches: &[Tally; 2],
        totals: &[Totals; EACH_RULE.len()],
        evidence: &Evidence,
    ) -> Agreement {
        let pcids = evidence.kept > 0;
        let misses = |rule: MaskRule| {
            let tallies = &flushes[rule as usize];
            let of = |decision| tallies.of(decision).disagreed();
            of(Decision::Path) + of(Decision::Targets)
        };
        let (eager, lasting) = (misses(MaskRule::Eager), misses(MaskRule::Lasting));
        let release = evidence.release_from_614();
        let (rule, chosen_by) = match release {
            _ if evidence.wrong_cpu > 0 => (
                KernelRule::LinuxFrom614,
                format!("{} flushes for a wrong CPU (reason 5)", evidence.wrong_cpu),
            ),
            Some(release) => (KernelRule::LinuxFrom614, format!("its release, {release}")),
            _ if 2 * lasting + 20 < eager => (
                KernelRule::LinuxFrom614,
                format!("{lasting} flushes out of line, {eager} by the older rule"),
            ),
            _ if evidence.trims > 0 => (
                KernelRule::LinuxTo613TrimBackported,
                format!("{} flushes that trim, none for a wrong CPU", evidence.trims),
            ),
            None => (
                KernelRule::LinuxTo613,
                format!("{eager} flushes out of line, {lasting} by the newer rule"),
            ),
        };
        let tallies = &flushes[rule.mask() as usize];
        let kinds = Decision::ALL.map(|decision| match decision {
            Decision::Switch => KindOfDecision::of(decision, &switches[usize::from(pcids)]),
            _ => KindOfDecision::of(decision, tallies.of(decision)),
        });
        let totals = totals[rule.mask() as usize];
        let recorded = match evidence.flush_func {
            true => evidence.remote_handlers,
            false => evidence.seen_arrivals,
        };
        Agreement {
            rule,
            chosen_by,
            pcids,
            kinds: kinds.to_vec(),
            shootdowns: Shootdowns {
                told: totals.told,
                recorded,
                recorded_all: evidence.flush_func,
                replayed: totals.shootdowns,
                lowest: totals.shootdowns - totals.fewer,
                highest: totals.shootdowns + totals.more,
                counted: None,
            },
            impossible: impossible(evidence),
            silent_cpus: (0..64)
                .filter(|cpu| (evidence.named & !evidence.seen) >> cpu & 1 == 1)
                .collect(),
        }
    }
}

/// What may be out of line: the greater of a part of all, and so many.
const OFF_PART: f64 = 0.05;
const OFF_COUNT: u64 = 20;
/// What no class explains may be so much of all decisions.
const UNEXPLAINED_PART: f64 = 0.01;

impl Agreement {
    /// Gives what the counters of `/proc/interrupts` say: their increase over the recording. They count targets, as the
    /// handlers do, each where it begins.
    pub fn count(&mut self, shootdowns: u64) {
        self.shootdowns.counted = Some(shootdowns);
    }

    /// Returns what is out of line by more than the greater of 5 % and 20; nothing of a recording that can be trusted.
    pub fn contradictions(&self) -> Vec<String> {
        let mut found = Vec::new();
        let all = self.shootdowns.recorded_all;
        for kind in &self.kinds {
            // That a CPU switched meanwhile is shown by its events: of single CPUs, and where not every arrival shows
            // itself, it is no contradiction.
            let of_a_cpu = matches!(
                kind.decision,
                Decision::Interrupted | Decision::Skipped | Decision::Left
            );
            let explained = match of_a_cpu || (!all && kind.decision == Decision::Targets) {
                true => kind.of_class(Class::SwitchInWindow),
                false => 0,
            };
            let wrong = kind.compared - kind.agreed - explained;
            if is_off(wrong, kind.compared) {
                found.push(format!(
                    "{}: {wrong} of {} came out otherwise",
                    kind.decision.name(),
                    kind.compared
                ));
            }
            let bound = (UNEXPLAINED_PART * kind.compared as f64).max(OFF_COUNT as f64);
            // Without kprobes, a task's space is known a little late at its exit.
            if kind.unexplained() as f64 > bound * if all { 1.0 } else { 2.0 } {
                found.push(format!(
                    "{}: nothing explains {} of {}",
                    kind.decision.name(),
                    kind.unexplained(),
                    kind.compared
                ));
            }
        }
        self.shootdowns.contradictions(&mut found);
        if !self.silent_cpus.is_empty() {
            found.push(format!(
                "cpumasks name CPUs of which there is no event: {:?}",
                self.silent_cpus
            ));
        }
        found.extend(self.impossible.iter().cloned());
        found
    }

    /// Returns what is out of line, and no contradiction: where the recording does not show each handler, the counters
    /// tell how many there were, but not of what. A hypervisor may have flushed in place of interrupts; reclaim and
    /// migration of pages interrupt, and are no operations.
    pub fn doubts(&self) -> Vec<String> {
        let Shootdowns {
            recorded_all,
            lowest,
            highest,
            counted,
            ..
        } = self.shootdowns;
        let Some(counted) = counted.filter(|_| !recorded_all) else {
            return Vec::new();
        };
        let (nearest, why) = match counted < lowest {
            true => (
                lowest,
                "at least; a hypervisor that flushes in place of interrupts makes such a difference",
            ),
            false => (
                highest.min(counted),
                "at most; reclaim and migration of pages make such a difference",
            ),
        };
        match is_off(counted.abs_diff(nearest), counted.max(nearest)) {
            true => vec![format!(
                "the interrupt counters say {} shootdowns; replayed as the recorded kernel: {} {why}",
                grouped(counted),
                grouped(nearest)
            )],
            false => Vec::new(),
        }
    }

    /// Says in a line how far they agree.
    pub fn summary(&self) -> String {
        let Shootdowns {
            recorded,
            recorded_all,
            replayed,
            lowest,
            highest,
            counted,
            ..
        } = self.shootdowns;
        let by_counters = match counted {
            Some(counted) => format!(" ({} by the interrupt counters)", grouped(counted)),
            None => String::new(),
        };
        let at_least = if recorded_all { "" } else { "at least " };
        let range = match lowest == highest {
            true => String::new(),
            false => format!(" ({} to {})", grouped(lowest), grouped(highest)),
        };
        let switches = self
            .kinds
            .first()
            .map_or(100.0, |kind| 100.0 * kind.share());
        format!(
            "the recorded kernel ({}): {at_least}{} shootdowns{by_counters}; replayed as it: {}{range}; {switches:.1} % of its switches",
            self.rule,
            grouped(recorded),
            grouped(replayed),
        )
    }
}

impl Shootdowns {
    fn contradictions(&self, found: &mut Vec<String>) {
        let Shootdowns {
            recorded,
            recorded_all,
            replayed,
            highest,
            counted,
            ..
        } = *self;
        if recorded_all && is_off(recorded.abs_diff(replayed), recorded) {
            found.push(format!(
                "the recorded kernel made {recorded} shootdowns; replayed as it: {replayed}"
            ));
        }
        // Not every arrival shows itself; but none is more than there can be.
        if !recorded_all && is_off(recorded.saturating_sub(highest), recorded) {
            found.push(format!(
                "at least {recorded} shootdowns were recorded; replayed as that kernel: {highest} at most"
            ));
        }
        if let Some(counted) = counted {
            let out = if recorded_all {
                recorded.abs_diff(counted)
            } else {
                recorded.saturating_sub(counted)
            };
            if is_off(out, counted) {
                found.push(format!(
                    "the interrupt counters say {counted} shootdowns, the recording has {recorded}"
                ));
            }
        }
    }
}

fn impossible(evidence: &Evidence) -> Vec<String> {
    let mut found: Vec<String> = evidence.ids.contradiction().into_iter().collect();
    let (handlers, wrong) = (evidence.handlers, evidence.handlers_of_tasks);
    if is_off(wrong, handlers) {
        found.push(format!(
            "{wrong} of {handlers} handlers of shootdowns are told to be no interrupts: the flags of the events are wrong"
        ));
    }
    found
}

fn is_off(wrong: u64, of: u64) -> bool {
    wrong as f64 > (OFF_PART * of as f64).max(OFF_COUNT as f64)
}

/// Writes a number with commas.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agreement about 1,000 shootdowns, replayed exactly.
    fn counted(recorded_all: RecordedAll, counted: u64) -> Agreement {
        let mut agreement = Agreement {
            rule: KernelRule::LinuxTo613,
            chosen_by: String::new(),
            pcids: false,
            kinds: Vec::new(),
            shootdowns: Shootdowns {
                recorded: 1000,
                recorded_all: recorded_all == RecordedAll::Yes,
                replayed: 1000,
                told: 0,
                lowest: 1000,
                highest: 1000,
                counted: None,
            },
            silent_cpus: Vec::new(),
            impossible: Vec::new(),
        };
        agreement.count(counted);
        agreement
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum RecordedAll {
        Yes,
        No,
    }

    #[test]
    fn counters_contradict_handlers_beyond_a_twentieth_either_way() {
        let found = |count| counted(RecordedAll::Yes, count).contradictions().len();
        assert_eq!([952, 953, 1000, 1052, 1053].map(found), [1, 0, 0, 0, 1]);
        for count in [0, 1000, 9000] {
            assert!(counted(RecordedAll::Yes, count).doubts().is_empty());
        }
    }

    #[test]
    fn where_not_each_handler_shows_itself_counters_contradict_only_from_below() {
        let of = |count| {
            let agreement = counted(RecordedAll::No, count);
            (agreement.contradictions().len(), agreement.doubts().len())
        };
        assert_eq!(
            [900, 1000, 1052, 1053].map(of),
            [(1, 1), (0, 0), (0, 0), (0, 1)]
        );
        let doubts = counted(RecordedAll::No, 2000).doubts();
        assert!(
            doubts[0].starts_with("the interrupt counters say 2,000 shootdowns"),
            "{doubts:?}"
        );
        assert!(doubts[0].contains("1,000 at most"), "{doubts:?}");
    }

    #[test]
    fn the_summary_names_what_was_counted() {
        let text = counted(RecordedAll::Yes, 1010).summary();
        assert!(
            text.contains("1,000 shootdowns (1,010 by the interrupt counters);"),
            "{text}"
        );
    }
}
