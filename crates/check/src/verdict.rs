//! What a check comes to: a proof, a violation, or neither, and then why.

use lazytlb_model::{CpuModel, MemoryModel, Property, Violation};

use crate::program::Program;
use crate::reduction::Reduction;
use crate::rests_on::RestsOn;
use crate::store::Storage;
use crate::timeline::Timeline;

/// What a check found.
#[derive(Clone, Debug)]
pub enum Finding {
    /// Every execution keeps every property: the state space is exhausted.
    Safe,
    /// Some execution violates a property: the shortest one, replayed through the real code.
    Violation {
        /// What is violated, and how.
        violation: Violation,
        /// The execution.
        timeline: Timeline,
    },
    /// The search ended before the state space did, or to no purpose ([`Verdict::nothing_proved`]). Nothing is
    /// proved.
    Incomplete {
        /// Why it ended, or why that is no proof.
        why: String,
    },
}

/// How much work a check was.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Effort {
    /// Distinct states.
    pub states: u64,
    /// Steps taken, to new states and to known ones.
    pub transitions: u64,
    /// Steps on the longest of the shortest ways to a state.
    pub depth: u64,
    /// Seconds of wall-clock time.
    pub seconds: f64,
    /// Memory for states, in bytes.
    pub memory_bytes: u64,
    /// Runs of the checked code.
    pub executions: u64,
}

impl Effort {
    /// Returns the memory that each stored state takes, in bytes, all indices included.
    pub fn bytes_per_state(&self) -> f64 {
        self.memory_bytes as f64 / self.states.max(1) as f64
    }

    /// Returns the states found in a second.
    pub fn states_per_second(&self) -> f64 {
        self.states as f64 / self.seconds.max(1e-9)
    }
}

/// The result of a check, with the bounds that it holds within.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The program's name.
    pub program: String,
    /// The CPU model.
    pub cpu_model: CpuModel,
    /// The memory model, with the depth of the store buffers.
    pub memory: MemoryModel,
    /// How states were remembered.
    pub storage: Storage,
    /// Whether steps that no other CPU can observe were merged.
    pub reduction: Reduction,
    /// Whether the program has write-combining memory: then the verdict hangs on the readings of what
    /// empties the buffers ([`CpuModel::write_combining`]).
    pub uses_write_combining: bool,
    /// Whether the program has PCIDs: then the verdict may hang on the reading of CR3 loads with bit 63 set
    /// ([`CpuModel::keep_load`], H12a).
    pub uses_pcids: bool,
    /// What was found.
    pub finding: Finding,
    /// How much work it was.
    pub effort: Effort,
    /// What the verdict rests on: places in the checked code.
    pub rests_on: RestsOn,
    /// What is proved, in a sentence to quote: of programs whose operations start for ever, if they are safe.
    pub statement: Option<String>,
    /// What the program declares that its proof shows ([`crate::Program::proves`]).
    pub proves: Option<String>,
    /// Notes and operations that no execution reached: a proof says nothing about them.
    pub unreached: Vec<String>,
    /// What else never happened, and a proof says nothing about: an interrupt that a CPU has a handler for, a kept
    /// promise that covered a cached entry, a freed page table.
    pub never_happened: Vec<String>,
}

/// How the reason begins why a search that exhausted all states is no proof.
const NOTHING_PROVED: &str = "nothing proved";

impl Finding {
    /// What a search comes to that has exhausted all states of a program, and violated nothing.
    pub(crate) fn of_exhausted(rests_on: RestsOn, program: &Program) -> Finding {
        if rests_on.promises_kept > 0 || program.proves.is_some() {
            return Finding::Safe;
        }
        let why = match program.looks_at(Property::StaleUse) {
            true => format!(
                "{NOTHING_PROVED}: in no execution was a promise about a flush kept that covered an entry which \
                 some CPU might have cached. Say what flushes promise (`Memory::flush_begins`, `flush_returned`), \
                 let CPUs use what is flushed, or declare what else is proved with `Program::proves`"
            ),
            false => format!(
                "{NOTHING_PROVED}: stale uses are not looked at (`Program::ignore`), and so no promise about a \
                 flush bears on anything but a device's entries, of which none was covered. Look at them, or \
                 declare what else is proved with `Program::proves`"
            ),
        };
        Finding::Incomplete { why }
    }
}

impl Verdict {
    /// Says whether the program is proved safe within the bounds.
    pub fn is_safe(&self) -> bool {
        matches!(self.finding, Finding::Safe)
    }

    /// Returns the violation, if there is one.
    pub fn violation(&self) -> Option<&Violation> {
        match &self.finding {
            Finding::Violation { violation, .. } => Some(violation),
            _ => None,
        }
    }

    /// Says whether all states were explored, nothing is violated, and yet nothing is proved: no promise about a
    /// flush that covered a cached entry was ever kept, or none that bears on a property which is looked at, and the
    /// program declares no other purpose ([`crate::Program::proves`]). The finding is then [`Finding::Incomplete`], and says so.
    pub fn nothing_proved(&self) -> bool {
        matches!(&self.finding, Finding::Incomplete { why } if why.starts_with(NOTHING_PROVED))
    }

    /// Returns `safe`, `violation`, `incomplete` or `nothing proved`.
    pub fn name(&self) -> &'static str {
        match self.finding {
            Finding::Safe => "safe",
            Finding::Violation { .. } => "violation",
            Finding::Incomplete { .. } if self.nothing_proved() => NOTHING_PROVED,
            Finding::Incomplete { .. } => "incomplete",
        }
    }

    /// Returns the chance that a state was taken for another one and left out: 0 with full states.
    pub fn omission_probability(&self) -> f64 {
        match self.storage {
            Storage::FullStates => 0.0,
            // The birthday bound: n² / 2 pairs, each equal with probability 2⁻¹²⁸.
            Storage::Fingerprints => (self.effort.states as f64).powi(2) / 2f64.powi(129),
        }
    }
}
