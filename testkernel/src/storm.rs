//! Storms: every CPU runs tasks, works and idles by chance, while spaces change under them.

use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{Hw, Pcids, Policy};

use crate::console::println;
use crate::figures::Figures;
use crate::machine::hw;
use crate::options::{self, Test};
use crate::page_id::Region;
use crate::sched::{Random, Scheduler};
use crate::shared::{Few, Shared};
use crate::space::{SPACES, Space};
use crate::{clock, ending, frames};

/// Waits until every CPU has come here. Interrupts stay enabled: others may still flush.
pub fn barrier() {
    static ARRIVED: AtomicU64 = AtomicU64::new(0);
    let cpus = options::get().cpus as u64;
    let ticket = ARRIVED.fetch_add(1, Ordering::SeqCst);
    let everyone = (ticket / cpus + 1) * cpus;
    while ARRIVED.load(Ordering::SeqCst) < everyone {
        core::hint::spin_loop();
    }
}

/// What changes in a storm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storm {
    /// Pages.
    Pages,
    /// Pages, and page tables that come and go.
    Tables,
    /// The same, and spaces that end and are made anew.
    Exit,
}

impl Few for Storm {
    const ALL: &'static [Storm] = &[Storm::Pages, Storm::Tables, Storm::Exit];
}

impl Storm {
    /// Returns the test that asks for it.
    pub fn test(self) -> Test {
        match self {
            Storm::Pages => Test::Pages,
            Storm::Tables => Test::Tables,
            Storm::Exit => Test::Exit,
        }
    }
}

/// Which storm blows.
static STORM: Shared<Storm> = Shared::first();
/// When it ends, in microseconds.
static END: AtomicU64 = AtomicU64::new(0);
/// Pages that ring 3 has read in it.
static READS: AtomicU64 = AtomicU64::new(0);

/// Changes a space by chance, as the storm allows.
fn change(space: &Space, random: &mut Random) {
    let chance = random.next();
    let tables = match STORM.load() {
        Storm::Pages => false,
        Storm::Tables | Storm::Exit => true,
    };
    if tables && chance >> 32 & 15 == 0 {
        space.tear_down(Region::by_chance(chance >> 40));
    } else {
        space.change_page(chance);
    }
}

/// A piece of kernel work: a change of some space, from outside.
fn work(random: &mut Random) {
    let chance = random.next();
    let space = &SPACES[chance as usize % SPACES.len()];
    if STORM.load() == Storm::Exit && chance >> 32 & 15 == 0 {
        if space.end() {
            space.create();
        }
    } else if space.pin() {
        change(space, random);
        space.unpin();
    }
}

/// Runs a storm; every CPU calls it.
pub fn run(cpu: usize, storm: Storm) {
    let options = options::get();
    barrier();
    let frames_before = frames::free_count();
    let before = Figures::now();
    if cpu == 0 {
        STORM.store(storm);
        READS.store(0, Ordering::Relaxed);
        SPACES.iter().for_each(Space::create);
        let end = clock::microseconds() + options.seconds * 1_000_000;
        END.store(end, Ordering::Relaxed);
    }
    barrier();
    let seed = options
        .seed
        .wrapping_mul(1000)
        .wrapping_add((storm.test() as u64) << 8 | cpu as u64);
    let mut scheduler = Scheduler::new(cpu, Random(seed));
    while clock::microseconds() < END.load(Ordering::Relaxed) {
        scheduler.step(change, work);
    }
    READS.fetch_add(scheduler.leave(), Ordering::Relaxed);
    barrier();
    if cpu == 0 {
        for space in &SPACES {
            space.end();
        }
        let figures = Figures::now().since(before);
        report(storm, figures);
        check_promises(storm, figures, frames_before);
    }
    barrier();
}

/// Prints the storm's figures.
fn report(storm: Storm, figures: Figures) {
    let (options, name) = (options::get(), storm.test().name());
    for (figure, value) in figures.rows() {
        println!("figure {name}.{figure}={value}");
    }
    let reads = READS.load(Ordering::Relaxed);
    let most_held = frames::MOST_HELD.load(Ordering::Relaxed);
    println!("figure {name}.reads={reads}");
    println!("figure {name}.most_held_frames={most_held}");
    println!(
        "storm {name}: {} changes and {reads} reads in {} s: {} changes/s under {}",
        figures.changes,
        options.seconds,
        figures.changes / options.seconds.max(1),
        options.policy
    );
}

/// Compares the storm's figures with what the protocol promises, unless a promise is broken on purpose.
fn check_promises(storm: Storm, figures: Figures, frames_before: usize) {
    let options = options::get();
    if options.broken.is_some() {
        return;
    }
    let promise = |holds: bool, what: &str| {
        if !holds {
            let name = storm.test().name();
            ending::violation(format_args!("storm {name}: broken promise: {what}"));
        }
    };
    promise(
        figures.ipis == figures.interrupted,
        "one IPI for each target, none else",
    );
    promise(
        figures.interrupted == figures.requests,
        "each request is served once",
    );
    promise(
        frames::HELD.load(Ordering::SeqCst) == 0,
        "no frame is held back at the end",
    );
    promise(
        frames::free_count() == frames_before,
        "every frame comes back",
    );
    if hw().pcids_are_on() {
        promise(
            figures.kept > 0 && figures.loaded_behind > 0 && figures.recycled_pcids > 0,
            "PCIDs are kept, behind and recycled, or this storm shows nothing of them",
        );
    }
    match options.policy {
        Policy::InitMm => {
            promise(
                figures.stayed_lazy == 0,
                "under init-mm nobody is lazy in a user space",
            );
            promise(
                figures.left_for_init_mm == 0,
                "under init-mm no interrupt finds a lazy CPU",
            );
            promise(
                figures.lazy_skipped == 0,
                "under init-mm there is nobody to skip",
            );
        }
        // A CPU that comes back between the raised generation and its interrupt is behind, rightly.
        Policy::Ipi => {
            promise(
                figures.lazy_skipped == 0,
                "under ipi no lazy CPU is skipped",
            );
        }
        Policy::DeferUnlessQuirk if hw().quirks().garbage_walk_is_fatal() => {
            promise(
                figures.lazy_skipped == 0,
                "with a quirk found, no lazy CPU is skipped",
            );
        }
        Policy::Defer(_) | Policy::DeferUnlessQuirk | Policy::IpiOnTableFree => {
            promise(
                options.cpus == 1 || figures.lazy_skipped > 0,
                "some lazy CPU is skipped, or this storm shows nothing",
            );
        }
    }
}
