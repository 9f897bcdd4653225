//! One pass over a recording, several policies.

use std::io::Read;

use lazytlb::{Policy, Quirks, Tables};
use lazytlb_trace::{MadeFrom, Step, TraceError, TraceReader};

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
    /// What it made the machine do. Where it is unknown of flushes whether they free page tables, as if they kept them.
    pub counts: Counts,
    /// The same, as if they freed them; `None` if the recording leaves nothing unknown. No bound: some may free and some
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

/// Shows the replays of a pass.
#[derive(Clone, Copy)]
pub struct Replays<'a> {
    /// In the order of the answer; where it is unknown of flushes whether they free page tables, as if they kept them.
    pub kept: &'a [Replay],
    /// The same, as if they freed them; none where nothing is unknown.
    pub freed: &'a [Replay],
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
    price_trace_watched(reader, policies, pcids, quirks, progress, |_, _| {})
}

/// As [`price_trace_on`], and shows each step of the recording to `watch` in the same pass, with the replays after it.
///
/// # Errors
/// As [`price_trace_on`].
pub fn price_trace_watched<R: Read>(
    reader: &mut TraceReader<R>,
    policies: &[Policy],
    pcids: &[PcidsOn],
    quirks: Quirks,
    mut progress: impl FnMut(Progress),
    mut watch: impl FnMut(&Step, &Replays<'_>),
) -> Result<Vec<Replayed>, PriceError> {
    let replays = |unknown_tables| {
        let settings = policies
            .iter()
            .flat_map(|&policy| pcids.iter().map(move |&on| (policy, on)));
        let replay =
            |(policy, on)| Replay::on(policy, quirks, on).with_unknown_tables(unknown_tables);
        settings.map(replay).collect::<Vec<_>>()
    };
    let mut kept = replays(Tables::Kept);
    // Nobody replays what is known twice.
    let mut freed: Option<Vec<Replay>> = None;
    let mut operations = 0;
    while let Some(step) = reader.next_step()? {
        let Step::Operation(operation) = step else {
            watch(&step, &shown(&kept, freed.as_deref()));
            continue;
        };
        if operations == 0 && reader.summary().made_from == MadeFrom::Tracepoints {
            freed = Some(replays(Tables::Freed));
        }
        operations += 1;
        for replay in kept.iter_mut().chain(freed.iter_mut().flatten()) {
            let applied = replay.apply(&operation);
            applied.map_err(|source| PriceError::Replay {
                operation: operations,
                source,
            })?;
        }
        watch(&step, &shown(&kept, freed.as_deref()));
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
    let mut freed = freed.into_iter().flatten();
    let replayed = kept.into_iter().map(|replay| Replayed {
        policy: replay.policy(),
        pcids: replay.pcids(),
        counts: replay.finish(),
        counts_if_freed: freed.next().map(Replay::finish),
    });
    Ok(replayed.collect())
}

fn shown<'a>(kept: &'a [Replay], freed: Option<&'a [Replay]>) -> Replays<'a> {
    Replays {
        kept,
        freed: freed.unwrap_or_default(),
    }
}
