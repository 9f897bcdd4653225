//! The null machine, and a kernel on it: what is left is the protocol's own instructions.
//!
//! Atomics are atomics. CR3 loads, INVLPGs, IPIs and the interrupt flag are nothing, as if each were free; what a kernel
//! keeps in a register or a segment (the CPU's number and its state) is one load. Handles are looked up in a table,
//! which costs two instructions more than pointers would.

use std::array;
use std::cell::Cell;
use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use lazytlb::{
    Broadcast, Cells, CpuId, CpuSet, Cr3Load, Hw, Interrupts, Invpcid, Kernel, Mm, MmHandle, MmId,
    Pcid, Pcids, PerCpu, PhysAddr, Policy, Poll, Quirks, Tlb, Until, VirtAddr,
};

/// Slots for PCIDs.
pub(crate) const SLOTS: usize = 6;
/// Spaces: a power of two, and more than slots.
const SPACES: usize = 8;
/// CPUs that exist, whatever the sets' capacity.
const CPUS: usize = 2;

/// The protocol on the null machine.
pub(crate) type NullTlb<P, const WORDS: usize, const IN_USE: usize> =
    Tlb<NullKernel<P, WORDS, IN_USE>, WORDS, SLOTS>;

/// Whether a machine has PCIDs.
pub(crate) trait HasPcids: 'static {
    /// Says so: a constant, or a field of the machine, as in `lazytlb-x86`.
    fn pcids_are_on(flag: bool) -> bool;
    /// What the field says.
    const FLAG: bool;
}

/// A machine without PCIDs.
pub(crate) struct Without;
/// One that asks at run time, and has none, or that does not use them.
pub(crate) struct Off;
/// One that asks at run time, and has them.
pub(crate) struct On;

impl HasPcids for Without {
    const FLAG: bool = false;
    #[inline]
    fn pcids_are_on(_flag: bool) -> bool {
        false
    }
}
impl HasPcids for Off {
    const FLAG: bool = false;
    #[inline]
    fn pcids_are_on(flag: bool) -> bool {
        flag
    }
}
impl HasPcids for On {
    const FLAG: bool = true;
    #[inline]
    fn pcids_are_on(flag: bool) -> bool {
        flag
    }
}

thread_local! {
    /// The CPU that runs: relative to FS here, to GS in a kernel.
    static CPU: Cell<CpuId> = const { Cell::new(CpuId(0)) };
    /// Its interrupt flag.
    static INTERRUPTS: Cell<Interrupts> = const { Cell::new(Interrupts::Enabled) };
    /// What the others do while this one waits.
    static WHILE_WAITING: Cell<Option<&'static dyn Fn()>> = const { Cell::new(None) };
}

/// The machine. Nothing in it changes, as in `lazytlb-x86`.
pub(crate) struct Null<P> {
    pcids_are_on: bool,
    quirks: Quirks,
    has_pcids: PhantomData<P>,
}

impl<P: HasPcids> Null<P> {
    /// Makes a machine that runs CPU 0.
    pub(crate) fn new() -> Self {
        Null {
            pcids_are_on: P::FLAG,
            quirks: Quirks::default(),
            has_pcids: PhantomData,
        }
    }

    /// Sets the interrupt flag, which the protocol cannot.
    pub(crate) fn set_interrupts(&self, interrupts: Interrupts) {
        INTERRUPTS.set(interrupts);
    }

    /// Says what the others do while this CPU waits.
    pub(crate) fn while_waiting(&self, others: &'static dyn Fn()) {
        WHILE_WAITING.set(Some(others));
    }
}

impl<P: HasPcids> Hw for Null<P> {
    type Atomic = AtomicU64;
    type Local = Cell<u64>;

    #[inline]
    fn cpu(&self) -> CpuId {
        CPU.get()
    }
    #[inline]
    fn load(&self, atomic: &AtomicU64) -> u64 {
        atomic.load(Ordering::Acquire)
    }
    #[inline]
    fn store(&self, atomic: &AtomicU64, value: u64) {
        atomic.store(value, Ordering::Release);
    }
    #[inline]
    fn fetch_add(&self, atomic: &AtomicU64, value: u64) -> u64 {
        atomic.fetch_add(value, Ordering::SeqCst)
    }
    #[inline]
    fn fetch_or(&self, atomic: &AtomicU64, bits: u64) -> u64 {
        atomic.fetch_or(bits, Ordering::SeqCst)
    }
    #[inline]
    fn fetch_and(&self, atomic: &AtomicU64, bits: u64) -> u64 {
        atomic.fetch_and(bits, Ordering::SeqCst)
    }
    #[inline]
    fn swap(&self, atomic: &AtomicU64, value: u64) -> u64 {
        atomic.swap(value, Ordering::SeqCst)
    }
    #[inline]
    fn load_local(&self, local: &Cell<u64>) -> u64 {
        local.get()
    }
    #[inline]
    fn store_local(&self, local: &Cell<u64>, value: u64) {
        local.set(value);
    }
    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
    #[inline]
    fn interrupts(&self) -> Interrupts {
        INTERRUPTS.get()
    }
    #[inline]
    fn disable_interrupts(&self) -> Interrupts {
        Interrupts::Enabled
    }
    #[inline]
    fn restore_interrupts(&self, _former: Interrupts) {}
    #[inline]
    fn send_ipi<const WORDS: usize>(&self, _targets: &CpuSet<WORDS>) {}
    #[inline]
    fn pause_until(&self, atomic: &AtomicU64, until: Until) {
        while !until.holds(self.load(atomic)) {
            let_others_answer();
        }
    }
    #[inline]
    fn load_cr3(&self, _root: PhysAddr, _load: Cr3Load) {}
    #[inline]
    fn invlpg(&self, addr: VirtAddr) {
        // To find the address is the protocol's.
        black_box(addr);
    }
    #[inline]
    fn quirks(&self) -> Quirks {
        self.quirks
    }
}

