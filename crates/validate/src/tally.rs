//! What is compared, and how disagreements are told apart.

use serde::Serialize;

/// Disagreements that are kept word by word, of each kind of decision.
const KEPT: u64 = 5;

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// What a switch does to CR3: flush, keep, nothing.
    Switch,
    /// A flush's way: on its own CPU only, or others too, or none.
    Path,
    /// Whom a flush interrupts, as a set.
    Targets,
    /// Whether a CPU in the cpumask is interrupted.
    Interrupted,
    /// Whether a lazy CPU in the cpumask is left alone.
    Skipped,
    /// Whether a CPU that is interrupted leaves for `init_mm`.
    Left,
}

impl Decision {
    /// Every kind, in the order in which they are told.
    pub const ALL: [Decision; 6] = [
        Decision::Switch,
        Decision::Path,
        Decision::Targets,
        Decision::Interrupted,
        Decision::Skipped,
        Decision::Left,
    ];

    /// Says it in a few words.
    pub fn name(self) -> &'static str {
        match self {
            Decision::Switch => "switch: CR3 flushes, keeps, or is not written",
            Decision::Path => "flush: other CPUs too, this one only, or none",
            Decision::Targets => "flush in company: the set of interrupted CPUs",
            Decision::Interrupted => "CPU in the cpumask: interrupted",
            Decision::Skipped => "lazy CPU in the cpumask: left alone",
            Decision::Left => "interrupted CPU: leaves for init_mm, or flushes",
        }
    }
}

/// Why a decision came out otherwise. The list is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The CPU was in a switch as interrupts were sent, or switched until they arrived; or what it has loaded hangs on such
    /// a switch before. With kprobes, one of the states that it was in there gives what was recorded.
    SwitchInWindow,
    /// The cpumask was trimmed.
    Trim,
    /// Another flush of the same space was under way, which made the CPU leave or catch up. With kprobes, as above.
    GenerationRace,
    /// The hypervisor flushes for a virtual CPU that does not run.
    ParavirtualSkip,
    /// The flush was broadcast (INVLPGB).
    Broadcast,
    /// None of these.
    Unexplained,
}

impl Class {
    /// Every class.
    pub const ALL: [Class; 6] = [
        Class::SwitchInWindow,
        Class::Trim,
        Class::GenerationRace,
        Class::ParavirtualSkip,
        Class::Broadcast,
        Class::Unexplained,
    ];

    /// Names it.
    pub fn name(self) -> &'static str {
        match self {
            Class::SwitchInWindow => "switch in the window",
            Class::Trim => "trim",
            Class::GenerationRace => "generation race",
            Class::ParavirtualSkip => "paravirtual skip",
            Class::Broadcast => "broadcast",
            Class::Unexplained => "unexplained",
        }
    }
}

/// One decision that came out otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disagreement {
    /// What was decided.
    pub decision: Decision,
    /// When, by the recording's clock.
    pub time_ns: u64,
    /// The CPU that switched or was in the cpumask; for a set or a way, the one that flushed.
    pub cpu: u16,
    /// What the replayed rule says.
    pub replayed: &'static str,
    /// What the recording shows.
    pub recorded: &'static str,
    /// Why, as far as can be told.
    pub class: Class,
}

/// Counts the decisions of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) agreed: u64,
    /// Told by the very events that it would be compared with, or not known yet.
    pub(crate) apart: u64,
    pub(crate) classes: [u64; Class::ALL.len()],
    pub(crate) first: Vec<Disagreement>,
}

impl Tally {
    pub(crate) fn disagreed(&self) -> u64 {
        self.classes.iter().sum()
    }

    pub(crate) fn compared(&self) -> u64 {
        self.agreed + self.disagreed()
    }

    pub(crate) fn disagree(&mut self, found: Disagreement) {
        let of_its_class = &mut self.classes[found.class as usize];
        *of_its_class += 1;
        if *of_its_class <= KEPT {
            self.first.push(found);
        }
    }
}

/// The tallies of all kinds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tallies([Tally; Decision::ALL.len()]);

impl Tallies {
    pub(crate) fn of(&self, decision: Decision) -> &Tally {
        &self.0[decision as usize]
    }

    pub(crate) fn of_mut(&mut self, decision: Decision) -> &mut Tally {
        &mut self.0[decision as usize]
    }

    pub(crate) fn agree(&mut self, decision: Decision) {
        self.of_mut(decision).agreed += 1;
    }

    pub(crate) fn apart(&mut self, decision: Decision) {
        self.of_mut(decision).apart += 1;
    }

    pub(crate) fn disagree(&mut self, found: Disagreement) {
        self.of_mut(found.decision).disagree(found);
    }
}

/// Interrupts, as one rule says, within bounds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// As if tables were kept where nothing tells.
    pub(crate) shootdowns: u64,
    /// Of them, those of flushes that the recording's reactions alone tell to free tables.
    pub(crate) told: u64,
    /// What a race or an unknown fact may take away, and add.
    pub(crate) fewer: u64,
    pub(crate) more: u64,
}
