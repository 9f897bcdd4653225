//! Interrupts to other CPUs without any change of mappings: by membarrier.

use std::io;
use std::time::Instant;

use rustix::thread::{MembarrierCommand, membarrier};

use crate::error::CalibrateError;
use crate::others::{Activity, Others};
use crate::samples::{Samples, Span};

/// How often a barrier is timed.
const ROUNDS: usize = 400;

/// What an interrupt that does nothing costs its sender, in nanoseconds.
pub(crate) struct Interrupts {
    /// One, sent and waited for.
    pub(crate) first: Span,
    /// What each further target adds; `None` if there is none.
    pub(crate) further: Option<Span>,
}

impl Interrupts {
    /// Measures, from this thread; `others` are the CPUs beside its own, at least one. `None` with a reason where the kernel offers
    /// no private expedited barriers.
    ///
    /// The kernel skips CPUs that run no thread of this process, idle ones among them, and looks at none if the process has a single
    /// thread. What is compared with is therefore a barrier beside threads that sleep, which looks at each CPU and interrupts none.
    ///
    /// # Errors
    /// If a CPU may not be used.
    pub(crate) fn measure(others: &[usize]) -> Result<Result<Interrupts, String>, CalibrateError> {
        if let Err(error) = membarrier(MembarrierCommand::RegisterPrivateExpedited) {
            return Ok(Err(io::Error::from(error).to_string()));
        }
        let unneeded = beside(others, Activity::Sleep)?;
        let one = beside(&others[..1], Activity::Run)?;
        let further = match others.len() {
            0 | 1 => None,
            all => {
                let each = 1.0 / (all - 1) as f64;
                Some(beside(others, Activity::Run)?.beyond(&one).times(each))
            }
        };
        Ok(Ok(Interrupts {
            first: one.beyond(&unneeded),
            further,
        }))
    }
}

/// Times barriers beside threads on these CPUs.
fn beside(cpus: &[usize], activity: Activity) -> Result<Samples, CalibrateError> {
    let others = Others::start(cpus, activity)?;
    let times = (0..ROUNDS).map(|_| {
        if activity == Activity::Run {
            others.await_counting();
        }
        let begin = Instant::now();
        let barrier = membarrier(MembarrierCommand::PrivateExpedited);
        let time = begin.elapsed();
        barrier.map(|()| time)
    });
    let times: Result<Vec<_>, _> = times.collect();
    Ok(Samples::of(times.map_err(|error| {
        CalibrateError::Barrier(io::Error::from(error))
    })?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{cpus, pin};
    use crate::others::alone;

    #[test]
    fn an_interrupt_to_a_cpu_that_runs_takes_longer_than_none() {
        let cpus = cpus().unwrap();
        let Some((&first, others @ [_, ..])) = cpus.split_first() else {
            return;
        };
        let _alone = alone();
        pin(first).unwrap();
        // On a busy machine the thread that should run may wait for its CPU, and then nothing is interrupted.
        let is_longer = (0..20).any(|_| match Interrupts::measure(others).unwrap() {
            Ok(measured) => {
                assert_eq!(measured.further.is_some(), others.len() > 1);
                // Not even the fastest machines get from CPU to CPU and back in 50 ns.
                measured.first.typical > 50.0
            }
            // A kernel, or a sandbox, without membarrier.
            Err(_) => true,
        });
        assert!(is_longer);
    }
}
