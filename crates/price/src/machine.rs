//! The counting machine: runs the real protocol one operation at a time, and counts its effects.
//!
//! One operation runs to its end before the next one starts, so memory is sequentially consistent
//! and a fence does nothing but cost. An IPI's targets run their handlers, one after the other,
//! when the initiator waits for them. What this machine cannot show: races, and time.

use std::cell::Cell;
use std::num::NonZeroU16;

use lazytlb::{
    Broadcast, CompareExchange, CpuId, CpuSet, Cr3Load, Hw, Interrupts, Invlpgb, Invpcid, Kernel,
    Mm, MmHandle, Pcid, Pcids, PerCpu, PhysAddr, Policy, Poll, Quirks, Tlb, Until, VirtAddr,
};

use crate::cells::{CountedAtomic, CountedCells, Owner, Role, SLOTS, WORDS};
use crate::counts::{Effect, Tally};
use crate::spaces::{INIT_MM, Spaces};

/// CPUs that the machine can have: numbers are below.
pub const MAX_CPUS: u16 = WORDS as u16 * 64;

/// Addresses that one INVLPGB may name. ASSUMED: CPUs tell theirs by CPUID, and no recording has it; the number of INVLPGBs
/// that are counted for a range is the only thing that hangs on it.
const MOST_ADDRESSES: NonZeroU16 = NonZeroU16::new(8).expect("it is 8");

/// What a CPU does, as the recording says. Under policy `init-mm` a CPU can be logically lazy
/// without being lazy in the protocol's sense: then it is in no cpumask, and gets no IPI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Activity {
    /// It runs a task with a user space.
    Running,
    /// It is lazy, and runs a kernel thread.
    KernelThread,
    /// It is lazy, and idles.
    Idle,
}

/// The machine, with the storage that the protocol's [`Kernel`] has.
pub(crate) struct CountingMachine {
    policy: Policy,
    quirks: Quirks,
    pcids: PcidsOn,
    cpus: Vec<Cpu>,
    spaces: Spaces<CountingMachine>,
    current: Cell<CpuId>,
    /// CPUs that were sent the flush interrupt and have not taken it.
    pending: Cell<CpuSet<WORDS>>,
    tally: Tally,
}

/// Whether the CPUs have PCIDs, and use them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PcidsOn {
    /// Every CR3 load flushes.
    #[default]
    No,
    /// The protocol has six slots on each CPU.
    Yes,
}

impl PcidsOn {
    /// Both, without PCIDs first.
    pub const ALL: [PcidsOn; 2] = [PcidsOn::No, PcidsOn::Yes];

    /// Returns the name that people type: `off` or `on`.
    pub const fn name(self) -> &'static str {
        match self {
            PcidsOn::No => "off",
            PcidsOn::Yes => "on",
        }
    }
}

struct Cpu {
    protocol: PerCpu<CountingMachine, WORDS, SLOTS>,
    /// What CR3 holds.
    root: Cell<PhysAddr>,
    /// The root that was loaded last under each PCID.
    roots: [Cell<PhysAddr>; 1 + SLOTS],
    interrupts: Cell<Interrupts>,
    activity: Cell<Activity>,
}

/// The protocol's view of the storage.
pub(crate) struct Storage<'a>(&'a CountingMachine);

impl Kernel<WORDS, SLOTS> for Storage<'_> {
    type Hw = CountingMachine;

    #[inline]
    fn per_cpu(&self, cpu: CpuId) -> &PerCpu<CountingMachine, WORDS, SLOTS> {
        &self.0.cpus[usize::from(cpu.0)].protocol
    }

    #[inline]
    fn mm(&self, handle: MmHandle) -> &Mm<CountingMachine, WORDS> {
        self.0.spaces.get(handle)
    }

    fn init_mm(&self) -> MmHandle {
        INIT_MM
    }
}

impl CountingMachine {
    /// Makes a machine without CPUs, with no space but init_mm.
    pub(crate) fn new(policy: Policy, quirks: Quirks, pcids: PcidsOn) -> Self {
        CountingMachine {
            policy,
            quirks,
            pcids,
            cpus: Vec::new(),
            spaces: Spaces::new(),
            current: Cell::new(CpuId(0)),
            pending: Cell::new(CpuSet::EMPTY),
            tally: Tally::default(),
        }
    }

