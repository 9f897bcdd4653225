//! Final states, the verdict on them, and how both are printed.

use std::fmt;

use lazytlb_check::Effort;

use lazytlb_litmus_syntax::Quantifier;

/// What a test came to.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its name.
    pub name: String,
    /// Over which states the condition asks.
    pub quantifier: Quantifier,
    /// The condition, as text.
    pub condition: String,
    /// The final states, as far as the condition and `locations` look, in order; each with whether the
    /// proposition holds.
    pub states: Vec<FinalState>,
    /// Why the exploration ended early; then nothing is said about states that are not here.
    pub incomplete: Option<String>,
    /// The work that it took.
    pub effort: Effort,
}

/// A final state, or the violation that an execution ended in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FinalState {
    /// What is where.
    pub text: String,
    /// Whether the condition's proposition holds.
    pub holds: bool,
}

/// Whether a state in which the proposition holds can be the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LitmusVerdict {
    /// It can.
    Allowed,
    /// It cannot.
    Forbidden,
    /// The exploration ended before it was found.
    Incomplete,
}

impl LitmusVerdict {
    /// Returns the word for it.
    pub const fn name(self) -> &'static str {
        match self {
            LitmusVerdict::Allowed => "Allowed",
            LitmusVerdict::Forbidden => "Forbidden",
            LitmusVerdict::Incomplete => "Incomplete",
        }
    }
}

impl Answer {
    /// Counts the states in which the proposition holds.
    pub fn positive(&self) -> usize {
        self.states.iter().filter(|state| state.holds).count()
    }

    /// Counts the states in which it does not.
    pub fn negative(&self) -> usize {
        self.states.len() - self.positive()
    }

    /// Says whether the proposition can hold at the end, whatever the quantifier.
    pub fn verdict(&self) -> LitmusVerdict {
        match (self.positive(), &self.incomplete) {
            (1.., _) => LitmusVerdict::Allowed,
            (0, Some(_)) => LitmusVerdict::Incomplete,
            (0, None) => LitmusVerdict::Forbidden,
        }
    }

    /// Says whether the condition, with its quantifier, is true; `None` if the exploration ended too early.
    pub fn is_ok(&self) -> Option<bool> {
        let complete = self.incomplete.is_none();
        match self.quantifier {
            Quantifier::Exists | Quantifier::Final => match self.positive() {
                0 => complete.then_some(false),
                _ => Some(true),
            },
            Quantifier::NotExists => match self.positive() {
                0 => complete.then_some(true),
                _ => Some(false),
            },
            Quantifier::Forall => match self.negative() {
                0 => complete.then_some(true),
                _ => Some(false),
            },
        }
    }

    /// Returns the word for how often the proposition holds.
    pub fn observation(&self) -> &'static str {
        match (self.positive(), self.negative()) {
            (0, _) => "Never",
            (_, 0) => "Always",
            _ => "Sometimes",
        }
    }
}

/// Prints herd's form, then the verdict.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.quantifier {
            Quantifier::Exists | Quantifier::Final => "Allowed",
            Quantifier::NotExists => "Forbidden",
            Quantifier::Forall => "Required",
        };
        writeln!(f, "Test {} {kind}", self.name)?;
        writeln!(f, "States {}", self.states.len())?;
        for state in &self.states {
            writeln!(f, "{}", state.text)?;
        }
        writeln!(
            f,
            "{}",
            match self.is_ok() {
                Some(true) => "Ok",
                Some(false) => "No",
                None => "Unknown",
            }
        )?;
        let (positive, negative) = (self.positive(), self.negative());
        writeln!(f, "Witnesses\nPositive: {positive} Negative: {negative}")?;
        writeln!(f, "Condition {}", self.condition)?;
        let observation = self.observation();
        writeln!(
            f,
            "Observation {} {observation} {positive} {negative}",
            self.name
        )?;
        if let Some(why) = &self.incomplete {
            writeln!(f, "Incomplete: {why}")?;
        }
        writeln!(f, "Verdict: {}", self.verdict().name())
    }
}
