//! The protocol that the shipped programs exercise: `lazytlb`, or any other with the same entry points.

use std::fmt;

use lazytlb::{FlushRange, PhysAddr, Policy, Tables, VirtAddr};

use crate::model_hw::ModelHw;
use crate::program::Program;

/// A space of a shipped program: 0 is the kernel's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space(pub usize);

/// An entry to remove, and the frame to free after the flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Removal {
    /// An address that the entry translates.
    pub addr: VirtAddr,
    /// The table that holds the entry.
    pub table: PhysAddr,
    /// The entry's index.
    pub index: u16,
    /// What the entry stood for.
    pub frees: Frees,
}

/// What is freed after a removal is flushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frees {
    /// Nothing.
    Nothing,
    /// A page's frame.
    Page(PhysAddr),
    /// A page table's frame.
    Table(PhysAddr),
}

/// A protocol with the entry points that kernels call: plug in your own, and the shipped programs judge
/// it.
pub trait Protocol: Send + Sync + 'static {
    /// Notes ([`ModelHw::note`]) of the outcomes that the entry points can have.
    const OUTCOMES: &'static [&'static str];

    /// Makes the protocol's state in a program: every CPU is in the kernel's own space, whose root is
    /// [`Program::first_root`]; the user spaces have these roots, and no CPU has loaded them.
    fn new(program: &mut Program, policy: Policy, user_roots: &[PhysAddr]) -> Self;
    /// Switches this CPU to a space.
    fn switch_mm(&self, hw: &ModelHw, space: Space);
    /// Enters lazy mode on this CPU.
    fn enter_lazy(&self, hw: &ModelHw);
    /// Flushes a range.
    fn flush(&self, hw: &ModelHw, space: Space, range: FlushRange, tables: Tables);
    /// Removes entries, flushes, and frees: with [`lazytlb::Memory::flush_begins`] before the flush,
    /// [`lazytlb::Memory::flush_returned`] after it, and [`lazytlb::Memory::free_frame`] for each frame.
    /// `driver` runs when the flush is done, and before anybody relies on it.
    fn remove(&self, hw: &ModelHw, space: Space, removals: &[Removal], driver: &dyn Fn(&ModelHw));
    /// Ends a space that nobody runs in any more.
    fn retire(&self, hw: &ModelHw, space: Space);
    /// Handles the flush interrupt.
    fn handle_flush_ipi(&self, hw: &ModelHw);
}

