//! Storms: every CPU runs tasks, works and idles by chance, while spaces change under them.

use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{Hw, Policy};

use crate::console::println;
use crate::machine::{EFFECTS, hw};
use crate::options::{self, Test};
use crate::sched::{Random, SWITCHES, Scheduler};
use crate::space::{SPACES, Space, TOTALS};
use crate::trap::HANDLED;
use crate::{clock, frames, outcome};

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

/// Which storm blows.
static KIND: AtomicU64 = AtomicU64::new(0);
/// When it ends, in microseconds.
static END: AtomicU64 = AtomicU64::new(0);
/// Pages that ring 3 has read in it.
static READS: AtomicU64 = AtomicU64::new(0);

/// Changes a space by chance, as the storm's kind allows.
pub fn change(space: &Space, random: &mut Random) {
    let chance = random.next();
    let tables = KIND.load(Ordering::Relaxed) != Test::Pages as u64;
    if tables && chance >> 32 & 15 == 0 {
        space.tear_down((chance >> 40) as usize & 3);
    } else {
        space.change_page(chance);
    }
}

/// A piece of kernel work: a change of some space, from outside.
fn work(random: &mut Random) {
    let chance = random.next();
    let space = &SPACES[chance as usize % SPACES.len()];
    if KIND.load(Ordering::Relaxed) == Test::Exit as u64 && chance >> 32 & 15 == 0 {
        if space.end() {
            space.create();
        }
    } else if space.pin() {
        change(space, random);
        space.unpin();
    }
}

/// Runs a storm; every CPU calls it.
pub fn run(cpu: usize, kind: Test) {
    let options = options::get();
    barrier();
    let frames_before = frames::free_count();
    let before = Sums::now();
    if cpu == 0 {
        KIND.store(kind as u64, Ordering::Relaxed);
        READS.store(0, Ordering::Relaxed);
        SPACES.iter().for_each(Space::create);
        let end = clock::microseconds() + options.seconds * 1_000_000;
        END.store(end, Ordering::Relaxed);
    }
    barrier();
    let seed = options
        .seed
        .wrapping_mul(1000)
        .wrapping_add((kind as u64) << 8 | cpu as u64);
    let mut scheduler = Scheduler::new(cpu, Random(seed));
    while clock::microseconds() < END.load(Ordering::Relaxed) {
        scheduler.step(work);
    }
    READS.fetch_add(scheduler.leave(), Ordering::Relaxed);
    barrier();
    if cpu == 0 {
        for space in &SPACES {
            space.end();
        }
        report(kind, &before, frames_before);
    }
    barrier();
}

/// The counters, at one moment.
struct Sums([u64; Sums::NAMES.len()]);

impl Sums {
    const NAMES: [&'static str; 14] = [
        "changes",
        "flushes",
        "ipis",
        "interrupted",
        "requests",
        "left_for_init_mm",
        "lazy_skipped",
        "tables_freed",
        "spaces_ended",
        "cr3_loads",
        "invlpgs",
        "resumed_up_to_date",
        "resumed_behind",
        "stayed_lazy",
    ];

    fn now() -> Self {
        let sources = [
            &TOTALS.changes,
            &TOTALS.flushes,
            &EFFECTS.ipis,
            &TOTALS.interrupted,
            &HANDLED.requests,
            &HANDLED.left_for_init_mm,
            &TOTALS.lazy_skipped,
            &TOTALS.tables_freed,
            &TOTALS.spaces_ended,
            &EFFECTS.cr3_loads,
            &EFFECTS.invlpgs,
            &SWITCHES.resumed_up_to_date,
            &SWITCHES.resumed_behind,
            &SWITCHES.stayed_lazy,
        ];
        Sums(sources.map(|counter| counter.load(Ordering::SeqCst)))
    }

    fn since(&self, before: &Sums) -> impl Fn(&str) -> u64 {
        let sums =
            core::array::from_fn::<u64, { Self::NAMES.len() }, _>(|n| self.0[n] - before.0[n]);
        move |name| {
            let place = Self::NAMES.iter().position(|other| *other == name);
            sums[place.expect("a counter of this name exists")]
        }
    }
}

/// Prints the storm's figures, and compares them with what the protocol promises.
fn report(kind: Test, before: &Sums, frames_before: usize) {
    let options = options::get();
    let now = Sums::now();
    let sum = now.since(before);
    for name in Sums::NAMES {
        println!("figure {}.{name}={}", kind.name(), sum(name));
    }
    let reads = READS.load(Ordering::Relaxed);
    println!("figure {}.reads={reads}", kind.name());
    println!(
        "figure {}.most_held_frames={}",
        kind.name(),
        frames::MOST_HELD.load(Ordering::Relaxed)
    );
    println!(
        "storm {}: {} changes and {reads} reads in {} s: {} changes/s under {}",
        kind.name(),
        sum("changes"),
        options.seconds,
        sum("changes") / options.seconds.max(1),
        options.policy
    );
    if options.broken.is_some() {
        return;
    }
    let promise = |holds: bool, what: &str| {
        if !holds {
            outcome::violation(format_args!(
                "storm {}: broken promise: {what}",
                kind.name()
            ));
        }
    };
    promise(
        sum("ipis") == sum("interrupted"),
        "one IPI for each target, none else",
    );
    promise(
        sum("interrupted") == sum("requests"),
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
    match options.policy {
        Policy::InitMm => {
            promise(
                sum("stayed_lazy") == 0,
                "under init-mm nobody is lazy in a user space",
            );
            promise(
                sum("left_for_init_mm") == 0,
                "under init-mm no interrupt finds a lazy CPU",
            );
            promise(
                sum("lazy_skipped") == 0,
                "under init-mm there is nobody to skip",
            );
        }
        // A CPU that comes back between the raised generation and its interrupt is behind, rightly.
        Policy::Ipi => {
            promise(sum("lazy_skipped") == 0, "under ipi no lazy CPU is skipped");
        }
        Policy::DeferUnlessQuirk if hw().quirks().garbage_walk_is_fatal() => {
            promise(
                sum("lazy_skipped") == 0,
                "with a quirk found, no lazy CPU is skipped",
            );
        }
        Policy::Defer(_) | Policy::DeferUnlessQuirk | Policy::IpiOnTableFree => {
            let skipped = options.cpus == 1 || sum("lazy_skipped") > 0;
            promise(
                skipped,
                "some lazy CPU is skipped, or this storm shows nothing",
            );
        }
    }
}
