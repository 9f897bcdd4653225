//! Where page tables wait that are held back under `quarantine`: on each CPU, a list for each batch, outside the frames.
//!
//! What is held is counted here apart from the protocol, of each space and in all, and compared with the bounds as it grows.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lazytlb::{HeldBatch, Kernel, MmHandle, PhysAddr};
use spin::Mutex;
use x86_64::instructions::interrupts::without_interrupts;

use crate::cpu::{self, MAX_CPUS};
use crate::limits::{HELD_IN_ALL, HELD_OF_A_SPACE, MAX_SPACES, SLOTS};
use crate::machine::{hw, tlb};
use crate::{ending, options};

/// Room for a batch: more than the bound of a space, so that one who ignores it is noticed by the bound, not by the room.
pub const ROOM: usize = 4 * HELD_OF_A_SPACE as usize;

struct Batch {
    mm: MmHandle,
    tables: [u64; ROOM],
    len: usize,
}

static BATCHES: [[Mutex<Batch>; SLOTS]; MAX_CPUS] = [const {
    [const {
        Mutex::new(Batch {
            mm: MmHandle(0),
            tables: [0; ROOM],
            len: 0,
        })
    }; SLOTS]
}; MAX_CPUS];

/// What is held now, and what was since the start of a storm.
struct Totals {
    of_space: [AtomicU64; MAX_SPACES],
    in_all: AtomicU64,
    held: AtomicU64,
    came_back: AtomicU64,
    most_of_a_space: AtomicU64,
    most_in_all: AtomicU64,
    spared: AtomicU64,
    fallbacks: AtomicU64,
}

static TOTALS: Totals = Totals {
    of_space: [const { AtomicU64::new(0) }; MAX_SPACES],
    in_all: AtomicU64::new(0),
    held: AtomicU64::new(0),
    came_back: AtomicU64::new(0),
    most_of_a_space: AtomicU64::new(0),
    most_in_all: AtomicU64::new(0),
    spared: AtomicU64::new(0),
    fallbacks: AtomicU64::new(0),
};

/// Whether changes come one at a time, so that it is exact whom a flush interrupts, and why.
static IS_EXACT: AtomicBool = AtomicBool::new(false);

fn batch_of(batch: HeldBatch) -> &'static Mutex<Batch> {
    &BATCHES[cpu::current()][batch.number()]
}

/// Puts a table of a space into a batch of this CPU.
pub fn put(mm: MmHandle, batch: HeldBatch, table: PhysAddr) {
    without_interrupts(|| {
        let mut list = batch_of(batch).lock();
        list.mm = mm;
        let len = list.len;
        list.tables[len] = table.0;
        list.len += 1;
    });
    TOTALS.held.fetch_add(1, Ordering::SeqCst);
    let counts = [
        (
            &TOTALS.of_space[mm.0 as usize],
            &TOTALS.most_of_a_space,
            HELD_OF_A_SPACE,
            "its space",
        ),
        (
            &TOTALS.in_all,
            &TOTALS.most_in_all,
            HELD_IN_ALL,
            "all spaces",
        ),
    ];
    for (count, most, bound, of) in counts {
        let held = count.fetch_add(1, Ordering::SeqCst) + 1;
        most.fetch_max(held, Ordering::SeqCst);
        if held > bound {
            ending::violation(format_args!(
                "CPU {} holds the page table {:#x} back: {held} of {of} are held, more than {bound}",
                cpu::current(),
                table.0
            ));
        }
    }
}

/// Takes a table out of a batch of this CPU.
pub fn take(batch: HeldBatch) -> Option<PhysAddr> {
    let (mm, table) = without_interrupts(|| {
        let mut list = batch_of(batch).lock();
        list.len = list.len.checked_sub(1)?;
        Some((list.mm, PhysAddr(list.tables[list.len])))
    })?;
    TOTALS.of_space[mm.0 as usize].fetch_sub(1, Ordering::SeqCst);
    TOTALS.in_all.fetch_sub(1, Ordering::SeqCst);
    TOTALS.came_back.fetch_add(1, Ordering::SeqCst);
    Some(table)
}

