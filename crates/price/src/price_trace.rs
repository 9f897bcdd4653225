//! One pass over a recording, several policies.

use std::io::Read;

use lazytlb::{Policy, Quirks, Tables};
use lazytlb_trace::{MadeFrom, Operation, Step, TraceError, TraceReader};

use crate::counts::Counts;
use crate::machine::PcidsOn;
use crate::replay::{Replay, ReplayError};

/// Operations between two reports of progress: some milliseconds of work.
const PROGRESS_INTERVAL: u64 = 4096;

/// Operations that one replay is given at a time: as many as stay in a core's first cache beside its state. A part of the interval.
const BATCH: usize = 256;

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
    price_trace_seen(reader, policies, pcids, quirks, progress, |_| {})
}

/// As [`price_trace_on`], and shows each step of the recording to `see` in the same pass.
///
/// # Errors
/// As [`price_trace_on`].
pub fn price_trace_seen<R: Read>(
    reader: &mut TraceReader<R>,
    policies: &[Policy],
    pcids: &[PcidsOn],
    quirks: Quirks,
    mut progress: impl FnMut(Progress),
    mut see: impl FnMut(&Step),
) -> Result<Vec<Replayed>, PriceError> {
    let mut replays = Replays::new(policies, pcids, quirks);
    let mut batch = Vec::with_capacity(BATCH);
    let ended = loop {
        let step = match reader.next_step() {
            Ok(Some(step)) => step,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        see(&step);
        let Step::Operation(operation) = step else {
            continue;
        };
        batch.push(operation);
        if batch.len() == BATCH {
            replays.apply(&batch, reader.summary().made_from)?;
            batch.clear();
            replays.report(reader, &mut progress);
        }
    };
    // What was read before an error comes before it.
    replays.apply(&batch, reader.summary().made_from)?;
    ended?;
    replays.report_now(reader, &mut progress);
    Ok(replays.finish())
}

/// As [`price_trace_seen`], and shows with each step the replays after it, in the order of the answer: where a recording leaves
/// unknown which flushes free tables, those in which none does. Takes longer: no replay can go ahead of the others.
///
/// # Errors
/// As [`price_trace_on`].
pub fn price_trace_watched<R: Read>(
    reader: &mut TraceReader<R>,
    policies: &[Policy],
    pcids: &[PcidsOn],
    quirks: Quirks,
    mut progress: impl FnMut(Progress),
    mut watch: impl FnMut(&Step, &[Replay]),
) -> Result<Vec<Replayed>, PriceError> {
    let mut replays = Replays::new(policies, pcids, quirks);
    while let Some(step) = reader.next_step()? {
        if let Step::Operation(operation) = step {
            replays.apply(&[operation], reader.summary().made_from)?;
            replays.report(reader, &mut progress);
        }
        watch(&step, &replays.kept);
    }
    replays.report_now(reader, &mut progress);
    Ok(replays.finish())
}

/// The replays of one recording.
struct Replays {
    kept: Vec<Replay>,
    /// `None` while nothing is unknown: nobody replays twice what is known.
    freed: Option<Vec<Replay>>,
    quirks: Quirks,
    operations: u64,
}

impl Replays {
    fn new(policies: &[Policy], pcids: &[PcidsOn], quirks: Quirks) -> Replays {
        let settings = policies
            .iter()
            .flat_map(|&policy| pcids.iter().map(move |&on| (policy, on)));
        let replays = settings.map(|(policy, on)| Replay::on(policy, quirks, on));
        Replays {
            kept: replays.collect(),
            freed: None,
            quirks,
            operations: 0,
        }
    }

    /// Replays operations, each replay all of them before the next: its state stays in the processor's caches.
    fn apply(&mut self, operations: &[Operation], made_from: MadeFrom) -> Result<(), PriceError> {
        if self.operations == 0 && made_from == MadeFrom::Tracepoints {
            let again = |kept: &Replay| {
                Replay::on(kept.policy(), self.quirks, kept.pcids())
                    .with_unknown_tables(Tables::Freed)
            };
            self.freed = Some(self.kept.iter().map(again).collect());
        }
        for replay in self.kept.iter_mut().chain(self.freed.iter_mut().flatten()) {
            for (operation, number) in operations.iter().zip(self.operations + 1..) {
                let applied = replay.apply(operation);
                applied.map_err(|source| PriceError::Replay {
                    operation: number,
                    source,
                })?;
            }
        }
        self.operations += operations.len() as u64;
        Ok(())
    }

    fn report<R: Read>(&self, reader: &TraceReader<R>, progress: &mut impl FnMut(Progress)) {
        if self.operations.is_multiple_of(PROGRESS_INTERVAL) {
            self.report_now(reader, progress);
        }
    }

    fn report_now<R: Read>(&self, reader: &TraceReader<R>, progress: &mut impl FnMut(Progress)) {
        progress(Progress {
            operations: self.operations,
            bytes_read: reader.bytes_read(),
        });
    }

    fn finish(self) -> Vec<Replayed> {
        let mut freed = self.freed.into_iter().flatten();
        let replayed = self.kept.into_iter().map(|replay| Replayed {
            policy: replay.policy(),
            pcids: replay.pcids(),
            counts: replay.finish(),
            counts_if_freed: freed.next().map(Replay::finish),
        });
        replayed.collect()
    }
}