    /// Returns the protocol. It has no state of its own: all of it is in this machine's words.
    #[inline]
    pub(crate) fn tlb(&self) -> Tlb<Storage<'_>, WORDS, SLOTS> {
        Tlb::new(Storage(self), self.policy)
    }

    /// Lets a CPU run from here on; one that was never seen is added, with those below it.
    #[inline]
    pub(crate) fn become_cpu(&mut self, cpu: CpuId) {
        while self.cpus.len() <= usize::from(cpu.0) {
            self.add_cpu();
        }
        self.current.set(cpu);
    }

    #[cold]
    fn add_cpu(&mut self) {
        let cpu = CpuId(self.cpus.len() as u16);
        self.cpus.push(Cpu {
            protocol: PerCpu::new(INIT_MM, &mut CountedCells(Owner::Cpu(cpu))),
            root: Cell::new(self.spaces.get(INIT_MM).root()),
            roots: std::array::from_fn(|_| Cell::new(self.spaces.get(INIT_MM).root())),
            interrupts: Cell::new(Interrupts::Enabled),
            activity: Cell::new(Activity::KernelThread),
        });
    }

    /// Says what the current CPU does from here on.
    #[inline]
    pub(crate) fn set_activity(&self, activity: Activity) {
        self.me().activity.set(activity);
    }

    /// Returns the spaces.
    #[inline]
    pub(crate) fn spaces(&self) -> &Spaces<CountingMachine> {
        &self.spaces
    }

    /// Returns the spaces, to make and forget some.
    #[inline]
    pub(crate) fn spaces_mut(&mut self) -> &mut Spaces<CountingMachine> {
        &mut self.spaces
    }

    /// Returns the counters.
    #[inline]
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Makes every CPU that runs in a space (not lazily) leave for init_mm, and counts the CPUs
    /// only.
    pub(crate) fn evict_running(&mut self, mm: MmHandle) {
        let current = self.current.get();
        for cpu in self.spaces.get(mm).cpumask(self).iter() {
            self.current.set(cpu);
            // A CPU's reads of its own words are not counted.
            let protocol = &self.me().protocol;
            if protocol.loaded_mm(self) == mm && !protocol.is_lazy(self) {
                self.uncounted(|machine| {
                    machine.tlb().switch_mm(machine, INIT_MM);
                });
                self.tally.count(Effect::Repair);
            }
        }
        self.current.set(current);
    }

    /// Runs something without counting its effects.
    pub(crate) fn uncounted(&mut self, run: impl FnOnce(&CountingMachine)) {
        let before = self.tally.clone();
        run(self);
        self.tally = before;
    }

    #[inline]
    fn me(&self) -> &Cpu {
        &self.cpus[usize::from(self.current.get().0)]
    }

    /// Lets every pending CPU take its interrupt, then comes back to the CPU that waits. That one keeps its
    /// own while its interrupts are off. Says whether there was anyone.
    pub(crate) fn deliver_interrupts(&self) -> bool {
        let waiting = self.current.get();
        let is_kept = |cpu| cpu == waiting && self.interrupts() == Interrupts::Disabled;
        let (mut delivered, mut kept) = (CpuSet::<WORDS>::EMPTY, CpuSet::EMPTY);
        for cpu in self.pending.get().iter() {
            let side = if is_kept(cpu) {
                &mut kept
            } else {
                &mut delivered
            };
            side.insert(cpu);
        }
        self.pending.set(kept);
        for cpu in delivered.iter() {
            self.current.set(cpu);
            let former = self.disable_interrupts();
            assert!(
                former == Interrupts::Enabled,
                "an operation left a CPU's interrupts disabled"
            );
            self.tlb().handle_flush_ipi(self);
            self.restore_interrupts(former);
        }
        self.current.set(waiting);
        !delivered.is_empty()
    }

    #[inline]
    fn modify(&self, word: &CountedAtomic, change: impl FnOnce(u64) -> u64) -> u64 {
        let former = word.value.get();
        word.value.set(change(former));
        former
    }
}

impl Hw for CountingMachine {
    type Atomic = CountedAtomic;
    type Local = Cell<u64>;

    #[inline]
    fn cpu(&self) -> CpuId {
        self.current.get()
    }

