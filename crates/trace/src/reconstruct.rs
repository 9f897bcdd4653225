//! Turns events into operations: requests are kept, the recorded kernel's reactions are counted.

use crate::error::LineProblem;
use crate::event::Event;
use crate::fields::{find_fields, next_pid};
use crate::mm_pointers::{Learned, MmPointers};
use crate::operation::{
    InitialState, Laziness, MmId, Onto, Operation, OperationKind, Range, Tables,
};
use crate::summary::Summary;
use crate::task_chain::{Link, TaskChain};

/// Linux `TLB_FLUSH_ALL`: as a range's end, the whole space.
const TLB_FLUSH_ALL: u64 = u64::MAX;

/// Holds what the trace has told so far. Bounded by the CPUs and the live address spaces.
pub(crate) struct Reconstruct {
    cpus: Vec<Cpu>,
    pointers: MmPointers,
}

#[derive(Clone, Default)]
struct Cpu {
    tasks: TaskChain,
    initial: Initial,
    shootdown: Shootdown,
}

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

impl Reconstruct {
    /// Knows nothing yet.
    pub(crate) fn new() -> Self {
        Reconstruct {
            cpus: Vec::new(),
            pointers: MmPointers::new(),
        }
    }

    /// Takes in one event, and returns the operation that it is, if it is one.
    ///
    /// # Errors
    /// If a field that is needed is missing or cannot be right.
    #[inline]
    pub(crate) fn apply(
        &mut self,
        event: &Event<'_>,
        summary: &mut Summary,
    ) -> Result<Option<Operation>, LineProblem> {
        let index = usize::from(event.cpu);
        if index >= self.cpus.len() {
            self.cpus.resize(index + 1, Cpu::default());
        }
        let cpu = &mut self.cpus[index];
        if cpu.tasks.observe(event.pid) == Link::Repaired {
            summary.chain_repairs += 1;
        }
        let shootdown = std::mem::take(&mut cpu.shootdown);
        let found = match event.name {
            b"sched_switch" => {
                cpu.tasks.switch(event.pid, next_pid(event.fields)?);
                None
            }
            b"switch_mm" => self.switch_mm(event, shootdown, summary)?,
            b"enter_lazy" => Some(self.enter_lazy(event, summary)?),
            b"flush_mm_range" => Some(self.flush_mm_range(event, summary)?),
            b"flush_func" => {
                self.flush_func(event, summary)?;
                None
            }
            b"mmdrop" => Some(self.mmdrop(event, summary)?),
            _ => None,
        };
        Ok(found.map(|(kind, initial)| Operation {
            cpu: event.cpu,
            time_ns: event.time_ns,
            kind,
            initial,
        }))
    }

    /// `switch_mm(prev, next, tsk)`: a request, but for `switch_mm(NULL, &init_mm, NULL)`, which
    /// `flush_tlb_func` and `leave_mm` call on a lazy CPU. Exec passes no task either, but a space.
    fn switch_mm(
        &mut self,
        event: &Event<'_>,
        shootdown: Shootdown,
        summary: &mut Summary,
    ) -> Result<Option<(OperationKind, Option<InitialState>)>, LineProblem> {
        let keys = ["next", "tsk", "loaded", "lazy", "nctx"];
        let [next, tsk, loaded, lazy, nctx] = find_fields("switch_mm", keys, event.fields);
        let mm = MmId(nctx.number()?);
        let task = tsk.number()?;
        self.learn(next.number()?, mm, summary)?;
        if task == 0 && mm == MmId::INIT {
            summary.left_for_init_mm += 1;
            if shootdown == Shootdown::JustArrived {
                summary.remote_shootdowns.found_lazy += 1;
            }
            return Ok(None);
        }
        summary.operations.switch += 1;
        let cpu = &mut self.cpus[usize::from(event.cpu)];
        let mut initial = None;
        if cpu.initial == Initial::Unknown && loaded.is_present() && lazy.is_present() {
            cpu.initial = Initial::Told;
            initial = Some(InitialState {
                mm: self.pointers.get(loaded.number()?),
                laziness: laziness(lazy.is_set()?),
            });
        }
        Ok(Some((OperationKind::Switch { mm }, initial)))
    }

