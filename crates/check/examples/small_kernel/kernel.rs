//! The kernel's storage, and what it forgets.

use lazytlb::{
    Broadcast, Cells, CpuId, Kernel, Mm, MmHandle, MmId, Pcids, PerCpu, PhysAddr, Pinned, Policy,
    Poll, Promises, Spaces, Tlb, ValueKind,
};

/// What the kernel asks of its machine: any that has it all will do.
pub(crate) trait Machine: Pcids + Broadcast + Poll + Promises {}

impl<H: Pcids + Broadcast + Poll + Promises> Machine for H {}

/// The kernel's own space.
pub(crate) const INIT_MM: MmHandle = MmHandle(0);

/// What is to be forgotten, on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Forgets {
    /// All is done.
    Nothing,
    /// Fork: the flush after pages were write-protected.
    FlushOfFork,
    /// Copy on write: that a share of the old page is held until the flush has returned.
    ShareUntilFlushed,
    /// Exec and exit: that a space which is retired is not reaped yet.
    Reap,
    /// Mremap: the second `add`.
    SecondAdd,
    /// Munmap: that a table goes, and not only pages.
    TableIsUnhooked,
    /// Kernel ranges: that every space has them.
    OtherSpaces,
    /// Isolation: to keep interrupts off from when it asks what to load until it is loaded.
    InterruptsOff,
    /// CPUs that come online: to say so before they touch what may be unmapped, and not after.
    OnlineFirst,
}

/// A space that tasks run in.
pub(crate) struct Space<H: Machine> {
    pub(crate) mm: Mm<H, 1>,
    /// How many references there are: whoever gives back the last one retires the space.
    pub(crate) references: H::Atomic,
    /// Protects the page tables: 1 while it is taken.
    pub(crate) lock: H::Atomic,
}

/// What the protocol is lent.
pub(crate) struct Storage<H: Machine, const SLOTS: usize> {
    cpus: Vec<PerCpu<H, 1, SLOTS>>,
    /// What each CPU's entry code loads into CR3; 0 while it is in the kernel.
    entry_cr3: Vec<H::Local>,
    /// A handle is an index.
    spaces: Vec<Space<H>>,
}

impl<H: Machine, const SLOTS: usize> Kernel<1, SLOTS> for Storage<H, SLOTS> {
    type Hw = H;
    fn per_cpu(&self, cpu: CpuId) -> &PerCpu<H, 1, SLOTS> {
        &self.cpus[usize::from(cpu.0)]
    }
    fn mm(&self, handle: MmHandle) -> &Mm<H, 1> {
        &self.spaces[handle.0 as usize].mm
    }
    fn init_mm(&self) -> MmHandle {
        INIT_MM
    }
}

/// The kernel.
pub(crate) struct SmallKernel<H: Machine, const SLOTS: usize> {
    pub(crate) tlb: Tlb<Storage<H, SLOTS>, 1, SLOTS>,
    /// How many entries, of which spaces ever, map the page in a frame.
    pub(crate) shares: Vec<H::Atomic>,
    pub(crate) forgets: Forgets,
}

/// Keeps preemption off. This kernel never preempts its own code.
pub(crate) struct PreemptionOff;

impl Pinned for PreemptionOff {}

impl<H: Machine, const SLOTS: usize> Storage<H, SLOTS> {
    pub(crate) fn new() -> Self {
        Storage {
            cpus: Vec::new(),
            entry_cr3: Vec::new(),
            spaces: Vec::new(),
        }
    }

    /// Adds a CPU that has the kernel's own space loaded. `cells` makes its own words.
    pub(crate) fn add_cpu(&mut self, cells: &mut impl Cells<H>) {
        self.cpus.push(PerCpu::new(INIT_MM, cells));
        self.entry_cr3.push(cells.local("entry_cr3", 0));
    }

    /// Adds a space, with one root or two. The first is the kernel's own.
    pub(crate) fn add_space(
        &mut self,
        (root, user_root): (PhysAddr, Option<PhysAddr>),
        references: u64,
        cells: &mut impl Cells<H>,
    ) {
        let mm = Mm::new(MmId(self.spaces.len() as u64 + 1), root, cells);
        self.spaces.push(Space {
            mm: match user_root {
                Some(user_root) => mm.with_user_root(user_root),
                None => mm,
            },
            references: cells.atomic("references", references),
            lock: cells.atomic_of_kind(ValueKind::Lock, "lock", 0),
        });
    }
}

impl<H: Machine, const SLOTS: usize> SmallKernel<H, SLOTS> {
    pub(crate) fn new(
        storage: Storage<H, SLOTS>,
        policy: Policy,
        shares: Vec<H::Atomic>,
        forgets: Forgets,
    ) -> Self {
        SmallKernel {
            tlb: Tlb::new(storage, policy),
            shares,
            forgets,
        }
    }

    pub(crate) fn space(&self, handle: MmHandle) -> &Space<H> {
        &self.tlb.kernel().spaces[handle.0 as usize]
    }

    /// Names a space for a promise: by its root, or by both.
    pub(crate) fn spaces(&self, handle: MmHandle) -> Spaces {
        let mm = &self.space(handle).mm;
        let both = [mm.root(), mm.user_root().unwrap_or(mm.root())];
        Spaces::several(&both).expect("a promise can name two")
    }

    /// What the entry code of the CPU that runs loads.
    pub(crate) fn entry_cr3(&self, hw: &H) -> &H::Local {
        &self.tlb.kernel().entry_cr3[usize::from(hw.cpu().0)]
    }

    /// Runs `change` with a space's page tables locked. Interrupts stay on: whoever has the lock waits for this CPU's answers.
    pub(crate) fn locked<R>(&self, hw: &H, space: MmHandle, change: impl FnOnce() -> R) -> R {
        let lock = &self.space(space).lock;
        hw.poll(|hw| (hw.swap(lock, 1) == 0).then_some(()));
        let done = change();
        hw.store(lock, 0);
        done
    }
}
