//! The recorded workload: a file, or the one that ships inside the program.

use std::io::{Cursor, Read};
use std::path::Path;

use anyhow::ensure;
use lazytlb::{Policy, Quirks};
use lazytlb_price::{PcidsOn, Replay, Replayed, price_trace_seen, price_trace_watched};
use lazytlb_trace::{Operation, Snapshot, Step, Summary, TraceReader};
use lazytlb_validate::{Agreement, Validation};

use crate::arguments::Recording;

use crate::progress::Display;

/// The recording that `decide` takes if none is named: eight threads of one process that map and unmap.
const SHIPPED: &[u8] = include_bytes!("../../../traces/linux61-smp8-threads.trace.txt.xz");
const SHIPPED_NAME: &str = "linux61-smp8-threads.trace.txt.xz";
/// Where it comes from: whoever reads a price must know.
const SHIPPED_ORIGIN: &str = "shipped with this program: Linux 6.1 on 8 CPUs, a guest under emulation (QEMU TCG, \
                              no PCIDs); who did what is real, how long it took is not";

/// A workload, replayed under some policies.
pub(crate) struct Workload {
    /// What the recording is, for people.
    pub(crate) name: String,
    /// Each policy's counts, in the order asked for.
    pub(crate) replayed: Vec<Replayed>,
    /// What the reader found.
    pub(crate) summary: Summary,
    /// How far a replay of the recorded kernel's own rule agrees with it.
    pub(crate) agreement: Agreement,
}

/// Replays a recording, or the shipped one, under policies.
pub(crate) fn replay(
    trace: Option<&Path>,
    policies: &[Policy],
    pcids: &[PcidsOn],
    quirks: Quirks,
    recording: &Recording,
) -> anyhow::Result<Workload> {
    replay_with(trace, policies, pcids, quirks, recording, None)
}

/// Sees each operation, and all replays after it.
pub(crate) type Watch<'w> = dyn FnMut(&Operation, &[Replay]) + 'w;

/// As [`replay`], watched.
pub(crate) fn replay_watched(
    trace: Option<&Path>,
    policies: &[Policy],
    pcids: &[PcidsOn],
    quirks: Quirks,
    recording: &Recording,
    watch: &mut Watch<'_>,
) -> anyhow::Result<Workload> {
    replay_with(trace, policies, pcids, quirks, recording, Some(watch))
}

fn replay_with(
    trace: Option<&Path>,
    policies: &[Policy],
    pcids: &[PcidsOn],
    quirks: Quirks,
    recording: &Recording,
    watch: Option<&mut Watch<'_>>,
) -> anyhow::Result<Workload> {
    let workload = replay_any(trace, policies, pcids, quirks, recording, watch)?;
    let contradictions = workload.agreement.contradictions();
    ensure!(
        contradictions.is_empty() || recording.unvalidated,
        "{}: the recording contradicts a replay of its own kernel's rule, so no price of it can be trusted:\n  {}\n\
         `lazytlb validate` tells where; `--unvalidated` goes on all the same",
        workload.name,
        contradictions.join("\n  ")
    );
    Ok(workload)
}

fn replay_any(
    trace: Option<&Path>,
    policies: &[Policy],
    pcids: &[PcidsOn],
    quirks: Quirks,
    recording: &Recording,
    watch: Option<&mut Watch<'_>>,
) -> anyhow::Result<Workload> {
    match trace {
        Some(path) if path == Path::new("-") => {
            let name = "standard input";
            read(
                opened(TraceReader::new(std::io::stdin().lock(), name)?, recording)?,
                name.to_owned(),
                policies,
                pcids,
                quirks,
                watch,
            )
        }
        Some(path) => read(
            opened(TraceReader::open(path)?, recording)?,
            path.display().to_string(),
            policies,
            pcids,
            quirks,
            watch,
        ),
        None => {
            let reader = TraceReader::new(Cursor::new(SHIPPED), SHIPPED_NAME)?;
            read(
                reader,
                format!("{SHIPPED_NAME}, {SHIPPED_ORIGIN}"),
                policies,
                pcids,
                quirks,
                watch,
            )
        }
    }
}

fn read<R: Read>(
    mut reader: TraceReader<R>,
    name: String,
    policies: &[Policy],
    pcids: &[PcidsOn],
    quirks: Quirks,
    watch: Option<&mut Watch<'_>>,
) -> anyhow::Result<Workload> {
    let display = Display::new("replaying".to_owned());
    let mut validation = Validation::new().of_kernel(reader.summary().kernel.as_deref());
    let progress = |progress| display.replay(progress);
    let replayed = match watch {
        Some(watch) => {
            let see = |step: &Step, replays: &[Replay]| {
                validation.step(step);
                if let Step::Operation(operation) = step {
                    watch(operation, replays);
                }
            };
            price_trace_watched(&mut reader, policies, pcids, quirks, progress, see)?
        }
        None => {
            let see = |step: &Step| validation.step(step);
            price_trace_seen(&mut reader, policies, pcids, quirks, progress, see)?
        }
    };
    Ok(Workload {
        name,
        replayed,
        summary: reader.summary().clone(),
        agreement: validation.finish(),
    })
}

/// Tells a reader what the command line says of the recording.
pub(crate) fn opened<R: Read>(
    mut reader: TraceReader<R>,
    recording: &Recording,
) -> anyhow::Result<TraceReader<R>> {
    if let Some(file) = &reader.summary().temporary_file {
        eprintln!(
            "note: decompressed into {}, which is removed at the end",
            file.display()
        );
    }
    if let Some(tasks) = &recording.tasks {
        reader = reader.with_tasks(Snapshot::open(tasks)?);
    }
    if recording.partial {
        reader = reader.accept_partial();
    }
    Ok(reader)
}
