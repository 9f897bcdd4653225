//! What each policy promises of one flush, one by one: whom it interrupts, whom it skips.
//!
//! CPU 1 is told what to be, and CPU 0 flushes; so there are no races, and the numbers are exact.

use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{FlushRange, Flushed, MmHandle, Policy, Switched, Tables, VirtAddr};

use crate::console::println;
use crate::machine::{EFFECTS, hw, tlb};
use crate::space::{PAGES, SPACES};
use crate::{options, outcome};

/// What CPU 1 is told.
const WAIT: u64 = 0;
const RUN: u64 = 1;
const GO_LAZY: u64 = 2;
const LEAVE: u64 = 3;

static ORDER: AtomicU64 = AtomicU64::new(WAIT);
/// How CPU 1's last switch came about: 1 up to date, 2 behind, 0 otherwise.
static RESUMED: AtomicU64 = AtomicU64::new(0);

fn tell(order: u64) {
    ORDER.store(order, Ordering::SeqCst);
    while ORDER.load(Ordering::SeqCst) != WAIT {
        core::hint::spin_loop();
    }
}

/// Does what CPU 0 says, until it says to leave.
fn obey() {
    loop {
        match ORDER.load(Ordering::SeqCst) {
            RUN => {
                let resumed = match tlb().switch_mm(hw(), SPACES[0].handle()) {
                    Switched::ResumedUpToDate => 1,
                    Switched::ResumedBehind => 2,
                    Switched::AlreadyRunning | Switched::Loaded => 0,
                };
                RESUMED.store(resumed, Ordering::SeqCst);
            }
            GO_LAZY => {
                tlb().enter_lazy(hw());
            }
            LEAVE => {
                tlb().enter_lazy(hw());
                tlb().switch_mm(hw(), MmHandle(0));
                ORDER.store(WAIT, Ordering::SeqCst);
                return;
            }
            _ => {
                core::hint::spin_loop();
                continue;
            }
        }
        ORDER.store(WAIT, Ordering::SeqCst);
    }
}

/// Runs the test; every CPU calls it.
pub fn run(cpu: usize) {
    if options::get().cpus < 2 || options::get().broken.is_some() {
        return;
    }
    match cpu {
        0 => expect(),
        1 => obey(),
        _ => {}
    }
}

/// A lazy CPU's lot: interrupted, skipped, or not lazy in a user space at all.
#[derive(Clone, Copy)]
enum Lot {
    Interrupted,
    Skipped,
    NotThere,
}

fn expect() {
    let policy = options::get().policy;
    let quirk = lazytlb::Hw::quirks(hw()).garbage_walk_is_fatal();
    let (kept, freed) = match policy {
        Policy::Defer(_) => (Lot::Skipped, Lot::Skipped),
        Policy::DeferUnlessQuirk if quirk => (Lot::Interrupted, Lot::Interrupted),
        Policy::DeferUnlessQuirk => (Lot::Skipped, Lot::Skipped),
        Policy::InitMm => (Lot::NotThere, Lot::NotThere),
        Policy::Ipi => (Lot::Interrupted, Lot::Interrupted),
        Policy::IpiOnTableFree => (Lot::Skipped, Lot::Interrupted),
    };
    SPACES[0].create();
    for (tables, lot) in [(Tables::Kept, kept), (Tables::Freed, freed)] {
        tell(RUN);
        check("a running CPU", tables, 1, 0);
        tell(GO_LAZY);
        let (interrupted, skipped) = match lot {
            Lot::Interrupted => (1, 0),
            Lot::Skipped => (0, 1),
            Lot::NotThere => (0, 0),
        };
        check("a lazy CPU", tables, interrupted, skipped);
        // A second flush: whoever was interrupted while lazy has left, and is spared.
        let again = if matches!(lot, Lot::Skipped) { 1 } else { 0 };
        check("a lazy CPU, again", tables, 0, again);
        tell(RUN);
        let behind = RESUMED.load(Ordering::SeqCst) == 2;
        if behind != matches!(lot, Lot::Skipped) {
            outcome::violation(format_args!(
                "CPU 1 came back and was behind: {behind}, {tables:?}"
            ));
        }
        // Nothing missed: nothing to catch up on.
        tell(GO_LAZY);
        tell(RUN);
        let up_to_date = RESUMED.load(Ordering::SeqCst) == 1;
        if up_to_date == matches!(lot, Lot::NotThere) {
            outcome::violation(format_args!(
                "CPU 1 came back up to date: {up_to_date}, {tables:?}"
            ));
        }
    }
    tell(LEAVE);
    check("nobody", Tables::Freed, 0, 0);
    SPACES[0].end();
    println!("counters: every flush interrupted and skipped whom {policy} promises");
}

/// Flushes, and compares the report and the IPIs with what was promised.
fn check(whom: &str, tables: Tables, interrupted: u32, lazy_skipped: u32) {
    let before = EFFECTS.ipis.load(Ordering::SeqCst);
    let range = FlushRange::page(VirtAddr(PAGES));
    let report = tlb().flush(hw(), SPACES[0].handle(), range, tables);
    let ipis = EFFECTS.ipis.load(Ordering::SeqCst) - before;
    crate::space::count(report);
    let Flushed {
        interrupted: found,
        lazy_skipped: skipped,
        ..
    } = report;
    if (found, skipped, ipis) != (interrupted, lazy_skipped, u64::from(interrupted)) {
        outcome::violation(format_args!(
            "a flush of {whom}, tables {tables:?}: interrupted {found} with {ipis} IPIs and skipped {skipped}; \
             promised {interrupted} and {lazy_skipped}"
        ));
    }
}
