//! Values that arguments have, by their names.

use anyhow::ensure;
use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use lazytlb::Policy;
use lazytlb_check::{LazyTlb, ShippedProgram};
use lazytlb_model::{CpuModel, MemoryModel};
use lazytlb_price::PcidsOn;
use lazytlb_zoo::Exhibit;

/// The memory model.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub(crate) enum Memory {
    /// x86-TSO: stores wait in a buffer on each CPU
    Tso,
    /// Sequential consistency: stronger than any x86
    Sc,
}

impl Memory {
    pub(crate) fn model(self) -> MemoryModel {
        match self {
            Memory::Tso => MemoryModel::TSO,
            Memory::Sc => MemoryModel::Sc,
        }
    }
}

/// Refuses a CPU model without INVLPGB.
///
/// # Errors
/// If it has none.
pub(crate) fn require_broadcasts(cpu: CpuModel) -> anyhow::Result<()> {
    ensure!(
        cpu.broadcast,
        "CPU model {} has no INVLPGB: leave `--global-ids` out, or take one that has (`lazytlb cpus` lists them)",
        cpu.name
    );
    Ok(())
}

/// Refuses a CPU model without PCIDs.
///
/// # Errors
/// If it has none.
pub(crate) fn require_pcids(cpu: CpuModel) -> anyhow::Result<()> {
    ensure!(
        cpu.pcids,
        "CPU model {} has no PCIDs: leave `--pcids` out, or take one that has (`lazytlb cpus` lists them)",
        cpu.name
    );
    Ok(())
}

/// Whether the CPUs have PCIDs.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub(crate) enum Pcids {
    /// Six slots on each CPU
    On,
    /// Every CR3 load flushes
    Off,
    /// As the recorded kernel had them; both where the recording does not tell
    AsRecorded,
}

impl Pcids {
    /// Returns what is asked of a CPU model.
    ///
    /// # Errors
    /// If it shall have PCIDs, and has none.
    pub(crate) fn settings(self, cpu: CpuModel) -> anyhow::Result<&'static [PcidsOn]> {
        match self {
            Pcids::On => {
                require_pcids(cpu)?;
                Ok(&[PcidsOn::Yes])
            }
            Pcids::Off => Ok(&[PcidsOn::No]),
            Pcids::AsRecorded if !cpu.pcids => Ok(&[PcidsOn::No]),
            // The events that are read do not tell.
            Pcids::AsRecorded => Ok(&PcidsOn::ALL),
        }
    }
}

/// The policies that an argument names.
#[derive(Clone, Debug)]
pub(crate) struct Policies(pub(crate) Vec<Policy>);

/// Accepts a policy's name, or all.
pub(crate) fn policies() -> impl TypedValueParser<Value = Policies> {
    let names = Policy::ALL
        .iter()
        .map(|policy| PossibleValue::new(policy.name()));
    let all = PossibleValue::new("all").help("every policy");
    PossibleValuesParser::new(names.chain([all])).map(|name| {
        let named = |policy: &Policy| name == "all" || policy.name() == name;
        Policies(Policy::ALL.iter().copied().filter(named).collect())
    })
}

/// Accepts the name of an exhibit of the zoo.
pub(crate) fn exhibit() -> impl TypedValueParser<Value = &'static Exhibit> {
    let names = lazytlb_zoo::ALL
        .iter()
        .map(|exhibit| PossibleValue::new(exhibit.name).help(exhibit.about));
    PossibleValuesParser::new(names)
        .map(|name| lazytlb_zoo::by_name(&name).expect("only names of exhibits are accepted"))
}

/// Accepts the name of a shipped program.
pub(crate) fn program() -> PossibleValuesParser {
    let programs = ShippedProgram::<LazyTlb>::all().into_iter();
    PossibleValuesParser::new(
        programs.map(|program| PossibleValue::new(program.name).help(program.about)),
    )
}
