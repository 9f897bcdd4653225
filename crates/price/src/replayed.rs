//! What a pass over a recording returns, and tells meanwhile.

use lazytlb::Policy;
use lazytlb_trace::TraceError;

use crate::counts::Counts;
use crate::pcids_on::PcidsOn;
use crate::requests::ReplayError;

/// Holds what one policy did on a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replayed {
    /// The policy.
    pub policy: Policy,
    /// Whether the CPUs that it ran on had PCIDs.
    pub pcids: PcidsOn,
    /// What it made the machine do. Where it is unknown of flushes whether they free page tables, as if they kept them; of
    /// lazy CPUs whether they idle, as if they ran kernel threads.
    pub counts: Counts,
    /// The same, as if they freed them, and idled; `None` if the recording leaves nothing unknown. No bound: some may free and some
    /// not, and counts need not lie in between then.
    pub counts_if_freed: Option<Counts>,
}

impl Replayed {
    /// The same, as if all flushes freed page tables of which it is unknown.
    pub fn if_freed(self) -> Replayed {
        let counts = self.counts_if_freed.unwrap_or(self.counts);
        Replayed { counts, ..self }
    }
}

/// Says how far a pass has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Operations that every policy has replayed.
    pub operations: u64,
    /// Bytes of the (compressed) recording that were used.
    pub bytes_read: u64,
}

/// Says why a recording cannot be priced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PriceError {
    /// The recording cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// An operation of it cannot be replayed.
    #[error("operation {operation} of the recording: {source}")]
    Replay {
        /// Its number, from 1.
        operation: u64,
        /// What is wrong with it.
        source: ReplayError,
    },
}
