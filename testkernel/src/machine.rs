//! The seam: the real machine with this kernel's part, and the storage of the protocol's state.
//!
//! A port of yours has the same three pieces: a [`Board`], a [`Kernel`], and a place for [`Tlb`]. The
//! fourth, [`BreakableMachine`], only exists to break promises; you would use [`X86`] itself.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{
    Cells, CpuId, CpuSet, Cr3Load, Hw, Interrupts, Kernel, Mm, MmHandle, MmId, PerCpu, PhysAddr,
    Quirks, Tlb, Until, VirtAddr,
};
use lazytlb_x86::{ApicId, Board, LocalApic, Words, X86};
use spin::Once;

use crate::breaking;
use crate::breaks::Break;
use crate::cpu::{self, FLUSH_VECTOR, MAX_CPUS, with_apic};
use crate::{clock, options};

/// Address spaces, the kernel's own included: handle 0.
pub const MAX_SPACES: usize = 5;
/// CPU sets of one word: 64 CPUs are enough here.
pub const WORDS: usize = 1;

/// Counts what the protocol asks of the machine.
#[derive(Debug)]
pub struct Effects {
    pub ipis: AtomicU64,
    pub cr3_loads: AtomicU64,
    pub invlpgs: AtomicU64,
}

pub static EFFECTS: Effects = Effects {
    ipis: AtomicU64::new(0),
    cr3_loads: AtomicU64::new(0),
    invlpgs: AtomicU64::new(0),
};

/// This kernel's part of the seam.
#[derive(Debug)]
pub struct Pc;

impl Board for Pc {
    fn cpu(&self) -> CpuId {
        CpuId(cpu::current() as u16)
    }
    fn send_flush_ipi<const N: usize>(&self, targets: &CpuSet<N>) {
        EFFECTS
            .ipis
            .fetch_add(targets.len().into(), Ordering::Relaxed);
        // CPUs are numbered by their APIC ids.
        let apic_id = |cpu: CpuId| ApicId(cpu.0.into());
        with_apic!(cpu::apic(), send_to_set(targets, apic_id, FLUSH_VECTOR));
    }
}

/// The machine that the protocol runs on: the real one, with one promise broken if that was asked for.
#[derive(Debug)]
pub struct BreakableMachine(X86<Pc>);

impl Hw for BreakableMachine {
    type Atomic = AtomicU64;
    type Local = AtomicU64;

    fn cpu(&self) -> CpuId {
        self.0.cpu()
    }
    fn load(&self, atomic: &AtomicU64) -> u64 {
        self.0.load(atomic)
    }
    fn store(&self, atomic: &AtomicU64, value: u64) {
        self.0.store(atomic, value);
    }
    fn fetch_add(&self, atomic: &AtomicU64, value: u64) -> u64 {
        self.0.fetch_add(atomic, value)
    }
    fn fetch_or(&self, atomic: &AtomicU64, bits: u64) -> u64 {
        self.0.fetch_or(atomic, bits)
    }
    fn fetch_and(&self, atomic: &AtomicU64, bits: u64) -> u64 {
        self.0.fetch_and(atomic, bits)
    }
    fn swap(&self, atomic: &AtomicU64, value: u64) -> u64 {
        self.0.swap(atomic, value)
    }
    fn load_local(&self, local: &AtomicU64) -> u64 {
        self.0.load_local(local)
    }
    fn store_local(&self, local: &AtomicU64, value: u64) {
        self.0.store_local(local, value);
    }
    fn fence(&self) {
        self.0.fence();
    }
    fn interrupts(&self) -> Interrupts {
        self.0.interrupts()
    }
    fn disable_interrupts(&self) -> Interrupts {
        self.0.disable_interrupts()
    }
    fn restore_interrupts(&self, former: Interrupts) {
        self.0.restore_interrupts(former);
    }
    fn send_ipi<const N: usize>(&self, targets: &CpuSet<N>) {
        if !breaking::is(Break::SkipIpis) {
            self.0.send_ipi(targets);
        }
    }
    fn pause_until(&self, atomic: &AtomicU64, until: Until) {
        if !breaking::is(Break::SkipIpis) && !breaking::is(Break::DoNotWait) {
            self.0.pause_until(atomic, until);
        }
    }
    fn load_cr3(&self, root: PhysAddr, load: Cr3Load) {
        EFFECTS.cr3_loads.fetch_add(1, Ordering::Relaxed);
        let reload = loaded_root() == root;
        if reload && (breaking::is(Break::ForgetCr3Reload) || breaking::defers_invalidation()) {
            return;
        }
        self.0.load_cr3(root, load);
    }
    fn invlpg(&self, addr: VirtAddr) {
        EFFECTS.invlpgs.fetch_add(1, Ordering::Relaxed);
        if !breaking::is(Break::ForgetInvlpg) && !breaking::defers_invalidation() {
            self.0.invlpg(addr);
        }
    }
    fn quirks(&self) -> Quirks {
        self.0.quirks()
    }
}

