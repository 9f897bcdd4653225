//! The machine that a comparison is about.

use std::fmt;

use lazytlb_check::Checker;
use lazytlb_model::{CpuModel, MemoryModel};

/// A machine: its memory, and what its CPUs may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) memory: MemoryModel,
    pub(crate) cpu_model: CpuModel,
}

impl Setting {
    pub(crate) fn checker(self) -> Checker {
        Checker::new().memory(self.memory).cpu_model(self.cpu_model)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CpuModel {
            name,
            upper_levels,
            keep_load,
            write_combining,
            dirty,
            uncached_loads,
            tlbsync,
            ..
        } = self.cpu_model;
        let memory = self.memory.name();
        let wc = write_combining.sfence.name();
        write!(
            f,
            "{name}, {memory}, upper levels {upper_levels:?}, CR3 loads with bit 63: {keep_load:?}, wc {wc}, \
             D {dirty:?}, uncached loads {uncached_loads:?}, TLBSYNC {tlbsync:?}"
        )
    }
}
