//! Runs the protocol in a program that has neither std nor libc.
//!
//! It shows that the crate links with nothing but `core`, and how little a kernel must supply: the
//! seam and the storage, in `machine.rs`. One thread plays two CPUs in turn, so this program says
//! nothing about races; those are the checker's.
#![no_std]
#![no_main]

mod machine;
mod mem;
mod runtime;

use lazytlb::{
    EnteredLazy, FlushRange, FrameSink, PhysAddr, Policy, Served, Switched, Tables, Unhooked,
    VirtAddr,
};

use machine::{CPU0, CPU1, INIT_MM, INIT_ROOT, Machine, USER, USER_ROOT};

/// The page that the program unmaps.
const PAGE: VirtAddr = VirtAddr(0x40_0000);
/// The frame of the page table that maps [`PAGE`].
const TABLE: PhysAddr = PhysAddr(0x9000);

/// Runs the program; a panic ends it with an exit status of its own.
fn run() {
    a_lazy_cpu_is_spared_until_tables_go(&Machine::boot(Policy::IpiOnTableFree));
    in_init_mm_nothing_is_left_to_flush(&Machine::boot(Policy::InitMm));
}

/// Leaves CPU 1 lazy in the space that CPU 0 flushes, frees a table of, and retires.
fn a_lazy_cpu_is_spared_until_tables_go(machine: &Machine) {
    let tlb = machine.tlb();
    assert_eq!(
        machine.on(CPU1, |hw| tlb.switch_mm(hw, USER)),
        Switched::Loaded
    );
    assert_eq!(
        machine.on(CPU1, |hw| tlb.enter_lazy(hw)),
        EnteredLazy::StaysLoaded
    );
    assert_eq!(
        machine.on(CPU0, |hw| tlb.switch_mm(hw, USER)),
        Switched::Loaded
    );

    let report = machine.on(CPU0, |hw| {
        tlb.flush(hw, USER, FlushRange::page(PAGE), Tables::Kept)
    });
    assert_eq!((report.interrupted, report.lazy_skipped), (0, 1));
    assert_eq!(report.local, Served::InvalidatedPages);
    assert_eq!(machine.root_on(CPU1), USER_ROOT);

    let mut freed = Freed { machine, tables: 0 };
    machine.on(CPU0, |hw| {
        tlb.gather(hw, USER, &mut freed, |gather| {
            gather.unhook(PAGE, Unhooked::Table(TABLE), |_hw| {});
        });
    });
    assert_eq!(freed.tables, 1);

    assert_eq!(
        machine.on(CPU0, |hw| tlb.switch_mm(hw, INIT_MM)),
        Switched::Loaded
    );
    assert_eq!(machine.on(CPU0, |hw| tlb.retire(hw, USER)).interrupted, 0);
}

/// Sends CPU 1 to the kernel's own space when it goes lazy, so that CPU 0 flushes alone.
fn in_init_mm_nothing_is_left_to_flush(machine: &Machine) {
    let tlb = machine.tlb();
    machine.on(CPU1, |hw| tlb.switch_mm(hw, USER));
    assert_eq!(
        machine.on(CPU1, |hw| tlb.enter_lazy(hw)),
        EnteredLazy::LeftForInitMm
    );
    assert_eq!(machine.root_on(CPU1), INIT_ROOT);
    let report = machine.on(CPU0, |hw| {
        tlb.flush(hw, USER, FlushRange::All, Tables::Freed)
    });
    assert_eq!((report.interrupted, report.local), (0, Served::OtherSpace));
}

/// Takes back page tables, and checks that no lazy CPU can walk them any more.
struct Freed<'a> {
    /// The machine whose CPUs are looked at.
    machine: &'a Machine,
    /// How many tables came back.
    tables: u32,
}

impl FrameSink for Freed<'_> {
    fn release_page(&mut self, _frame: PhysAddr) {
        unreachable!("only a table was unhooked")
    }
    fn release_table(&mut self, frame: PhysAddr) {
        assert_eq!(frame, TABLE);
        assert_eq!(
            self.machine.root_on(CPU1),
            INIT_ROOT,
            "CPU 1 could still walk the table"
        );
        self.tables += 1;
    }
}
