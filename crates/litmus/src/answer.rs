//! Final states, the verdict on them, and how both are printed.

use std::fmt;

use lazytlb_check::Effort;

use lazytlb_litmus_syntax::Quantifier;
use lazytlb_model::Property;

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
    /// The properties that some execution violates, and ends with.
    pub violations: Vec<Violated>,
    /// Whether some execution comes to its end, without a violation.
    pub has_ends: bool,
    /// Whether a loop keeps every execution from its end.
    pub is_endless: bool,
    /// The verdict that the test's header expects on this CPU model, `Expect=`.
    pub expected: Option<LitmusVerdict>,
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

/// A property that an execution violates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violated {
    /// The property.
    pub property: Property,
    /// How one execution violates it, in a sentence.
    pub what: String,
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

    /// Counts the states that speak for the condition with its quantifier, and those that speak against it, as
    /// herd's line `Positive: … Negative: …` does.
    pub fn witnesses(&self) -> (usize, usize) {
        let (positive, negative) = (self.positive(), self.negative());
        match self.quantifier {
            Quantifier::Exists | Quantifier::Final | Quantifier::Forall => (positive, negative),
            Quantifier::NotExists => (negative, positive),
        }
    }

    /// Says whether the verdict is not the one that the header expects. One that was not found is not another.
    pub fn differs(&self) -> bool {
        let verdict = self.verdict();
        let is_other = |expected: LitmusVerdict| expected != verdict;
        verdict != LitmusVerdict::Incomplete && self.expected.is_some_and(is_other)
    }

    /// Says what the verdict does not: that no execution, or none that counts, comes to its end.
    pub fn vacuity(&self) -> Option<String> {
        if self.incomplete.is_some() {
            return None;
        }
        if !self.has_ends && !self.violations.is_empty() {
            let names = self.violations.iter().map(|violated| violated.property);
            let names: Vec<&str> = names.map(Property::name).collect();
            let names = names.join(", ");
            return Some(format!("every execution ends in a violation: {names}"));
        }
        if self.is_endless {
            return Some("no execution comes to its end: a loop goes on for ever".to_owned());
        }
        match self.states.is_empty() {
            true => Some("no execution passes the filter".to_owned()),
            false => None,
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
        let (positive, negative) = self.witnesses();
        writeln!(f, "Witnesses\nPositive: {positive} Negative: {negative}")?;
        writeln!(f, "Condition {}", self.condition)?;
        writeln!(
            f,
            "Observation {} {} {} {}",
            self.name,
            self.observation(),
            self.positive(),
            self.negative()
        )?;
        if let Some(why) = &self.incomplete {
            writeln!(f, "Incomplete: {why}")?;
        }
        write!(f, "Verdict: {}", self.verdict().name())?;
        if let Some(vacuity) = self.vacuity() {
            write!(f, " ({vacuity})")?;
        }
        writeln!(f)?;
        for violated in self.violations.iter().filter(|_| !self.has_ends) {
            writeln!(f, "  {}: {}", violated.property.name(), violated.what)?;
        }
        match self.expected {
            Some(expected) if self.differs() => writeln!(
                f,
                "Expected: {} (the header of {} says so)",
                expected.name(),
                self.name
            ),
            Some(_) | None => Ok(()),
        }
    }
}
