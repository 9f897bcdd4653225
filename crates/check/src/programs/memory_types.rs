//! Write-combining stores, devices, and memory that changes its type: the thread's first two dangers.

use lazytlb::{
    Access, Entry, Fetched, FlushRange, FrameKind, Memory, PageRange, PhysAddr, Policy, Tables,
};
use lazytlb_model::MemoryType;

use super::setup::{
    CPU_0, CPU_1, MakeProtocol, PAGE, SECOND_USER, Setup, Shipped, USER, root_index, table_index,
};
use crate::model_hw::ModelHw;
use crate::program::Program;
use crate::protocol::{Frees, PageChange, Protocol, Removal};

/// The programs of this file.
pub(super) const PROGRAMS: &[Shipped] = &[
    (
        "write-combining",
        "2 CPUs: one writes a page of ordinary memory with non-temporal stores, and goes lazy; the \
                 other unmaps and frees the page",
        ordinary,
    ),
    (
        "device-unmap",
        "2 CPUs: one writes to a device through a write-combining mapping, and goes lazy; the other \
                 unmaps the device",
        device,
    ),
    (
        "device-unmap-read-back",
        "device-unmap, and the driver reads back from the device before the flush counts as done",
        device_with_read_back,
    ),
    (
        "device-unmap-after-flushes",
        "device-unmap-read-back, after two flushes of the space",
        device_after_flushes,
    ),
    (
        "device-unmap-read-back-each",
        "device-unmap, and each CPU that wrote reads back by itself: in the interrupt's handler, or as it leaves the \
                 space",
        device_with_read_back_on_each,
    ),
    (
        "type-change",
        "2 CPUs: one writes to write-combining memory; the other makes it write-back: break, flush, \
                 make",
        change_type,
    ),
    (
        "type-change-from-write-back",
        "type-change the other way: write-back memory becomes write-combining",
        change_type_from_write_back,
    ),
    (
        "type-change-elsewhere",
        "2 CPUs: each has been in the space, and goes on to another one; the first changes the type of its memory \
                 from write-back to write-combining there, and comes back",
        change_type_elsewhere,
    ),
    (
        "type-change-in-place",
        "type-change the unsound way: make, flush",
        make_flush,
    ),
];

/// Stores that wait in a CPU's write-combining buffers: one is enough to come late.
const WC_BUFFERS: u8 = 1;

/// A space whose table stays, and two CPUs; CPU 0 is in the space already when its turn comes.
fn setup(name: &str, make: MakeProtocol) -> (Setup, PhysAddr) {
    let mut setup = Setup::new(name, 2, 1, make);
    setup.program.features().write_combining = WC_BUFFERS;
    setup.switch(CPU_0, "switch to the space", USER);
    let table = setup.hook_table(CPU_0, USER, PAGE);
    (setup, table)
}

/// CPU 1 writes, and goes lazy: with policies that skip lazy CPUs, nobody interrupts it.
fn write_and_go_lazy(setup: &mut Setup, store: impl Fn(&ModelHw) + Send + Sync + 'static) {
    write(setup, store);
    setup.go_lazy(CPU_1);
}

fn write(setup: &mut Setup, store: impl Fn(&ModelHw) + Send + Sync + 'static) {
    setup.switch(CPU_1, "switch to the space", USER);
    setup.operation(CPU_1, "write", move |hw, _| store(hw));
}

fn ordinary(name: &str, make: MakeProtocol) -> Program {
    let (mut setup, table) = setup(name, make);
    setup.program.free_frames(1);
    setup.map_and_free_pages(CPU_0, USER, table, &[PAGE]);
    write_and_go_lazy(&mut setup, |hw| hw.touch_non_temporal(PAGE));
    setup.program
}

fn device(name: &str, make: MakeProtocol) -> Program {
    let (mut setup, _) = unmap_device(name, make, Before::Nothing, |_, _| {});
    write_and_go_lazy(&mut setup, store);
    setup.program
}

fn device_with_read_back(name: &str, make: MakeProtocol) -> Program {
    let read_back = |hw: &ModelHw, device| hw.read_device(device);
    let (mut setup, _) = unmap_device(name, make, Before::Nothing, read_back);
    write_and_go_lazy(&mut setup, store);
    setup.program
}

/// Twice something is flushed before, so that a protocol that broadcasts has reason to do so here: what a CPU has written is not sent off by that.
fn device_after_flushes(name: &str, make: MakeProtocol) -> Program {
    let read_back = |hw: &ModelHw, device| hw.read_device(device);
    let (mut setup, _) = unmap_device(name, make, Before::TwoFlushes, read_back);
    write_and_go_lazy(&mut setup, store);
    setup.program
}

/// A CPU reads back by itself where it leaves what it wrote to, so nobody must be relied on to push another's writes: in the
/// interrupt's handler, before it answers, and under `init-mm` as it goes lazy.
fn device_with_read_back_on_each(name: &str, make: MakeProtocol) -> Program {
    let (mut setup, device) = unmap_device(name, make, Before::Nothing, |_, _| {});
    let protocol = setup.protocol();
    setup.program.on_flush_interrupt(move |hw| {
        hw.read_device(device);
        protocol.handle_flush_ipi(hw);
    });
    write(&mut setup, store);
    setup.operation(CPU_1, "go lazy", move |hw, protocol| {
        if make.policy == Policy::InitMm {
            hw.read_device(device);
        }
        protocol.enter_lazy(hw);
    });
    setup.program
}

