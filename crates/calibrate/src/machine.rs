//! The machine that is measured.

use std::fs::read_to_string;
use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use raw_cpuid::{CpuId, CpuIdReader, Hypervisor};

use crate::error::CalibrateError;

/// KVM's feature leaf: the host flushes for virtual CPUs that do not run.
const KVM_FEATURES: u32 = 0x4000_0001;
const KVM_PV_TLB_FLUSH: u32 = 1 << 9;
/// Hyper-V's leaf of recommendations: remote flushes by a call.
const HYPER_V_RECOMMENDATIONS: u32 = 0x4000_0004;
const HYPER_V_REMOTE_FLUSH: u32 = 1 << 2;

/// Lists the CPUs that this process may use.
///
/// # Errors
/// If the system does not say.
pub(crate) fn cpus() -> Result<Vec<usize>, CalibrateError> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).map_err(CalibrateError::Affinity)?;
    let is_allowed = |cpu: &usize| allowed.is_set(*cpu).unwrap_or(false);
    Ok((0..CpuSet::count()).filter(is_allowed).collect())
}

/// Keeps this thread on one CPU.
///
/// # Errors
/// If the system refuses.
pub(crate) fn pin(cpu: usize) -> Result<(), CalibrateError> {
    let mut set = CpuSet::new();
    set.set(cpu).map_err(CalibrateError::Affinity)?;
    sched_setaffinity(Pid::from_raw(0), &set).map_err(CalibrateError::Affinity)
}

/// Names the hypervisor that flushes for its guests, if there is one: interrupts that it saves would be taken for cheap.
pub(crate) fn flushing_hypervisor() -> Option<&'static str> {
    let cpuid = CpuId::new();
    let reader = raw_cpuid::CpuIdReaderNative;
    let info = cpuid.get_hypervisor_info()?;
    match info.identify() {
        Hypervisor::KVM => {
            let features = reader.cpuid1(KVM_FEATURES).eax;
            (features & KVM_PV_TLB_FLUSH != 0).then_some("KVM, with paravirtual TLB flushes")
        }
        Hypervisor::HyperV => {
            let advice = reader.cpuid1(HYPER_V_RECOMMENDATIONS).eax;
            (advice & HYPER_V_REMOTE_FLUSH != 0).then_some("Hyper-V, with remote flushes by calls")
        }
        Hypervisor::Xen => Some("Xen"),
        _ => None,
    }
}

/// Names the CPU, and says if it is a virtual one: its interrupts may pass through a hypervisor.
pub(crate) fn name() -> String {
    let cpuid = CpuId::new();
    let brand = cpuid.get_processor_brand_string();
    let brand = brand.map_or_else(
        || "an x86 CPU".to_owned(),
        |brand| brand.as_str().trim().to_owned(),
    );
    match cpuid.get_hypervisor_info() {
        Some(_) => brand + " (virtual CPUs)",
        None => brand,
    }
}

/// Says whether the kernel uses PCIDs.
///
/// # Errors
/// If the system does not say.
pub(crate) fn pcids() -> io::Result<Pcids> {
    Ok(pcids_in(&read_to_string("/proc/cpuinfo")?))
}

/// Linux hides the flag if it uses none (`nopcid`), which CPUID would not tell.
fn pcids_in(cpuinfo: &str) -> Pcids {
    let flags = cpuinfo.lines().filter_map(|line| {
        let (name, flags) = line.split_once(':')?;
        (name.trim() == "flags").then_some(flags)
    });
    match flags
        .flat_map(str::split_whitespace)
        .any(|flag| flag == "pcid")
    {
        true => Pcids::Used,
        false => Pcids::Unused,
    }
}

/// Whether CR3 loads can keep what is cached of other address spaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pcids {
    /// They can.
    Used,
    /// They flush.
    Unused,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_flag_itself_tells_of_pcids() {
        let with = "processor\t: 0\nflags\t\t: fpu pcid sse4_1 invpcid\n\nprocessor\t: 1\n";
        assert_eq!(pcids_in(with), Pcids::Used);
        let without = "model name\t: a pcid machine\nflags\t\t: fpu invpcid\nbugs\t\t: pcid\n";
        assert_eq!(pcids_in(without), Pcids::Unused);
    }
}
