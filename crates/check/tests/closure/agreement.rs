//! Whether two explorations of one script agree; and a smallest script on which they do not.

use std::collections::BTreeSet;

use lazytlb_check::{Checker, Finding, Reduction, Verdict};
use lazytlb_model::{Call, CpuModel, MemoryModel, Property};

use crate::naive::Naive;
use crate::script::{FRAMES, Script};

/// The machine that a comparison is about.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) memory: MemoryModel,
    pub(crate) cpu_model: CpuModel,
}

/// What came of comparing the may-cache model with the naive one.
pub(crate) enum Compared {
    /// They agree on these properties.
    Agree(BTreeSet<Property>),
    /// They do not, in this way.
    Disagree(String),
    /// The naive model has more states than a test has time for.
    TooLarge,
}

/// The models that differ most in what these scripts can tell: in INVLPG's reach, and in what an IPI orders.
const CORNERS: [CpuModel; 2] = [CpuModel::WEAKEST, CpuModel::AMD_K10];

impl Setting {
    pub(crate) fn all() -> impl Iterator<Item = Setting> {
        let memories = [MemoryModel::TSO, MemoryModel::Sc];
        memories
            .into_iter()
            .flat_map(|memory| CORNERS.map(|cpu_model| Setting { memory, cpu_model }))
    }

    pub(crate) fn name(self) -> String {
        format!("{}, {}", self.memory.name(), self.cpu_model.name)
    }

    pub(crate) fn checker(self) -> Checker {
        Checker::new().memory(self.memory).cpu_model(self.cpu_model)
    }

    /// Compares the models.
    ///
    /// The checker ends at the first violation, and the naive model finds all. So where there are several,
    /// the script is compared once more without touches, when only walks of freed tables are left, and
    /// without freeing tables, when only stale uses are: each property's reachability is compared alone.
    pub(crate) fn compare(self, script: &Script, most_states: usize) -> Compared {
        let Some(properties) = self.naive(script, most_states) else {
            return Compared::TooLarge;
        };
        if let Err(how) = self.check_against(script, &properties) {
            return Compared::Disagree(how);
        }
        if properties.len() > 1 {
            let parts = [
                ("without touches", script.filtered(|call| !is_touch(call))),
                (
                    "without freeing tables",
                    script.filtered(|call| !frees_table(call)),
                ),
            ];
            for (name, part) in parts {
                let Some(found) = self.naive(&part, most_states) else {
                    return Compared::TooLarge;
                };
                if let Err(how) = self.check_against(&part, &found) {
                    return Compared::Disagree(format!("{name}, {how}"));
                }
            }
        }
        Compared::Agree(properties)
    }

    pub(crate) fn naive(self, script: &Script, most_states: usize) -> Option<BTreeSet<Property>> {
        Naive::new(script, self.cpu_model, self.memory).violated(most_states)
    }

    /// The checker is safe exactly if nothing is reachable, and finds only what is.
    fn check_against(self, script: &Script, properties: &BTreeSet<Property>) -> Result<(), String> {
        let checker = self.checker().reduction(Reduction::None);
        let verdict = checker
            .try_check(&script.program("script"), |_| {})
            .map_err(|error| format!("the checker fails: {error}"))?;
        let agrees = match &verdict.finding {
            Finding::Safe => properties.is_empty(),
            Finding::Violation { violation, .. } => properties.contains(&violation.property),
            Finding::Incomplete { .. } => false,
        };
        let told: Vec<&str> = properties.iter().map(|property| property.name()).collect();
        match agrees {
            true => Ok(()),
            false => Err(format!(
                "the checker says {}, the naive model reaches {told:?}",
                told_verdict(&verdict)
            )),
        }
    }
}

/// Tells a verdict in a word or two.
pub(crate) fn told_verdict(verdict: &Verdict) -> String {
    match verdict.violation() {
        Some(violation) => format!("{} ({})", verdict.name(), violation.property),
        None => verdict.name().to_owned(),
    }
}

fn is_touch(call: &Call) -> bool {
    matches!(call, Call::Touch(..))
}

fn frees_table(call: &Call) -> bool {
    match call {
        Call::FreeFrame(frame) => FRAMES[(frame.0 >> 12) as usize] == lazytlb::FrameKind::Table,
        // Its frame was to come from the table's.
        Call::AllocFrame(_) => true,
        _ => false,
    }
}

/// Removes calls, one or two at a time, as long as the script still fails.
pub(crate) fn shrink(script: &Script, fails: impl Fn(&Script) -> bool) -> Script {
    let mut smallest = script.clone();
    while let Some(smaller) = smaller_than(&smallest).into_iter().find(&fails) {
        smallest = smaller;
    }
    smallest
}

fn smaller_than(script: &Script) -> Vec<Script> {
    let mut all = Vec::new();
    for list in 0..3 {
        let len = script.clone().lists()[list].len();
        for second in 0..len {
            for first in (0..=second).rev() {
                let mut smaller = script.clone();
                let calls = &mut smaller.lists()[list];
                calls.remove(second);
                if first != second {
                    calls.remove(first);
                }
                all.push(smaller);
            }
        }
    }
    all.retain(Script::is_paired);
    all
}
