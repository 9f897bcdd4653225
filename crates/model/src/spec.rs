//! What a machine is made from.

use lazytlb::{Entry, PhysAddr};

use crate::call::{AtomicCell, Cr4};
use crate::cpu_model::CpuModel;
use crate::features::Features;
use crate::state::FrameUse;
use crate::violation::Property;

/// How stores become visible to other CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MemoryModel {
    /// At once: sequential consistency, which no x86 offers.
    Sc,
    /// Through a first-in, first-out buffer on each CPU: x86-TSO (H25).
    Tso {
        /// How many stores a buffer holds; a full one drains before the next store.
        buffer_depth: u8,
    },
}

impl MemoryModel {
    /// x86-TSO with two stores in each buffer: enough for every reordering of a store with a later
    /// load, and for two stores that drain late together.
    pub const TSO: MemoryModel = MemoryModel::Tso { buffer_depth: 2 };

    /// Returns the name that people type.
    pub const fn name(self) -> &'static str {
        match self {
            MemoryModel::Sc => "sc",
            MemoryModel::Tso { .. } => "tso",
        }
    }

    /// Returns the depth of the store buffers; 0 without them.
    pub const fn buffer_depth(self) -> u8 {
        match self {
            MemoryModel::Sc => 0,
            MemoryModel::Tso { buffer_depth } => buffer_depth,
        }
    }
}

/// What becomes of a walk of a freed table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GarbageWalks {
    /// It is the violation `table-use-after-free`.
    Refused,
    /// It is followed to its ends (H33).
    Followed,
}

/// What a machine starts from.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    /// The shared cells' first values.
    pub atomics: Vec<u64>,
    /// Each CPU's own cells' first values: one list a CPU.
    pub own_cells: Vec<Vec<u64>>,
    /// What each frame is at the start. A table starts with absent entries.
    pub frames: Vec<FrameUse>,
    /// The cell that holds the word at the start of a page's frame; a frame past the end has none.
    pub page_words: Vec<Option<AtomicCell>>,
    /// Page-table entries' first values: the table, the index, the entry.
    pub entries: Vec<(PhysAddr, u16, Entry)>,
    /// The root in every CPU's CR3 at the start.
    pub root: PhysAddr,
    /// CR4 of every CPU at the start.
    pub cr4: Cr4,
    /// What the program uses of the machine.
    pub features: Features,
    /// What becomes of a walk of a freed table.
    pub garbage: GarbageWalks,
    /// Properties that are not looked at.
    pub ignored: Vec<Property>,
    /// The CPU model.
    pub cpu_model: CpuModel,
    /// The memory model.
    pub memory: MemoryModel,
}

#[cfg(test)]
impl MachineSpec {
    /// One CPU, one cell, and a root table in frame 0: what a test begins with.
    pub(crate) fn smallest(features: Features, memory: MemoryModel) -> MachineSpec {
        MachineSpec {
            atomics: vec![0],
            own_cells: vec![Vec::new()],
            frames: vec![FrameUse::Table],
            page_words: Vec::new(),
            entries: Vec::new(),
            root: PhysAddr(0),
            cr4: Cr4::default(),
            features,
            garbage: GarbageWalks::Refused,
            ignored: Vec::new(),
            cpu_model: CpuModel::WEAKEST,
            memory,
        }
    }
}
