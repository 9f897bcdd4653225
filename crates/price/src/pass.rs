//! The replays of one pass over a recording.

use std::cell::Cell;
use std::io::Read;

use lazytlb::{Policy, Quirks, Tables};
use lazytlb_trace::{
    Event, Kind, MadeFrom, Onto, Operation, OperationKind, Step, Summary, TraceReader,
};

use crate::alike::{Unknown, ends_are_alike, same_policy};
use crate::counts::Counts;
use crate::pcids_on::PcidsOn;
use crate::replayed::{PriceError, Progress, Replayed};
use crate::replayer::{Capacity, Replaying, Setting, replaying};
use crate::requests::Requests;
use crate::sleep::Sleep;

/// Operations between two reports of progress: some milliseconds of work.
const PROGRESS_INTERVAL: u64 = 4096;

/// Requests that one replay is given at a time: as many as stay in a core's first cache beside its state.
const BATCH: usize = 256;

/// The replays of one recording. Those that cannot come out differently are one.
pub(crate) struct Pass {
    requests: Requests,
    replayers: Vec<Box<dyn Replaying>>,
    rows: Vec<Row>,
    /// `None` before the first operation has been replayed.
    unknown: Option<Unknown>,
    operations: u64,
    reported: u64,
}

/// A policy on a kind of CPUs, and which of the replays are its.
struct Row {
    policy: Policy,
    pcids: PcidsOn,
    /// Where it is unknown of flushes whether they free page tables, as if they kept them.
    kept: ReplayerIndex,
    /// The same, as if they freed them.
    freed: ReplayerIndex,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct ReplayerIndex(usize);

/// Shows the replays of a pass.
#[derive(Clone, Copy)]
pub struct Replays<'a>(&'a Pass);

impl Replays<'_> {
    /// Returns what each has counted, in the order of the answer; where it is unknown of flushes whether they free page
    /// tables, as if they kept them.
    pub fn kept(&self) -> impl ExactSizeIterator<Item = Counts> {
        self.0.rows.iter().map(|row| self.0.counts(row.kept))
    }

    /// The same, as if they freed them; `None` where nothing is unknown.
    pub fn freed(&self) -> impl ExactSizeIterator<Item = Option<Counts>> {
        let is_known = self.0.unknown == Some(Unknown::Nothing);
        let rows = self.0.rows.iter();
        rows.map(move |row| row.has_ends(is_known).then(|| self.0.counts(row.freed)))
    }

    /// Returns the IPIs that each CPU was sent in each replay of [`Replays::kept`], from CPU 0 on.
    pub(crate) fn kept_received(&self) -> impl ExactSizeIterator<Item: Iterator<Item = u64>> {
        self.0.rows.iter().map(|row| self.0.received(row.kept))
    }

    /// The same of each replay of [`Replays::freed`]; where nothing is unknown, of that of [`Replays::kept`].
    pub(crate) fn freed_received(&self) -> impl ExactSizeIterator<Item: Iterator<Item = u64>> {
        self.0.rows.iter().map(|row| self.0.received(row.freed))
    }
}

impl Row {
    /// Says whether its replay has two ends: how many page tables a flush frees, which matters if they are held back, is never known.
    fn has_ends(&self, is_known: bool) -> bool {
        !is_known || self.policy == Policy::Quarantine
    }
}

impl Pass {
    /// Stands before the first step. The rows are those of the answer: the first policy on all CPUs, then the second.
    pub(crate) fn new(
        policies: &[Policy],
        pcids: &[PcidsOn],
        quirks: Quirks,
        capacity: Capacity,
    ) -> Pass {
        let mut replayers: Vec<Box<dyn Replaying>> = Vec::new();
        let mut rows: Vec<Row> = Vec::new();
        let settings = policies
            .iter()
            .flat_map(|&policy| pcids.iter().map(move |&on| (policy, on)));
        for (policy, pcids) in settings {
            let same = same_policy(policy, quirks);
            let is_alike =
                |row: &&Row| row.pcids == pcids && same_policy(row.policy, quirks) == same;
            let (kept, freed) = match rows.iter().find(is_alike) {
                Some(row) => (row.kept, row.freed),
                None => {
                    let first = replayers.len();
                    let setting = Setting {
                        policy,
                        quirks,
                        pcids,
                    };
                    replayers.extend([Tables::Kept, Tables::Freed].map(|end| {
                        let mut replayer = replaying(setting, capacity);
                        replayer.set_unknown_tables(end);
                        replayer
                    }));
                    (ReplayerIndex(first), ReplayerIndex(first + 1))
                }
            };
            rows.push(Row {
                policy,
                pcids,
                kept,
                freed,
            });
        }
        Pass {
            // An operation may ask a few things more.
            requests: Requests::with_capacity(BATCH + 8),
            replayers,
            rows,
            unknown: None,
            operations: 0,
            reported: 0,
        }
    }

