//! The properties: what must never happen, each with a name and a sentence.

use std::fmt;

use crate::cpu_model::{CpuModel, WalkOutsideDram};
use crate::index::Cpu;
use crate::translation::Translation;

/// A property that every execution must keep.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Property {
    /// A translation was used after the flush that covers it had returned (H5, H22, H23).
    StaleUse,
    /// A walk can start at, or reach, a page table that was freed (H10, H11, H12a, H22).
    TableUseAfterFree,
    /// A walk of garbage wrote an Accessed bit into memory that is in use for something else (H33).
    CorruptedFrame,
    /// Entries of different page sizes for one address, on a CPU that cannot stand it (H7, H20, H31).
    MultipleMatch,
    /// An access in one space went through another's entry (H2, H19).
    ForeignTranslation,
    /// A write reached a device after the flush that unmapped it had returned (H26, H27).
    DeviceWriteAfterFlush,
    /// Memory changed its type while an access of the old type may still come (H28).
    StaleSpeculation,
    /// A flush that holds page tables back interrupted a CPU that was lazy: that is what they are held back for.
    LazyInterrupted,
    /// A frame that was handed over to be freed is neither freed nor held back to be freed.
    LeakedFrame,
    /// Software broke a rule of the instructions, and the CPU refuses (H1, H15).
    GeneralProtection,
    /// A CPU sleeps for ever: the interrupt that should have woken it came before it slept.
    LostWakeup,
    /// No CPU can take a step, and not all have ended.
    Deadlock,
    /// The protocol's own code panicked, or broke a rule of the machine.
    Panic,
}

impl Property {
    /// Every property.
    pub const ALL: [Property; 13] = [
        Property::StaleUse,
        Property::TableUseAfterFree,
        Property::CorruptedFrame,
        Property::MultipleMatch,
        Property::ForeignTranslation,
        Property::DeviceWriteAfterFlush,
        Property::StaleSpeculation,
        Property::LazyInterrupted,
        Property::LeakedFrame,
        Property::GeneralProtection,
        Property::LostWakeup,
        Property::Deadlock,
        Property::Panic,
    ];

    /// Returns the name that reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Property::StaleUse => "stale-use",
            Property::TableUseAfterFree => "table-use-after-free",
            Property::CorruptedFrame => "corrupted-frame",
            Property::MultipleMatch => "multiple-match",
            Property::ForeignTranslation => "foreign-translation",
            Property::DeviceWriteAfterFlush => "device-write-after-flush",
            Property::StaleSpeculation => "stale-speculation",
            Property::LazyInterrupted => "lazy-interrupted",
            Property::LeakedFrame => "leaked-frame",
            Property::GeneralProtection => "general-protection",
            Property::LostWakeup => "lost-wakeup",
            Property::Deadlock => "deadlock",
            Property::Panic => "panic",
        }
    }

    /// Says in a sentence what must not happen.
    pub const fn about(self) -> &'static str {
        match self {
            Property::StaleUse => {
                "a translation is used after the flush that covers it has returned"
            }
            Property::TableUseAfterFree => {
                "a walk can start at, or reach, a page table that was freed"
            }
            Property::CorruptedFrame => {
                "a walk of garbage sets an Accessed bit in memory that is used for something else"
            }
            Property::MultipleMatch => {
                "two entries of different page sizes match one address, which this CPU answers with a \
                 machine check"
            }
            Property::ForeignTranslation => {
                "an access in one space goes through another space's entry"
            }
            Property::DeviceWriteAfterFlush => {
                "a write arrives at a device after the flush that unmapped it has returned"
            }
            Property::StaleSpeculation => {
                "memory changes its type while an access of the former type may still come"
            }
            Property::LazyInterrupted => {
                "a flush that holds page tables back interrupts a CPU that was seen to be lazy"
            }
            Property::LeakedFrame => {
                "a frame that was handed over to be freed is neither freed nor held back"
            }
            Property::GeneralProtection => {
                "software breaks a rule of the instructions, and gets #GP"
            }
            Property::LostWakeup => {
                "a CPU sleeps for ever: the interrupt that should have woken it came before it slept"
            }
            Property::Deadlock => "no CPU can take a step, and not all have ended",
            Property::Panic => "the protocol's code panics, or breaks a rule of the machine",
        }
    }

    /// Finds a property by its name.
    pub fn by_name(name: &str) -> Option<Property> {
        Property::ALL
            .into_iter()
            .find(|property| property.name() == name)
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

/// A property that was violated: which, on which CPU, and through which entry.
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

impl Violation {
    /// A violation on a CPU that no frame and no cached entry explains.
    pub(crate) fn on_cpu(property: Property, cpu: Cpu, what: impl fmt::Display) -> Violation {
        Violation {
            property,
            cpu: Some(cpu.number()),
            frame: None,
            through: None,
            what: format!("CPU {cpu} {what}"),
        }
    }

    /// A violation on a CPU through a cached entry.
    pub(crate) fn through(
        property: Property,
        cpu: Cpu,
        through: Translation,
        what: impl fmt::Display,
    ) -> Violation {
        Violation {
            frame: Some(through.frame.number()),
            through: Some(through),
            ..Violation::on_cpu(property, cpu, what)
        }
    }
}
