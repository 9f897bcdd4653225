//! The storage of a checked kernel. As `adapter.rs`, it is compiled more than once.

use lazytlb as protocol;

use lazytlb::CpuId;
use lazytlb_check::ModelHw;
use protocol::global_id::GlobalIdWord;
use protocol::kernel::{Kernel, SoftwareWalks};
use protocol::mm::{Mm, MmHandle};
use protocol::per_cpu::PerCpu;

use super::sinks::HELD_TABLES;

/// The storage of a checked kernel: arrays.
pub(super) struct Storage<const SLOTS: usize, const WORDS: usize> {
    pub(super) cpus: Vec<(CpuId, PerCpu<ModelHw, WORDS, SLOTS>)>,
    pub(super) mms: Vec<Mm<ModelHw, WORDS>>,
    pub(super) software_walks: SoftwareWalks,
    pub(super) global_ids: Vec<GlobalIdWord<ModelHw>>,
}

impl<const SLOTS: usize, const WORDS: usize> Kernel<WORDS, SLOTS> for Storage<SLOTS, WORDS> {
    type Hw = ModelHw;
    fn per_cpu(&self, number: CpuId) -> &PerCpu<ModelHw, WORDS, SLOTS> {
        let cpu = self.cpus.iter().find(|(its, _)| *its == number);
        &cpu.expect("the protocol names CPUs that there are").1
    }
    fn mm(&self, handle: MmHandle) -> &Mm<ModelHw, WORDS> {
        &self.mms[usize::try_from(handle.0).expect("handles are small")]
    }
    fn init_mm(&self) -> MmHandle {
        MmHandle(0)
    }
    fn software_walks(&self) -> SoftwareWalks {
        self.software_walks
    }
    fn held_tables_of_a_space(&self) -> u64 {
        HELD_TABLES as u64
    }
    fn global_ids(&self) -> &[GlobalIdWord<ModelHw>] {
        &self.global_ids
    }
    fn broadcasts_from(&self) -> u32 {
        1
    }
}
