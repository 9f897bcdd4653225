//! The seam and the storage that a kernel supplies: here two CPUs, played in turn by one thread.

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use lazytlb::{
    Cells, CpuId, CpuSet, Cr3Load, Hw, Interrupts, Kernel, Mm, MmHandle, MmId, PerCpu, PhysAddr,
    Policy, Quirks, Tlb, Until, VirtAddr,
};

/// The CPU that starts.
pub const CPU0: CpuId = CpuId(0);
/// The other CPU.
pub const CPU1: CpuId = CpuId(1);
/// The kernel's own space.
pub const INIT_MM: MmHandle = MmHandle(0);
/// The one user space.
pub const USER: MmHandle = MmHandle(1);
/// The root table of the kernel's own space.
pub const INIT_ROOT: PhysAddr = PhysAddr(0x1000);
/// The root table of [`USER`].
pub const USER_ROOT: PhysAddr = PhysAddr(0x2000);

/// Two CPUs, and the protocol that runs on them.
pub struct Machine {
    /// The CPU that the thread plays now.
    current: Cell<CpuId>,
    /// Whether each CPU takes interrupts.
    interrupts: [Cell<Interrupts>; 2],
    /// The root in each CPU's CR3.
    roots: [Cell<PhysAddr>; 2],
    /// The protocol; here because an IPI runs its handler.
    tlb: Tlb<Storage>,
}

impl Machine {
    /// Makes a machine with both CPUs in the kernel's own space.
    pub fn boot(policy: Policy) -> Self {
        Machine {
            current: Cell::new(CPU0),
            interrupts: [const { Cell::new(Interrupts::Enabled) }; 2],
            roots: [const { Cell::new(INIT_ROOT) }; 2],
            tlb: Tlb::new(Storage::new(), policy),
        }
    }

    /// Returns the protocol.
    pub fn tlb(&self) -> &Tlb<Storage> {
        &self.tlb
    }

    /// Plays `cpu` for as long as `work` runs, then the former CPU again.
    pub fn on<R>(&self, cpu: CpuId, work: impl FnOnce(&Self) -> R) -> R {
        let former = self.current.replace(cpu);
        let result = work(self);
        self.current.set(former);
        result
    }

    /// Returns the root in a CPU's CR3.
    pub fn root_on(&self, cpu: CpuId) -> PhysAddr {
        self.roots[usize::from(cpu.0)].get()
    }

    /// Returns the index of the CPU that the thread plays.
    fn index(&self) -> usize {
        usize::from(self.current.get().0)
    }
}

impl Hw for Machine {
    type Atomic = AtomicU64;
    type Local = AtomicU64;

    fn cpu(&self) -> CpuId {
        self.current.get()
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
        // One thread plays both CPUs, so this one has no partner; it shows where MFENCE belongs.
        fence(Ordering::SeqCst);
    }

    fn interrupts(&self) -> Interrupts {
        self.interrupts[self.index()].get()
    }
    fn disable_interrupts(&self) -> Interrupts {
        self.interrupts[self.index()].replace(Interrupts::Disabled)
    }
    fn restore_interrupts(&self, former: Interrupts) {
        self.interrupts[self.index()].set(former);
    }
    /// Runs the handler on each target at once: a target that is very quick.
    fn send_ipi<const WORDS: usize>(&self, targets: &CpuSet<WORDS>) {
        for target in targets.iter() {
            self.on(target, |hw| {
                let former = hw.disable_interrupts();
                hw.tlb().handle_flush_ipi(hw);
                hw.restore_interrupts(former);
            });
        }
    }
    fn pause_until(&self, atomic: &AtomicU64, until: Until) {
        // Every handler has run already, and there is no other thread to wait for.
        assert!(
            until.holds(self.load(atomic)),
            "a target did not acknowledge"
        );
    }

    fn load_cr3(&self, root: PhysAddr, _load: Cr3Load) {
        self.roots[self.index()].set(root);
    }
    fn invlpg(&self, _addr: VirtAddr) {}
    fn quirks(&self) -> Quirks {
        Quirks::default()
    }
}

/// Makes plain words.
struct Words;

impl Cells<Machine> for Words {
    fn atomic(&mut self, _name: &'static str, value: u64) -> AtomicU64 {
        AtomicU64::new(value)
    }
    fn local(&mut self, _name: &'static str, value: u64) -> AtomicU64 {
        AtomicU64::new(value)
    }
}

/// The kernel's storage: handles and CPU numbers are indices.
pub struct Storage {
    /// The state of each CPU.
    cpus: [PerCpu<Machine>; 2],
    /// The kernel's own space, then [`USER`].
    mms: [Mm<Machine>; 2],
}

impl Storage {
    /// Makes both CPUs and both spaces.
    fn new() -> Self {
        let mm = |id, root| Mm::new(MmId(id), root, &mut Words);
        Storage {
            cpus: core::array::from_fn(|_| PerCpu::new(INIT_MM, &mut Words)),
            mms: [mm(1, INIT_ROOT), mm(2, USER_ROOT)],
        }
    }
}

impl Kernel for Storage {
    type Hw = Machine;

    fn per_cpu(&self, cpu: CpuId) -> &PerCpu<Machine> {
        &self.cpus[usize::from(cpu.0)]
    }
    fn mm(&self, handle: MmHandle) -> &Mm<Machine> {
        &self.mms[handle.0 as usize]
    }
    fn init_mm(&self) -> MmHandle {
        INIT_MM
    }
}