    #[inline]
    fn load(&self, atomic: &CountedAtomic) -> u64 {
        match atomic.role {
            Role::WhereaboutsOf(cpu) if cpu != self.cpu() => self.tally.count(Effect::RemoteRead),
            Role::WhereaboutsOf(_) | Role::Plain => {}
        }
        atomic.value.get()
    }

    #[inline]
    fn store(&self, atomic: &CountedAtomic, value: u64) {
        atomic.value.set(value);
    }

    #[inline]
    fn fetch_add(&self, atomic: &CountedAtomic, value: u64) -> u64 {
        self.tally.count(Effect::Locked);
        self.modify(atomic, |former| former.wrapping_add(value))
    }

    #[inline]
    fn fetch_or(&self, atomic: &CountedAtomic, bits: u64) -> u64 {
        self.tally.count(Effect::Locked);
        self.modify(atomic, |former| former | bits)
    }

    #[inline]
    fn fetch_and(&self, atomic: &CountedAtomic, bits: u64) -> u64 {
        self.tally.count(Effect::Locked);
        self.modify(atomic, |former| former & bits)
    }

    #[inline]
    fn swap(&self, atomic: &CountedAtomic, value: u64) -> u64 {
        self.tally.count(Effect::Locked);
        self.modify(atomic, |_| value)
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
        self.tally.count(Effect::Fence);
    }

    #[inline]
    fn interrupts(&self) -> Interrupts {
        self.me().interrupts.get()
    }

    #[inline]
    fn disable_interrupts(&self) -> Interrupts {
        self.me().interrupts.replace(Interrupts::Disabled)
    }

    #[inline]
    fn restore_interrupts(&self, former: Interrupts) {
        self.me().interrupts.set(former);
    }

    fn send_ipi<const TARGET_WORDS: usize>(&self, targets: &CpuSet<TARGET_WORDS>) {
        let (mut pending, mut wakes) = (self.pending.get(), false);
        for cpu in targets.iter() {
            pending.insert(cpu);
            let effect = match self.cpus[usize::from(cpu.0)].activity.get() {
                Activity::Running => Effect::IpiToRunning,
                Activity::KernelThread => Effect::IpiToLazy,
                Activity::Idle => Effect::IpiToIdle,
            };
            wakes |= matches!(effect, Effect::IpiToIdle);
            self.tally.count(effect);
        }
        self.pending.set(pending);
        self.tally.count(Effect::Shootdown);
        if wakes {
            self.tally.count(Effect::ShootdownToIdle);
        }
    }

    fn pause_until(&self, atomic: &CountedAtomic, until: Until) {
        if until.holds(atomic.value.get()) {
            return;
        }
        self.deliver_interrupts();
        assert!(
            until.holds(atomic.value.get()),
            "every interrupt was served, and the protocol still waits: it would wait for ever"
        );
    }

    fn load_cr3(&self, root: PhysAddr, load: Cr3Load) {
        let former = self.me().root.replace(root);
        let is_user = root != self.spaces.get(INIT_MM).root();
        let (effect, refill) = match (load, former == root) {
            (Cr3Load::Keep, _) => return self.tally.count(Effect::Cr3Keep),
            (Cr3Load::Flush, true) => (Effect::FullFlush, Effect::RefillAfterFlush),
            (Cr3Load::Flush, false) => (Effect::Cr3Flush, Effect::RefillAfterLoad),
        };
        self.tally.count(effect);
        if is_user {
            self.tally.count(refill);
        }
    }

    #[inline]
    fn invlpg(&self, _addr: VirtAddr) {
        self.tally.count(Effect::Invlpg);
    }

    fn quirks(&self) -> Quirks {
        self.quirks
    }
}

impl Pcids for CountingMachine {
    #[inline]
    fn pcids_are_on(&self) -> bool {
        self.pcids == PcidsOn::Yes
    }

    fn load_cr3_pcid(&self, root: PhysAddr, pcid: Pcid, load: Cr3Load) {
        let former = self.me().roots[usize::from(pcid.number())].replace(root);
        assert!(
            load == Cr3Load::Flush || former == root,
            "what is cached under a PCID is kept for another space than its own"
        );
        self.load_cr3(root, load);
    }