fn store(hw: &ModelHw) {
    hw.touch(PAGE, Access::Store);
}

/// What has happened in the space before a device is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    Nothing,
    TwoFlushes,
}

fn unmap_device(
    name: &str,
    make: MakeProtocol,
    before: Before,
    driver: impl Fn(&ModelHw, PhysAddr) + Send + Sync + 'static,
) -> (Setup, PhysAddr) {
    let (mut setup, table) = setup(name, make);
    if before == Before::TwoFlushes {
        setup.flush_all(CPU_0, "flush everything", USER);
        setup.flush_all(CPU_0, "flush it again", USER);
    }
    let (device, index) = (setup.program.device(), table_index(PAGE));
    setup.operation(CPU_0, "map and unmap the device", move |hw, protocol| {
        hw.write_entry(table, index, mapping(device, MemoryType::WriteCombining));
        let (addr, frees) = (PAGE, Frees::Nothing);
        let removal = Removal {
            addr,
            table,
            index,
            frees,
        };
        protocol.unmap_device(hw, USER, &removal, &|hw| driver(hw, device));
    });
    (setup, device)
}

fn change_type(name: &str, make: MakeProtocol) -> Program {
    let types = (MemoryType::WriteCombining, MemoryType::WriteBack);
    retype(name, make, types, |hw, protocol, change| {
        protocol.change_type(hw, USER, change);
    })
}

/// The other way: whoever keeps the write-back entry, lazily, speculates through it.
fn change_type_from_write_back(name: &str, make: MakeProtocol) -> Program {
    let types = (MemoryType::WriteBack, MemoryType::WriteCombining);
    retype(name, make, types, |hw, protocol, change| {
        protocol.change_type(hw, USER, change);
    })
}

fn make_flush(name: &str, make: MakeProtocol) -> Program {
    let types = (MemoryType::WriteCombining, MemoryType::WriteBack);
    retype(name, make, types, |hw, protocol, change| {
        (change.make)(hw);
        let range = FlushRange::Pages(change.pages);
        protocol.flush(hw, USER, range, Tables::Freed);
    })
}

/// Both CPUs have used write-back memory, and have gone on to another space or come back. The walks that they have begun there go on, each with the access
/// that it is for, until something is invalidated (H12a).
fn change_type_elsewhere(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 2, make);
    setup.program.features().write_combining = WC_BUFFERS;
    let (root, table, page) = (
        setup.root(USER),
        setup.program.table(),
        setup.program.page(),
    );
    let index = table_index(PAGE);
    setup
        .program
        .first_entry(root, root_index(PAGE), Entry::to(table));
    let [former, made] =
        [MemoryType::WriteBack, MemoryType::WriteCombining].map(|of| mapping(page, of));
    setup.program.first_entry(table, index, former);
    // They have been in the other space before: so the load that goes on to it keeps what is cached, and ends nothing.
    for cpu in [CPU_0, CPU_1] {
        setup.switch(cpu, "switch to the second space", SECOND_USER);
        setup.switch(cpu, "switch to the first", USER);
    }
    setup.switch(CPU_0, "go on to the second", SECOND_USER);
    setup.operation(CPU_0, "change the type", move |hw, protocol| {
        let pages = PageChange {
            pages: PageRange::page(PAGE),
            fetched: Fetched::Never,
            clear: &|hw| hw.write_entry(table, index, Entry::ABSENT),
            make: &|hw| hw.write_entry(table, index, made),
        };
        protocol.change_type(hw, USER, &pages);
    });
    setup.switch(CPU_0, "come back", USER);
    setup.touch(CPU_1, PAGE);
    setup.switch(CPU_1, "go on to the second", SECOND_USER);
    setup.program
}

fn retype(
    name: &str,
    make: MakeProtocol,
    (from, to): (MemoryType, MemoryType),
    change: impl Fn(&ModelHw, &dyn Protocol, &PageChange<'_>) + Send + Sync + 'static,
) -> Program {
    let (mut setup, table) = setup(name, make);
    setup.program.free_frames(1);
    let index = table_index(PAGE);
    setup.operation(CPU_0, "map, change the type", move |hw, protocol| {
        let page = hw.alloc_frame(FrameKind::Page);
        hw.write_entry(table, index, mapping(page, from));
        let made = mapping(page, to);
        let pages = PageChange {
            pages: PageRange::page(PAGE),
            fetched: Fetched::Never,
            clear: &|hw| hw.write_entry(table, index, Entry::ABSENT),
            make: &|hw| hw.write_entry(table, index, made),
        };
        change(hw, protocol, &pages);
    });
    write_and_go_lazy(&mut setup, store);
    setup.program
}

fn mapping(frame: PhysAddr, memory_type: MemoryType) -> Entry {
    Entry(Entry::to(frame).0 | memory_type.bits())
}
