//! `lazytlb` as a [`Protocol`]: its entry points, on the storage of a checked kernel.
//!
//! The file is compiled more than once: here for the real crate, and in the suite of seeded bugs for each
//! of its one-line mutations, which are module trees that look like it. So it names the crate in one line,
//! which the suite's build script replaces; the seam's types, which all of them share, it takes from
//! `lazytlb` itself, and the checker's by the name that other crates know it by.

use std::fmt;

use lazytlb as protocol;

use lazytlb::{CpuId, Entry, FlushRange, Memory, PhysAddr, Policy, Tables};
use lazytlb_check::{Frees, ModelHw, Program, Protocol, Removal, Space};
use lazytlb_model::Cr4;
use protocol::gather::{FrameSink, Unhooked};
use protocol::kernel::Kernel;
use protocol::mm::{Mm, MmHandle, MmId};
use protocol::per_cpu::PerCpu;
use protocol::shootdown::Flushed;
use protocol::switch::{EnteredLazy, Switched};
use protocol::tlb::Tlb;

/// Notes ([`ModelHw::note`]) of the outcomes that the entry points can have, each once.
mod notes {
    pub(super) const ALREADY_RUNNING: &str = "switch: already running";
    pub(super) const RESUMED_UP_TO_DATE: &str = "switch: resumed from lazy mode, up to date";
    pub(super) const RESUMED_BEHIND: &str =
        "switch: resumed from lazy mode, caught up with a flush";
    pub(super) const LOADED: &str = "switch: loaded";
    pub(super) const LOADED_BEHIND: &str = "switch: loaded, its PCID was behind";
    pub(super) const KEPT: &str = "switch: loaded, its PCID was kept";
    pub(super) const STAYS_LOADED: &str = "lazy: stays loaded";
    pub(super) const LEFT_FOR_INIT_MM: &str = "lazy: left for init_mm";
    pub(super) const OTHER_SPACE: &str = "interrupt: another space is loaded";
    pub(super) const INTERRUPT_LEFT_FOR_INIT_MM: &str = "interrupt: lazy, left for init_mm";
    pub(super) const UP_TO_DATE: &str = "interrupt: up to date already";
    pub(super) const INVALIDATED_PAGES: &str = "interrupt: invalidated pages";
    pub(super) const FLUSHED_ALL: &str = "interrupt: flushed everything";

    pub(super) const ALL: &[&str] = &[
        ALREADY_RUNNING,
        RESUMED_UP_TO_DATE,
        RESUMED_BEHIND,
        LOADED,
        STAYS_LOADED,
        LEFT_FOR_INIT_MM,
        OTHER_SPACE,
        INTERRUPT_LEFT_FOR_INIT_MM,
        UP_TO_DATE,
        INVALIDATED_PAGES,
        FLUSHED_ALL,
        LOADED_BEHIND,
        KEPT,
    ];
    /// The last ones, which only PCIDs bring.
    pub(super) const OF_PCIDS: usize = 2;
}

/// The real one: `lazytlb`, as kernels embed it, on CPUs whose PCIDs are off.
pub type LazyTlb = Embedded<1, false>;
/// The real one, with so many slots for PCIDs.
pub type WithPcids<const SLOTS: usize> = Embedded<SLOTS, true>;

/// `lazytlb` in a checked kernel.
pub struct Embedded<const SLOTS: usize, const PCIDS: bool> {
    tlb: Tlb<Storage<SLOTS>, 1, SLOTS>,
    roots: Vec<PhysAddr>,
}

/// The storage of a checked kernel: arrays.
struct Storage<const SLOTS: usize> {
    cpus: Vec<PerCpu<ModelHw, 1, SLOTS>>,
    mms: Vec<Mm<ModelHw, 1>>,
}

impl<const SLOTS: usize> Kernel<1, SLOTS> for Storage<SLOTS> {
    type Hw = ModelHw;
    fn per_cpu(&self, cpu: CpuId) -> &PerCpu<ModelHw, 1, SLOTS> {
        &self.cpus[usize::from(cpu.0)]
    }
    fn mm(&self, handle: MmHandle) -> &Mm<ModelHw, 1> {
        &self.mms[usize::try_from(handle.0).expect("handles are small")]
    }
    fn init_mm(&self) -> MmHandle {
        MmHandle(0)
    }
}

/// Gives frames back to the modelled machine, and says when a flush begins and returns.
struct Sink<'a> {
    hw: &'a ModelHw,
    root: PhysAddr,
    driver: &'a dyn Fn(&ModelHw),
}

impl FrameSink for Sink<'_> {
    fn flushing(&mut self, range: FlushRange) {
        self.hw.flush_begins(self.root, range);
    }
    fn flushed(&mut self, _report: Flushed) {
        (self.driver)(self.hw);
        self.hw.flush_returned(self.root);
    }
    fn release_page(&mut self, frame: PhysAddr) {
        self.hw.free_frame(frame);
    }
    fn release_table(&mut self, frame: PhysAddr) {
        self.hw.free_frame(frame);
    }
}