    fn invpcid(&self, what: Invpcid) {
        match what {
            Invpcid::Address(..) => self.tally.count(Effect::Invlpg),
            Invpcid::Pcid(_) | Invpcid::AllWithGlobals | Invpcid::AllNonGlobal => {
                self.tally.count(Effect::FullFlush);
            }
        }
    }
}

impl CompareExchange for CountingMachine {
    /// Locked, whether or not it writes.
    #[inline]
    fn compare_exchange(&self, atomic: &CountedAtomic, current: u64, new: u64) -> Result<u64, u64> {
        self.tally.count(Effect::Locked);
        let former = self.modify(atomic, |held| if held == current { new } else { held });
        if former == current {
            Ok(former)
        } else {
            Err(former)
        }
    }
}

impl Broadcast for CountingMachine {
    fn most_addresses(&self) -> Option<NonZeroU16> {
        Some(MOST_ADDRESSES)
    }
    /// Nothing is cached here: it is counted, and no more.
    fn invlpgb(&self, _what: Invlpgb) {
        self.tally.count(Effect::Invlpgb);
    }
    fn tlbsync(&self) {
        self.tally.count(Effect::Tlbsync);
    }
}

impl Poll for CountingMachine {
    /// As a wait, every iteration in which the body finds nothing serves what is pending.
    fn poll<R>(&self, body: impl Fn(&Self) -> Option<R>) -> R {
        loop {
            if let Some(found) = body(self) {
                return found;
            }
            assert!(
                self.deliver_interrupts(),
                "every interrupt was served, and the code still polls: it would poll for ever"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lazytlb::{Cells, PageRange, PageSize, Strides};

    fn machine() -> CountingMachine {
        let mut machine = CountingMachine::new(Policy::Ipi, Quirks::default(), PcidsOn::No);
        machine.become_cpu(CpuId(1));
        machine.become_cpu(CpuId(0));
        machine
    }

    #[test]
    fn a_poll_lets_others_serve_what_is_pending_between_two_iterations() {
        let machine = machine();
        let word = Cells::<CountingMachine>::atomic(&mut CountedCells(Owner::Cpu(CpuId(0))), "", 0);
        let mut targets = CpuSet::<WORDS>::EMPTY;
        targets.insert(CpuId(0));
        targets.insert(CpuId(1));
        let former = machine.disable_interrupts();
        machine.send_ipi(&targets);
        let found = machine.poll(|machine| {
            let is_served = !machine.pending.get().contains(CpuId(1));
            (machine.fetch_add(&word, 1) > 0 && is_served).then_some("served")
        });
        assert_eq!((found, word.value.get()), ("served", 2));
        assert!(machine.pending.get().contains(CpuId(0)), "its own are off");
        machine.restore_interrupts(former);
        assert_eq!(machine.cpu(), CpuId(0));
    }

    #[test]
    fn a_compare_exchange_is_locked_though_it_fails() {
        let machine = machine();
        let word = Cells::<CountingMachine>::atomic(&mut CountedCells(Owner::Cpu(CpuId(0))), "", 3);
        assert_eq!(machine.compare_exchange(&word, 2, 9), Err(3));
        assert_eq!(word.value.get(), 3);
        assert_eq!(machine.compare_exchange(&word, 3, 9), Ok(3));
        assert_eq!(word.value.get(), 9);
        assert_eq!(machine.tally().counts().locked, 2);
    }

    #[test]
    fn broadcasts_are_counted_by_the_instruction_and_interrupt_nobody() {
        let machine = machine();
        let range = PageRange {
            start: VirtAddr(0),
            len_pages: 9,
            size: PageSize::Size4K,
        };
        let most = machine.most_addresses().expect("it broadcasts");
        for run in Strides::over(range, most) {
            machine.invlpgb(Invlpgb {
                addresses: Some(run),
                ..Invlpgb::EVERYTHING
            });
        }
        machine.tlbsync();
        let counts = machine.tally().counts();
        assert_eq!((counts.invlpgb, counts.tlbsync, counts.ipis), (2, 1, 0));
    }

    #[test]
    #[should_panic(expected = "poll for ever")]
    fn a_poll_that_nothing_can_end_is_an_error() {
        machine().poll(|_| None::<()>);
    }
}
