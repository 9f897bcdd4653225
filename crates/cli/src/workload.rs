//! The recorded workload: a file, or the one that ships inside the program.

use std::io::{Cursor, Read};
use std::path::Path;

use anyhow::ensure;
use lazytlb::{Policy, Quirks};
use lazytlb_price::{PcidsOn, Replayed, Replays, price_trace_seen, price_trace_watched};
use lazytlb_trace::{CountedShootdowns, IdleStates, Snapshot, Step, Summary, TraceReader};
use lazytlb_validate::{Agreement, Validation};

use crate::arguments::Recording;
use crate::progress::Display;

/// The recording that `decide` takes if none is named: eight threads of one process that map and unmap.
const SHIPPED: &[u8] = include_bytes!("../../../traces/linux61-smp8-threads.trace.txt.xz");
const SHIPPED_NAME: &str = "linux61-smp8-threads.trace.txt.xz";
/// Where it comes from: whoever reads a price must know.
const SHIPPED_ORIGIN: &str = "shipped with this program: Linux 6.1 on 8 CPUs, a guest under emulation (QEMU TCG, \
                              no PCIDs); who did what is real, how long it took is not";
/// What `-` is called.
const STANDARD_INPUT: &str = "standard input";

/// A workload, replayed under some policies.
pub(crate) struct Workload {
    /// The file's name, as it was given.
    pub(crate) recording: String,
    /// What the recording is, for people.
    pub(crate) name: String,
    /// Each policy's counts, in the order asked for.
    pub(crate) replayed: Vec<Replayed>,
    /// What the reader found.
    pub(crate) summary: Summary,
    /// How far a replay of the recorded kernel's own rule agrees with it.
    pub(crate) agreement: Agreement,
}

/// What recordings are replayed under, and what is known of them besides.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) policies: &'a [Policy],
    pub(crate) pcids: &'a [PcidsOn],
    pub(crate) quirks: Quirks,
    pub(crate) recording: &'a Recording,
    pub(crate) names: Names,
}

/// Whether it is kept what tasks are called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Kept,
    /// Nobody asks, and reading is faster.
    NotKept,
}

/// Sees each step of a recording, and all replays after it.
pub(crate) type Watch<'w> = dyn FnMut(Step<'_>, &Replays<'_>) + 'w;

impl Workload {
    /// Replays a recording, or the shipped one; `which` says for the display which one of several it is.
    ///
    /// # Errors
    /// If it cannot be read, or contradicts itself and nobody said to go on all the same.
    pub(crate) fn replay(
        trace: Option<&Path>,
        asked: &Asked<'_>,
        which: &str,
        watch: Option<&mut Watch<'_>>,
    ) -> anyhow::Result<Workload> {
        let workload = replay_any(trace, asked, which, watch)?;
        let contradictions = workload.agreement.contradictions();
        ensure!(
            contradictions.is_empty() || asked.recording.unvalidated,
            "{}: the recording contradicts a replay of its own kernel's rule, so no price of it can be trusted:\n  {}\n\
             `lazytlb validate` tells where; `--unvalidated` goes on all the same",
            workload.name,
            contradictions.join("\n  ")
        );
        Ok(workload)
    }

    /// Returns what there is to doubt: what the reader found, and what the replay of the kernel's own rule did.
    pub(crate) fn warnings(&self) -> Vec<String> {
        [self.summary.warnings(), self.agreement.doubts()].concat()
    }
}

fn replay_any(
    trace: Option<&Path>,
    asked: &Asked<'_>,
    which: &str,
    watch: Option<&mut Watch<'_>>,
) -> anyhow::Result<Workload> {
    let Some(path) = trace else {
        let reader = TraceReader::new(Cursor::new(SHIPPED), SHIPPED_NAME)?;
        let workload = read(reader, SHIPPED_NAME.to_owned(), asked, which, watch)?;
        let name = format!("{SHIPPED_NAME}, {SHIPPED_ORIGIN}");
        return Ok(Workload { name, ..workload });
    };
    let name = named(path);
    match is_standard_input(path) {
        true => {
            let reader = TraceReader::new(std::io::stdin().lock(), name.clone())?;
            read(reader, name, asked, which, watch)
        }
        false => {
            let reader = TraceReader::open(path)?;
            read(reader, name, asked, which, watch)
        }
    }
}

/// Says whether an argument means standard input.
pub(crate) fn is_standard_input(path: &Path) -> bool {
    path == Path::new("-")
}

/// Returns what a recording is called: the file's name, as it was given.
pub(crate) fn named(path: &Path) -> String {
    match is_standard_input(path) {
        true => STANDARD_INPUT.to_owned(),
        false => path.display().to_string(),
    }
}

fn read<R: Read>(
    reader: TraceReader<R>,
    name: String,
    asked: &Asked<'_>,
    which: &str,
    watch: Option<&mut Watch<'_>>,
) -> anyhow::Result<Workload> {
    let reader = opened(reader, asked.recording)?;
    let mut reader = match asked.names {
        Names::Kept => reader.with_task_names(),
        Names::NotKept => reader,
    };
    let display = Display::new(format!("replaying{which}"));
    let mut validation = Validation::of_cpus_below(reader.summary().cpus_below)
        .of_kernel(reader.summary().kernel.as_deref());
    let progress = |progress| display.replay(progress);
    let Asked {
        policies,
        pcids,
        quirks,
        ..
    } = *asked;
    let replayed = match watch {
        Some(watch) => {
            let see = |step: Step<'_>, replays: &Replays<'_>| {
                validation.step(step);
                watch(step, replays);
            };
            price_trace_watched(&mut reader, policies, pcids, quirks, progress, see)?
        }
        None => {
            let see = |step: Step<'_>| validation.step(step);
            price_trace_seen(&mut reader, policies, pcids, quirks, progress, see)?
        }
    };
    let summary = reader.summary().clone();
    let mut agreement = validation.finish();
    if let Some(counted) = counted_shootdowns(&summary) {
        agreement.count(counted);
    }
    Ok(Workload {
        recording: name.clone(),
        name,
        replayed,
        summary,
        agreement,
    })
}

/// Returns how many shootdowns the recording's own counters of interrupts tell.
pub(crate) fn counted_shootdowns(summary: &Summary) -> Option<u64> {
    match summary.counted_shootdowns {
        Some(CountedShootdowns::Known(count)) => Some(count),
        Some(CountedShootdowns::Unknown(_)) | None => None,
    }
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
    if let Some(states) = &recording.idle_states {
        reader = reader.with_idle_states(IdleStates::open(states)?);
    }
    if recording.partial {
        reader = reader.accept_partial();
    }
    Ok(reader)
}
