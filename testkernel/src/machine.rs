//! The seam: the real machine with this kernel's part, and the storage of the protocol's state.
//!
//! A port of yours has the same three pieces: a [`Board`], a [`Kernel`], and a place for [`Tlb`]. The
//! fourth, [`BreakableMachine`], only exists to break promises; you would use [`X86`] itself.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{
    Cells, CpuId, CpuSet, Cr3Load, Hw, Interrupts, Invpcid, Kernel, Mm, MmHandle, MmId, Pcid,
    Pcids, PerCpu, PhysAddr, Quirks, Tlb, Until, VirtAddr,
};
use lazytlb_x86::{ApicId, Board, LocalApic, Words, X86};
use spin::Once;

use crate::breaking;
use crate::breaks::Break;
use crate::cpu::{self, FLUSH_VECTOR, MAX_CPUS, with_apic};
use crate::limits::{MAX_SPACES, SLOTS, WORDS};
use crate::tags::{self, Tagged};
use crate::{clock, options};

/// Counts what the protocol asks of the machine.
#[derive(Debug)]
pub struct Effects {
    pub ipis: AtomicU64,
    pub cr3_loads: AtomicU64,
    /// Those of them that kept what was cached.
    pub kept_loads: AtomicU64,
    /// Those that flushed what another space had cached under the same PCID.
    pub recycled_pcids: AtomicU64,
    pub invlpgs: AtomicU64,
}

pub static EFFECTS: Effects = Effects {
    ipis: AtomicU64::new(0),
    cr3_loads: AtomicU64::new(0),
    kept_loads: AtomicU64::new(0),
    recycled_pcids: AtomicU64::new(0),
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
pub struct BreakableMachine {
    x86: X86<Pc>,
    pcids: PcidsUsed,
}

/// Whether the protocol uses PCIDs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PcidsUsed {
    /// CR4.PCIDE is 0 everywhere, and the protocol knows.
    No,
    /// CR4.PCIDE is 1 everywhere.
    Yes,
    /// CR4.PCIDE is 0, and the protocol is told that it is 1: a load that may keep everything flushes it.
    Pretended,
}

impl PcidsUsed {
    /// Returns the word that is printed.
    pub fn name(self) -> &'static str {
        match self {
            PcidsUsed::No => "off",
            PcidsUsed::Yes => "on",
            PcidsUsed::Pretended => "pretended",
        }
    }
}

impl BreakableMachine {
    /// Returns whether the protocol uses PCIDs.
    pub fn pcids_used(&self) -> PcidsUsed {
        self.pcids
    }

    /// Loads the root that is loaded once more, under its PCID, and flushes.
    pub fn flush_loaded(&self) {
        self.x86
            .load_cr3_pcid(loaded_root(), loaded_pcid(), Cr3Load::Flush);
    }

    /// Says whether the chosen break swallows this load.
    fn swallows(&self, root: PhysAddr) -> bool {
        let reload = loaded_root() == root;
        reload && (breaking::is(Break::ForgetCr3Reload) || breaking::defers_invalidation())
    }
}

impl Hw for BreakableMachine {
    type Atomic = AtomicU64;
    type Local = AtomicU64;

    fn cpu(&self) -> CpuId {
        self.x86.cpu()
    }
    fn load(&self, atomic: &AtomicU64) -> u64 {
        self.x86.load(atomic)
    }
    fn store(&self, atomic: &AtomicU64, value: u64) {
        self.x86.store(atomic, value);
    }
    fn fetch_add(&self, atomic: &AtomicU64, value: u64) -> u64 {
        self.x86.fetch_add(atomic, value)
    }
    fn fetch_or(&self, atomic: &AtomicU64, bits: u64) -> u64 {
        self.x86.fetch_or(atomic, bits)
    }
    fn fetch_and(&self, atomic: &AtomicU64, bits: u64) -> u64 {
        self.x86.fetch_and(atomic, bits)
    }
    fn swap(&self, atomic: &AtomicU64, value: u64) -> u64 {
        self.x86.swap(atomic, value)
    }
    fn load_local(&self, local: &AtomicU64) -> u64 {
        self.x86.load_local(local)
    }
    fn store_local(&self, local: &AtomicU64, value: u64) {
        self.x86.store_local(local, value);
    }
    fn fence(&self) {
        self.x86.fence();
    }
    fn interrupts(&self) -> Interrupts {
        self.x86.interrupts()
    }
    fn disable_interrupts(&self) -> Interrupts {
        self.x86.disable_interrupts()
    }
    fn restore_interrupts(&self, former: Interrupts) {
        self.x86.restore_interrupts(former);
    }
    fn send_ipi<const N: usize>(&self, targets: &CpuSet<N>) {
        if !breaking::is(Break::SkipIpis) {
            self.x86.send_ipi(targets);
        }
    }
    fn pause_until(&self, atomic: &AtomicU64, until: Until) {
        if !breaking::is(Break::SkipIpis) && !breaking::is(Break::DoNotWait) {
            self.x86.pause_until(atomic, until);
        }
    }
    fn load_cr3(&self, root: PhysAddr, load: Cr3Load) {
        EFFECTS.cr3_loads.fetch_add(1, Ordering::Relaxed);
        if !self.swallows(root) {
            self.x86.load_cr3(root, load);
        }
    }
    fn invlpg(&self, addr: VirtAddr) {
        EFFECTS.invlpgs.fetch_add(1, Ordering::Relaxed);
        if !breaking::is(Break::ForgetInvlpg) && !breaking::defers_invalidation() {
            self.x86.invlpg(addr);
        }
    }
    fn quirks(&self) -> Quirks {
        self.x86.quirks()
    }
}

