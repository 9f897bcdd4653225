//! One pass over a recording, several policies.

use std::io::Read;

use lazytlb::{Policy, Quirks};
use lazytlb_trace::{Step, TraceReader};

use crate::pass::{Pass, Replays};
use crate::pcids_on::PcidsOn;
use crate::replayed::{PriceError, Progress, Replayed};
use crate::replayer::Capacity;

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
    mut see: impl FnMut(Step<'_>),
) -> Result<Vec<Replayed>, PriceError> {
    let capacity = Capacity::of_cpus_below(reader.summary().cpus_below);
    let mut pass = Pass::new(policies, pcids, quirks, capacity);
    let ended = loop {
        match reader.advance() {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
        let step = reader.step();
        see(step);
        pass.push(step, reader.summary())?;
        if pass.is_full() {
            pass.replay(reader.summary());
            pass.report(reader, &mut progress);
        }
    };
    // What was read before an error comes before it.
    pass.replay(reader.summary());
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
    mut watch: impl FnMut(Step<'_>, &Replays<'_>),
) -> Result<Vec<Replayed>, PriceError> {
    let capacity = Capacity::of_cpus_below(reader.summary().cpus_below);
    let mut pass = Pass::new(policies, pcids, quirks, capacity);
    while reader.advance()? {
        let step = reader.step();
        pass.push(step, reader.summary())?;
        pass.replay(reader.summary());
        watch(step, &pass.shown());
        pass.report(reader, &mut progress);
    }
    pass.report_now(reader, &mut progress);
    Ok(pass.finish(reader.summary()))
}
