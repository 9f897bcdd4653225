//! Why nothing can be measured.

use std::io;

/// Says why nothing can be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// A thread cannot be kept on a CPU.
    #[error("a thread cannot be kept on a CPU: {0}; allow this process its CPUs (`taskset -p`)")]
    Affinity(nix::errno::Errno),
    /// Memory cannot be mapped.
    #[error("memory cannot be mapped: {0}; free some, or raise `ulimit -v`")]
    Map(io::Error),
    /// A memory barrier fails that the kernel had agreed to.
    #[error("membarrier fails after it was registered: {0}; see whether a sandbox forbids it")]
    Barrier(io::Error),
}
