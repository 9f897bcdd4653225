//! `price --by process`: what each process asked for, and what interrupted it.

use lazytlb_price::{Counts, Received, Replayed, Replays, Split, SplitReceived};
use lazytlb_trace::{Snapshot, Step, Summary};

use crate::processes::{Number, Process, Processes, Whose};
use crate::workload::Workload;

/// Processes that are counted one by one at most, for the same reason.
const MOST_PROCESSES: usize = 20_000;

/// What of a price is somebody's.
pub(crate) struct Owned {
    pub(crate) whose: Whose,
    pub(crate) known: Known,
    /// One for each policy, without PCIDs and with, in the order of the whole.
    pub(crate) replayed: Vec<Replayed>,
    /// The same of what it received.
    pub(crate) received: Vec<Received>,
}

/// What else is known of a process.
#[derive(Clone, Default)]
pub(crate) struct Known {
    pub(crate) tgid: Option<u32>,
    pub(crate) name: Option<String>,
}

impl Known {
    /// Asks the list of the tasks that ran before the recording, and what tasks were called when they left their CPUs.
    fn of(
        process: Process,
        processes: &Processes,
        tasks: Option<&Snapshot>,
        summary: &Summary,
    ) -> Known {
        let listed = |task: u32| {
            let mut all = tasks?.tasks().iter();
            all.find(|one| one.tid == task)
        };
        let (tgid, task) = match process.number {
            Number::Tgid(tgid) => (Some(tgid), tgid),
            Number::Task(task) => (listed(task).map(|own| own.tgid), task),
        };
        let seen = |task| {
            summary
                .task_name(task)
                .filter(|_| processes.is_last(process))
        };
        // The name of a process is that of its first thread.
        let name = tgid.and_then(seen).or_else(|| seen(task));
        let in_list = || match process.number {
            Number::Task(task) => tasks?.name(task).map(str::to_owned),
            Number::Tgid(_) => None,
        };
        Known {
            tgid,
            name: name.or_else(in_list),
        }
    }
}

/// Splits by processes: what each asked for, and what interrupted it.
#[derive(Default)]
pub(crate) struct Owners {
    processes: Processes,
    split: Split<Whose>,
    received: SplitReceived<Whose>,
}

impl Owners {
    /// Takes in a step, and the replays after it.
    pub(crate) fn step(&mut self, step: Step<'_>, replays: &Replays<'_>) {
        let Some(whose) = self.processes.step(step) else {
            return;
        };
        let is_told = |whose| match whose {
            Whose::Process(_) => self.split.len() < MOST_PROCESSES || self.split.has(&whose),
            Whose::Kernel | Whose::Idle | Whose::Unknown | Whose::Rest => true,
        };
        let key = |whose| if is_told(whose) { whose } else { Whose::Rest };
        let interrupted = |cpu| key(self.processes.interrupted_on(cpu));
        self.received.add(replays, interrupted);
        let key = key(whose);
        self.split.add(key, replays);
    }

    /// Returns what is whose.
    pub(crate) fn finish(self, workload: &Workload, tasks: Option<&Snapshot>) -> Vec<Owned> {
        let whole = &workload.replayed;
        let known = |whose| match whose {
            Whose::Process(process) => {
                Known::of(process, &self.processes, tasks, &workload.summary)
            }
            Whose::Kernel | Whose::Idle | Whose::Unknown | Whose::Rest => Known::default(),
        };
        let mut received = self.received.into_parts(whole);
        let nothing = |one: &Replayed| Received {
            kept: 0,
            freed: one.counts_if_freed.map(|_| 0),
        };
        let part = |whose, replayed, received: Option<_>| Owned {
            whose,
            known: known(whose),
            replayed,
            received: received.unwrap_or_else(|| whole.iter().map(nothing).collect()),
        };
        let parts = self.split.into_parts(whole).into_iter();
        let mut parts: Vec<_> = parts
            .map(|(whose, replayed)| part(whose, replayed, received.remove(&whose)))
            .collect();
        // Who only received.
        parts.extend(received.into_iter().map(|(whose, received)| {
            let replayed = whole.iter().map(does_nothing).collect();
            part(whose, replayed, Some(received))
        }));
        parts
    }
}

/// A replay in which nothing is counted, with as much unknown.
pub(crate) fn does_nothing(one: &Replayed) -> Replayed {
    Replayed {
        counts: Counts::default(),
        counts_if_freed: one.counts_if_freed.map(|_| Counts::default()),
        ..*one
    }
}