impl Pcids for BreakableMachine {
    fn pcids_are_on(&self) -> bool {
        self.pcids != PcidsUsed::No
    }
    fn load_cr3_pcid(&self, root: PhysAddr, pcid: Pcid, load: Cr3Load) {
        EFFECTS.cr3_loads.fetch_add(1, Ordering::Relaxed);
        if self.swallows(root) {
            return;
        }
        let load = match (load, tags::tagged(pcid, root)) {
            (Cr3Load::Flush, Tagged::OtherSpace) if breaking::is(Break::KeepOnRecycling) => {
                Cr3Load::Keep
            }
            (Cr3Load::Flush, Tagged::ThisSpace) if breaking::is(Break::KeepWhenBehind) => {
                Cr3Load::Keep
            }
            (Cr3Load::Flush, Tagged::OtherSpace) => {
                EFFECTS.recycled_pcids.fetch_add(1, Ordering::Relaxed);
                load
            }
            _ => load,
        };
        if load == Cr3Load::Keep {
            EFFECTS.kept_loads.fetch_add(1, Ordering::Relaxed);
        }
        tags::load(pcid, root, load);
        self.x86.load_cr3_pcid(root, pcid, load);
    }
    fn invpcid(&self, what: Invpcid) {
        self.x86.invpcid(what);
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
    per_cpu: [PerCpu<BreakableMachine, WORDS, SLOTS>; MAX_CPUS],
    mms: [UnsafeCell<MaybeUninit<Mm<BreakableMachine, WORDS>>>; MAX_SPACES],
    next_id: AtomicU64,
}

// SAFETY: an element of `mms` is written by `create_mm` only, while its handle is dead: nobody asks for it.
unsafe impl Sync for Store {}

impl Kernel<WORDS, SLOTS> for Store {
    type Hw = BreakableMachine;

    fn per_cpu(&self, cpu: CpuId) -> &PerCpu<BreakableMachine, WORDS, SLOTS> {
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
        tags::created(handle, id, root);
        // SAFETY: nobody asks for a dead handle (I6).
        unsafe { *self.mms[handle.0 as usize].get() = MaybeUninit::new(mm) };
    }
}

static TLB: Once<Tlb<Store, WORDS, SLOTS>> = Once::new();
static HW: Once<BreakableMachine> = Once::new();

/// Makes the protocol and its machine: once, on the first CPU.
pub fn set_up(quirks: Quirks, pcids: PcidsUsed, init_root: PhysAddr) {
    HW.call_once(|| {
        // SAFETY: ring 0; every root that this kernel makes is a copy of init's, which maps the kernel.
        let x86 = unsafe { X86::new(Pc, quirks) };
        let x86 = match pcids {
            // SAFETY: every CPU sets CR4.PCIDE first of all. This kernel loads CR3 itself in the test of instructions
            // only, which leaves nothing behind: it flushes what it used.
            PcidsUsed::Yes => unsafe { x86.with_pcids() },
            PcidsUsed::No | PcidsUsed::Pretended => x86,
        };
        BreakableMachine { x86, pcids }
    });
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
pub fn tlb() -> &'static Tlb<Store, WORDS, SLOTS> {
    TLB.get().expect("the protocol is set up at boot")
}

/// Returns the machine.
pub fn hw() -> &'static BreakableMachine {
    HW.get().expect("the machine is set up at boot")
}

/// Returns the root in CR3, without the PCID beside it.
pub fn loaded_root() -> PhysAddr {
    let (frame, _) = x86_64::registers::control::Cr3::read();
    PhysAddr(frame.start_address().as_u64())
}

/// Returns the PCID in CR3: 0 while PCIDs are off.
pub fn loaded_pcid() -> Pcid {
    let (_, pcid) = x86_64::registers::control::Cr3::read_pcid();
    Pcid::new(pcid.value())
}

/// Does, at a tick, what `acknowledge-early` left undone.
pub fn pay_debt() {
    if breaking::takes_debt() {
        hw().flush_loaded();
    }
}

/// Widens the window of a break that frees too early.
pub fn widen_window() {
    clock::wait_microseconds(breaking::WINDOW_MICROSECONDS);
}