/// Adapts a crate or module with the entry points of `lazytlb` to [`Protocol`]: `lazytlb` itself here, its
/// one-line mutations in the test suite.
#[macro_export]
macro_rules! protocol_of {
    ($(#[$doc:meta])* $name:ident, $($krate:tt)+) => {
        $(#[$doc])*
        pub struct $name {
            tlb: $($krate)+::tlb::Tlb<Storage, 1>,
            roots: Vec<::lazytlb::PhysAddr>,
        }

        /// The storage of a checked kernel: arrays.
        struct Storage {
            cpus: Vec<$($krate)+::per_cpu::PerCpu<$crate::ModelHw, 1>>,
            mms: Vec<$($krate)+::mm::Mm<$crate::ModelHw, 1>>,
        }

        impl $($krate)+::kernel::Kernel<1> for Storage {
            type Hw = $crate::ModelHw;
            fn per_cpu(
                &self,
                cpu: ::lazytlb::CpuId,
            ) -> &$($krate)+::per_cpu::PerCpu<$crate::ModelHw, 1> {
                &self.cpus[usize::from(cpu.0)]
            }
            fn mm(
                &self,
                handle: $($krate)+::mm::MmHandle,
            ) -> &$($krate)+::mm::Mm<$crate::ModelHw, 1> {
                &self.mms[usize::try_from(handle.0).expect("handles are small")]
            }
            fn init_mm(&self) -> $($krate)+::mm::MmHandle {
                $($krate)+::mm::MmHandle(0)
            }
        }

        /// Gives frames back to the modelled machine, and tells it when a flush begins and returns.
        struct Sink<'a> {
            hw: &'a $crate::ModelHw,
            root: ::lazytlb::PhysAddr,
            driver: &'a dyn Fn(&$crate::ModelHw),
        }

        impl $($krate)+::gather::FrameSink for Sink<'_> {
            fn flushing(&mut self, range: ::lazytlb::FlushRange) {
                ::lazytlb::Memory::flush_begins(self.hw, self.root, range);
            }
            fn flushed(&mut self, _report: $($krate)+::shootdown::Flushed) {
                (self.driver)(self.hw);
                ::lazytlb::Memory::flush_returned(self.hw, self.root);
            }
            fn release_page(&mut self, frame: ::lazytlb::PhysAddr) {
                ::lazytlb::Memory::free_frame(self.hw, frame);
            }
            fn release_table(&mut self, frame: ::lazytlb::PhysAddr) {
                ::lazytlb::Memory::free_frame(self.hw, frame);
            }
        }

        fn handle_of(space: $crate::Space) -> $($krate)+::mm::MmHandle {
            $($krate)+::mm::MmHandle(space.0 as u64)
        }

        impl $crate::Protocol for $name {
            const OUTCOMES: &'static [&'static str] = &[
                "switch: already running",
                "switch: resumed from lazy mode, up to date",
                "switch: resumed from lazy mode, caught up with a flush",
                "switch: loaded",
                "lazy: stays loaded",
                "lazy: left for init_mm",
                "interrupt: another space is loaded",
                "interrupt: lazy, left for init_mm",
                "interrupt: up to date already",
                "interrupt: invalidated pages",
                "interrupt: flushed everything",
            ];

            fn new(
                program: &mut $crate::Program,
                policy: ::lazytlb::Policy,
                user_roots: &[::lazytlb::PhysAddr],
            ) -> Self {
                use $($krate)+::mm::{Mm, MmHandle, MmId};
                let policy = $($krate)+::policy::Policy::ALL
                    .into_iter()
                    .find(|known| known.name() == policy.name())
                    .expect("a mutation keeps the policies");
                let roots: Vec<_> =
                    ::std::iter::once(program.first_root()).chain(user_roots.iter().copied()).collect();
                let mms = roots.iter().enumerate().map(|(index, &root)| {
                    let name = if index == 0 { "init_mm".into() } else { format!("mm{index}") };
                    Mm::new(MmId(index as u64 + 1), root, &mut program.cells(name, 0))
                });
                let mms = mms.collect();
                let cpus = (0..program.cpus()).map(|cpu| {
                    let mut cells = program.cells(format!("cpu{cpu}"), cpu);
                    $($krate)+::per_cpu::PerCpu::new(MmHandle(0), &mut cells)
                });
                let cpus = cpus.collect();
                let tlb = $($krate)+::tlb::Tlb::new(Storage { cpus, mms }, policy);
                $name { tlb, roots }
            }

            fn switch_mm(&self, hw: &$crate::ModelHw, space: $crate::Space) {
                use $($krate)+::switch::Switched;
                hw.note(match self.tlb.switch_mm(hw, handle_of(space)) {
                    Switched::AlreadyRunning => "switch: already running",
                    Switched::ResumedUpToDate => "switch: resumed from lazy mode, up to date",
                    Switched::ResumedBehind => {
                        "switch: resumed from lazy mode, caught up with a flush"
                    }
                    Switched::Loaded => "switch: loaded",
                });
            }

            fn enter_lazy(&self, hw: &$crate::ModelHw) {
                use $($krate)+::switch::EnteredLazy;
                match self.tlb.enter_lazy(hw) {
                    EnteredLazy::InInitMm => {}
                    EnteredLazy::StaysLoaded => hw.note("lazy: stays loaded"),
                    EnteredLazy::LeftForInitMm => hw.note("lazy: left for init_mm"),
                }
            }

            fn flush(
                &self,
                hw: &$crate::ModelHw,
                space: $crate::Space,
                range: ::lazytlb::FlushRange,
                tables: ::lazytlb::Tables,
            ) {
                let tables = match tables {
                    ::lazytlb::Tables::Kept => $($krate)+::shootdown::Tables::Kept,
                    ::lazytlb::Tables::Freed => $($krate)+::shootdown::Tables::Freed,
                };
                let root = self.roots[space.0];
                ::lazytlb::Memory::flush_begins(hw, root, range);
                self.tlb.flush(hw, handle_of(space), range, tables);
                ::lazytlb::Memory::flush_returned(hw, root);
            }

            fn remove(
                &self,
                hw: &$crate::ModelHw,
                space: $crate::Space,
                removals: &[$crate::Removal],
                driver: &dyn Fn(&$crate::ModelHw),
            ) {
                use $($krate)+::gather::Unhooked;
                let mut sink = Sink { hw, root: self.roots[space.0], driver };
                self.tlb.gather(hw, handle_of(space), &mut sink, |gather| {
                    for removal in removals {
                        let what = match removal.frees {
                            $crate::Frees::Nothing => Unhooked::Mapping,
                            $crate::Frees::Page(frame) => Unhooked::Page(frame),
                            $crate::Frees::Table(frame) => Unhooked::Table(frame),
                        };
                        gather.unhook(removal.addr, what, |hw| {
                            let absent = ::lazytlb::Entry::ABSENT;
                            ::lazytlb::Memory::write_entry(hw, removal.table, removal.index, absent);
                        });
                    }
                });
            }

            fn retire(&self, hw: &$crate::ModelHw, space: $crate::Space) {
                self.tlb.retire(hw, handle_of(space));
            }

            fn handle_flush_ipi(&self, hw: &$crate::ModelHw) {
                let done = self.tlb.handle_flush_ipi(hw);
                for (count, note) in [
                    (done.other_space, "interrupt: another space is loaded"),
                    (done.left_for_init_mm, "interrupt: lazy, left for init_mm"),
                    (done.up_to_date, "interrupt: up to date already"),
                    (done.invalidated_pages, "interrupt: invalidated pages"),
                    (done.flushed_all, "interrupt: flushed everything"),
                ] {
                    if count > 0 {
                        hw.note(note);
                    }
                }
            }
        }
    };
}

protocol_of! {
    /// The real one: `lazytlb`, as kernels embed it.
    LazyTlb, ::lazytlb
}

impl fmt::Debug for LazyTlb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazyTlb")
            .field("policy", &self.tlb.policy())
            .finish_non_exhaustive()
    }
}
