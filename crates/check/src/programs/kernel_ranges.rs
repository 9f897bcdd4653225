//! What the kernel maps for itself, in every space, and takes away again; CPUs that come online.

use lazytlb::{
    Access, CpuId, Entry, FlushRange, FrameKind, Hw, Memory, PhysAddr, Quirks, Tables, Until,
    VirtAddr,
};

use lazytlb_model::Cr4;
use lazytlb_model::entry::bits;

use super::setup::{
    CPU_0, CPU_1, MakeProtocol, PAGE, SECOND_USER, Setup, Shipped, USER, root_index, table_index,
};
use crate::program::Program;
use crate::protocol::{KernelRemoval, Protocol};

/// The programs of this file.
pub(super) const PROGRAMS: &[Shipped] = &[
    (
        "kernel-page",
        "2 CPUs: one unmaps and frees a page of the kernel's; the other uses it in two spaces, and lazily",
        page,
    ),
    (
        "kernel-page-global",
        "kernel-page, where it is mapped as global",
        global_page,
    ),
    (
        "kernel-table",
        "kernel-page, and the page's table goes too",
        table,
    ),
    (
        "kernel-two-initiators",
        "2 CPUs: each unmaps and frees a page of the kernel's, and uses the other one's",
        two_initiators,
    ),
    (
        "comes-online",
        "2 CPUs: one comes online, goes, and comes back, while the other unmaps and frees a page of the kernel's",
        comes_online,
    ),
    (
        "late-quirk",
        "2 CPUs: one unmaps a page and frees its table; the other comes later, with errata that the kernel was not \
                 told of",
        late_quirk,
    ),
];

/// A page that the kernel maps, under a table of its own, in every space.
const KERNEL_PAGE: VirtAddr = VirtAddr(3 << 21);
/// A second one, under a table of its own.
const SECOND_KERNEL_PAGE: VirtAddr = VirtAddr(4 << 21);

/// What is removed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Removes {
    Page,
    Table,
}

/// Whether the kernel's page is mapped as global.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Globals {
    Yes,
    No,
}

fn page(name: &str, make: MakeProtocol) -> Program {
    removal(name, make, Removes::Page, Globals::No)
}

fn global_page(name: &str, make: MakeProtocol) -> Program {
    removal(name, make, Removes::Page, Globals::Yes)
}

fn table(name: &str, make: MakeProtocol) -> Program {
    removal(name, make, Removes::Table, Globals::Yes)
}

/// One CPU removes what the kernel has mapped, and frees it; the other runs kernel code that uses it in two spaces, in
/// lazy mode, and in the kernel's own space.
fn removal(name: &str, make: MakeProtocol, removes: Removes, globals: Globals) -> Program {
    let mut setup = Setup::new(name, 2, 2, make);
    let mapped = map(&mut setup, KERNEL_PAGE, globals);
    let online = setup.program.atomic("CPUs that are online", 0);
    for cpu in [CPU_0, CPU_1] {
        setup.operation(cpu, "come online", move |hw, protocol| {
            protocol.cpu_online(hw);
            hw.fetch_add(&online, 1);
        });
    }
    setup.operation(CPU_0, "wait for the other CPU", move |hw, _| {
        hw.pause_until(&online, Until::Equals(2));
    });
    setup.operation(CPU_0, "remove and free", move |hw, protocol| {
        mapped.remove(hw, protocol, removes);
    });
    setup.switch(CPU_1, "switch to the first space", USER);
    use_kernel_page(&mut setup, CPU_1);
    setup.switch(CPU_1, "switch to the second space", SECOND_USER);
    use_kernel_page(&mut setup, CPU_1);
    setup.switch(CPU_1, "switch to the first space", USER);
    use_kernel_page(&mut setup, CPU_1);
    setup.go_lazy(CPU_1);
    use_kernel_page(&mut setup, CPU_1);
    setup.program
}

/// Each CPU removes and frees a page of the kernel's, and uses the other one's.
fn two_initiators(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let online = setup.program.atomic("CPUs that are online", 0);
    for (cpu, own, others) in [
        (CPU_0, KERNEL_PAGE, SECOND_KERNEL_PAGE),
        (CPU_1, SECOND_KERNEL_PAGE, KERNEL_PAGE),
    ] {
        let mapped = map(&mut setup, own, Globals::Yes);
        setup.operation(cpu, "come online", move |hw, protocol| {
            protocol.cpu_online(hw);
            hw.fetch_add(&online, 1);
            hw.pause_until(&online, Until::Equals(2));
        });
        setup.operation(cpu, "remove and free", move |hw, protocol| {
            mapped.remove(hw, protocol, Removes::Page);
        });
        setup.operation(cpu, "use the other one's page", move |hw, _| {
            hw.touch(others, Access::Load);
        });
    }
    setup.program
}