    /// `enter_lazy_tlb`: from a task switch to a task without a user space, or from an exit.
    fn enter_lazy(
        &mut self,
        event: &Event<'_>,
        summary: &mut Summary,
    ) -> Result<(OperationKind, Option<InitialState>), LineProblem> {
        summary.operations.go_lazy += 1;
        let cpu = &mut self.cpus[usize::from(event.cpu)];
        let onto = match cpu.tasks.current() {
            Some(0) => Onto::Idle,
            _ => Onto::KernelThread,
        };
        let mut initial = None;
        if cpu.initial == Initial::Unknown {
            let [loaded] = find_fields("enter_lazy", ["loaded"], event.fields);
            if loaded.is_present() {
                let loaded = loaded.number()?;
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
        }
        Ok((OperationKind::GoLazy { onto }, initial))
    }

    /// `flush_tlb_mm_range`.
    fn flush_mm_range(
        &mut self,
        event: &Event<'_>,
        summary: &mut Summary,
    ) -> Result<(OperationKind, Option<InitialState>), LineProblem> {
        let keys = ["mm", "start", "end", "stride", "freed", "ctx"];
        let [pointer, start, end, stride, freed, ctx] =
            find_fields("flush_mm_range", keys, event.fields);
        let mm = MmId(ctx.number()?);
        let range = match (start.number()?, end.number()?) {
            (_, TLB_FLUSH_ALL) => Range::All,
            (first, last) if first > last => return Err(end.bad("an end after the start")),
            (start, end) => match u8::try_from(stride.number()?) {
                Ok(stride_shift @ 0..=63) => {
                    let pages = (end - start).div_ceil(1 << stride_shift);
                    Range::Pages {
                        start,
                        pages,
                        stride_shift,
                    }
                }
                _ => return Err(stride.bad("a shift below 64")),
            },
        };
        let tables = if freed.is_set()? {
            Tables::Freed
        } else {
            Tables::Kept
        };
        self.learn(pointer.number()?, mm, summary)?;
        summary.operations.flush += 1;
        let cpu = &mut self.cpus[usize::from(event.cpu)];
        let initial = match cpu.initial {
            Initial::Told => None,
            Initial::Unknown => state_of_flusher(event, mm)?,
        };
        if initial.is_some() {
            cpu.initial = Initial::Told;
        }
        Ok((OperationKind::Flush { mm, range, tables }, initial))
    }

    /// `flush_tlb_func`: a reaction, on the CPU that flushes.
    fn flush_func(&mut self, event: &Event<'_>, summary: &mut Summary) -> Result<(), LineProblem> {
        let [initcpu] = find_fields("flush_func", ["initcpu"], event.fields);
        if initcpu.number()? == u64::from(event.cpu) {
            summary.local_flushes += 1;
        } else {
            summary.remote_shootdowns.arrived += 1;
            self.cpus[usize::from(event.cpu)].shootdown = Shootdown::JustArrived;
        }
        Ok(())
    }

    /// `__mmdrop`: the space is freed, and its pointer will be reused.
    fn mmdrop(
        &mut self,
        event: &Event<'_>,
        summary: &mut Summary,
    ) -> Result<(OperationKind, Option<InitialState>), LineProblem> {
        let [pointer, ctx] = find_fields("mmdrop", ["mm", "ctx"], event.fields);
        let mm = MmId(ctx.number()?);
        self.pointers.forget(pointer.number()?);
        summary.operations.retire += 1;
        Ok((OperationKind::Retire { mm }, None))
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
fn state_of_flusher(event: &Event<'_>, mm: MmId) -> Result<Option<InitialState>, LineProblem> {
    let [mask] = find_fields("flush_mm_range", ["mask"], event.fields);
    if !mask.is_present() || event.cpu >= 64 {
        return Ok(None);
    }
    let loaded = mask.number()? >> event.cpu & 1 == 1;
    Ok(loaded.then_some(InitialState {
        mm: Some(mm),
        laziness: Laziness::NotLazy,
    }))
}
