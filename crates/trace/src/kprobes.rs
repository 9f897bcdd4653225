//! Turns kprobe events into operations: requests are kept, the recorded kernel's reactions are counted.

use crate::error::LineProblem;
use crate::event::{Event, FlushFunc, FlushMmRange, Kind, SwitchMm};
use crate::mm_pointers::{Learned, MmPointers};
use crate::operation::{
    InitialState, Laziness, MmId, Onto, Operation, OperationKind, Range, Tables,
};
use crate::steps::Steps;
use crate::summary::Summary;
use crate::task_chain::{Link, TaskChain};

/// Linux `TLB_FLUSH_ALL`: as a range's end, the whole space.
const TLB_FLUSH_ALL: u64 = u64::MAX;

/// Holds what the trace has told so far. Bounded by the CPUs and the live address spaces.
pub(crate) struct Kprobes {
    cpus: Vec<Cpu>,
    pointers: MmPointers,
    task_switches: TaskSwitches,
}

#[derive(Clone, Default)]
struct Cpu {
    tasks: TaskChain,
    initial: Initial,
    shootdown: Shootdown,
    went_lazy: Option<WentLazy>,
}

/// An operation that waits for the CPU's next event, which tells what it runs.
#[derive(Clone, Copy)]
struct WentLazy {
    /// Its number among the steps.
    step: u64,
    /// The task that its event was recorded in.
    from: u32,
}

/// Whether the recording has `sched_switch`, as far as it was read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TaskSwitches {
    NoneSoFar,
    Recorded,
}

/// The idle task, of every CPU.
const IDLE_TASK: u32 = 0;

/// Whether an operation has carried the CPU's initial state.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Initial {
    #[default]
    Unknown,
    Told,
}

/// Whether the CPU's latest event was the arrival of another CPU's request.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Shootdown {
    #[default]
    No,
    JustArrived,
}

impl WentLazy {
    /// Tells by the CPU's next event what it went on to.
    ///
    /// It goes lazy with interrupts off until it has switched, so the event is of the next task, or interrupts that: an
    /// interrupt's event has the number of the task that it interrupts. The same task goes on only if it exits.
    fn onto(self, next: &Event) -> Onto {
        match next.pid {
            IDLE_TASK if self.from != IDLE_TASK => Onto::Idle,
            _ => Onto::KernelThread,
        }
    }
}

impl Kprobes {
    /// Knows nothing yet.
    pub(crate) fn new() -> Self {
        Kprobes {
            cpus: Vec::new(),
            pointers: MmPointers::new(),
            task_switches: TaskSwitches::NoneSoFar,
        }
    }