/// A CPU comes online while a page that the kernel has mapped is removed and freed.
fn comes_online(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let mapped = map(&mut setup, KERNEL_PAGE, Globals::Yes);
    setup.operation(CPU_0, "come online", |hw, protocol| protocol.cpu_online(hw));
    setup.operation(CPU_0, "remove and free", move |hw, protocol| {
        mapped.remove(hw, protocol, Removes::Page);
    });
    setup.operation(CPU_1, "come online", |hw, protocol| protocol.cpu_online(hw));
    use_kernel_page(&mut setup, CPU_1);
    setup.switch(CPU_1, "switch to the space", USER);
    use_kernel_page(&mut setup, CPU_1);
    setup.operation(CPU_1, "go offline", |hw, protocol| protocol.cpu_offline(hw));
    setup.operation(CPU_1, "come back online", |hw, protocol| {
        protocol.cpu_online(hw)
    });
    use_kernel_page(&mut setup, CPU_1);
    setup.program
}

/// A CPU comes online that the kernel did not know at boot, with errata that make a walk of a freed table fatal. Under
/// `defer-unless-quirk` nobody would interrupt it when it is lazy: it stays off.
fn late_quirk(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    setup.program.kernel_was_told(Quirks::NONE);
    // Coming online writes CR4.
    setup.program.features().tags = true;
    setup.program.free_frames(2);
    setup.switch(CPU_0, "switch to the space", USER);
    setup.map_and_free_table(CPU_0, "map, unmap, free the table", FrameKind::Page);
    setup.operation(CPU_1, "come online, if that may be", |hw, protocol| {
        let its = Quirks::NONE.with_erratum_383().with_walks_assume_dram();
        if protocol.admits(hw, its) {
            protocol.cpu_online(hw);
            protocol.switch_mm(hw, USER);
            hw.touch(PAGE, Access::Store);
            protocol.enter_lazy(hw);
        }
    });
    setup.program
}

/// A table of the kernel's, with a page, in every root.
#[derive(Clone)]
struct Mapped {
    roots: Vec<PhysAddr>,
    addr: VirtAddr,
    table: PhysAddr,
    page: PhysAddr,
}

fn map(setup: &mut Setup, addr: VirtAddr, globals: Globals) -> Mapped {
    let (table, page) = (setup.program.table(), setup.program.page());
    let roots = setup.every_root();
    let program = &mut setup.program;
    // A flush of everything clears CR4.PGE and sets it again.
    program.start_with_cr4(program.cr4.with(Cr4::PGE, true));
    let global = match globals {
        Globals::Yes => bits::GLOBAL,
        Globals::No => 0,
    };
    let mapped = Entry(Entry::to(page).0 | global);
    program.first_entry(table, table_index(addr), mapped);
    for &root in &roots {
        program.first_entry(root, root_index(addr), Entry::to(table));
    }
    Mapped {
        roots,
        addr,
        table,
        page,
    }
}

impl Mapped {
    fn remove(&self, hw: &crate::ModelHw, protocol: &dyn Protocol, removes: Removes) {
        hw.write_entry(self.table, table_index(self.addr), Entry::ABSENT);
        if removes == Removes::Table {
            for &root in &self.roots {
                hw.write_entry(root, root_index(self.addr), Entry::ABSENT);
            }
        }
        protocol.flush_kernel(
            hw,
            KernelRemoval {
                range: FlushRange::page(self.addr),
                tables: match removes {
                    Removes::Page => Tables::Kept,
                    Removes::Table => Tables::Freed,
                },
            },
        );
        hw.free_frame(self.page);
        if removes == Removes::Table {
            hw.free_frame(self.table);
        }
    }
}

fn use_kernel_page(setup: &mut Setup, cpu: CpuId) {
    setup.operation(cpu, "use the kernel's page", |hw, _| {
        hw.touch(KERNEL_PAGE, Access::Load);
    });
}
