//! The programs that ship: scenarios in which a protocol must keep every property.

use std::sync::Arc;

use lazytlb::{Access, Entry, FlushRange, FrameKind, Memory, PhysAddr, Policy, Tables, VirtAddr};

use crate::model_hw::ModelHw;
use crate::program::Program;
use crate::protocol::{Frees, Protocol, Removal, Space};

/// A shipped program: its name, what it is for, and how to make it for a protocol.
#[derive(Clone, Copy, Debug)]
pub struct ShippedProgram<P> {
    /// The name that people type.
    pub name: &'static str,
    /// What the CPUs do, in a sentence.
    pub about: &'static str,
    build: fn(&'static str, Policy) -> Program,
    protocol: std::marker::PhantomData<fn() -> P>,
}

impl<P: Protocol> ShippedProgram<P> {
    /// Every shipped program.
    pub fn all() -> Vec<ShippedProgram<P>> {
        let program = |name, about, build| {
            let protocol = std::marker::PhantomData;
            ShippedProgram {
                name,
                about,
                build,
                protocol,
            }
        };
        vec![
            program(
                "smoke",
                "2 CPUs: one maps, unmaps and frees a table once; the other touches and goes lazy",
                smoke::<P>,
            ),
            program(
                "reference-3",
                "3 CPUs: one maps, unmaps and frees a table twice, in reused frames; two switch to the \
                 space, touch, go lazy, come back, touch",
                reference_3::<P>,
            ),
            program(
                "reference-4",
                "reference-3, and a fourth CPU that maps and unmaps a second address in the same space",
                reference_4::<P>,
            ),
            program(
                "no-table-free",
                "reference-3 without freeing tables: only pages come and go",
                no_table_free::<P>,
            ),
            program(
                "two-initiators",
                "2 CPUs in one space: each unmaps an address of its own and flushes the other",
                two_initiators::<P>,
            ),
            program(
                "two-spaces",
                "3 CPUs: one unmaps a page of the space that the second uses, then flushes the third's space",
                two_spaces::<P>,
            ),
            program(
                "lazy-elsewhere",
                "2 CPUs: one unmaps a page; the other, lazy in a second space, switches to the first, and touches",
                lazy_elsewhere::<P>,
            ),
            program(
                "exit",
                "3 CPUs: two leave the space, lazily; the third, lazy itself, retires it and frees its \
                 root",
                exit::<P>,
            ),
        ]
    }

    /// Finds a program by its name.
    pub fn by_name(name: &str) -> Option<ShippedProgram<P>> {
        Self::all().into_iter().find(|program| program.name == name)
    }

    /// Makes the program under a policy.
    pub fn build(&self, policy: Policy) -> Program {
        (self.build)(self.name, policy)
    }
}

/// The space that the programs work in, and one more.
const USER: Space = Space(1);
const SECOND_USER: Space = Space(2);
/// The address that the programs map and unmap, and the entries that translate it.
const ADDR: VirtAddr = VirtAddr(0);
const ROOT_INDEX: u16 = 0;
const TABLE_INDEX: u16 = 0;
/// A second address, under a table of its own.
const SECOND_ADDR: VirtAddr = VirtAddr(1 << 21);
const SECOND_ROOT_INDEX: u16 = 1;

/// A program under construction: two user spaces, of which most use one, and a protocol over them.
struct Setup<P> {
    program: Program,
    protocol: Arc<P>,
    root: PhysAddr,
}

impl<P: Protocol> Setup<P> {
    fn new(name: &str, cpus: u8, policy: Policy) -> Setup<P> {
        let mut program = Program::new(name, cpus);
        let (root, second_root) = (program.table(), program.table());
        let protocol = Arc::new(P::new(&mut program, policy, &[root, second_root]));
        program.expect_notes(P::OUTCOMES.iter().copied());
        let handler = Arc::clone(&protocol);
        program.on_flush_interrupt(move |hw| handler.handle_flush_ipi(hw));
        Setup {
            program,
            protocol,
            root,
        }
    }

    fn operation(
        &mut self,
        cpu: u8,
        name: &str,
        run: impl Fn(&ModelHw, &P) + Send + Sync + 'static,
    ) {
        let protocol = Arc::clone(&self.protocol);
        self.program
            .operation(cpu, name, move |hw| run(hw, &protocol));
    }

