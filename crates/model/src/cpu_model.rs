//! CPU models: named sets of rules and errata, as data in one table.

use lazytlb::Quirks;

/// Which paging-structure-cache entries INVLPG drops (H13, H37).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum InvlpgReach {
    /// All of the current PCID.
    AllUpperLevels,
    /// Only those that lead to the address: EFER.TCE, or the weakest reading.
    LeadingToAddress,
}

/// What a walk that leaves DRAM ends in (H32).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WalkOutsideDram {
    /// The load returns something or other. No model promises it yet.
    ReturnsGarbage,
    /// A northbridge protocol error: the machine check of 2017.
    MachineCheck,
}

/// A CPU model.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CpuModel {
    /// The name that people type.
    pub name: &'static str,
    /// One line on what it stands for.
    pub about: &'static str,
    /// What INVLPG does to paging-structure caches.
    pub invlpg: InvlpgReach,
    /// What a walk outside DRAM ends in.
    pub walk_outside_dram: WalkOutsideDram,
    /// What software can detect: the weakest CPU owns up to nothing.
    pub quirks: Quirks,
}

impl CpuModel {
    /// All that the manuals allow at once, and the weak reading wherever they are silent. It reports no
    /// erratum: software that is safe only where it detects one is not safe here.
    pub const WEAKEST: CpuModel = CpuModel {
        name: "weakest",
        about: "everything the manuals allow at once; reports no errata",
        invlpg: InvlpgReach::LeadingToAddress,
        walk_outside_dram: WalkOutsideDram::MachineCheck,
        quirks: Quirks {
            erratum_383: false,
            walks_assume_dram: false,
        },
    };

    /// AMD family 10h (Phenom, 2007–2012): no PCIDs, erratum 383 (H31), and walks that assume
    /// DRAM (H32). The machine that hung in 2017.
    pub const AMD_K10: CpuModel = CpuModel {
        name: "amd-k10",
        about: "AMD family 10h: no PCIDs, erratum 383, a walk outside DRAM is a machine check",
        invlpg: InvlpgReach::AllUpperLevels,
        walk_outside_dram: WalkOutsideDram::MachineCheck,
        quirks: Quirks {
            erratum_383: true,
            walks_assume_dram: true,
        },
    };

    /// Every model.
    pub const ALL: [CpuModel; 2] = [Self::WEAKEST, Self::AMD_K10];

    /// Finds a model by its name.
    pub fn by_name(name: &str) -> Option<CpuModel> {
        Self::ALL.into_iter().find(|model| model.name == name)
    }
}
