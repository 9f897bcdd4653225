//! What is shown a recording's steps: a comparison that is compiled for few CPUs, or for many.

use lazytlb_trace::Step;

use crate::agreement::Agreement;
use crate::comparison::Comparison;
use crate::cpu_set::{Few, Many};

/// Replays the recorded kernel's rule, and compares.
pub struct Validation(Capacity);

/// By how many CPUs the recording may have.
enum Capacity {
    Few(Box<Comparison<Few>>),
    Many(Box<Comparison<Many>>),
}

impl Default for Validation {
    fn default() -> Self {
        Validation::new()
    }
}

impl Validation {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Validation(Capacity::Many(Box::default()))
    }

    /// Knows below which number all CPUs of the recording are, if it tells: of at most 64 a set is one word, which takes
    /// half the time. It has to be so.
    pub fn of_cpus_below(end: Option<u16>) -> Self {
        match end {
            Some(0..=64) => Validation(Capacity::Few(Box::default())),
            Some(_) | None => Validation::new(),
        }
    }

    /// Knows the release of the recorded kernel, if the recording tells it.
    pub fn of_kernel(mut self, release: Option<&str>) -> Self {
        let evidence = match &mut self.0 {
            Capacity::Few(comparison) => &mut comparison.evidence,
            Capacity::Many(comparison) => &mut comparison.evidence,
        };
        evidence.release = release.map(str::to_owned);
        self
    }

    /// Takes in the next step of a recording.
    #[inline]
    pub fn step(&mut self, step: Step<'_>) {
        match &mut self.0 {
            Capacity::Few(comparison) => comparison.step(step),
            Capacity::Many(comparison) => comparison.step(step),
        }
    }

    /// Ends the comparison.
    pub fn finish(self) -> Agreement {
        match self.0 {
            Capacity::Few(comparison) => comparison.finish(),
            Capacity::Many(comparison) => comparison.finish(),
        }
    }
}