/// Makes the machine's words. On real CPUs a word is a word: it does not matter which one of the protocol it
/// is, nor what kind of value it holds.
struct Storage;

impl Cells<BreakableMachine> for Storage {
    fn atomic(&mut self, name: &'static str, value: u64) -> AtomicU64 {
        Cells::<X86<Pc>>::atomic(&mut Words, name, value)
    }
    fn local(&mut self, name: &'static str, value: u64) -> AtomicU64 {
        Cells::<X86<Pc>>::local(&mut Words, name, value)
    }
}

/// Where the protocol's state lives: an array of spaces, whose indices are the handles.
pub struct Store {
    per_cpu: [PerCpu<BreakableMachine, WORDS>; MAX_CPUS],
    mms: [UnsafeCell<MaybeUninit<Mm<BreakableMachine, WORDS>>>; MAX_SPACES],
    next_id: AtomicU64,
}

// SAFETY: an element of `mms` is written by `create_mm` only, while its handle is dead: nobody asks for it.
unsafe impl Sync for Store {}

impl Kernel<WORDS> for Store {
    type Hw = BreakableMachine;

    fn per_cpu(&self, cpu: CpuId) -> &PerCpu<BreakableMachine, WORDS> {
        &self.per_cpu[usize::from(cpu.0)]
    }
    fn mm(&self, handle: MmHandle) -> &Mm<BreakableMachine, WORDS> {
        // SAFETY: I6: the protocol asks only between the creation of a space and the end of `retire`,
        // and so does this kernel; the element is written before, and not again until after.
        unsafe { (*self.mms[handle.0 as usize].get()).assume_init_ref() }
    }
    fn init_mm(&self) -> MmHandle {
        MmHandle(0)
    }
}

impl Store {
    /// Makes the space behind `handle`, which must be dead: never made, or retired.
    pub fn create_mm(&self, handle: MmHandle, root: PhysAddr) {
        // Never reused, unlike the handle and the root's frame.
        let id = MmId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let mm = Mm::new(id, root, &mut Storage);
        // SAFETY: nobody asks for a dead handle (I6).
        unsafe { *self.mms[handle.0 as usize].get() = MaybeUninit::new(mm) };
    }
}

static TLB: Once<Tlb<Store, WORDS>> = Once::new();
static HW: Once<BreakableMachine> = Once::new();

/// Makes the protocol and its machine: once, on the first CPU.
pub fn set_up(quirks: Quirks, init_root: PhysAddr) {
    // SAFETY: ring 0; every root that this kernel makes is a copy of init's, which maps the kernel.
    HW.call_once(|| BreakableMachine(unsafe { X86::new(Pc, quirks) }));
    TLB.call_once(|| {
        let store = Store {
            per_cpu: core::array::from_fn(|_| PerCpu::new(MmHandle(0), &mut Storage)),
            mms: [const { UnsafeCell::new(MaybeUninit::uninit()) }; MAX_SPACES],
            next_id: AtomicU64::new(1),
        };
        store.create_mm(MmHandle(0), init_root);
        Tlb::new(store, options::get().policy)
    });
}

/// Returns the protocol.
pub fn tlb() -> &'static Tlb<Store, WORDS> {
    TLB.get().expect("the protocol is set up at boot")
}

/// Returns the machine.
pub fn hw() -> &'static BreakableMachine {
    HW.get().expect("the machine is set up at boot")
}

/// Returns the root in CR3.
pub fn loaded_root() -> PhysAddr {
    let (frame, _) = x86_64::registers::control::Cr3::read();
    PhysAddr(frame.start_address().as_u64())
}

/// Does, at a tick, what `acknowledge-early` left undone.
pub fn pay_debt() {
    if breaking::takes_debt() {
        hw().0.load_cr3(loaded_root(), Cr3Load::Flush);
    }
}

/// Widens the window of a break that frees too early.
pub fn widen_window() {
    clock::wait_microseconds(breaking::WINDOW_MICROSECONDS);
}
