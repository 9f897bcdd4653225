//! The seam: the real machine with this kernel's part, and the storage of the protocol's state.
//!
//! A port of yours has the same three pieces: a [`Board`], a [`Kernel`], and a place for [`Tlb`].

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{
    CpuId, CpuSet, Cr3Load, Invpcid, Kernel, Mm, MmHandle, MmId, Pcid, PerCpu, PhysAddr, Quirks,
    SoftwareWalks, Tlb, VirtAddr,
};
use lazytlb_x86::{ApicId, Board, LocalApic, Words, X86, instructions, pcid};
use spin::Once;

use crate::breaking;
use crate::breaks::Break;
use crate::cpu::{self, FLUSH_VECTOR, MAX_CPUS, with_apic};
use crate::limits::{HELD_IN_ALL, HELD_OF_A_SPACE, MAX_SPACES, SLOTS, WORDS};
use crate::tags::{self, Tagged};
use crate::{clock, inbox, options, patience, user_tags, walkers};

/// Counts what the protocol asks of the machine.
#[derive(Debug)]
pub struct Effects {
    pub ipis: AtomicU64,
    /// Those of them that found the bit of an earlier one in the target's inbox: one answer is for both.
    pub joined_ipis: AtomicU64,
    /// Bits that CPUs have cleared in their inboxes: in the handler, or as they wait with interrupts off.
    pub answers: AtomicU64,
    pub cr3_loads: AtomicU64,
    /// Those of them that kept what was cached.
    pub kept_loads: AtomicU64,
    /// Those that flushed what another space had cached under the same PCID.
    pub recycled_pcids: AtomicU64,
    pub invlpgs: AtomicU64,
    pub invpcids: AtomicU64,
}

pub static EFFECTS: Effects = Effects {
    ipis: AtomicU64::new(0),
    joined_ipis: AtomicU64::new(0),
    answers: AtomicU64::new(0),
    cr3_loads: AtomicU64::new(0),
    kept_loads: AtomicU64::new(0),
    recycled_pcids: AtomicU64::new(0),
    invlpgs: AtomicU64::new(0),
    invpcids: AtomicU64::new(0),
};

/// This kernel's part of the seam: two methods that must be supplied, and others that count, or break a promise if that was
/// asked for. Yours has the first two.
#[derive(Debug)]
pub struct Pc {
    /// Whether the protocol uses PCIDs.
    pub pcids: PcidsUsed,
}

/// The machine that the protocol runs on.
pub type Machine = X86<Pc>;

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

impl Board for Pc {
    fn cpu(&self) -> CpuId {
        CpuId(cpu::current() as u16)
    }
    fn send_flush_ipi<const N: usize>(&self, targets: &CpuSet<N>) {
        if breaking::is(Break::SkipIpis) {
            return;
        }
        EFFECTS
            .ipis
            .fetch_add(targets.len().into(), Ordering::Relaxed);
        // CPUs are numbered by their APIC ids.
        targets
            .iter()
            .for_each(|cpu| walkers::interrupts(cpu.0.into()));
        let apic_id = |cpu: CpuId| ApicId(cpu.0.into());
        with_apic!(cpu::apic(), send_to_set(targets, apic_id, FLUSH_VECTOR));
    }