    /// Takes in a step, which [`Pass::replay`] replays.
    ///
    /// # Errors
    /// If it is an operation of a CPU that a replay does not have.
    #[inline]
    pub(crate) fn push(&mut self, step: Step<'_>, summary: &Summary) -> Result<(), PriceError> {
        match step {
            Step::Operation(operation) => self.push_operation(operation),
            Step::Event(event) => {
                if let Some(sleep) = sleep_after(event, summary) {
                    self.requests.push_sleep(event.cpu, sleep);
                }
                Ok(())
            }
        }
    }

    #[inline]
    fn push_operation(&mut self, operation: &Operation) -> Result<(), PriceError> {
        self.operations += 1;
        let is_onto_unknown = matches!(
            operation.kind,
            OperationKind::GoLazy {
                onto: Onto::Unknown
            }
        );
        assert!(
            !is_onto_unknown || self.unknown != Some(Unknown::Tables),
            "tracepoints tell of each CPU that goes lazy whether it idles, and replays were merged for that"
        );
        let pushed = self.requests.push(operation);
        pushed.map_err(|source| PriceError::Replay {
            operation: self.operations,
            source,
        })
    }

    /// Says whether it is time to replay.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.requests.as_slice().len() >= BATCH
    }

    /// Replays what was taken in, each replay all of it before the next: its state stays in the processor's caches.
    pub(crate) fn replay(&mut self, summary: &Summary) {
        if self.unknown.is_none() && self.operations > 0 {
            self.settle(unknown_in(summary));
        }
        for replayer in &mut self.replayers {
            replayer.replay(self.requests.as_slice());
        }
        self.requests.clear();
    }

    /// It is clear what operations may leave unknown. No replay has seen one yet: those of the two ends that come out alike
    /// are one from here on.
    fn settle(&mut self, unknown: Unknown) {
        self.unknown = Some(unknown);
        for row in &mut self.rows {
            if ends_are_alike(row.policy, row.pcids, unknown) {
                row.freed = row.kept;
            }
        }
        let mut is_used = vec![false; self.replayers.len()];
        for row in &self.rows {
            is_used[row.kept.0] = true;
            is_used[row.freed.0] = true;
        }
        let used_before = |index: ReplayerIndex| {
            let before = is_used[..index.0].iter().filter(|used| **used);
            ReplayerIndex(before.count())
        };
        for row in &mut self.rows {
            row.kept = used_before(row.kept);
            row.freed = used_before(row.freed);
        }
        let mut used = is_used.iter();
        self.replayers.retain(|_| used.next() == Some(&true));
    }

    /// Shows the replays.
    pub(crate) fn shown(&self) -> Replays<'_> {
        Replays(self)
    }

    fn counts(&self, index: ReplayerIndex) -> Counts {
        self.replayers[index.0].counts()
    }

    fn received(&self, index: ReplayerIndex) -> impl Iterator<Item = u64> {
        let received = self.replayers[index.0].ipis_received();
        received.iter().map(Cell::get)
    }

    /// Reports, if enough was replayed since the last time.
    pub(crate) fn report<R: Read>(
        &mut self,
        reader: &TraceReader<R>,
        progress: &mut impl FnMut(Progress),
    ) {
        if self.operations - self.reported >= PROGRESS_INTERVAL {
            self.report_now(reader, progress);
        }
    }

    /// Reports.
    pub(crate) fn report_now<R: Read>(
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

    /// Ends the replays.
    pub(crate) fn finish(self, summary: &Summary) -> Vec<Replayed> {
        // With kprobes, tables are known; and of each lazy CPU, some event may have told whether it idles.
        let known = summary.made_from == MadeFrom::Kprobes && summary.unknown_onto == 0;
        let known = known
            || self
                .unknown
                .is_none_or(|unknown| unknown == Unknown::Nothing);
        let replayed = self.rows.iter().map(|row| Replayed {
            policy: row.policy,
            pcids: row.pcids,
            counts: self.counts(row.kept),
            counts_if_freed: row.has_ends(known).then(|| self.counts(row.freed)),
        });
        replayed.collect()
    }
}

/// What operations may leave unknown, as soon as there are some.
fn unknown_in(summary: &Summary) -> Unknown {
    match summary.made_from {
        MadeFrom::Tracepoints => Unknown::Tables,
        MadeFrom::Kprobes if summary.events_named("sched_switch") > 0 => Unknown::Nothing,
        MadeFrom::Kprobes => Unknown::Onto,
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
