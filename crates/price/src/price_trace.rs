//! One pass over a recording, several policies.

use std::io::Read;

use lazytlb::{Policy, Quirks};
use lazytlb_trace::{Operation, TraceError, TraceReader};

use crate::counts::Counts;
use crate::machine::PcidsOn;
use crate::replay::{Replay, ReplayError};

/// Operations between two reports of progress: some milliseconds of work.
const PROGRESS_INTERVAL: u64 = 4096;

/// Holds what one policy did on a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replayed {
    /// The policy.
    pub policy: Policy,
    /// Whether the CPUs that it ran on had PCIDs.
    pub pcids: PcidsOn,
    /// What it made the machine do.
    pub counts: Counts,
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

/// Reads a recording once and replays it under each of these policies, on CPUs without PCIDs; the answer keeps their
/// order.
///
/// # Errors
/// As [`price_trace_on`].
pub fn price_trace<R: Read>(
    reader: &mut TraceReader<R>,
    policies: &[Policy],
    quirks: Quirks,
    progress: impl FnMut(Progress),
) -> Result<Vec<Replayed>, PriceError> {
    price_trace_on(reader, policies, &[PcidsOn::No], quirks, progress)
}

/// Reads a recording once and replays it under each of these policies, on each of these kinds of CPUs. The answer keeps
/// their order: the first policy on all CPUs, then the second.
///
/// `progress` is called every few thousand operations, and once at the end. The reader's summary
/// afterwards tells how the recorded kernel itself reacted.
///
/// # Errors
/// If the recording cannot be read to its end, or names more CPUs than a replay has.
pub fn price_trace_on<R: Read>(
    reader: &mut TraceReader<R>,
    policies: &[Policy],
    pcids: &[PcidsOn],
    quirks: Quirks,
    progress: impl FnMut(Progress),
) -> Result<Vec<Replayed>, PriceError> {
    price_trace_watched(reader, policies, pcids, quirks, progress, |_, _| ())
}

/// As [`price_trace_on`]; `watch` is called after each operation, with all replays, in the order of the answer.
///
/// # Errors
/// As [`price_trace_on`].
pub fn price_trace_watched<R: Read>(
    reader: &mut TraceReader<R>,
    policies: &[Policy],
    pcids: &[PcidsOn],
    quirks: Quirks,
    mut progress: impl FnMut(Progress),
    mut watch: impl FnMut(&Operation, &[Replay]),
) -> Result<Vec<Replayed>, PriceError> {
    let mut replays: Vec<Replay> = policies
        .iter()
        .flat_map(|&policy| pcids.iter().map(move |&on| Replay::on(policy, quirks, on)))
        .collect();
    let mut operations = 0;
    while let Some(operation) = reader.next_operation()? {
        operations += 1;
        for replay in &mut replays {
            let applied = replay.apply(&operation);
            applied.map_err(|source| PriceError::Replay {
                operation: operations,
                source,
            })?;
        }
        watch(&operation, &replays);
        if operations % PROGRESS_INTERVAL == 0 {
            progress(Progress {
                operations,
                bytes_read: reader.bytes_read(),
            });
        }
    }
    progress(Progress {
        operations,
        bytes_read: reader.bytes_read(),
    });
    let replayed = replays.into_iter().map(|replay| Replayed {
        policy: replay.policy(),
        pcids: replay.pcids(),
        counts: replay.finish(),
    });
    Ok(replayed.collect())
}
