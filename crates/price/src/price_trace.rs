//! One pass over a recording, several policies.

use std::io::Read;

use lazytlb::{Policy, Quirks, Tables};
use lazytlb_trace::{Event, Kind, MadeFrom, Operation, Step, Summary, TraceError, TraceReader};

use crate::counts::Counts;
use crate::machine::PcidsOn;
use crate::replay::{Replay, ReplayError};
use crate::sleep::Sleep;

/// Operations between two reports of progress: some milliseconds of work.
const PROGRESS_INTERVAL: u64 = 4096;

/// Steps that one replay is given at a time: as many as stay in a core's first cache beside its state.
const BATCH: usize = 256;

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
    /// not, and counts need not lie in between then. Under `quarantine` it is always there: each flush that frees page tables frees as
    /// many as its range may have, and one in `counts`.
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
    /// The same, as if they freed them; `None` where nothing is unknown.
    pub freed: &'a [Option<Replay>],
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
    let mut pass = Pass::new(policies, pcids, quirks);
    let mut batch = Vec::with_capacity(BATCH);
    let ended = loop {
        let step = match reader.next_step() {
            Ok(Some(step)) => step,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        see(&step);
        batch.extend(Replayable::of(&step, reader.summary()));
        if batch.len() == BATCH {
            pass.apply(&batch, Known::so_far(reader.summary()))?;
            batch.clear();
            pass.report(reader, &mut progress);
        }
    };
    // What was read before an error comes before it.
    pass.apply(&batch, Known::so_far(reader.summary()))?;
    ended?;
    pass.report_now(reader, &mut progress);
    Ok(pass.finish(reader.summary()))
}

/// As [`price_trace_seen`], and shows with each step the replays after it. Takes longer: no replay can go ahead of the others.
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
    let mut pass = Pass::new(policies, pcids, quirks);
    while let Some(step) = reader.next_step()? {
        if let Some(one) = Replayable::of(&step, reader.summary()) {
            pass.apply(&[one], Known::so_far(reader.summary()))?;
            pass.report(reader, &mut progress);
        }
        watch(&step, &pass.shown());
    }
    pass.report_now(reader, &mut progress);
    Ok(pass.finish(reader.summary()))
}

/// What a replay is told of a step.
enum Replayable {
    Operation(Operation),
    /// How deep a CPU sleeps from here on.
    Sleep(u16, Sleep),
}

impl Replayable {
    #[inline]
    fn of(step: &Step, summary: &Summary) -> Option<Replayable> {
        match step {
            Step::Operation(operation) => Some(Replayable::Operation(*operation)),
            Step::Event(event) => {
                let sleep = sleep_after(event, summary)?;
                Some(Replayable::Sleep(event.cpu, sleep))
            }
        }
    }
}

/// Whether operations may leave something unknown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Everything,
    /// Tables without kprobes; with them, whether a lazy CPU idles, without `sched_switch`.
    NotEverything,
}

impl Known {
    fn so_far(summary: &Summary) -> Known {
        match summary.made_from {
            MadeFrom::Kprobes if summary.events_named("sched_switch") > 0 => Known::Everything,
            MadeFrom::Kprobes | MadeFrom::Tracepoints => Known::NotEverything,
        }
    }
}

/// The replays of one recording.
struct Pass {
    kept: Vec<Replay>,
    /// `None` once it is known that nothing is unknown: nobody replays twice what is known.
    freed: Vec<Option<Replay>>,
    operations: u64,
    reported: u64,
}

impl Pass {
    fn new(policies: &[Policy], pcids: &[PcidsOn], quirks: Quirks) -> Pass {
        let replays = |unknown_tables| {
            let settings = policies
                .iter()
                .flat_map(|&policy| pcids.iter().map(move |&on| (policy, on)));
            settings.map(move |(policy, on)| {
                Replay::on(policy, quirks, on).with_unknown_tables(unknown_tables)
            })
        };
        Pass {
            kept: replays(Tables::Kept).collect(),
            freed: replays(Tables::Freed).map(Some).collect(),
            operations: 0,
            reported: 0,
        }
    }

    /// Replays some steps, each replay all of them before the next: its state stays in the processor's caches.
    fn apply(&mut self, steps: &[Replayable], known: Known) -> Result<(), PriceError> {
        let is_operation = |step: &&Replayable| matches!(step, Replayable::Operation(_));
        let operations = steps.iter().filter(is_operation).count() as u64;
        if self.operations == 0 && operations > 0 && known == Known::Everything {
            self.nothing_else_is_unknown();
        }
        for replay in self.kept.iter_mut().chain(self.freed.iter_mut().flatten()) {
            let mut number = self.operations;
            for step in steps {
                match *step {
                    Replayable::Sleep(cpu, sleep) => replay.sleep(cpu, sleep),
                    Replayable::Operation(ref operation) => {
                        number += 1;
                        let applied = replay.apply(operation);
                        applied.map_err(|source| PriceError::Replay {
                            operation: number,
                            source,
                        })?;
                    }
                }
            }
        }
        self.operations += operations;
        Ok(())
    }

    fn shown(&self) -> Replays<'_> {
        Replays {
            kept: &self.kept,
            freed: &self.freed,
        }
    }

    /// Ends the replays at the other end of what is unknown, but for those of a policy that asks for what no recording tells.
    fn nothing_else_is_unknown(&mut self) {
        for replay in &mut self.freed {
            replay.take_if(|replay| replay.policy() != Policy::Quarantine);
        }
    }

    fn report<R: Read>(&mut self, reader: &TraceReader<R>, progress: &mut impl FnMut(Progress)) {
        if self.operations - self.reported >= PROGRESS_INTERVAL {
            self.report_now(reader, progress);
        }
    }

    fn report_now<R: Read>(
        &mut self,
        reader: &TraceReader<R>,
        progress: &mut impl FnMut(Progress),
    ) {
        self.reported = self.operations;
        progress(Progress {
            operations: self.operations,
            bytes_read: reader.bytes_read(),
        });
    }

    fn finish(mut self, summary: &Summary) -> Vec<Replayed> {
        // With kprobes, tables are known; and of each lazy CPU, some event may have told whether it idles.
        let known = summary.made_from == MadeFrom::Kprobes && summary.unknown_onto == 0;
        if known || self.operations == 0 {
            self.nothing_else_is_unknown();
        }
        let replays = self.kept.into_iter().zip(self.freed);
        let replayed = replays.map(|(replay, freed)| Replayed {
            policy: replay.policy(),
            pcids: replay.pcids(),
            counts: replay.finish(),
            counts_if_freed: freed.map(Replay::finish),
        });
        replayed.collect()
    }
}

/// How deep a CPU sleeps after an event, if that tells and the machine's idle states are known.
#[inline]
fn sleep_after(event: &Event, summary: &Summary) -> Option<Sleep> {
    let Kind::CpuIdle { state } = event.kind else {
        return None;
    };
    let states = summary.idle_states.as_ref()?;
    Some(Sleep::after_event(state, event.cpu, states))
}
