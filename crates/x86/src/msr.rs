//! Reading this CPU's model-specific registers, for detection.

use x86_64::registers::model_specific::Msr;

use crate::detect::ReadMsr;

/// The MSRs of the CPU that runs this code.
#[derive(Debug)]
pub struct CpuMsrs(());

impl CpuMsrs {
    /// Makes a reader.
    ///
    /// # Safety
    /// This must run in ring 0. Detection reads only registers that the CPU's vendor and family have;
    /// a hypervisor that hides one of them raises #GP, which the kernel must be ready to survive.
    pub unsafe fn new() -> Self {
        CpuMsrs(())
    }
}

impl ReadMsr for CpuMsrs {
    fn read(&self, msr: u32) -> Option<u64> {
        // SAFETY: `new` established ring 0; the register exists by its caller's contract.
        Some(unsafe { Msr::new(msr).read() })
    }
}
