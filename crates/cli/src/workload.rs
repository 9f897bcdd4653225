//! The recorded workload: a file, or the one that ships inside the program.

use std::io::{Cursor, Read};
use std::path::Path;

use lazytlb::{Policy, Quirks};
use lazytlb_price::{PcidsOn, Replay, Replayed, price_trace_watched};
use lazytlb_trace::{Operation, Summary, TraceReader};

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
}

/// Replays a recording, or the shipped one, under policies.
pub(crate) fn replay(
    trace: Option<&Path>,
    policies: &[Policy],
    pcids: &[PcidsOn],
    quirks: Quirks,
) -> anyhow::Result<Workload> {
    replay_watched(trace, policies, pcids, quirks, &mut |_, _| ())
}

/// Sees each operation, and all replays after it.
pub(crate) type Watch<'w> = dyn FnMut(&Operation, &[Replay]) + 'w;

/// As [`replay`], watched.
pub(crate) fn replay_watched(
    trace: Option<&Path>,
    policies: &[Policy],
    pcids: &[PcidsOn],
    quirks: Quirks,
    watch: &mut Watch<'_>,
) -> anyhow::Result<Workload> {
    match trace {
        Some(path) if path == Path::new("-") => {
            let name = "standard input";
            read(
                TraceReader::new(std::io::stdin().lock(), name)?,
                name.to_owned(),
                policies,
                pcids,
                quirks,
                watch,
            )
        }
        Some(path) => read(
            TraceReader::open(path)?,
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
    watch: &mut Watch<'_>,
) -> anyhow::Result<Workload> {
    let display = Display::new("replaying".to_owned());
    let progress = |progress| display.replay(progress);
    let replayed = price_trace_watched(&mut reader, policies, pcids, quirks, progress, watch)?;
    Ok(Workload {
        name,
        replayed,
        summary: reader.summary().clone(),
    })
}
