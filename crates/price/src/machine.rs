//! The counting machine: runs the real protocol one operation at a time, and counts its effects.
//!
//! One operation runs to its end before the next one starts, so memory is sequentially consistent
//! and a fence does nothing but cost. An IPI's targets run their handlers, one after the other,
//! when the initiator waits for them. What this machine cannot show: races, and time.
//!
//! | file | what |
//! | --- | --- |
//! | `seam` | what each call of the seam does here, and counts |

mod seam;

use std::cell::Cell;
use std::marker::PhantomData;

use lazytlb::{
    CpuId, HeldBatch, Interrupts, Kernel, Mm, MmHandle, PerCpu, PhysAddr, Policy, Quirks, Tlb,
};

use crate::cells::{CountedCells, Kinds, MOST_WORDS, Owner, SLOTS};
use crate::counts::{Effect, Tally};
use crate::gathered::Gathered;
use crate::pcids_on::Cpus;
use crate::sleep::Sleep;
use crate::spaces::{INIT_MM, Spaces};

/// CPUs that the machine can have: numbers are below.
pub const MAX_CPUS: u16 = MOST_WORDS as u16 * 64;

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

/// The machine, with the storage that the protocol's [`Kernel`] has, for up to 64 times `WORDS` CPUs of a kind.
pub(crate) struct CountingMachine<C: Cpus, const WORDS: usize> {
    policy: Policy,
    quirks: Quirks,
    cpus: Vec<Cpu<C, WORDS>>,
    /// IPIs that each CPU was sent.
    received: Vec<Cell<u64>>,
    /// Words of CPU sets that these CPUs need.
    words: usize,
    spaces: Spaces<CountingMachine<C, WORDS>, WORDS>,
    current: Cell<CpuId>,
    /// Those of the current CPU. Between two operations no CPU has them off, and in an operation none that is interrupted.
    interrupts: Cell<Interrupts>,
    /// CPUs that were sent the flush interrupt and have not taken it.
    pending: [Cell<u64>; WORDS],
    /// Kinds of words whose reads are counted now.
    counted_reads: Cell<Kinds>,
    /// What a gather keeps tables in until it has flushed, while there is none.
    gathered: Cell<Gathered>,
    tally: Tally,
    _of_a_kind: PhantomData<C>,
}

struct Cpu<C: Cpus, const WORDS: usize> {
    protocol: PerCpu<CountingMachine<C, WORDS>, WORDS, SLOTS>,
    /// What CR3 holds.
    root: Cell<PhysAddr>,
    /// The root that was loaded last under each PCID.
    roots: [Cell<PhysAddr>; 1 + SLOTS],
    activity: Cell<Activity>,
    sleep: Cell<Sleep>,
    /// How many page tables it holds back in each batch.
    held: [Cell<u64>; SLOTS],
    /// Whether it may hold page tables back, or have retired a space that is not reaped. A batch that was taken and holds nothing is
    /// none: it awaits nobody, so to give it up counts nothing, and a gather that needs it does.
    may_give_up: Cell<bool>,
}

/// The protocol's view of the storage.
pub(crate) struct Storage<'a, C: Cpus, const WORDS: usize>(&'a CountingMachine<C, WORDS>);

impl<C: Cpus, const WORDS: usize> Kernel<WORDS, SLOTS> for Storage<'_, C, WORDS> {
    type Hw = CountingMachine<C, WORDS>;

    #[inline]
    fn per_cpu(&self, cpu: CpuId) -> &PerCpu<Self::Hw, WORDS, SLOTS> {
        &self.0.cpus[usize::from(cpu.0)].protocol
    }

    #[inline]
    fn mm(&self, handle: MmHandle) -> &Mm<Self::Hw, WORDS> {
        self.0.spaces.get(handle)
    }

    #[inline]
    fn init_mm(&self) -> MmHandle {
        INIT_MM
    }

    /// As many as the CPUs so far need. It grows between two operations only, when no CPU is in the protocol, and the words
    /// that come are empty: their CPUs have not run.
    #[inline]
    fn cpu_words(&self) -> usize {
        self.0.words
    }
}

impl<C: Cpus, const WORDS: usize> CountingMachine<C, WORDS> {
    /// Makes a machine without CPUs, with no space but init_mm.
    pub(crate) fn new(policy: Policy, quirks: Quirks) -> Self {
        CountingMachine {
            policy,
            quirks,
            cpus: Vec::new(),
            received: Vec::new(),
            words: 0,
            spaces: Spaces::new(),
            current: Cell::new(CpuId(0)),
            interrupts: Cell::new(Interrupts::Enabled),
            pending: [const { Cell::new(0) }; WORDS],
            counted_reads: Cell::new(Kinds::COUNTED_ALWAYS),
            gathered: Cell::default(),
            tally: Tally::default(),
            _of_a_kind: PhantomData,
        }
    }

