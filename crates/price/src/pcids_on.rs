//! Whether the CPUs have PCIDs: as a setting, and as a machine knows it that is compiled for one of the two.

/// Whether the CPUs have PCIDs, and use them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PcidsOn {
    /// Every CR3 load flushes.
    #[default]
    No,
    /// The protocol has six slots on each CPU.
    Yes,
}

impl PcidsOn {
    /// Both, without PCIDs first.
    pub const ALL: [PcidsOn; 2] = [PcidsOn::No, PcidsOn::Yes];

    /// Returns the name that people type: `off` or `on`.
    pub const fn name(self) -> &'static str {
        match self {
            PcidsOn::No => "off",
            PcidsOn::Yes => "on",
        }
    }
}

/// A kind of CPUs. The protocol asks some ten times an operation whether there are PCIDs; of a type the compiler knows the answer.
pub(crate) trait Cpus {
    const PCIDS_ON: PcidsOn;
}

/// CPUs without PCIDs.
pub(crate) enum WithoutPcids {}

/// CPUs with PCIDs.
pub(crate) enum WithPcids {}

impl Cpus for WithoutPcids {
    const PCIDS_ON: PcidsOn = PcidsOn::No;
}

impl Cpus for WithPcids {
    const PCIDS_ON: PcidsOn = PcidsOn::Yes;
}
