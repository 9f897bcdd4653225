//! The events of a recording, whatever file they come from.
//!
//! Every reader makes these; what follows (reconstruction, the comparison with the recorded kernel) sees nothing else.
//! Fields that not every kernel, or not every way of recording, offers are `Option`s: unknown is not zero.

use crate::operation::MmId;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The CPU that it was recorded on; below [`crate::MAX_CPUS`].
    pub cpu: u16,
    /// The recording's clock, in nanoseconds.
    pub time_ns: u64,
    /// The task that was current (`common_pid`).
    pub pid: u32,
    /// What the CPU was doing. Means nothing for kprobes: they run in a context of their own.
    pub context: Context,
    /// What happened.
    pub kind: Kind,
}

/// What a CPU was doing as it recorded an event (`common_flags`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// The recording does not tell.
    Unknown,
    /// A task, or a system call of one.
    Task,
    /// A softirq.
    Softirq,
    /// A hardware interrupt's handler.
    Hardirq,
    /// A non-maskable interrupt's handler.
    Nmi,
}

/// What happened. Numbers are the kernel's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `switch_mm_irqs_off` (kprobe `switch_mm`).
    SwitchMm(SwitchMm),
    /// `enter_lazy_tlb` (kprobe `enter_lazy`).
    EnterLazy {
        /// The pointer of the loaded space.
        loaded: Option<u64>,
    },
    /// `flush_tlb_mm_range` (kprobe `flush_mm_range`), before the generation is raised.
    FlushMmRange(FlushMmRange),
    /// `native_flush_tlb_multi` (kprobe `flush_multi`): some other CPU is in the cpumask.
    FlushMulti(FlushMulti),
    /// `flush_tlb_func` (kprobe `flush_func`), on the CPU that flushes.
    FlushFunc(FlushFunc),
    /// `exit_mmap` (kprobe `exit_mmap`).
    ExitMmap {
        /// The space.
        mm: MmId,
    },
    /// `__mmdrop` (kprobe `mmdrop`): the space is freed.
    MmDrop {
        /// Its pointer.
        pointer: u64,
        /// Its identity.
        mm: MmId,
    },
    /// Tracepoint `tlb:tlb_flush`.
    TlbFlush {
        /// Pages; -1 is everything, 0 of a task switch a CR3 load that keeps.
        pages: i64,
        /// The reason's number.
        reason: u8,
    },
    /// Tracepoint `sched:sched_switch`. The task that leaves is [`Event::pid`].
    SchedSwitch {
        /// The task that comes.
        next: u32,
    },
    /// Tracepoint `task:task_newtask`: [`Event::pid`] makes a task.
    NewTask {
        /// The new one.
        pid: u32,
        /// `CLONE_*`.
        clone_flags: u64,
    },
    /// Tracepoint `sched:sched_process_fork`: [`Event::pid`] has made a task.
    ProcessFork {
        /// The new one.
        child: u32,
    },
    /// Tracepoint `sched:sched_process_exec`: [`Event::pid`] has a new space.
    ProcessExec {
        /// The thread that called exec: [`Event::pid`] is its leader's now.
        old_pid: u32,
    },
    /// Tracepoint `sched:sched_process_exit`: [`Event::pid`] exits.
    ProcessExit,
    /// Tracepoint `power:cpu_idle`.
    CpuIdle {
        /// The idle state that is entered; `None` when it is left.
        state: Option<u32>,
    },
    /// An interrupt's arrival (`irq_vectors:*_entry`).
    Interrupt(Interrupt),
    /// Text that user space wrote (`ftrace:print`), or an event that says nothing here.
    Other,
}

/// Which interrupt arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// `call_function`: functions for several CPUs.
    CallFunction,
    /// `call_function_single`: functions for one CPU.
    CallFunctionSingle,
    /// `reschedule`.
    Reschedule,
}

/// What `switch_mm_irqs_off` was called with, and found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchMm {
    /// The pointer of the space to load.
    pub next: u64,
    /// Its identity.
    pub mm: MmId,
    /// The task's pointer; 0 from `flush_tlb_func`, `leave_mm` and exec.
    pub task: u64,
    /// The pointer of the space that was loaded.
    pub loaded: Option<u64>,
    /// Whether the CPU was lazy.
    pub lazy: Option<bool>,
    /// The new space's generation.
    pub generation: Option<u64>,
    /// The first word of its cpumask.
    pub mask: Option<u64>,
}

/// What `flush_tlb_mm_range` was called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushMmRange {
    /// The space's pointer.
    pub pointer: u64,
    /// Its identity.
    pub mm: MmId,
    /// The first address.
    pub start: u64,
    /// The address after the last one; `u64::MAX` is all.
    pub end: u64,
    /// The base-2 logarithm of the page size. Means nothing if all is flushed.
    pub stride: u64,
    /// Whether page tables are freed.
    pub freed: bool,
    /// The space's generation before.
    pub generation: Option<u64>,
    /// `mm_users`; 0 is the end of the space.
    pub users: Option<i64>,
    /// The first word of the cpumask.
    pub mask: Option<u64>,
}

/// What `native_flush_tlb_multi` was called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushMulti {
    /// The space's pointer; 0 for what is of no space.
    pub pointer: Option<u64>,
    /// The first word of the cpumask, before lazy CPUs are left out.
    pub mask: Option<u64>,
    /// The generation to flush to.
    pub generation: Option<u64>,
    /// The CPU that asks.
    pub initiator: Option<u16>,
    /// Whether page tables are freed.
    pub freed: Option<bool>,
    /// Whether the cpumask is trimmed.
    pub trims: Option<bool>,
}

/// What `flush_tlb_func` was called with, and found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushFunc {
    /// The pointer of the space to flush; 0 for any.
    pub pointer: Option<u64>,
    /// The CPU that asked; this one, if it flushes for itself.
    pub initiator: u64,
    /// The generation to flush to.
    pub generation: Option<u64>,
    /// The pointer of the loaded space.
    pub loaded: Option<u64>,
    /// The generation that this CPU had flushed to.
    pub flushed_to: Option<u64>,
    /// The loaded space's generation.
    pub loaded_generation: Option<u64>,
}