fn handle_of(space: Space) -> MmHandle {
    MmHandle(space.0 as u64)
}

// Where the protocol is a module beside this one, its reports have no variants that are not known here.
#[allow(unreachable_patterns)]
impl<const SLOTS: usize, const PCIDS: bool> Protocol for Embedded<SLOTS, PCIDS> {
    const OUTCOMES: &'static [&'static str] = match PCIDS {
        true => notes::ALL,
        false => notes::ALL.split_at(notes::ALL.len() - notes::OF_PCIDS).0,
    };

    fn new(program: &mut Program, policy: Policy, user_roots: &[PhysAddr]) -> Self {
        if PCIDS {
            program.start_with_cr4(Cr4::default().with(Cr4::PCIDE, true));
        }
        let policy = protocol::policy::Policy::ALL
            .into_iter()
            .find(|known| known.name() == policy.name())
            .expect("a mutation keeps the policies");
        let first_root = std::iter::once(program.first_root());
        let roots: Vec<PhysAddr> = first_root.chain(user_roots.iter().copied()).collect();
        let mms = roots.iter().enumerate().map(|(index, &root)| {
            let name = if index == 0 {
                "init_mm".into()
            } else {
                format!("mm{index}")
            };
            Mm::new(MmId(index as u64 + 1), root, &mut program.cells(name, 0))
        });
        let mms = mms.collect();
        let cpus = (0..program.cpus()).map(|cpu| {
            let mut cells = program.cells(format!("cpu{cpu}"), cpu);
            PerCpu::new(MmHandle(0), &mut cells)
        });
        let cpus = cpus.collect();
        let tlb = Tlb::new(Storage { cpus, mms }, policy);
        Embedded { tlb, roots }
    }

    fn switch_mm(&self, hw: &ModelHw, space: Space) {
        hw.note(match self.tlb.switch_mm(hw, handle_of(space)) {
            Switched::AlreadyRunning => notes::ALREADY_RUNNING,
            Switched::ResumedUpToDate => notes::RESUMED_UP_TO_DATE,
            Switched::ResumedBehind => notes::RESUMED_BEHIND,
            Switched::Loaded => notes::LOADED,
            Switched::LoadedBehind => notes::LOADED_BEHIND,
            Switched::Kept => notes::KEPT,
            other => unreachable!("a way to switch that the checker does not know: {other:?}"),
        });
    }

    fn enter_lazy(&self, hw: &ModelHw) {
        match self.tlb.enter_lazy(hw) {
            EnteredLazy::InInitMm => {}
            EnteredLazy::StaysLoaded => hw.note(notes::STAYS_LOADED),
            EnteredLazy::LeftForInitMm => hw.note(notes::LEFT_FOR_INIT_MM),
            other => unreachable!("a lazy mode that the checker does not know: {other:?}"),
        }
    }

    fn flush(&self, hw: &ModelHw, space: Space, range: FlushRange, tables: Tables) {
        let tables = match tables {
            Tables::Kept => protocol::shootdown::Tables::Kept,
            Tables::Freed => protocol::shootdown::Tables::Freed,
        };
        let root = self.roots[space.0];
        hw.flush_begins(root, range);
        self.tlb.flush(hw, handle_of(space), range, tables);
        hw.flush_returned(root);
    }

    fn remove(&self, hw: &ModelHw, space: Space, removals: &[Removal], driver: &dyn Fn(&ModelHw)) {
        let root = self.roots[space.0];
        let mut sink = Sink { hw, root, driver };
        self.tlb.gather(hw, handle_of(space), &mut sink, |gather| {
            for removal in removals {
                let what = match removal.frees {
                    Frees::Nothing => Unhooked::Mapping,
                    Frees::Page(frame) => Unhooked::Page(frame),
                    Frees::Table(frame) => Unhooked::Table(frame),
                };
                gather.unhook(removal.addr, what, |hw| {
                    hw.write_entry(removal.table, removal.index, Entry::ABSENT);
                });
            }
        });
    }

    fn retire(&self, hw: &ModelHw, space: Space) {
        self.tlb.retire(hw, handle_of(space));
    }

    fn may_touch_user_memory(&self, hw: &ModelHw) -> bool {
        self.tlb.may_touch_user_memory(hw)
    }

    fn handle_flush_ipi(&self, hw: &ModelHw) {
        let done = self.tlb.handle_flush_ipi(hw);
        for (count, note) in [
            (done.other_space, notes::OTHER_SPACE),
            (done.left_for_init_mm, notes::INTERRUPT_LEFT_FOR_INIT_MM),
            (done.up_to_date, notes::UP_TO_DATE),
            (done.invalidated_pages, notes::INVALIDATED_PAGES),
            (done.flushed_all, notes::FLUSHED_ALL),
        ] {
            if count > 0 {
                hw.note(note);
            }
        }
    }
}

impl<const SLOTS: usize, const PCIDS: bool> fmt::Debug for Embedded<SLOTS, PCIDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded")
            .field("pcid_slots", &PCIDS.then_some(SLOTS))
            .field("policy", &self.tlb.policy())
            .finish_non_exhaustive()
    }
}