    fn waiting(&self) {
        patience::round();
    }
    fn load(&self, atomic: &AtomicU64) -> u64 {
        match breaking::hides(atomic) {
            true => 0,
            false => atomic.load(Ordering::Acquire),
        }
    }
    fn fetch_or(&self, atomic: &AtomicU64, bits: u64) -> u64 {
        let former = atomic.fetch_or(bits, Ordering::SeqCst);
        let Some(target) = owner_of(atomic) else {
            return former;
        };
        inbox::note(target, atomic);
        if former & bits == 0 {
            return former;
        }
        if breaking::skips_waits() {
            // Or the protocol would tell that CPU again, until there is an answer.
            return former & !bits;
        }
        EFFECTS.joined_ipis.fetch_add(1, Ordering::Relaxed);
        former
    }
    fn fetch_and(&self, atomic: &AtomicU64, bits: u64) -> u64 {
        if !inbox::is_own(atomic) {
            return atomic.fetch_and(bits, Ordering::SeqCst);
        }
        let former = atomic.fetch_and(bits, Ordering::SeqCst);
        let answered = (former & !bits).count_ones();
        EFFECTS
            .answers
            .fetch_add(answered.into(), Ordering::Relaxed);
        former
    }
    fn invlpg(&self, addr: VirtAddr) {
        EFFECTS.invlpgs.fetch_add(1, Ordering::Relaxed);
        if !breaking::is(Break::ForgetInvlpg) && !breaking::defers_invalidation() {
            instructions::invlpg(addr);
        }
    }
    unsafe fn load_cr3(&self, root: PhysAddr) {
        EFFECTS.cr3_loads.fetch_add(1, Ordering::Relaxed);
        walkers::leaves();
        if !swallows(root) {
            // SAFETY: the caller's promise.
            unsafe { instructions::load_cr3(root) }
        }
        tags::loaded(root);
    }
    unsafe fn load_cr3_pcid(&self, root: PhysAddr, pcid: Pcid, load: Cr3Load) {
        EFFECTS.cr3_loads.fetch_add(1, Ordering::Relaxed);
        walkers::leaves();
        if swallows(root) {
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
        // SAFETY: the caller's promise.
        unsafe { load_root(self.pcids, root, pcid, load) }
        tags::loaded(root);
    }
    unsafe fn invpcid(&self, what: Invpcid) {
        EFFECTS.invpcids.fetch_add(1, Ordering::Relaxed);
        if breaking::is(Break::ForgetInvpcid) || breaking::defers_invalidation() {
            return;
        }
        user_tags::invalidating(what, || match self.pcids {
            // SAFETY: the caller's promise.
            PcidsUsed::Yes => unsafe { pcid::invpcid(what.into()) },
            // Every load of the other half flushes it.
            PcidsUsed::No | PcidsUsed::Pretended => {}
        });
    }
}

/// Says whether the chosen break swallows this load.
fn swallows(root: PhysAddr) -> bool {
    let reload = loaded_root() == root;
    reload && (breaking::is(Break::ForgetCr3Reload) || breaking::defers_invalidation())
}

/// Loads CR3 as far as there are PCIDs.
///
/// # Safety
/// As [`pcid::load_cr3`].
unsafe fn load_root(pcids: PcidsUsed, root: PhysAddr, pcid: Pcid, load: Cr3Load) {
    // SAFETY: the caller's promise; a load that flushes more is always right.
    unsafe {
        match pcids {
            PcidsUsed::Yes => pcid::load_cr3(root, pcid::tag(pcid), load),
            PcidsUsed::No | PcidsUsed::Pretended => instructions::load_cr3(root),
        }
    }
}

/// Loads the root that is loaded once more, under its PCID, and flushes: uncounted, and never swallowed.
pub fn flush_loaded() {
    // SAFETY: it is loaded already.
    unsafe {
        load_root(
            hw().board().pcids,
            loaded_root(),
            loaded_pcid(),
            Cr3Load::Flush,
        );
    }
}

/// Where the protocol's state lives: an array of spaces, whose indices are the handles.
pub struct Store {
    per_cpu: [PerCpu<Machine, WORDS, SLOTS>; MAX_CPUS],
    mms: [UnsafeCell<MaybeUninit<Mm<Machine, WORDS>>>; MAX_SPACES],
    next_id: AtomicU64,
}

// SAFETY: an element of `mms` is written by `create_mm` only, while its handle is dead: nobody asks for it.
unsafe impl Sync for Store {}

impl Kernel<WORDS, SLOTS> for Store {
    type Hw = Machine;