    /// Returns the protocol. It has no state of its own: all of it is in this machine's words.
    #[inline]
    pub(crate) fn tlb(&self) -> Tlb<Storage<'_, C, WORDS>, WORDS, SLOTS> {
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
            activity: Cell::new(Activity::KernelThread),
            sleep: Cell::new(Sleep::Unknown),
            held: Default::default(),
            may_give_up: Cell::new(false),
        });
        self.received.push(Cell::new(0));
        self.words = self.cpus.len().div_ceil(64);
    }

    /// Checks, between two operations, that the one before has restored what it disabled.
    pub(crate) fn assert_interrupts_enabled(&self) {
        assert!(
            self.interrupts.get() == Interrupts::Enabled,
            "an operation left a CPU's interrupts disabled"
        );
    }

    /// Says what the current CPU does from here on.
    #[inline]
    pub(crate) fn set_activity(&self, activity: Activity) {
        self.me().activity.set(activity);
    }

    /// Says how deep the current CPU sleeps from here on. Before a state that flushes TLBs an idle CPU leaves for init_mm,
    /// by the protocol, as Linux does whatever the policy.
    pub(crate) fn set_sleep(&self, sleep: Sleep) {
        let me = self.me();
        me.sleep.set(sleep);
        let is_idle = me.activity.get() == Activity::Idle;
        if sleep == Sleep::Flushed && is_idle && me.protocol.loaded_mm(self) != INIT_MM {
            self.tlb().switch_mm(self, INIT_MM);
            self.tally.count(Effect::LeftBeforeSleep);
        }
    }

    /// Returns the spaces.
    #[inline]
    pub(crate) fn spaces(&self) -> &Spaces<Self, WORDS> {
        &self.spaces
    }

    /// Returns the spaces, to make some.
    #[inline]
    pub(crate) fn spaces_mut(&mut self) -> &mut Spaces<Self, WORDS> {
        &mut self.spaces
    }

    /// Returns the IPIs that each CPU was sent, from CPU 0 on.
    pub(crate) fn received(&self) -> &[Cell<u64>] {
        &self.received
    }

    /// Returns the counters.
    #[inline]
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Says whether the current CPU may have something to give up: page tables that it holds back, or spaces that it has retired.
    #[inline]
    pub(crate) fn may_give_up(&self) -> &Cell<bool> {
        &self.me().may_give_up
    }

    /// Returns what a gather keeps tables in until it has flushed.
    pub(crate) fn gathered(&self) -> &Cell<Gathered> {
        &self.gathered
    }

    /// Returns how many page tables the current CPU holds back in a batch.
    pub(crate) fn held(&self, batch: HeldBatch) -> &Cell<u64> {
        &self.me().held[batch.number()]
    }

    /// Runs something in which the current CPU looks for held tables that can be given up.
    pub(crate) fn giving_up<R>(&self, run: impl FnOnce() -> R) -> R {
        let counted = Kinds::COUNTED_AS_TABLES_ARE_GIVEN_UP;
        let before = self.counted_reads.replace(counted);
        let done = run();
        self.counted_reads.set(before);
        done
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
    pub(crate) fn uncounted(&mut self, run: impl FnOnce(&Self)) {
        let before = self.tally.clone();
        run(self);
        self.tally = before;
    }

    #[inline]
    fn me(&self) -> &Cpu<C, WORDS> {
        &self.cpus[usize::from(self.current.get().0)]
    }

    /// Lets every pending CPU take its interrupt, then comes back to the CPU that waits. That one keeps its
    /// own while its interrupts are off. Says whether there was anyone.
    pub(crate) fn deliver_interrupts(&self) -> bool {
        let (waiting, interrupts) = (self.current.get(), self.interrupts.get());
        let kept = match interrupts {
            Interrupts::Disabled => Some(waiting.word_and_bit()),
            Interrupts::Enabled => None,
        };
        self.interrupts.set(Interrupts::Disabled);
        let mut delivered = false;
        for (index, pending) in self.pending.iter().enumerate().take(self.words) {
            let word = pending.get();
            let kept = kept.map_or(0, |(word, bit)| if word == index { bit } else { 0 });
            if word & !kept == 0 {
                continue;
            }
            pending.set(word & kept);
            delivered = true;
            for cpu in members_of(index, word & !kept) {
                self.current.set(cpu);
                self.tlb().handle_flush_ipi(self);
            }
        }
        self.current.set(waiting);
        self.interrupts.set(interrupts);
        delivered
    }
}

/// Returns the CPUs whose bits are set in a word of a CPU set.
fn members_of(index: usize, mut word: u64) -> impl Iterator<Item = CpuId> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(CpuId(index as u16 * 64 + bit as u16))
    })
}
