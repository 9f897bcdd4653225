//! Storms: every CPU runs tasks, works and idles by chance, while spaces change under them.

use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{Fetched, Hw, Pcids, Policy};
use spin::Mutex;

use crate::console::println;
use crate::figures::Figures;
use crate::holding::Held;
use crate::limits::{HELD_IN_ALL, HELD_OF_A_SPACE};
use crate::machine::hw;
use crate::options::{self, Test};
use crate::page_id::{Place, Region};
use crate::sched::{Random, Scheduler};
use crate::shared::{Few, Shared};
use crate::sizes::Changed;
use crate::space::{SPACES, Space};
use crate::{clock, ending, ends, frames, holding, large_frames, software_walks, split, types};

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
    /// Pages of two spaces at once, by shootdowns in steps.
    Split,
    /// Pages, and spaces that end wherever the last reference to them is dropped, with all that they map.
    Drop,
    /// Page tables that come and go, one change at a time: so it is exact whom a flush interrupts, and what is held.
    Held,
    /// Pages, their size and their type.
    Changes,
    /// Pages and page tables, which software walks meanwhile.
    Walks,
}

impl Few for Storm {
    const ALL: &'static [Storm] = &[
        Storm::Pages,
        Storm::Tables,
        Storm::Exit,
        Storm::Split,
        Storm::Drop,
        Storm::Held,
        Storm::Changes,
        Storm::Walks,
    ];
}

impl Storm {
    /// Says whether CPUs send interrupts that they do not wait for: as spaces end, or for shootdowns that are forgotten.
    fn leaves_open(self) -> bool {
        matches!(self, Storm::Exit | Storm::Split | Storm::Drop)
    }

    /// Returns the test that asks for it.
    pub fn test(self) -> Test {
        match self {
            Storm::Pages => Test::Pages,
            Storm::Tables => Test::Tables,
            Storm::Exit => Test::Exit,
            Storm::Split => Test::Split,
            Storm::Drop => Test::Drop,
            Storm::Held => Test::Held,
            Storm::Changes => Test::Changes,
            Storm::Walks => Test::Walks,
        }
    }
}

/// Which storm blows.
static STORM: Shared<Storm> = Shared::first();
/// When it ends, in microseconds.
static END: AtomicU64 = AtomicU64::new(0);
/// Pages that ring 3 has read in it.
static READS: AtomicU64 = AtomicU64::new(0);

/// A storm lasts so much longer at most if something has not occurred yet: the host may have been busy elsewhere.
const MORE_MICROSECONDS: u64 = 10_000_000;

/// Walks by software for each piece of work that walks.
const WALKS_AT_A_TIME: usize = 32;

/// Who changes a space in the storm in which changes come one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Changes a space by chance, as the storm allows.
fn change(space: &Space, random: &mut Random) {
    let chance = random.next();
    let tables = match STORM.load() {
        Storm::Pages | Storm::Drop => false,
        Storm::Tables | Storm::Exit => true,
        // Tables go often: a walk is short.
        Storm::Walks if chance >> 32 & 3 == 0 => {
            return space.tear_down(Region::by_chance(chance >> 40));
        }
        Storm::Walks => false,
        Storm::Split => return split::change(space, random),
        Storm::Held => {
            let _alone = ONE_AT_A_TIME.lock();
            match chance >> 32 & 1 {
                0 => space.tear_down(Region::by_chance(chance >> 40)),
                _ => space.change_page(chance),
            }
            return;
        }
        Storm::Changes => {
            return match chance >> 32 & 7 {
                0 => space.change_size(Region::by_chance(chance >> 40)),
                1..=3 => space.change_type(Place::by_chance(chance >> 40)),
                _ => space.change_page(chance),
            };
        }
    };
    if tables && chance >> 32 & 15 == 0 {
        space.tear_down(Region::by_chance(chance >> 40));
    } else if chance >> 36 & 15 == 0 {
        space.unmap_neighbours(chance >> 40);
    } else {
        space.change_page(chance);
    }
}

