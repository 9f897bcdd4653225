//! What is followed of a CPU without kprobes.

use super::flushes::JustSent;
use super::told::Places;
use crate::event::{Event, Kind};
use crate::operation::{InitialState, MmId};
use crate::task_chain::TaskChain;

/// `tlb_flush` as interrupts are sent.
pub(crate) const REMOTE_SEND_IPI: u8 = 4;

/// What is followed of one CPU.
#[derive(Clone, Default)]
pub(crate) struct Cpu {
    pub(crate) chain: TaskChain,
    /// The space of the task that runs, or that a lazy CPU has borrowed.
    pub(crate) active: Option<MmId>,
    pub(crate) lazy: bool,
    /// It was lazy and interrupted, and has `init_mm` loaded: it is in no cpumask until it switches.
    pub(crate) has_left: bool,
    /// The task that left, if the CPU's latest event was a task switch: the next one of that task shows what it did.
    pub(crate) switching: Option<u32>,
    pub(crate) open_question: Option<Question>,
    /// The task that exits here, whose space ends with it, by a flush that has not been seen.
    pub(crate) ends_with: Option<u32>,
    /// What it had loaded when the recording began, until an operation has carried it.
    pub(crate) initial: Option<InitialState>,
    pub(crate) seen: bool,
}

impl Cpu {
    /// Whether a switch to a space is known to write CR3, which `tlb_flush` always shows.
    pub(crate) fn writes_cr3(&self, mm: MmId) -> bool {
        self.active
            .is_some_and(|active| active != mm || self.has_left)
    }
}

/// What the CPU's next event will answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Whether the task that comes, which was never seen before, has a space.
    HasSpace { pid: u32 },
    /// Whether the task that comes still has this space, which is not the loaded one.
    StillHas { pid: u32, mm: MmId, places: Places },
    /// Why a task loads another space: exec, its exit, or for a moment. With the flush that it sent just before.
    Why {
        pid: u32,
        sent: JustSent,
        places: Places,
    },
}

/// Whether a CPU that flushes is done with it when this event comes.
pub(crate) fn ends_flush(event: &Event) -> bool {
    match event.kind {
        Kind::SchedSwitch { .. }
        | Kind::NewTask { .. }
        | Kind::ProcessFork { .. }
        | Kind::ProcessExec { .. }
        | Kind::CpuIdle { .. } => true,
        Kind::TlbFlush { reason, .. } => reason == REMOTE_SEND_IPI,
        _ => false,
    }
}
