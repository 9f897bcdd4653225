//! Turns events into operations, from what a recording offers.

use crate::error::LineProblem;
use crate::event::{Event, Kind};
use crate::kprobes::Kprobes;
use crate::snapshot::Snapshot;
use crate::steps::Steps;
use crate::summary::{MadeFrom, Summary};
use crate::tracepoints::Tracepoints;

/// Events after which a recording without any kprobe event is taken to have none.
const ENOUGH: usize = 4096;

/// Makes operations of events.
pub(crate) enum Reconstruct {
    /// It is not clear yet what the recording offers: these are its first events.
    Unclear(Vec<Event>, Option<Snapshot>),
    /// Kprobes on the memory-management functions.
    Kprobes(Box<Kprobes>),
    /// Tracepoints alone.
    Tracepoints(Box<Tracepoints>),
}

impl Reconstruct {
    /// Knows nothing yet, but maybe the tasks that ran before.
    pub(crate) fn new(snapshot: Option<Snapshot>) -> Self {
        Reconstruct::Unclear(Vec::new(), snapshot)
    }

    /// Takes in one event; it and the operations that follow from it go to `steps`.
    ///
    /// # Errors
    /// If a field that is needed is missing or cannot be right.
    #[inline]
    pub(crate) fn apply(
        &mut self,
        event: &Event,
        summary: &mut Summary,
        steps: &mut Steps,
    ) -> Result<(), LineProblem> {
        match self {
            Reconstruct::Kprobes(kprobes) => kprobes.apply(event, summary, steps),
            Reconstruct::Tracepoints(tracepoints) => tracepoints.apply(event, summary, steps),
            Reconstruct::Unclear(first, _) => {
                let kprobes = is_kprobe(event);
                let shows_none = shows_no_kprobe(first, event) || first.len() >= ENOUGH;
                first.push(*event);
                if kprobes || shows_none {
                    self.decide(kprobes, summary, steps)?;
                }
                Ok(())
            }
        }
    }

    /// The recording is over.
    ///
    /// # Errors
    /// As [`Reconstruct::apply`], of the first events.
    pub(crate) fn finish(
        &mut self,
        summary: &mut Summary,
        steps: &mut Steps,
    ) -> Result<(), LineProblem> {
        if let Reconstruct::Unclear(first, _) = self {
            let switches = |event: &Event| matches!(event.kind, Kind::SchedSwitch { .. });
            let tracepoints = first.iter().any(switches);
            self.decide(!tracepoints, summary, steps)?;
        }
        steps.complete_all();
        Ok(())
    }

    fn decide(
        &mut self,
        kprobes: bool,
        summary: &mut Summary,
        steps: &mut Steps,
    ) -> Result<(), LineProblem> {
        let Reconstruct::Unclear(first, snapshot) = self else {
            return Ok(());
        };
        let (first, snapshot) = (std::mem::take(first), snapshot.take());
        *self = if kprobes {
            Reconstruct::Kprobes(Box::new(Kprobes::new()))
        } else {
            summary.made_from = MadeFrom::Tracepoints;
            Reconstruct::Tracepoints(Box::new(Tracepoints::new(snapshot.as_ref())))
        };
        steps.with_earlier_events(|steps| {
            let mut first = first.iter();
            first.try_for_each(|event| self.apply(event, summary, steps))
        })
    }
}

fn is_kprobe(event: &Event) -> bool {
    matches!(
        event.kind,
        Kind::SwitchMm(_)
            | Kind::EnterLazy { .. }
            | Kind::FlushMmRange(_)
            | Kind::FlushMulti(_)
            | Kind::FlushFunc(_)
            | Kind::ExitMmap { .. }
            | Kind::MmDrop { .. }
    )
}

/// Whether a task switch was over without `switch_mm` or `enter_lazy`: one of them stands between two of its CPU.
fn shows_no_kprobe(before: &[Event], event: &Event) -> bool {
    let is_switch = |event: &Event| matches!(event.kind, Kind::SchedSwitch { .. });
    let of_cpu = |other: &&Event| other.cpu == event.cpu && is_switch(other);
    is_switch(event) && before.iter().filter(of_cpu).count() >= 2
}
