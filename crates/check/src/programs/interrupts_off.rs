//! Flushes with interrupts off, and waits for a lock with interrupts off.

use lazytlb::{Hw, ValueKind};

use super::any_length::{Lock, PageTableLock, locked};
use super::setup::{CPU_0, CPU_1, MakeProtocol, NEXT_PAGE, PAGE, Setup, Shipped, USER};
use crate::program::Program;

/// The programs of this file.
pub(super) const PROGRAMS: &[Shipped] = &[
    (
        "waits-with-interrupts-off",
        "2 CPUs in one space: each unmaps a page of its own with interrupts off, and flushes the other",
        two_waits,
    ),
    (
        "lock-and-flush",
        "2 CPUs in one space: each unmaps a page under one lock; one spins for it, and flushes, with interrupts off",
        lock_and_flush,
    ),
];

/// Each waits for the other, and neither takes an interrupt.
fn two_waits(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let table = setup.program.table();
    for (cpu, own, others) in [(CPU_0, PAGE, NEXT_PAGE), (CPU_1, NEXT_PAGE, PAGE)] {
        let page = setup.mapped(USER, table, own);
        setup.switch(cpu, "switch to the space", USER);
        setup.touch(cpu, others);
        setup.operation(
            cpu,
            "unmap a page, with interrupts off",
            move |hw, protocol| {
                let former = hw.disable_interrupts();
                page.remove(hw, protocol);
                hw.restore_interrupts(former);
            },
        );
        setup.touch(cpu, others);
    }
    setup.program
}

/// One flushes under a lock that it takes with interrupts on, the other spins for it with interrupts off, and serves
/// others meanwhile.
fn lock_and_flush(name: &str, make: MakeProtocol) -> Program {
    let mut setup = Setup::new(name, 2, 1, make);
    let table = setup.program.table();
    let cell = setup
        .program
        .atomic_of_kind(ValueKind::Lock, "page-table lock", 0);
    for (cpu, own, others, taken) in [
        (CPU_0, PAGE, NEXT_PAGE, PageTableLock::InterruptsOn),
        (CPU_1, NEXT_PAGE, PAGE, PageTableLock::InterruptsOff),
    ] {
        let page = setup.mapped(USER, table, own);
        setup.switch(cpu, "switch to the space", USER);
        setup.touch(cpu, others);
        setup.operation(cpu, "unmap a page under the lock", move |hw, protocol| {
            let lock = Lock { cell, taken };
            locked(hw, protocol, Some(lock), || page.remove(hw, protocol));
        });
    }
    setup.program
}
