//! The workload's timeline: what each CPU did, and the interrupts that each policy sends.

use lazytlb_price::{Counts, Replayed};
use lazytlb_report::{Activity, LaneRecorder, Lanes};
use lazytlb_trace::{MmId, Onto, Operation, OperationKind, Tables};

/// Collects a timeline while a workload is replayed.
#[derive(Default)]
pub(crate) struct LaneCollector {
    recorder: LaneRecorder,
    /// The interrupts of each replay so far.
    ipis: Vec<u64>,
}

impl LaneCollector {
    /// Sees an operation that all replays have done.
    pub(crate) fn sees(
        &mut self,
        operation: &Operation,
        replays: impl ExactSizeIterator<Item = Counts>,
    ) {
        let Operation {
            cpu, time_ns, kind, ..
        } = *operation;
        match kind {
            // The end of a space that was loaded for a moment: the task runs on.
            OperationKind::Switch { mm: MmId::INIT } | OperationKind::Retire { .. } => {}
            OperationKind::Switch { .. } => self.recorder.becomes(cpu, time_ns, Activity::Running),
            OperationKind::GoLazy { onto } => {
                let activity = match onto {
                    Onto::Idle => Activity::Idle,
                    // Unknown is drawn as the counts of the lower end have it; a warning says how often.
                    Onto::KernelThread | Onto::Unknown => Activity::KernelThread,
                };
                self.recorder.becomes(cpu, time_ns, activity);
            }
            OperationKind::Flush { tables, .. } => {
                let frees = tables == Tables::Freed;
                self.recorder.flushes(cpu, time_ns, frees);
            }
        }
        self.ipis.resize(replays.len(), 0);
        for ((number, counts), before) in replays.enumerate().zip(&mut self.ipis) {
            let ipis = counts.ipis;
            self.recorder
                .interrupts(cpu, time_ns, number, ipis - *before);
            *before = ipis;
        }
    }

    /// Returns the timeline; `of` names the recording, where there are several.
    pub(crate) fn finish(self, replayed: &[Replayed], of: Option<&str>) -> Lanes {
        let names = replayed
            .iter()
            .map(|replayed| format!("{}, PCIDs {}", replayed.policy, replayed.pcids.name()));
        let of = of.map_or_else(String::new, |of| {
            format!(", in the first of the recordings, {of}")
        });
        let caption = format!(
            "What each CPU did, the flushes that it asked for, and the IPIs that it sends for them under a policy{of}"
        );
        self.recorder.finish(caption, names.collect())
    }
}
