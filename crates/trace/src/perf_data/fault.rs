//! What can go wrong with a file.

use crate::bytes::Fault;
use crate::dat_problem::TraceDatProblem;
use crate::error::{LineProblem, TraceError};
use crate::perf_problem::PerfDataProblem;

/// Why records are not to be had.
#[derive(Debug)]
pub(super) enum PerfFault {
    /// The file.
    File(Fault),
    /// What stands at this byte.
    Problem(u64, PerfDataProblem),
    /// An event of this CPU, before this byte.
    Event(u64, u16, LineProblem),
}

impl From<Fault> for PerfFault {
    fn from(fault: Fault) -> Self {
        PerfFault::File(fault)
    }
}

impl PerfFault {
    /// Says that something cannot be right.
    #[cold]
    pub(super) fn damaged(offset: u64, what: &'static str) -> Self {
        PerfFault::Problem(offset, TraceDatProblem::Damaged(what).into())
    }

    /// Names the file.
    #[cold]
    pub(super) fn of(self, file: &str) -> TraceError {
        let (offset, problem) = match self {
            PerfFault::File(Fault::Dat(offset, problem)) => (offset, problem.into()),
            PerfFault::Problem(offset, problem) => (offset, problem),
            PerfFault::Event(offset, cpu, problem) => {
                let file = file.to_owned();
                return TraceError::Sample {
                    file,
                    cpu,
                    offset,
                    problem,
                };
            }
            PerfFault::File(read) => return read.of(file),
        };
        TraceError::PerfData {
            file: file.to_owned(),
            offset,
            problem,
        }
    }
}
