//! A small SMP kernel that embeds `lazytlb`, written to be read as the example of an integration, and to
//! judge it: ring-3 readers on every CPU check that no page shows an older version than the one
//! that was left when the last flush returned.
//!
//! | file | what | a port of yours |
//! | --- | --- | --- |
//! | [`machine`] | the seam: `X86` with this kernel's `Board`, storage for `Mm` and `PerCpu` | needs one |
//! | [`trap`] | the flush interrupt's handler, page faults, ticks | calls `handle_flush_ipi` |
//! | [`sched`] | who runs next; going lazy | calls `switch_mm`, `enter_lazy` |
//! | [`space`] | address spaces: map, unmap, protect, remap, tear down, end | calls `flush`, `gather`, `retire` |
//! | [`paging`], [`frames`] | four-level tables; frames, poisoned while free | has its own |
//! | [`boot`], [`cpu`], [`clock`], [`console`], [`options`], [`mem`] | what any kernel has | has its own |
//! | [`storm`], [`counters`], [`instructions`] | the tests | |
//! | [`breaks`] | the promises that `break=` breaks | |
//! | [`outcome`] | how a run ends | |
//!
//! It is no model of a good kernel: tasks are pinned to CPUs, kernel work runs to its end, CPUs are
//! assumed to have the APIC ids 0, 1, 2 and so on, and memory to be 256 MiB.
#![no_std]
#![no_main]

mod boot;
mod breaks;
mod clock;
mod console;
mod counters;
mod cpu;
mod frames;
mod instructions;
mod machine;
mod mem;
mod options;
mod outcome;
mod paging;
mod sched;
mod space;
mod storm;
mod trap;

use core::sync::atomic::{AtomicU64, Ordering};

use crate::console::println;
use crate::options::Test;
use crate::outcome::Outcome;

/// Changes of address spaces and reads of pages, on all CPUs: the watchdog's sign of life.
pub static PROGRESS: AtomicU64 = AtomicU64::new(0);

/// Runs the chosen tests; every CPU comes here once it is set up.
fn run(cpu: usize) -> ! {
    let options = options::get();
    storm::barrier();
    let chosen = |test| options.test == test || options.test == Test::All;
    if options.test == Test::Sources && cpu == 0 {
        for file in lazytlb::sources::SOURCES {
            println!("source {} {}", file.name, file.hash);
        }
    }
    if chosen(Test::Instructions) {
        if cpu == 0 {
            instructions::run();
        }
        storm::barrier();
    }
    if chosen(Test::Counters) {
        counters::run(cpu);
        storm::barrier();
    }
    for test in [Test::Pages, Test::Tables, Test::Exit] {
        if chosen(test) {
            storm::run(cpu, test);
        }
    }
    match options.test {
        Test::Panic if cpu == 0 => panic!("a panic was asked for"),
        Test::TripleFault if cpu == 0 => cpu::triple_fault(),
        Test::Hang => loop {
            sched::rest();
        },
        _ => {}
    }
    storm::barrier();
    if cpu == 0 {
        println!(
            "progress: {} changes and reads",
            PROGRESS.load(Ordering::Relaxed)
        );
        outcome::end(Outcome::Passed);
    }
    loop {
        sched::rest();
    }
}