/// A piece of kernel work: a change of some space, from outside.
fn work(random: &mut Random) {
    let chance = random.next();
    let space = &SPACES[chance as usize % SPACES.len()];
    let storm = STORM.load();
    let ends = match storm {
        Storm::Pages
        | Storm::Tables
        | Storm::Split
        | Storm::Held
        | Storm::Changes
        | Storm::Walks => false,
        Storm::Exit => chance >> 32 & 15 == 0,
        Storm::Drop => chance >> 32 & 3 == 0,
    };
    if ends && storm == Storm::Exit {
        space.end();
        ends::reap();
    } else if ends && space.doom() {
        ends::drop_somewhere(space, chance >> 40);
    }
    if matches!(storm, Storm::Exit | Storm::Drop) {
        space.create();
    }
    if space.pin() {
        match storm == Storm::Walks && chance >> 48 & 1 == 0 {
            true => (0..WALKS_AT_A_TIME).for_each(|_| {
                software_walks::walk(space, Place::by_chance(random.next()));
            }),
            false => change(space, random),
        }
        space.unpin();
    }
}

/// Runs a storm; every CPU calls it.
pub fn run(cpu: usize, storm: Storm) {
    let options = options::get();
    barrier();
    let frames_before = (frames::free_count(), large_frames::free_count());
    let before = Figures::now();
    if cpu == 0 {
        STORM.store(storm);
        READS.store(0, Ordering::Relaxed);
        holding::begin(storm == Storm::Held);
        SPACES.iter().for_each(Space::create);
        let end = clock::microseconds() + options.seconds * 1_000_000;
        END.store(end, Ordering::Relaxed);
    }
    barrier();
    let seed = options
        .seed
        .wrapping_mul(1000)
        .wrapping_add((storm.test() as u64) << 8 | cpu as u64);
    let unpin = match storm {
        Storm::Drop => {
            |space: &Space, random: &mut Random| ends::drop_somewhere(space, random.next())
        }
        _ => |space: &Space, _: &mut Random| space.unpin(),
    };
    let mut scheduler = Scheduler::new(cpu, Random(seed), unpin);
    let end = END.load(Ordering::Relaxed);
    let lasts = |now| {
        now < end
            || (now < end + MORE_MICROSECONDS
                && missing(storm, Figures::now().since(before)).is_some())
    };
    while lasts(clock::microseconds()) {
        scheduler.step(change, work);
    }
    READS.fetch_add(scheduler.leave(), Ordering::Relaxed);
    ends::reap_all();
    barrier();
    if cpu == 0 {
        SPACES.iter().for_each(ends::end_now);
        let figures = settled(before);
        report(storm, figures);
        check_promises(storm, figures, frames_before);
    }
    barrier();
}

/// Returns the figures since another moment, once every interrupt is answered that somebody sent and did not wait for.
fn settled(before: Figures) -> Figures {
    let patience = clock::microseconds() + 100_000;
    loop {
        let figures = Figures::now().since(before);
        let open = figures.ipis != figures.answered + figures.joined_ipis;
        if !open || clock::microseconds() > patience {
            return figures;
        }
        core::hint::spin_loop();
    }
}

/// Prints the storm's figures.
fn report(storm: Storm, figures: Figures) {
    let (options, name) = (options::get(), storm.test().name());
    for (figure, value) in figures.rows() {
        println!("figure {name}.{figure}={value}");
    }
    if storm == Storm::Changes {
        for (figure, value) in figures.changed.rows() {
            println!("figure {name}.{figure}={value}");
        }
        let retyped = types::CHANGED.load(Ordering::Relaxed);
        println!("figure {name}.retyped={retyped}");
    }
    if storm == Storm::Walks {
        let walks = software_walks::CAME_TO_A_PAGE.load(Ordering::Relaxed);
        println!("figure {name}.walks={walks}");
    }
    let reads = READS.load(Ordering::Relaxed);
    let most_held = frames::MOST_HELD.load(Ordering::Relaxed);
    if options.policy == Policy::Quarantine {
        for (figure, value) in Held::now().rows() {
            println!("figure {name}.{figure}={value}");
        }
    }
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

/// Names something that must have occurred, or the storm shows nothing.
fn missing(storm: Storm, figures: Figures) -> Option<&'static str> {
    let options = options::get();
    let alone = options.cpus == 1;
    let skips = match options.policy {
        Policy::InitMm | Policy::Ipi => false,
        Policy::DeferUnlessQuirk => !hw().quirks().garbage_walk_is_fatal(),
        _ => true,
    };
    let isolated_with_pcids = options.isolation && hw().pcids_are_on();
    let in_handlers = figures.retired_in_handlers;
    let (held, holds) = (Held::now(), options.policy == Policy::Quarantine && !alone);
    let occurred = [
        (
            "PCIDs are kept, behind and recycled",
            !hw().pcids_are_on()
                || (figures.kept > 0 && figures.loaded_behind > 0 && figures.recycled_pcids > 0),
        ),
        (
            "ring 3 runs under its own half",
            !options.isolation || figures.user_halves_flushed > 0,
        ),
        (
            "user halves are kept, and flushed as something is due, and lose pages one by one",
            !isolated_with_pcids
                || (figures.user_halves_kept > 0
                    && figures.user_halves_due > 0
                    && figures.invpcids > 0),
        ),
        (
            "some lazy CPU is skipped",
            alone || !skips || figures.lazy_skipped > 0,
        ),
        (
            "CPUs answer as they wait, and are told twice",
            storm != Storm::Split
                || alone
                || (figures.answered > figures.answered_by_handler && figures.joined_ipis > 0),
        ),
        (
            "spaces are retired in handlers, and elsewhere with interrupts off",
            storm != Storm::Drop
                || (in_handlers > 0 && figures.retired_with_interrupts_off > in_handlers),
        ),
        (
            "page tables are held back, and come back",
            !holds
                || !matches!(storm, Storm::Tables | Storm::Held)
                || (held.held > 0 && held.came_back > 0),
        ),
        (
            "lazy CPUs are spared by flushes that free page tables, until too many are held",
            !holds || storm != Storm::Held || (held.spared > 0 && held.fallbacks > 0),
        ),
        (
            // Under init-mm whoever runs no task of a space has left it.
            "spaces are retired where they are loaded, and some are reaped late",
            storm != Storm::Drop
                || alone
                || options.policy == Policy::InitMm
                || (figures.retired_while_loaded > 0 && figures.reaped_late > 0),
        ),
    ];
    let missing = occurred.iter().find(|(_, occurred)| !occurred);
    missing
        .map(|(what, _)| *what)
        .or_else(|| missing_of_changes(storm, figures.changed))
}