/// What is held before a flush: with changes one at a time, it only gets less until that one holds more.
pub struct Before {
    root: PhysAddr,
    of_the_space: u64,
    in_all: u64,
    /// Whether this CPU has no batch for the space: each is of another one.
    no_batch: bool,
}

impl Before {
    /// Looks at it.
    pub fn now(mm: MmHandle) -> Before {
        let held = |mm| tlb().kernel().mm(mm).held_tables(hw());
        let is_taken = |batch: &Mutex<Batch>| {
            let (len, of) = without_interrupts(|| {
                let batch = batch.lock();
                (batch.len, batch.mm)
            });
            len > 0 && of != mm
        };
        Before {
            root: tlb().kernel().mm(mm).root(),
            of_the_space: held(mm),
            in_all: held(MmHandle(0)),
            no_batch: BATCHES[cpu::current()].iter().all(is_taken),
        }
    }

    fn can_hold(&self, tables: u64) -> bool {
        !self.no_batch
            && self.of_the_space + tables <= HELD_OF_A_SPACE
            && self.in_all + tables <= HELD_IN_ALL
    }
}

/// Takes note of a flush that freed so many tables beside lazy CPUs: none may be interrupted, unless the tables could not be held.
pub fn flushed(before: &Before, tables: u64, spared: u64, interrupted: u64) {
    if tables == 0 || !IS_EXACT.load(Ordering::Relaxed) {
        return;
    }
    TOTALS.spared.fetch_add(spared, Ordering::Relaxed);
    if interrupted == 0 {
        return;
    }
    if before.can_hold(tables) {
        ending::violation(format_args!(
            "CPU {} interrupted {interrupted} lazy CPUs for {tables} page tables of the space with root {:#x}, though of that {} \
             were held, and {} in all",
            cpu::current(),
            before.root.0,
            before.of_the_space,
            before.in_all
        ));
    }
    TOTALS.fallbacks.fetch_add(1, Ordering::Relaxed);
}

/// Begins to count anew, for a storm in which changes come one at a time, or not.
pub fn begin(is_exact: bool) {
    IS_EXACT.store(
        is_exact && options::get().policy == lazytlb::Policy::Quarantine,
        Ordering::Relaxed,
    );
    let Totals {
        held,
        came_back,
        most_of_a_space,
        most_in_all,
        spared,
        fallbacks,
        ..
    } = &TOTALS;
    for count in [
        held,
        came_back,
        most_of_a_space,
        most_in_all,
        spared,
        fallbacks,
    ] {
        count.store(0, Ordering::SeqCst);
    }
}

/// What was held in a storm.
#[derive(Clone, Copy)]
pub struct Held {
    pub held: u64,
    pub came_back: u64,
    pub most_of_a_space: u64,
    pub most_in_all: u64,
    /// Lazy CPUs that flushes which freed tables spared; counted where changes come one at a time, as the next.
    pub spared: u64,
    /// Flushes that interrupted lazy CPUs because nothing more could be held.
    pub fallbacks: u64,
}

impl Held {
    /// Reads the counters.
    pub fn now() -> Held {
        let get = |count: &AtomicU64| count.load(Ordering::SeqCst);
        Held {
            held: get(&TOTALS.held),
            came_back: get(&TOTALS.came_back),
            most_of_a_space: get(&TOTALS.most_of_a_space),
            most_in_all: get(&TOTALS.most_in_all),
            spared: get(&TOTALS.spared),
            fallbacks: get(&TOTALS.fallbacks),
        }
    }

    /// Returns them with their names, in the order in which they are printed.
    pub fn rows(self) -> [(&'static str, u64); 6] {
        [
            ("tables_held", self.held),
            ("tables_came_back", self.came_back),
            ("most_held_of_a_space", self.most_of_a_space),
            ("most_held_in_all", self.most_in_all),
            ("lazy_spared_by_frees", self.spared),
            ("hold_fallbacks", self.fallbacks),
        ]
    }
}
