//! What the programs are made of: spaces, a protocol over them, and the operations that recur.

use std::sync::Arc;

use lazytlb::{
    Access, CpuId, Entry, FlushRange, FrameKind, Hw, Memory, PhysAddr, Policy, Tables, ValueKind,
    VirtAddr,
};
use lazytlb_model::LocalCell;

use crate::hardware::number_for_people;
use crate::model_hw::ModelHw;
use crate::program::Program;
use crate::protocol::{Frees, Protocol, Removal, Space};

/// How a program is made for a protocol under a policy.
pub(super) type Build = fn(&str, MakeProtocol) -> Program;

/// A program in the table of a file: a name, what the CPUs do, and what makes it. It is compiled once, for whatever protocol.
pub(super) type Shipped = (&'static str, &'static str, Build);

/// The kernel's own space, which every CPU starts in.
pub(super) const KERNELS_OWN: Space = Space(0);
/// The space that most programs work in.
pub(super) const USER: Space = Space(1);
/// A second one.
pub(super) const SECOND_USER: Space = Space(2);
/// A third one.
pub(super) const THIRD_USER: Space = Space(3);

/// The CPUs, as the programs number them.
pub(super) const CPU_0: CpuId = CpuId(0);
pub(super) const CPU_1: CpuId = CpuId(1);
pub(super) const CPU_2: CpuId = CpuId(2);
pub(super) const CPU_3: CpuId = CpuId(3);

/// The page that most programs map and unmap.
pub(super) const PAGE: VirtAddr = VirtAddr(0);
/// A second page under the same table.
pub(super) const NEXT_PAGE: VirtAddr = VirtAddr(1 << 12);
/// A third one.
pub(super) const THIRD_PAGE: VirtAddr = VirtAddr(2 << 12);
/// A page under a second table.
pub(super) const FAR_PAGE: VirtAddr = VirtAddr(1 << 21);

/// A protocol under a policy, and how a program gets it. What programs are made of is compiled once, not for each protocol.
#[derive(Clone, Copy)]
pub(crate) struct MakeProtocol {
    pub(super) policy: Policy,
    outcomes: fn() -> &'static [&'static str],
    new: New,
    isolated: Isolated,
}

/// Makes a protocol over user spaces with these roots.
type New = fn(&mut Program, Policy, &[PhysAddr]) -> Arc<dyn Protocol>;
/// The same, with the roots of their user halves.
type Isolated = fn(&mut Program, Policy, &[PhysAddr], &[PhysAddr]) -> Arc<dyn Protocol>;

impl MakeProtocol {
    /// Makes this one.
    pub(crate) fn of<P: Protocol>(policy: Policy) -> MakeProtocol {
        MakeProtocol {
            policy,
            outcomes: P::outcomes,
            new: |program, policy, roots| Arc::new(P::new(program, policy, roots)),
            isolated: |program, policy, roots, user_halves| {
                Arc::new(P::isolated(program, policy, roots, user_halves))
            },
        }
    }
}

/// Gives a program the frames of tables that a protocol may hold back: one of each space, while another one is mapped.
fn let_tables_be_held(program: &mut Program, policy: Policy, user_spaces: usize) {
    if policy == Policy::Quarantine {
        program.free_frames(user_spaces);
    }
}

/// A program under construction: user spaces, and a protocol over them.
pub(super) struct Setup {
    pub(super) program: Program,
    protocol: Arc<dyn Protocol>,
    roots: Vec<PhysAddr>,
    user_halves: Vec<PhysAddr>,
    /// With page-table isolation, whether each CPU is in user mode.
    in_user_mode: Vec<LocalCell>,
}

impl Setup {
    pub(super) fn new(name: &str, cpus: u8, user_spaces: usize, make: MakeProtocol) -> Setup {
        Self::of(Program::new(name, cpus), user_spaces, make)
    }

    /// As [`Setup::new`], where some operation walks page tables by software.
    pub(super) fn walked(name: &str, cpus: u8, user_spaces: usize, make: MakeProtocol) -> Setup {
        let mut program = Program::new(name, cpus);
        program.walks_by_software();
        Self::of(program, user_spaces, make)
    }

    fn of(program: Program, user_spaces: usize, make: MakeProtocol) -> Setup {
        let mut program = program;
        let roots: Vec<PhysAddr> = (0..user_spaces).map(|_| program.table()).collect();
        let protocol = (make.new)(&mut program, make.policy, &roots);
        let_tables_be_held(&mut program, make.policy, user_spaces);
        program.expect_notes((make.outcomes)().iter().copied());
        let handler = Arc::clone(&protocol);
        program.on_flush_interrupt(move |hw| handler.handle_flush_ipi(hw));
        Setup {
            program,
            protocol,
            roots,
            user_halves: Vec::new(),
            in_user_mode: Vec::new(),
        }
    }

    /// As [`Setup::new`], with page-table isolation: each user space has two roots, and a CPU changes its CR3 on the way
    /// to user mode and back, also where it is interrupted there.
    pub(super) fn isolated(name: &str, cpus: u8, user_spaces: usize, make: MakeProtocol) -> Setup {
        Self::isolated_of(Program::new(name, cpus), user_spaces, make)
    }

