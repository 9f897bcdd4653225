//! Which number the code of each CPU is told.

use lazytlb::CpuId;
use lazytlb_model::machine::MOST_CPUS;

/// The number of each CPU; with none, they are counted from 0 on.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct CpuNumbers(pub(crate) [Option<CpuId>; MOST_CPUS]);

impl CpuNumbers {
    /// Returns the number that the code of a CPU is told.
    pub(crate) fn number_of(self, cpu: CpuId) -> CpuId {
        let number = self.0.get(usize::from(cpu.0)).copied();
        number.flatten().unwrap_or(cpu)
    }

    /// Returns the CPU that has a number.
    pub(crate) fn cpu_of(self, number: CpuId) -> Option<CpuId> {
        if self == CpuNumbers::default() {
            return Some(number);
        }
        let cpu = self.0.iter().position(|&its| its == Some(number))?;
        Some(CpuId(cpu as u16))
    }
}
