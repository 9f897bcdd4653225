use lazytlb::{
    Broadcast, Cells, CpuId, CpuSet, Cr3Load, Hw, Interrupts, Kernel, Mm, MmHandle, MmId, Pcids,
    PerCpu, PhysAddr, Poll, Quirks, SoftwareWalks, Tlb, Until, VirtAddr,
};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// A machine with one CPU, which remembers its interrupt flag and counts its CR3 loads. Code that runs on it may find
/// itself on another number.
#[derive(Default)]
pub struct Machine {
    pub cpu: Cell<u16>,
    disabled: Cell<bool>,
    pub cr3_loads: Cell<u32>,
}

impl Hw for Machine {
    type Atomic = AtomicU64;
    type Local = AtomicU64;

    fn cpu(&self) -> CpuId {
        CpuId(self.cpu.get())
    }
    fn load(&self, atomic: &AtomicU64) -> u64 {
        atomic.load(Ordering::Acquire)
    }
    fn store(&self, atomic: &AtomicU64, value: u64) {
        atomic.store(value, Ordering::Release);
    }
    fn fetch_add(&self, atomic: &AtomicU64, value: u64) -> u64 {
        atomic.fetch_add(value, Ordering::SeqCst)
    }
    fn fetch_or(&self, atomic: &AtomicU64, bits: u64) -> u64 {
        atomic.fetch_or(bits, Ordering::SeqCst)
    }
    fn fetch_and(&self, atomic: &AtomicU64, bits: u64) -> u64 {
        atomic.fetch_and(bits, Ordering::SeqCst)
    }
    fn swap(&self, atomic: &AtomicU64, value: u64) -> u64 {
        atomic.swap(value, Ordering::SeqCst)
    }
    fn load_local(&self, local: &AtomicU64) -> u64 {
        local.load(Ordering::Relaxed)
    }
    fn store_local(&self, local: &AtomicU64, value: u64) {
        local.store(value, Ordering::Relaxed);
    }
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
    fn interrupts(&self) -> Interrupts {
        if self.disabled.get() {
            Interrupts::Disabled
        } else {
            Interrupts::Enabled
        }
    }
    fn disable_interrupts(&self) -> Interrupts {
        let former = self.interrupts();
        self.disabled.set(true);
        former
    }
    fn restore_interrupts(&self, former: Interrupts) {
        self.disabled.set(former == Interrupts::Disabled);
    }
    fn send_ipi<const WORDS: usize>(&self, _targets: &CpuSet<WORDS>) {
        unreachable!("there is no other CPU")
    }
    fn pause_until(&self, atomic: &AtomicU64, until: Until) {
        while !until.holds(self.load(atomic)) {
            std::hint::spin_loop();
        }
    }
    fn load_cr3(&self, _root: PhysAddr, _load: Cr3Load) {
        self.cr3_loads.set(self.cr3_loads.get() + 1);
    }
    fn invlpg(&self, _addr: VirtAddr) {}
    fn quirks(&self) -> Quirks {
        Quirks::default()
    }
}

// It has no PCIDs.
impl Pcids for Machine {}
// Nor broadcasts.
impl Broadcast for Machine {}

impl Poll for Machine {
    fn poll<R>(&self, body: impl Fn(&Self) -> Option<R>) -> R {
        loop {
            if let Some(found) = body(self) {
                return found;
            }
            std::hint::spin_loop();
        }
    }
}

/// Makes plain words: on this machine an atomic is an atomic.
struct Words;

impl Cells<Machine> for Words {
    fn atomic(&mut self, _name: &'static str, value: u64) -> AtomicU64 {
        AtomicU64::new(value)
    }
    fn local(&mut self, _name: &'static str, value: u64) -> AtomicU64 {
        AtomicU64::new(value)
    }
}

/// A kernel with two spaces in an array: handles are indices.
pub struct ToyKernel {
    cpu: PerCpu<Machine>,
    mms: [Mm<Machine>; 2],
}

impl Kernel for ToyKernel {
    type Hw = Machine;
    fn per_cpu(&self, _cpu: CpuId) -> &PerCpu<Machine> {
        &self.cpu
    }
    fn mm(&self, handle: MmHandle) -> &Mm<Machine> {
        &self.mms[handle.0 as usize]
    }
    fn init_mm(&self) -> MmHandle {
        MmHandle(0)
    }
    fn software_walks(&self) -> SoftwareWalks {
        SoftwareWalks::Guarded
    }
}

/// The one user space of [`ToyKernel`].
pub const USER: MmHandle = MmHandle(1);

/// Boots the toy kernel under a policy.
pub fn boot(policy: lazytlb::Policy) -> Tlb<ToyKernel> {
    let mm = |id, root| Mm::new(MmId(id), PhysAddr(root), &mut Words);
    let kernel = ToyKernel {
        cpu: PerCpu::new(MmHandle(0), &mut Words),
        mms: [mm(1, 0x1000), mm(2, 0x2000)],
    };
    Tlb::new(kernel, policy)
}