    /// Takes in one event; it and the operation that it is, if it is one, go to `steps`.
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
        steps.push_event(event);
        let index = usize::from(event.cpu);
        if index >= self.cpus.len() {
            self.cpus.resize(index + 1, Cpu::default());
        }
        let cpu = &mut self.cpus[index];
        if cpu.tasks.observe(event.pid) == Link::Repaired {
            summary.chain_repairs += 1;
        }
        if let Some(went) = cpu.went_lazy.take() {
            steps.complete_onto(went.step, went.onto(event));
        }
        let shootdown = std::mem::take(&mut cpu.shootdown);
        let found = match event.kind {
            Kind::SchedSwitch { next } => {
                cpu.tasks.switch(event.pid, next);
                self.task_switches = TaskSwitches::Recorded;
                None
            }
            Kind::SwitchMm(switch) => self.switch_mm(event, &switch, shootdown, summary)?,
            Kind::EnterLazy { loaded } => Some(self.enter_lazy(event, loaded, summary)),
            Kind::FlushMmRange(flush) => Some(self.flush_mm_range(event, &flush, summary)?),
            Kind::FlushFunc(flush) => {
                self.flush_func(event, &flush, summary);
                None
            }
            Kind::MmDrop { pointer, mm } => Some(self.mmdrop(pointer, mm, summary)),
            _ => None,
        };
        let Some((kind, initial)) = found else {
            return Ok(());
        };
        let operation = Operation {
            cpu: event.cpu,
            time_ns: event.time_ns,
            kind,
            initial,
        };
        if let OperationKind::GoLazy {
            onto: Onto::Unknown,
        } = kind
        {
            let step = steps.push_open(operation);
            let from = event.pid;
            self.cpus[index].went_lazy = Some(WentLazy { step, from });
        } else {
            steps.push(operation);
        }
        Ok(())
    }

    /// `switch_mm(prev, next, tsk)`: a request, but for `switch_mm(NULL, &init_mm, NULL)`, which
    /// `flush_tlb_func` and `leave_mm` call on a lazy CPU. Exec passes no task either, but a space.
    fn switch_mm(
        &mut self,
        event: &Event,
        switch: &SwitchMm,
        shootdown: Shootdown,
        summary: &mut Summary,
    ) -> Result<Option<(OperationKind, Option<InitialState>)>, LineProblem> {
        let mm = switch.mm;
        self.learn(switch.next, mm, summary)?;
        if switch.task == 0 && mm == MmId::INIT {
            summary.left_for_init_mm += 1;
            if shootdown == Shootdown::JustArrived {
                summary.remote_shootdowns.found_lazy += 1;
            }
            return Ok(None);
        }
        summary.operations.switch += 1;
        let cpu = &mut self.cpus[usize::from(event.cpu)];
        let mut initial = None;
        if let (Initial::Unknown, Some(loaded), Some(lazy)) =
            (cpu.initial, switch.loaded, switch.lazy)
        {
            cpu.initial = Initial::Told;
            initial = Some(InitialState {
                mm: self.pointers.get(loaded),
                laziness: laziness(lazy),
            });
        }
        Ok(Some((OperationKind::Switch { mm }, initial)))
    }

    /// `enter_lazy_tlb`: from a task switch to a task without a user space, or from an exit.
    fn enter_lazy(
        &mut self,
        event: &Event,
        loaded: Option<u64>,
        summary: &mut Summary,
    ) -> (OperationKind, Option<InitialState>) {
        summary.operations.go_lazy += 1;
        let cpu = &mut self.cpus[usize::from(event.cpu)];
        let onto = match (self.task_switches, cpu.tasks.current()) {
            (TaskSwitches::Recorded, Some(IDLE_TASK)) => Onto::Idle,
            (TaskSwitches::Recorded, _) => Onto::KernelThread,
            // The idle task does not switch to itself.
            (TaskSwitches::NoneSoFar, Some(IDLE_TASK)) => Onto::KernelThread,
            (TaskSwitches::NoneSoFar, _) => Onto::Unknown,
        };
        let mut initial = None;
        if let (Initial::Unknown, Some(loaded)) = (cpu.initial, loaded) {
            cpu.initial = Initial::Told;
            // The event does not show is_lazy. Only the idle task is lazy for sure, unless
            // init_mm is loaded; nothing depends on the other cases, because this very
            // operation makes the CPU lazy.
            let idle_left = event.pid == 0 && !self.pointers.is_init(loaded);
            initial = Some(InitialState {
                mm: self.pointers.get(loaded),
                laziness: laziness(idle_left),
            });
        }
        (OperationKind::GoLazy { onto }, initial)
    }

    /// `flush_tlb_mm_range`.
    fn flush_mm_range(
        &mut self,
        event: &Event,
        flush: &FlushMmRange,
        summary: &mut Summary,
    ) -> Result<(OperationKind, Option<InitialState>), LineProblem> {
        let mm = flush.mm;
        self.learn(flush.pointer, mm, summary)?;
        summary.operations.flush += 1;
        let cpu = &mut self.cpus[usize::from(event.cpu)];
        let initial = match cpu.initial {
            Initial::Told => None,
            Initial::Unknown => state_of_flusher(event, flush),
        };
        if initial.is_some() {
            cpu.initial = Initial::Told;
        }
        let kind = OperationKind::Flush {
            mm,
            range: range(flush),
            tables: match flush.freed {
                true => Tables::Freed,
                false => Tables::Kept,
            },
        };
        Ok((kind, initial))
    }

    /// `flush_tlb_func`: a reaction, on the CPU that flushes.
    fn flush_func(&mut self, event: &Event, flush: &FlushFunc, summary: &mut Summary) {
        if flush.initiator == u64::from(event.cpu) {
            summary.local_flushes += 1;
        } else {
            summary.remote_shootdowns.arrived += 1;
            self.cpus[usize::from(event.cpu)].shootdown = Shootdown::JustArrived;
        }
    }

    /// `__mmdrop`: the space is freed, and its pointer will be reused.
    fn mmdrop(
        &mut self,
        pointer: u64,
        mm: MmId,
        summary: &mut Summary,
    ) -> (OperationKind, Option<InitialState>) {
        self.pointers.forget(pointer);
        summary.operations.retire += 1;
        (OperationKind::Retire { mm }, None)
    }

    #[inline]
    fn learn(&mut self, pointer: u64, mm: MmId, summary: &mut Summary) -> Result<(), LineProblem> {
        if self.pointers.learn(pointer, mm)? == Learned::ReusedWithoutRetire {
            summary.missing_retires += 1;
        }
        Ok(())
    }
}

fn laziness(is_lazy: bool) -> Laziness {
    if is_lazy {
        Laziness::Lazy
    } else {
        Laziness::NotLazy
    }
}

/// Tells what a CPU had loaded whose first operation is a flush, from the space's cpumask.
///
/// A switch clears the CPU's bit in the old mask at once, so a set bit means that `mm` is loaded.
/// ASSUMED: the flush is by one of the space's own tasks, hence not lazy. A kernel thread that
/// flushes the very space that its CPU holds lazily is rare, and matters to the first operation
/// only. Only the first 64 CPUs are recorded; for the others the next operation tells.
fn state_of_flusher(event: &Event, flush: &FlushMmRange) -> Option<InitialState> {
    let mask = flush.mask?;
    if event.cpu >= 64 {
        return None;
    }
    let loaded = mask >> event.cpu & 1 == 1;
    loaded.then_some(InitialState {
        mm: Some(flush.mm),
        laziness: Laziness::NotLazy,
    })
}

fn range(flush: &FlushMmRange) -> Range {
    match flush.end {
        TLB_FLUSH_ALL => Range::All,
        end => {
            let stride_shift = flush.stride.min(63) as u8;
            Range::Pages {
                start: flush.start,
                pages: end.saturating_sub(flush.start).div_ceil(1 << stride_shift),
                stride_shift,
            }
        }
    }
}
