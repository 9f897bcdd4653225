//! What the CPUs do: the scenario `reference-3`.

use crate::memory::FrameKind;
use crate::state::State;

/// One operation of a CPU's program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    SwitchToUser,
    Touch,
    EnterLazy,
    Alloc(FrameKind),
    /// Writes the table's entry: the page, or absent.
    WriteTable {
        present: bool,
    },
    /// Writes the root's entry: the table, or absent.
    WriteRoot {
        present: bool,
    },
    Flush,
    FreePage,
    FreeTable,
    Ended,
}

use Operation::*;

/// The order of the two allocations differs, so the frames swap their roles.
const MAPPER: [Operation; 20] = [
    SwitchToUser,
    Alloc(FrameKind::Page),
    Alloc(FrameKind::Table),
    WriteTable { present: true },
    WriteRoot { present: true },
    WriteTable { present: false },
    WriteRoot { present: false },
    Flush,
    FreePage,
    FreeTable,
    Alloc(FrameKind::Table),
    Alloc(FrameKind::Page),
    WriteTable { present: true },
    WriteRoot { present: true },
    WriteTable { present: false },
    WriteRoot { present: false },
    Flush,
    FreePage,
    FreeTable,
    Ended,
];
const USER_OF_PAGE: [Operation; 6] = [SwitchToUser, Touch, EnterLazy, SwitchToUser, Touch, Ended];

/// Returns the operation that a CPU is in, or begins next.
pub(crate) fn operation(state: &State, cpu: usize) -> Operation {
    let at = usize::from(state.cpus[cpu].at);
    if cpu == 0 {
        MAPPER[at]
    } else {
        USER_OF_PAGE[at]
    }
}
