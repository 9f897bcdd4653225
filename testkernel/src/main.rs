//! A small SMP kernel that embeds `lazytlb`, written to be read as the example of an integration, and to
//! judge it: ring-3 readers on every CPU check that no page shows an older version than the one
//! that was left when the last flush returned.
//!
//! | file | what | a port of yours |
//! | --- | --- | --- |
//! | [`machine`], [`limits`] | the seam: `X86` with this kernel's `Board`, storage for `Mm` and `PerCpu` | needs one |
//! | [`trap`] | the flush interrupt's handler, ticks | calls `handle_flush_ipi` |
//! | [`sched`], [`user`], [`slice`] | who runs next; tasks in ring 3; going lazy | calls `switch_mm`, `enter_lazy` |
//! | [`space`] | address spaces: made, kept alive, ended | calls `gather` |
//! | [`retirement`] | when the last reference to a space is dropped, wherever that is | calls `retire` |
//! | [`ends`] | references that are dropped anywhere; the idle loop's part | calls `reap` |
//! | [`changes`], [`freeing`] | map, unmap, protect, remap, tear down; where frames go | calls `flush`, `gather` |
//! | [`holding`] | where page tables wait that are held back | calls `release_held`, from a tick |
//! | [`split`] | pages of two spaces in one shootdown; a lock that is taken with interrupts off | calls `add`, `send`, `wait`, `serve_inbox` |
//! | [`sizes`], [`types`] | pages that change their size or their type while others use them | calls `change_size`, `change_type` |
//! | [`software_walks`] | page tables that are walked without a lock | calls `walk` |
//! | [`isolation`] | a root for ring 3: what it maps of the kernel, and what the assembly loads | calls `kernel_half`, `user_half` |
//! | [`paging`], [`frames`], [`large_frames`] | four-level tables; frames of two sizes, poisoned while free | has its own |
//! | [`boot`] | how CPUs start | calls `admits`, `cpu_online` |
//! | [`cpu`], [`clock`], [`console`], [`options`], [`mem`] | what any kernel has | has its own |
//! | [`storm`], [`figures`], [`counters`], [`instructions`], [`visible`] | the tests | |
//! | [`page_id`], [`evidence`] | which page; what its first word says, and reports of a wrong one | |
//! | [`breaks`], [`breaking`], [`inbox`] | the promises that `break=` breaks, and how; which words are inboxes | |
//! | [`walkers`] | which lazy CPUs may walk an unhooked table: books that no emulator keeps | |
//! | [`tags`], [`user_tags`] | whether a CR3 load may keep what it keeps: books that no emulator keeps; with isolation, for user halves | |
//! | [`shared`], [`progress`], [`patience`], [`ending`] | shared enums; the sign of life; waits that last too long; how a run ends | |
//!
//! It is no model of a good kernel: tasks are pinned to CPUs, kernel work runs to its end, CPUs are
//! assumed to have the APIC ids 0, 1, 2 and so on, and memory to be 256 MiB.
#![no_std]
#![no_main]

mod boot;
mod breaking;
mod breaks;
mod changes;
mod clock;
mod console;
mod counters;
mod cpu;
mod ending;
mod ends;
mod evidence;
mod figures;
mod frames;
mod freeing;
mod holding;
mod inbox;
mod instructions;
mod isolation;
mod large_frames;
mod limits;
mod machine;
mod mem;
mod options;
mod page_id;
mod paging;
mod patience;
mod progress;
mod retirement;
mod sched;
mod shared;
mod sizes;
mod slice;
mod software_walks;
mod space;
mod split;
mod storm;
mod tags;
mod trap;
mod types;
mod user;
mod user_tags;
mod visible;
mod walkers;

use lazytlb::Policy;

use crate::console::println;
use crate::ending::Ending;
use crate::options::Test;
use crate::shared::Few;
use crate::storm::Storm;

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
    if chosen(Test::Isolation) {
        if cpu == 0 {
            visible::run();
        }
        storm::barrier();
    }
    for &storm in Storm::ALL {
        // Elsewhere nothing is held, unless it is asked for.
        let shows = storm != Storm::Held || options.policy == Policy::Quarantine;
        if options.test == storm.test() || (shows && chosen(storm.test())) {
            storm::run(cpu, storm);
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
        println!("progress: {} changes and reads", progress::so_far());
        ending::end(Ending::Passed);
    }
    loop {
        sched::rest();
    }
}
