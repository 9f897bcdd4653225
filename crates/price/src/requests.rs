//! What a recording asks, made ready for replays: all that does not depend on the policy is looked up here, once for all of
//! them.

use lazytlb::{FlushRange, MmHandle, MmId, PageRange, PageSize, VirtAddr};
use lazytlb_trace::{InitialState, Laziness, Onto, Operation, OperationKind, Range, Tables};

use crate::machine::MAX_CPUS;
use crate::sleep::Sleep;
use crate::spaces::{Found, Handles, INIT_MM};

/// Says why an operation cannot be replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The CPU's number is past the capacity of CPU sets.
    #[error(
        "CPU {cpu} is past the {MAX_CPUS} CPUs that a replay has: record fewer CPUs \
         (`tracing_cpumask`)"
    )]
    CpuOutOfRange {
        /// The CPU's number.
        cpu: u16,
    },
}

/// What the machines of all replays are asked.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) cpu: u16,
    pub(crate) what: What,
}

/// What one CPU is asked.
#[derive(Clone, Copy)]
pub(crate) enum What {
    /// Uncounted: a space comes to life.
    Make {
        mm: MmHandle,
        identity: MmId,
    },
    /// Uncounted: the CPU had this loaded when the recording began.
    Begin {
        mm: MmHandle,
        laziness: Laziness,
    },
    /// Uncounted: how deep the CPU sleeps from here on.
    Sleep(Sleep),
    Switch {
        mm: MmHandle,
    },
    GoLazy {
        onto: Onto,
    },
    Flush {
        mm: MmHandle,
        range: FlushRange,
        tables: Tables,
    },
    Retire {
        mm: MmHandle,
    },
    /// An operation that asks nothing of the protocol: of the kernel's own space, or of one that does not live.
    Nothing,
}

/// Requests that replays have not seen yet.
pub(crate) struct Requests {
    handles: Handles,
    queue: Vec<Request>,
}

impl Requests {
    /// Makes room for so many.
    pub(crate) fn with_capacity(requests: usize) -> Self {
        Requests {
            handles: Handles::new(),
            queue: Vec::with_capacity(requests),
        }
    }

    /// Returns them, the oldest first.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[Request] {
        &self.queue
    }

    /// Forgets them: every replay has seen them.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }

    /// Adds what an operation asks.
    ///
    /// # Errors
    /// If the CPU's number is [`MAX_CPUS`] or more; nothing is added.
    #[inline]
    pub(crate) fn push(&mut self, operation: &Operation) -> Result<(), ReplayError> {
        let cpu = operation.cpu;
        if cpu >= MAX_CPUS {
            return Err(ReplayError::CpuOutOfRange { cpu });
        }
        if let Some(initial) = operation.initial {
            self.begin(cpu, initial);
        }
        let what = match operation.kind {
            OperationKind::Switch { mm } => What::Switch {
                mm: self.space(cpu, mm),
            },
            OperationKind::GoLazy { onto } => What::GoLazy { onto },
            OperationKind::Flush { mm, range, tables } => match self.space(cpu, mm) {
                // The protocol never flushes the kernel's own space.
                INIT_MM => What::Nothing,
                mm => What::Flush {
                    mm,
                    range: flush_range(range),
                    tables,
                },
            },
            OperationKind::Retire { mm } => self.retire(mm),
        };
        self.queue.push(Request { cpu, what });
        Ok(())
    }

    /// Adds how deep a CPU sleeps from here on. A CPU past [`MAX_CPUS`] is ignored: no operation of it can be replayed either.
    pub(crate) fn push_sleep(&mut self, cpu: u16, sleep: Sleep) {
        if cpu < MAX_CPUS {
            let what = What::Sleep(sleep);
            self.queue.push(Request { cpu, what });
        }
    }

    #[cold]
    fn begin(&mut self, cpu: u16, initial: InitialState) {
        // Without an id nobody else can name the space either.
        let Some(mm) = initial.mm else { return };
        let what = What::Begin {
            mm: self.space(cpu, mm),
            laziness: initial.laziness,
        };
        self.queue.push(Request { cpu, what });
    }

    #[inline]
    fn space(&mut self, cpu: u16, mm: lazytlb_trace::MmId) -> MmHandle {
        match self.handles.find_or_make(mm.0) {
            Found::Known(mm) => mm,
            Found::New(mm, identity) => {
                let what = What::Make { mm, identity };
                self.queue.push(Request { cpu, what });
                mm
            }
        }
    }

    fn retire(&mut self, id: lazytlb_trace::MmId) -> What {
        match self.handles.find(id.0) {
            Some(INIT_MM) | None => What::Nothing,
            Some(mm) => {
                self.handles.forget(id.0);
                What::Retire { mm }
            }
        }
    }
}

/// Translates a recorded range.
///
/// A stride that is no page size widens to everything (Linux gives one only together with "all").
/// A range without a page still interrupts CPUs, which then invalidate nothing: one page comes
/// nearest, because to a request "no pages" means "all".
fn flush_range(range: Range) -> FlushRange {
    let Range::Pages {
        start,
        pages,
        stride_shift,
    } = range
    else {
        return FlushRange::All;
    };
    let sizes = [PageSize::Size4K, PageSize::Size2M, PageSize::Size1G];
    let size = sizes
        .into_iter()
        .find(|size| size.shift() == u32::from(stride_shift));
    match size {
        Some(size) => FlushRange::Pages(PageRange {
            start: VirtAddr(start),
            len_pages: pages.max(1),
            size,
        }),
        None => FlushRange::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_become_page_sizes_or_everything() {
        let range = |stride_shift, pages| {
            flush_range(Range::Pages {
                start: 0x4000_0000,
                pages,
                stride_shift,
            })
        };
        let pages = |len_pages, size| {
            FlushRange::Pages(PageRange {
                start: VirtAddr(0x4000_0000),
                len_pages,
                size,
            })
        };
        assert_eq!(range(12, 3), pages(3, PageSize::Size4K));
        assert_eq!(range(21, 3), pages(3, PageSize::Size2M));
        assert_eq!(range(30, 3), pages(3, PageSize::Size1G));
        assert_eq!(range(12, 0), pages(1, PageSize::Size4K));
        assert_eq!(range(0, 4096), FlushRange::All);
        assert_eq!(flush_range(Range::All), FlushRange::All);
    }
}