/// As [`missing`], of pages that change their size and their type, and of walks by software.
fn missing_of_changes(storm: Storm, changed: Changed) -> Option<&'static str> {
    if storm == Storm::Walks && software_walks::CAME_TO_A_PAGE.load(Ordering::Relaxed) == 0 {
        return Some("software walks to a page");
    }
    if storm != Storm::Changes {
        return None;
    }
    let breaks_first = hw().quirks().forbid_two_sizes(Fetched::Perhaps);
    if changed.to_large == 0 || changed.to_small == 0 || types::CHANGED.load(Ordering::SeqCst) == 0
    {
        return Some("pages become large, and small again, and change their type");
    }
    if (changed.broken_first > 0) != breaks_first {
        return Some("the old size is broken first where a quirk forbids two, and only there");
    }
    None
}

/// Compares the storm's figures with what the protocol promises, unless a promise is broken on purpose.
fn check_promises(storm: Storm, figures: Figures, frames_before: (usize, usize)) {
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
    let joined = figures.joined_ipis;
    promise(
        figures.ipis >= figures.interrupted
            && (figures.ipis <= figures.interrupted + joined || storm == Storm::Split),
        "one IPI for each target, and another only where an earlier one had no answer yet",
    );
    promise(
        figures.ipis == figures.answered + joined,
        "each IPI is answered once, but for those that join an earlier one",
    );
    promise(
        joined == 0 || storm.leaves_open(),
        "no IPI joins an earlier one while every CPU waits for its answers",
    );
    promise(
        frames::HELD.load(Ordering::SeqCst) == 0,
        "no frame is held back at the end",
    );
    promise(
        (frames::free_count(), large_frames::free_count()) == frames_before,
        "every frame comes back",
    );
    if let Some(missing) = missing(storm, figures) {
        ending::violation(format_args!(
            "storm {} shows nothing: it has not occurred that {missing}",
            storm.test().name()
        ));
    }
    check_policy(options.policy, figures, promise);
}

/// Compares the storm's figures with what the policy promises.
fn check_policy(policy: Policy, figures: Figures, promise: impl Fn(bool, &str)) {
    match policy {
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
        Policy::Defer(_) | Policy::DeferUnlessQuirk | Policy::IpiOnTableFree => {}
        // Whom a flush interrupts, and each table that is held, was compared with the bounds at once.
        Policy::Quarantine => {
            let held = Held::now();
            promise(
                held.most_of_a_space <= HELD_OF_A_SPACE && held.most_in_all <= HELD_IN_ALL,
                "no more page tables are held than the bounds allow",
            );
            promise(
                held.held == held.came_back,
                "every page table that was held comes back",
            );
        }
        unknown => panic!("nobody has said what a storm shows under {unknown}"),
    }
}
