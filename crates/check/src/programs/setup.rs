//! What the programs are made of: spaces, a protocol over them, and the operations that recur.

use std::sync::Arc;

use lazytlb::{
    Access, CpuId, Entry, FlushRange, FrameKind, Memory, PhysAddr, Policy, Tables, VirtAddr,
};

use crate::hardware::number_for_people;
use crate::model_hw::ModelHw;
use crate::program::Program;
use crate::protocol::{Frees, Protocol, Removal, Space};

/// The space that most programs work in.
pub(super) const USER: Space = Space(1);
/// A second one.
pub(super) const SECOND_USER: Space = Space(2);

/// The CPUs, as the programs number them.
pub(super) const CPU_0: CpuId = CpuId(0);
pub(super) const CPU_1: CpuId = CpuId(1);
pub(super) const CPU_2: CpuId = CpuId(2);
pub(super) const CPU_3: CpuId = CpuId(3);

/// The page that most programs map and unmap.
pub(super) const PAGE: VirtAddr = VirtAddr(0);
/// A second page under the same table.
pub(super) const NEXT_PAGE: VirtAddr = VirtAddr(1 << 12);
/// A page under a second table.
pub(super) const FAR_PAGE: VirtAddr = VirtAddr(1 << 21);

/// A program under construction: user spaces, and a protocol over them.
pub(super) struct Setup<P> {
    pub(super) program: Program,
    protocol: Arc<P>,
    roots: Vec<PhysAddr>,
}

impl<P: Protocol> Setup<P> {
    pub(super) fn new(name: &str, cpus: u8, user_spaces: usize, policy: Policy) -> Setup<P> {
        let mut program = Program::new(name, cpus);
        let roots: Vec<PhysAddr> = (0..user_spaces).map(|_| program.table()).collect();
        let protocol = Arc::new(P::new(&mut program, policy, &roots));
        program.expect_notes(P::OUTCOMES.iter().copied());
        let handler = Arc::clone(&protocol);
        program.on_flush_interrupt(move |hw| handler.handle_flush_ipi(hw));
        Setup {
            program,
            protocol,
            roots,
        }
    }

    /// Returns the protocol, for operations of its own.
    pub(super) fn protocol(&self) -> Arc<P> {
        Arc::clone(&self.protocol)
    }

    pub(super) fn root(&self, space: Space) -> PhysAddr {
        self.roots[space.0 - 1]
    }

    pub(super) fn operation(
        &mut self,
        cpu: CpuId,
        name: &str,
        run: impl Fn(&ModelHw, &P) + Send + Sync + 'static,
    ) {
        let protocol = Arc::clone(&self.protocol);
        self.program
            .operation(number_for_people(cpu), name, move |hw| run(hw, &protocol));
    }

    pub(super) fn switch(&mut self, cpu: CpuId, name: &str, space: Space) {
        self.operation(cpu, name, move |hw, protocol| protocol.switch_mm(hw, space));
    }

    pub(super) fn go_lazy(&mut self, cpu: CpuId) {
        self.operation(cpu, "go lazy", |hw, protocol| protocol.enter_lazy(hw));
    }

    pub(super) fn touch(&mut self, cpu: CpuId, addr: VirtAddr) {
        self.operation(cpu, "touch", move |hw, _| hw.touch(addr, Access::Store));
    }

    /// Makes a table that stays, and hooks it into a space's root as the CPU's next operation.
    pub(super) fn hook_table(&mut self, cpu: CpuId, space: Space, addr: VirtAddr) -> PhysAddr {
        let (table, root) = (self.program.table(), self.root(space));
        self.operation(cpu, "hook a table", move |hw, _| {
            hw.write_entry(root, root_index(addr), Entry::to(table));
        });
        table
    }

    /// Maps pages under a table that stays, then unmaps and frees them with one flush.
    pub(super) fn map_and_free_pages(
        &mut self,
        cpu: CpuId,
        space: Space,
        table: PhysAddr,
        addrs: &'static [VirtAddr],
    ) {
        self.operation(cpu, "map and unmap", move |hw, protocol| {
            let removals: Vec<Removal> = addrs
                .iter()
                .map(|&addr| {
                    let (page, index) = (hw.alloc_frame(FrameKind::Page), table_index(addr));
                    hw.write_entry(table, index, Entry::to(page));
                    Removal {
                        addr,
                        table,
                        index,
                        frees: Frees::Page(page),
                    }
                })
                .collect();
            protocol.remove(hw, space, &removals, &|_| {});
        });
    }

    /// Maps a page under a new table, then unmaps it and frees both; `first` is allocated first.
    pub(super) fn map_and_free_table(&mut self, cpu: CpuId, name: &str, first: FrameKind) {
        let root = self.root(USER);
        self.operation(cpu, name, move |hw, protocol| {
            let (table, page) = match first {
                FrameKind::Page => {
                    let page = hw.alloc_frame(FrameKind::Page);
                    (hw.alloc_frame(FrameKind::Table), page)
                }
                FrameKind::Table => {
                    let table = hw.alloc_frame(FrameKind::Table);
                    (table, hw.alloc_frame(FrameKind::Page))
                }
            };
            let (in_table, in_root) = (table_index(PAGE), root_index(PAGE));
            hw.write_entry(table, in_table, Entry::to(page));
            hw.write_entry(root, in_root, Entry::to(table));
            let removal = |table, index, frees| Removal {
                addr: PAGE,
                table,
                index,
                frees,
            };
            let page = removal(table, in_table, Frees::Page(page));
            protocol.remove(
                hw,
                USER,
                &[page, removal(root, in_root, Frees::Table(table))],
                &|_| {},
            );
        });
    }

    /// Unhooks a table from a space's root, flushes, and frees it.
    pub(super) fn free_table(&mut self, cpu: CpuId, space: Space, table: PhysAddr, addr: VirtAddr) {
        let root = self.root(space);
        self.operation(cpu, "free the table", move |hw, protocol| {
            let (index, frees) = (root_index(addr), Frees::Table(table));
            protocol.remove(
                hw,
                space,
                &[Removal {
                    addr,
                    table: root,
                    index,
                    frees,
                }],
                &|_| {},
            );
        });
    }

    /// Flushes everything of a space; no table goes.
    pub(super) fn flush_all(&mut self, cpu: CpuId, name: &str, space: Space) {
        self.operation(cpu, name, move |hw, protocol| {
            protocol.flush(hw, space, FlushRange::All, Tables::Kept);
        });
    }
}

/// Returns the index of an address's entry in a root.
pub(super) fn root_index(addr: VirtAddr) -> u16 {
    u16::try_from(addr.0 >> 21).expect("the programs' addresses are small")
}

/// Returns the index of an address's entry in a table.
pub(super) fn table_index(addr: VirtAddr) -> u16 {
    u16::try_from(addr.0 >> 12 & 511).expect("nine bits fit")
}
