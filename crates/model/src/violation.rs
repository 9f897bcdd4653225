//! The properties: what must never happen, each with a name and a sentence.

use std::fmt;

use crate::cpu_model::{CpuModel, WalkOutsideDram};
use crate::translation::Translation;

/// A property that every execution must keep.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Property {
    /// A translation was used after the flush that covers it had returned (H5, H22, H23).
    StaleUse,
    /// A walk can start at, or reach, a page table that was freed (H10, H11, H12a, H22).
    TableUseAfterFree,
    /// No CPU can take a step, and not all have ended.
    Deadlock,
    /// The protocol's own code panicked, or broke a rule of the machine.
    Panic,
}

impl Property {
    /// Every property.
    pub const ALL: [Property; 4] = [
        Property::StaleUse,
        Property::TableUseAfterFree,
        Property::Deadlock,
        Property::Panic,
    ];

    /// Returns the name that reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Property::StaleUse => "stale-use",
            Property::TableUseAfterFree => "table-use-after-free",
            Property::Deadlock => "deadlock",
            Property::Panic => "panic",
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a walk of garbage can end (H33).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GarbageWalkEnd {
    /// A TLB entry for a page that nobody mapped.
    BogusEntry,
    /// The same with G=1: the CR3 load that catches up does not remove it.
    BogusGlobalEntry,
    /// The walk sets an Accessed bit in the frame's new contents: memory corruption.
    AccessedBitWrite,
    /// The walk leaves DRAM and ends in a machine check (H32).
    MachineCheck,
}

impl GarbageWalkEnd {
    /// Returns the ends that a walk of garbage can have on a CPU model.
    pub fn possible_on(model: CpuModel) -> Vec<GarbageWalkEnd> {
        let mut ends = vec![
            GarbageWalkEnd::BogusEntry,
            GarbageWalkEnd::BogusGlobalEntry,
            GarbageWalkEnd::AccessedBitWrite,
        ];
        if model.walk_outside_dram == WalkOutsideDram::MachineCheck {
            ends.push(GarbageWalkEnd::MachineCheck);
        }
        ends
    }

    /// Returns the name that reports use.
    pub const fn name(self) -> &'static str {
        match self {
            GarbageWalkEnd::BogusEntry => "bogus-entry",
            GarbageWalkEnd::BogusGlobalEntry => "bogus-global-entry",
            GarbageWalkEnd::AccessedBitWrite => "accessed-bit-write",
            GarbageWalkEnd::MachineCheck => "machine-check",
        }
    }

    /// Says in a sentence what happens.
    pub const fn about(self) -> &'static str {
        match self {
            GarbageWalkEnd::BogusEntry => {
                "a TLB entry made of garbage, for a page that nobody mapped"
            }
            GarbageWalkEnd::BogusGlobalEntry => {
                "the same with G=1: the CR3 load that catches up does not remove it"
            }
            GarbageWalkEnd::AccessedBitWrite => {
                "an Accessed bit set in whatever the frame holds now: memory corruption"
            }
            GarbageWalkEnd::MachineCheck => {
                "an access outside DRAM: a northbridge error, a machine check (the hang of 2017)"
            }
        }
    }
}

/// A property that was violated: which, by whom, and through what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The property.
    pub property: Property,
    /// The CPU on which it shows; `None` for a deadlock.
    pub cpu: Option<u8>,
    /// The frame that was freed under a walk, if that is it.
    pub frame: Option<u8>,
    /// The cached entry that was used, if there was one.
    pub through: Option<Translation>,
    /// What happened, in a sentence.
    pub what: String,
}
