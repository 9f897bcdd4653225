//! The operations of the protocol, as a replay gets them.

/// Identifies an address space for ever: Linux `mm->context.ctx_id`, which is never reused.
///
/// The pointers of a trace are no identity: the kernel reuses them within milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MmId(pub u64);

impl MmId {
    /// The kernel's own space, which has no user pages: Linux gives `init_mm` the `ctx_id` 1.
    pub const INIT: MmId = MmId(1);

    /// Ids of our own from here on are of spaces that may be older than the recording.
    const OLDER: u64 = 1 << 62;

    /// Makes an id for a space that may be older than the recording.
    pub(crate) fn older(number: u64) -> MmId {
        MmId(MmId::OLDER | number)
    }

    /// Returns whether a space that the reader gave an id of its own, for want of `ctx_id`, may be older than the
    /// recording.
    pub fn is_older_than_recording(self) -> bool {
        self.0 >= MmId::OLDER
    }
}

/// Says what a CPU runs after it went lazy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Onto {
    /// The idle task (pid 0).
    Idle,
    /// A kernel thread, or a dying task that has given up its address space.
    KernelThread,
    /// The recording does not tell: it has no `sched_switch`, and no later event of the CPU. What depends on it lies
    /// between the two.
    Unknown,
}

/// Says whether a flush precedes the freeing of page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tables {
    /// Only leaf entries changed.
    Kept,
    /// Page tables are about to be freed, so paging-structure caches must go as well.
    Freed,
    /// The recording does not tell: what depends on it lies between the two.
    Unknown,
}

/// Holds the addresses that a flush asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Range {
    /// The whole space (Linux: `end == TLB_FLUSH_ALL`).
    All,
    /// A range of pages, before the recorded kernel's own ceiling turned it into a full flush.
    Pages {
        /// Byte address of the first page.
        start: u64,
        /// Length in units of the stride; a part of a page at the end counts as one.
        pages: u64,
        /// Base-2 logarithm of the page size in bytes: 12, 21 or 30.
        stride_shift: u8,
    },
}

/// Says whether a CPU was in lazy TLB mode (Linux `cpu_tlbstate.is_lazy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Laziness {
    /// The loaded space is kept for nobody: an idle task or a kernel thread runs.
    Lazy,
    /// The loaded space is in use, or it is `init_mm`.
    NotLazy,
}

/// Holds what a CPU had loaded just before its first operation, so that a replay starts warm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InitialState {
    /// The loaded space; `None` if the trace shows a pointer whose `ctx_id` it never showed.
    pub mm: Option<MmId>,
    /// Whether the CPU was lazy on it.
    pub laziness: Laziness,
}

/// Names what was asked of the protocol.
///
/// There is no operation for "the lazy CPU runs another task without a user space": Linux calls
/// `enter_lazy_tlb` on every such switch, so it arrives as another [`OperationKind::GoLazy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// The CPU starts to run in `mm`: a task switch, exec, or a temporary space (text patching).
    ///
    /// `mm` may be the space that is loaded already, and it may be [`MmId::INIT`] (the end of a
    /// temporary space).
    Switch {
        /// The space to load.
        mm: MmId,
    },
    /// The CPU goes on to a task without a user space, and keeps the loaded one.
    ///
    /// Emitted each time the recorded kernel called `enter_lazy_tlb`, also when that CPU was lazy
    /// already or had `init_mm` loaded.
    GoLazy {
        /// What the CPU runs now.
        onto: Onto,
    },
    /// `flush_tlb_mm_range`: the CPU has changed page tables of `mm`, not necessarily its own.
    Flush {
        /// The space that was changed.
        mm: MmId,
        /// The addresses.
        range: Range,
        /// Whether page tables are freed.
        tables: Tables,
    },
    /// The last reference to `mm` is gone: nothing may name it from here on.
    Retire {
        /// The space that is freed.
        mm: MmId,
    },
}

/// Holds one request to the protocol, in the order of the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    /// The CPU that asks.
    pub cpu: u16,
    /// The recording's clock, in nanoseconds; text traces usually resolve microseconds.
    pub time_ns: u64,
    /// What is asked.
    pub kind: OperationKind,
    /// The CPU's state just before this operation, on its first operation that shows it; later
    /// operations of the CPU have `None`.
    pub initial: Option<InitialState>,
}