    fn switch(&mut self, cpu: u8, name: &str) {
        self.operation(cpu, name, |hw, protocol| protocol.switch_mm(hw, USER));
    }

    fn go_lazy(&mut self, cpu: u8) {
        self.operation(cpu, "go lazy", |hw, protocol| protocol.enter_lazy(hw));
    }

    fn touch(&mut self, cpu: u8, addr: VirtAddr) {
        self.operation(cpu, "touch", move |hw, _| hw.touch(addr, Access::Store));
    }

    /// Switches to the space, touches, goes lazy, comes back, touches.
    fn come_and_go(&mut self, cpu: u8) {
        self.switch(cpu, "switch to the space");
        self.touch(cpu, ADDR);
        self.go_lazy(cpu);
        self.switch(cpu, "switch back");
        self.touch(cpu, ADDR);
    }

    /// Maps a page under a new table, then unmaps it and frees both.
    fn map_and_free_table(&mut self, cpu: u8, name: &str, first: FrameKind) {
        let root = self.root;
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
            hw.write_entry(table, TABLE_INDEX, Entry::to(page));
            hw.write_entry(root, ROOT_INDEX, Entry::to(table));
            let removal = |table, index, frees| Removal {
                addr: ADDR,
                table,
                index,
                frees,
            };
            protocol.remove(
                hw,
                USER,
                &[
                    removal(table, TABLE_INDEX, Frees::Page(page)),
                    removal(root, ROOT_INDEX, Frees::Table(table)),
                ],
            );
        });
    }

    /// Maps a page at `addr` under a table that stays, then unmaps and frees it.
    fn map_and_free_page(
        &mut self,
        cpu: u8,
        name: &str,
        table: PhysAddr,
        addr: VirtAddr,
        index: u16,
    ) {
        self.operation(cpu, name, move |hw, protocol| {
            let page = hw.alloc_frame(FrameKind::Page);
            hw.write_entry(table, index, Entry::to(page));
            let removal = Removal {
                addr,
                table,
                index,
                frees: Frees::Page(page),
            };
            protocol.remove(hw, USER, &[removal]);
        });
    }

    /// Makes a table that stays hooked into the root, from CPU `cpu`'s first operation on.
    fn hook_table(&mut self, cpu: u8, root_index: u16) -> PhysAddr {
        let (table, root) = (self.program.table(), self.root);
        self.operation(cpu, "hook a table", move |hw, _| {
            hw.write_entry(root, root_index, Entry::to(table));
        });
        table
    }
}

fn smoke<P: Protocol>(name: &'static str, policy: Policy) -> Program {
    let mut setup = Setup::<P>::new(name, 2, policy);
    setup.program.free_frames(2);
    setup.switch(0, "switch to the space");
    setup.map_and_free_table(0, "map, unmap, free the table", FrameKind::Page);
    setup.switch(1, "switch to the space");
    setup.touch(1, ADDR);
    setup.switch(1, "switch to the same space");
    setup.go_lazy(1);
    setup.program
}

/// What `reference-3` does: in the second round the freed table's frame is reused for the page, and
/// the page's for the table.
fn map_twice_while_two_come_and_go<P: Protocol>(setup: &mut Setup<P>) {
    setup.program.free_frames(2);
    setup.switch(0, "switch to the space");
    setup.map_and_free_table(0, "map, unmap, free the table", FrameKind::Page);
    setup.map_and_free_table(0, "the same in reused frames", FrameKind::Table);
    setup.come_and_go(1);
    setup.come_and_go(2);
}

fn reference_3<P: Protocol>(name: &'static str, policy: Policy) -> Program {
    let mut setup = Setup::<P>::new(name, 3, policy);
    map_twice_while_two_come_and_go(&mut setup);
    setup.program
}

fn reference_4<P: Protocol>(name: &'static str, policy: Policy) -> Program {
    let mut setup = Setup::<P>::new(name, 4, policy);
    map_twice_while_two_come_and_go(&mut setup);
    setup.program.free_frames(1);
    setup.switch(3, "switch to the space");
    let table = setup.hook_table(3, SECOND_ROOT_INDEX);
    setup.map_and_free_page(3, "map and unmap a second address", table, SECOND_ADDR, 0);
    setup.program
}