    /// As [`Setup::isolated`], where some operation walks page tables by software.
    pub(super) fn isolated_and_walked(
        name: &str,
        cpus: u8,
        user_spaces: usize,
        make: MakeProtocol,
    ) -> Setup {
        let mut program = Program::new(name, cpus);
        program.walks_by_software();
        Self::isolated_of(program, user_spaces, make)
    }

    fn isolated_of(program: Program, user_spaces: usize, make: MakeProtocol) -> Setup {
        let cpus = program.cpus();
        let mut program = program;
        let mut tables =
            || -> Vec<PhysAddr> { (0..user_spaces).map(|_| program.table()).collect() };
        let (roots, user_halves) = (tables(), tables());
        for (&root, &user_half) in roots.iter().zip(&user_halves) {
            program.has_user_half(root, user_half);
        }
        let protocol = (make.isolated)(&mut program, make.policy, &roots, &user_halves);
        let_tables_be_held(&mut program, make.policy, user_spaces);
        program.expect_notes((make.outcomes)().iter().copied());
        let modes =
            (0..cpus).map(|cpu| program.local_of_kind(cpu, ValueKind::Flag, "in user mode", 0));
        let in_user_mode: Vec<LocalCell> = modes.collect();
        let (handler, modes) = (Arc::clone(&protocol), in_user_mode.clone());
        program.on_flush_interrupt(move |hw| {
            let was_in_user_mode = hw.load_local(&modes[usize::from(hw.cpu().0)]) != 0;
            if was_in_user_mode {
                handler.load_kernel_half(hw);
            }
            handler.handle_flush_ipi(hw);
            if was_in_user_mode {
                handler.load_user_half(hw);
            }
        });
        Setup {
            program,
            protocol,
            roots,
            user_halves,
            in_user_mode,
        }
    }

    /// Returns both roots of a space.
    pub(super) fn halves(&self, space: Space) -> [PhysAddr; 2] {
        [self.roots[space.0 - 1], self.user_halves[space.0 - 1]]
    }

    /// Returns the roots of a space, one or two: the kernel half's first.
    pub(super) fn roots_of(&self, space: Space) -> Vec<PhysAddr> {
        let user_half = self.user_halves.get(space.0 - 1).copied();
        std::iter::once(self.root(space)).chain(user_half).collect()
    }

    /// Lists the roots of all spaces, the kernel's own first.
    pub(super) fn every_root(&self) -> Vec<PhysAddr> {
        let first = std::iter::once(self.program.first_root());
        first.chain(self.roots.iter().copied()).collect()
    }

    /// Returns where a CPU keeps whether it is in user mode, with page-table isolation.
    pub(super) fn user_mode(&self, cpu: CpuId) -> Option<LocalCell> {
        self.in_user_mode.get(usize::from(cpu.0)).copied()
    }

    /// Goes to user mode, touches, and comes back. Interrupts are on there.
    pub(super) fn touch_in_user_mode(&mut self, cpu: CpuId, addr: VirtAddr, access: Access) {
        let mode = self.in_user_mode[usize::from(cpu.0)];
        self.operation(cpu, "touch in user mode", move |hw, protocol| {
            in_user_mode(hw, protocol, mode, |hw| hw.touch(addr, access));
        });
    }

    /// Returns the protocol, for operations of its own.
    pub(super) fn protocol(&self) -> Arc<dyn Protocol> {
        Arc::clone(&self.protocol)
    }

    pub(super) fn root(&self, space: Space) -> PhysAddr {
        self.roots[space.0 - 1]
    }

    pub(super) fn operation(
        &mut self,
        cpu: CpuId,
        name: &str,
        run: impl Fn(&ModelHw, &dyn Protocol) + Send + Sync + 'static,
    ) {
        let protocol = Arc::clone(&self.protocol);
        self.program
            .operation(number_for_people(cpu), name, move |hw| run(hw, &*protocol));
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

/// Follows entries from a root to the page of an address, as far as they go.
pub(super) fn walk(hw: &ModelHw, root: PhysAddr, addr: VirtAddr) {
    let hooked = hw.read_entry(root, root_index(addr));
    if hooked.is_present() {
        hw.read_entry(hooked.frame(), table_index(addr));
    }
}

/// Runs something in user mode, under the user half of the loaded space.
pub(super) fn in_user_mode(
    hw: &ModelHw,
    protocol: &dyn Protocol,
    mode: LocalCell,
    run: impl FnOnce(&ModelHw),
) {
    let former = hw.disable_interrupts();
    protocol.load_user_half(hw);
    hw.store_local(&mode, 1);
    hw.restore_interrupts(former);
    run(hw);
    let former = hw.disable_interrupts();
    hw.store_local(&mode, 0);
    protocol.load_kernel_half(hw);
    hw.restore_interrupts(former);
}

/// Returns the index of an address's entry in a root.
pub(super) fn root_index(addr: VirtAddr) -> u16 {
    u16::try_from(addr.0 >> 21).expect("the programs' addresses are small")
}

/// Returns the index of an address's entry in a table.
pub(super) fn table_index(addr: VirtAddr) -> u16 {
    u16::try_from(addr.0 >> 12 & 511).expect("nine bits fit")
}
