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
    /// half the time. [`Validation::step`] panics at another one.
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
    ///
    /// # Panics
    /// If it is of a CPU that was said not to be: see [`Validation::of_cpus_below`].
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

#[cfg(test)]
mod tests {
    use super::*;
    use lazytlb_trace::{Context, Event, Kind};

    fn of_cpu(cpu: u16) -> Event {
        Event {
            cpu,
            time_ns: 0,
            pid: 0,
            context: Context::Task,
            kind: Kind::CpuIdle { state: None },
        }
    }

    #[test]
    fn of_more_cpus_than_a_word_has_many_are_kept() {
        for (end, cpu) in [(Some(64), 63), (Some(65), 64), (None, 4095)] {
            Validation::of_cpus_below(end).step(Step::Event(&of_cpu(cpu)));
        }
    }

    #[test]
    #[should_panic(expected = "none from 64 on")]
    fn a_cpu_that_was_said_not_to_be_is_an_error() {
        Validation::of_cpus_below(Some(2)).step(Step::Event(&of_cpu(64)));
    }
}