impl<P: HasPcids> Pcids for Null<P> {
    #[inline]
    fn pcids_are_on(&self) -> bool {
        P::pcids_are_on(self.pcids_are_on)
    }
    #[inline]
    fn load_cr3_pcid(&self, _root: PhysAddr, _pcid: Pcid, _load: Cr3Load) {}
    #[inline]
    fn invpcid(&self, _what: Invpcid) {}
}

impl<P: HasPcids> Broadcast for Null<P> {}

impl<P: HasPcids> Poll for Null<P> {
    #[inline]
    fn poll<R>(&self, body: impl Fn(&Self) -> Option<R>) -> R {
        loop {
            if let Some(found) = body(self) {
                return found;
            }
            let_others_answer();
        }
    }
}

#[inline(never)]
fn let_others_answer() {
    let others = WHILE_WAITING.get().expect("somebody must answer");
    others();
}

/// Makes the words.
struct Words;

impl<P: HasPcids> Cells<Null<P>> for Words {
    fn atomic(&mut self, _name: &'static str, value: u64) -> AtomicU64 {
        AtomicU64::new(value)
    }
    fn local(&mut self, _name: &'static str, value: u64) -> Cell<u64> {
        Cell::new(value)
    }
}

type NullPerCpu<P, const WORDS: usize> = PerCpu<Null<P>, WORDS, SLOTS>;

/// A kernel with two CPUs whose storage lives for ever. `IN_USE` words of its sets may have members.
pub(crate) struct NullKernel<P: HasPcids, const WORDS: usize, const IN_USE: usize> {
    /// The state of the CPU that runs: what the GS segment is for.
    pub(crate) this_cpu: Cell<&'static NullPerCpu<P, WORDS>>,
    cpus: [&'static NullPerCpu<P, WORDS>; CPUS],
    mms: [Cell<&'static Mm<Null<P>, WORDS>>; SPACES],
    next_id: Cell<u64>,
}

impl<P: HasPcids, const WORDS: usize, const IN_USE: usize> NullKernel<P, WORDS, IN_USE> {
    /// Lets a CPU run.
    pub(crate) fn run_on(&self, cpu: CpuId) {
        CPU.set(cpu);
        self.this_cpu.set(self.cpus[usize::from(cpu.0)]);
    }

    /// Makes a space anew, under an identity that is new, too.
    pub(crate) fn create(&self, handle: MmHandle) {
        let id = MmId(self.next_id.replace(self.next_id.get() + 1));
        self.mms[handle.0 as usize].set(new_mm(id, handle));
    }
}

impl<P: HasPcids, const WORDS: usize, const IN_USE: usize> Kernel<WORDS, SLOTS>
    for NullKernel<P, WORDS, IN_USE>
{
    type Hw = Null<P>;
    #[inline]
    fn per_cpu(&self, cpu: CpuId) -> &NullPerCpu<P, WORDS> {
        self.cpus[usize::from(cpu.0) % CPUS]
    }
    #[inline]
    fn this_cpu(&self, _hw: &Null<P>) -> &NullPerCpu<P, WORDS> {
        self.this_cpu.get()
    }
    #[inline]
    fn cpu_words(&self) -> usize {
        IN_USE
    }
    #[inline]
    fn mm(&self, handle: MmHandle) -> &Mm<Null<P>, WORDS> {
        self.mms[handle.0 as usize % SPACES].get()
    }
    #[inline]
    fn init_mm(&self) -> MmHandle {
        MmHandle(0)
    }
}

fn new_mm<P: HasPcids, const WORDS: usize>(
    id: MmId,
    handle: MmHandle,
) -> &'static Mm<Null<P>, WORDS> {
    let root = PhysAddr(0x1000 * (handle.0 + 1));
    Box::leak(Box::new(Mm::new(id, root, &mut Words)))
}

/// Boots the kernel under a policy.
pub(crate) fn boot<P: HasPcids, const WORDS: usize, const IN_USE: usize>(
    policy: Policy,
) -> &'static NullTlb<P, WORDS, IN_USE> {
    let cpus: [&'static NullPerCpu<P, WORDS>; CPUS] =
        array::from_fn(|_| &*Box::leak(Box::new(PerCpu::new(MmHandle(0), &mut Words))));
    let mms = array::from_fn(|n| Cell::new(new_mm(MmId(n as u64 + 1), MmHandle(n as u64))));
    let kernel = NullKernel {
        this_cpu: Cell::new(cpus[0]),
        cpus,
        mms,
        next_id: Cell::new(SPACES as u64 + 1),
    };
    Box::leak(Box::new(Tlb::new(kernel, policy)))
}