    fn per_cpu(&self, cpu: CpuId) -> &PerCpu<Machine, WORDS, SLOTS> {
        &self.per_cpu[usize::from(cpu.0)]
    }
    fn mm(&self, handle: MmHandle) -> &Mm<Machine, WORDS> {
        // SAFETY: I6: the protocol asks only between the creation of a space and its return from
        // `reap`, and so does this kernel; the element is written before, and not again until after.
        unsafe { (*self.mms[handle.0 as usize].get()).assume_init_ref() }
    }
    fn init_mm(&self) -> MmHandle {
        MmHandle(0)
    }
    fn software_walks(&self) -> SoftwareWalks {
        SoftwareWalks::Guarded
    }
    fn held_tables_of_a_space(&self) -> u64 {
        bound(HELD_OF_A_SPACE)
    }
    fn held_tables_in_all(&self) -> u64 {
        bound(HELD_IN_ALL)
    }
}

/// How many page tables may be held back, unless that is forgotten.
fn bound(tables: u64) -> u64 {
    match breaking::is(Break::ForgetHoldBound) {
        true => u64::MAX,
        false => tables,
    }
}

impl Store {
    /// Makes the space behind `handle`, which must be dead: never made, or reaped.
    pub fn create_mm(&self, handle: MmHandle, root: PhysAddr, user_root: Option<PhysAddr>) {
        // Never reused, unlike the handle and the root's frame.
        let id = MmId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let mm = Mm::new(id, root, &mut Words);
        let mm = match user_root {
            Some(user_root) => mm.with_user_root(user_root),
            None => mm,
        };
        tags::created(handle, id, root);
        // SAFETY: nobody asks for a dead handle (I6).
        unsafe { *self.mms[handle.0 as usize].get() = MaybeUninit::new(mm) };
    }
}

static TLB: Once<Tlb<Store, WORDS, SLOTS>> = Once::new();
static HW: Once<Machine> = Once::new();

/// Makes the protocol and its machine: once, on the first CPU.
pub fn set_up(quirks: Quirks, pcids: PcidsUsed, init_root: PhysAddr) {
    HW.call_once(|| {
        // SAFETY: ring 0; every root that this kernel makes is a copy of init's, which maps the kernel.
        let machine = unsafe { X86::new(Pc { pcids }, quirks) };
        match pcids {
            PcidsUsed::No => machine,
            // SAFETY: every CPU sets CR4.PCIDE first of all, or the board uses no PCIDs. This kernel loads CR3 itself in
            // the test of instructions only, which leaves nothing behind: it flushes what it used.
            PcidsUsed::Yes | PcidsUsed::Pretended => unsafe { machine.with_pcids() },
        }
    });
    TLB.call_once(|| {
        let store = Store {
            per_cpu: core::array::from_fn(|_| PerCpu::new(MmHandle(0), &mut Words)),
            mms: [const { UnsafeCell::new(MaybeUninit::uninit()) }; MAX_SPACES],
            next_id: AtomicU64::new(1),
        };
        store.create_mm(MmHandle(0), init_root, None);
        Tlb::new(store, options::get().policy)
    });
}

/// Returns the protocol.
pub fn tlb() -> &'static Tlb<Store, WORDS, SLOTS> {
    TLB.get().expect("the protocol is set up at boot")
}

/// Returns the machine.
pub fn hw() -> &'static Machine {
    HW.get().expect("the machine is set up at boot")
}

/// Returns the CPU in whose part of the protocol's state a word lies.
pub fn owner_of(word: &AtomicU64) -> Option<usize> {
    let cpus = tlb().kernel().per_cpu.as_ptr_range();
    let (word, start, end) = (
        &raw const *word as usize,
        cpus.start as usize,
        cpus.end as usize,
    );
    let size = size_of::<PerCpu<Machine, WORDS, SLOTS>>();
    (start..end).contains(&word).then(|| (word - start) / size)
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
        flush_loaded();
    }
}

/// Widens the window of a break that frees too early.
pub fn widen_window() {
    clock::wait_microseconds(breaking::WINDOW_MICROSECONDS);
}
