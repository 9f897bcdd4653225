//! Several recordings in one call, of several hosts: each by itself, and all of them together.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use lazytlb_price::Replayed;
use lazytlb_trace::{Summary, TraceError};

use crate::arguments::Recording;
use crate::workload::{Asked, Watch, Workload, is_standard_input, named};

/// The workloads of a call.
pub(crate) struct Workloads {
    /// One for each recording, in the order of the arguments; not empty.
    pub(crate) each: Vec<Workload>,
    /// What the policies did on all recordings together.
    pub(crate) sum: Vec<Replayed>,
}

impl Workloads {
    /// Replays recordings one after the other, each in one pass; the shipped one, if none is named. The first one is
    /// watched, if somebody wants to.
    ///
    /// # Errors
    /// If one cannot be read or contradicts itself; nothing is answered of the others then.
    pub(crate) fn replay(
        traces: &[PathBuf],
        asked: &Asked<'_>,
        watch_first: Option<&mut Watch<'_>>,
    ) -> anyhow::Result<Workloads> {
        require_distinct(traces, asked.recording)?;
        let (mut each, mut watch_first) = (Vec::new(), watch_first);
        if traces.is_empty() {
            each.push(Workload::replay(None, asked, "", watch_first.take())?);
        }
        for (place, trace) in traces.iter().enumerate() {
            let which = which(traces, place);
            let watch = watch_first.take();
            each.push(Workload::replay(Some(trace), asked, &which, watch)?);
        }
        let tables = each.iter().map(|one| &one.replayed[..]);
        let sum = Replayed::sum(&tables.collect::<Vec<_>>());
        Ok(Workloads { each, sum })
    }

    /// Says whether there is more than one recording, so that a sum tells something.
    pub(crate) fn are_several(&self) -> bool {
        self.each.len() > 1
    }

    /// The events of all recordings.
    pub(crate) fn events(&self) -> u64 {
        self.each.iter().map(|one| one.summary.events).sum()
    }

    /// What the reader found, of each recording.
    pub(crate) fn summaries(&self) -> Vec<&Summary> {
        self.each.iter().map(|one| &one.summary).collect()
    }

    /// What the reader has doubts about, of all recordings; with several, each doubt names its own.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let named = |one: &Workload| {
            let of = match self.are_several() {
                true => format!("{}: ", one.recording),
                false => String::new(),
            };
            let warnings = one.warnings().into_iter();
            warnings
                .map(|warning| format!("{of}{warning}"))
                .collect::<Vec<_>>()
        };
        self.each.iter().flat_map(named).collect()
    }

    /// Short names for columns: those of the files, and where two of these are alike, as they were given.
    pub(crate) fn labels(&self) -> Vec<String> {
        labels(self.each.iter().map(|one| one.recording.as_str()))
    }
}

/// Says for a display which one of several recordings is read: ` a.trace.xz (2 of 3)`.
pub(crate) fn which(traces: &[PathBuf], place: usize) -> String {
    match traces.len() {
        0 | 1 => String::new(),
        several => format!(" {} ({} of {several})", named(&traces[place]), place + 1),
    }
}

fn labels<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let short = |name: &'a str| {
        let file = Path::new(name).file_name().and_then(|file| file.to_str());
        file.unwrap_or(name)
    };
    let mut times: HashMap<&str, usize> = HashMap::new();
    for name in names.clone() {
        *times.entry(short(name)).or_default() += 1;
    }
    let label = |name: &'a str| match times[short(name)] {
        1 => short(name).to_owned(),
        _ => name.to_owned(),
    };
    names.map(label).collect()
}

/// Refuses recordings of which two are the same file: a sum would count it twice. Also finds before the work begins
/// whether one is missing.
///
/// # Errors
/// If two are the same, or one is not there; or if `--tasks` is given, which is about one machine, for several.
pub(crate) fn require_distinct(traces: &[PathBuf], recording: &Recording) -> anyhow::Result<()> {
    if traces.len() < 2 {
        return Ok(());
    }
    ensure!(
        recording.tasks.is_none(),
        "--tasks tells the tasks of one recording, and {} are named: take that one in a call of its own",
        traces.len()
    );
    let mut seen: HashMap<(u64, u64), &Path> = HashMap::new();
    for trace in traces {
        // Other names of the same file count as well: links, and `-` for what standard input comes from.
        let file = match is_standard_input(trace) {
            true => Path::new("/dev/stdin"),
            false => trace,
        };
        let metadata = file.metadata().map_err(|source| TraceError::Open {
            file: named(trace),
            source,
        })?;
        let identity = (metadata.dev(), metadata.ino());
        if let Some(former) = seen.insert(identity, trace) {
            ensure!(
                false,
                "{} and {} are one recording: a sum would count it twice; name it once",
                named(former),
                named(trace)
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_the_files_own_name_unless_another_one_has_it() {
        let names = ["a/x.xz", "b/x.xz", "c/y.xz", "standard input"];
        let told = labels(names.into_iter());
        assert_eq!(told, ["a/x.xz", "b/x.xz", "y.xz", "standard input"]);
    }
}