fn no_table_free<P: Protocol>(name: &'static str, policy: Policy) -> Program {
    let mut setup = Setup::<P>::new(name, 3, policy);
    setup.program.free_frames(2);
    setup.switch(0, "switch to the space");
    let table = setup.hook_table(0, ROOT_INDEX);
    setup.map_and_free_page(0, "map and unmap", table, ADDR, TABLE_INDEX);
    setup.map_and_free_page(0, "the same again", table, ADDR, TABLE_INDEX);
    setup.come_and_go(1);
    setup.come_and_go(2);
    setup.program
}

fn two_initiators<P: Protocol>(name: &'static str, policy: Policy) -> Program {
    let mut setup = Setup::<P>::new(name, 2, policy);
    setup.program.free_frames(2);
    for (cpu, addr, root_index) in [(0, ADDR, ROOT_INDEX), (1, SECOND_ADDR, SECOND_ROOT_INDEX)] {
        setup.switch(cpu, "switch to the space");
        let table = setup.hook_table(cpu, root_index);
        setup.map_and_free_page(cpu, "map and unmap", table, addr, 0);
        let other = if cpu == 0 { SECOND_ADDR } else { ADDR };
        setup.touch(cpu, other);
    }
    setup.program
}

/// The initiator's second request rewrites the first: a target that acknowledges the first before it has
/// read it serves the wrong space.
fn two_spaces<P: Protocol>(name: &'static str, policy: Policy) -> Program {
    let mut setup = Setup::<P>::new(name, 3, policy);
    setup.program.free_frames(1);
    setup.switch(0, "switch to the first space");
    let table = setup.hook_table(0, ROOT_INDEX);
    setup.map_and_free_page(0, "map and unmap", table, ADDR, TABLE_INDEX);
    setup.operation(0, "flush the second space", |hw, protocol| {
        protocol.flush(hw, SECOND_USER, FlushRange::All, Tables::Kept);
    });
    setup.switch(1, "switch to the first space");
    setup.touch(1, ADDR);
    setup.touch(1, ADDR);
    setup.operation(2, "switch to the second space", |hw, protocol| {
        protocol.switch_mm(hw, SECOND_USER);
    });
    setup.program
}

/// A CPU that is lazy in one space comes to another: whoever flushes there must not take it for lazy.
fn lazy_elsewhere<P: Protocol>(name: &'static str, policy: Policy) -> Program {
    let mut setup = Setup::<P>::new(name, 2, policy);
    setup.program.free_frames(1);
    setup.switch(0, "switch to the first space");
    let table = setup.hook_table(0, ROOT_INDEX);
    setup.map_and_free_page(0, "map and unmap", table, ADDR, TABLE_INDEX);
    setup.operation(1, "switch to the second space", |hw, protocol| {
        protocol.switch_mm(hw, SECOND_USER);
    });
    setup.go_lazy(1);
    setup.switch(1, "switch to the first space");
    setup.touch(1, ADDR);
    setup.program
}

fn exit<P: Protocol>(name: &'static str, policy: Policy) -> Program {
    let mut setup = Setup::<P>::new(name, 3, policy);
    let root = setup.root;
    let left = setup.program.atomic("tasks that left", 0);
    for cpu in [1, 2] {
        setup.switch(cpu, "switch to the space");
        setup.go_lazy(cpu);
        setup.operation(cpu, "its task is gone", move |hw, _| {
            lazytlb::Hw::fetch_add(hw, &left, 1);
        });
    }
    setup.switch(0, "switch to the space");
    setup.operation(0, "wait for the other tasks", move |hw, _| {
        lazytlb::Hw::pause_until(hw, &left, lazytlb::Until::Equals(2));
    });
    setup.go_lazy(0);
    setup.operation(
        0,
        "flush everything, retire, free the root",
        move |hw, protocol| {
            protocol.flush(hw, USER, FlushRange::All, Tables::Freed);
            protocol.retire(hw, USER);
            hw.free_frame(root);
        },
    );
    setup.program
}
