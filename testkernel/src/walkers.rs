//! Which lazy CPUs may walk a page table that was unhooked: books that no emulator keeps, for none caches upper levels.
//!
//! A CPU that is lazy in a space may walk what it has cached of the way to any of its tables, until it loads CR3. So each such
//! stay has a number, which is struck out before the CPU loads CR3 or goes back to a task. A table that is unhooked takes
//! the numbers of all stays in its space with it; when its frame is freed, none of them may still stand. And a flush that
//! is about to interrupt a CPU looks at whether that one's stay began before the flush, and still stands. What these books say
//! is always right; while a CPU is on its way out of a stay, they may say nothing of it.

use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{MmHandle, PhysAddr};
use x86_64::instructions::interrupts::without_interrupts;

use crate::cpu::{self, MAX_CPUS};
use crate::limits::MAX_SPACES;
use crate::{ending, frames};

/// A set of stays: that of each CPU, or 0. A stay's number names its space, too.
type Stays = [AtomicU64; MAX_CPUS];

const fn none() -> Stays {
    [const { AtomicU64::new(0) }; MAX_CPUS]
}

/// The stays that stand, and the number of the next.
static STAYS: Stays = none();
static NEXT: AtomicU64 = AtomicU64::new(1);
/// For each frame that is a table, the stays that stood when it was unhooked.
static WHEN_UNHOOKED: [Stays; frames::COUNT] = [const { none() }; frames::COUNT];
/// For each CPU that flushes, those that stood in the space before; and how many of them it has interrupted.
static WHEN_BEGUN: [Stays; MAX_CPUS] = [const { none() }; MAX_CPUS];
static INTERRUPTED: Stays = none();

/// Begins a stay, if this CPU has just become lazy in a user space: `loaded` returns which one it has loaded.
pub fn became_lazy(loaded: impl FnOnce() -> MmHandle) {
    // A handler that makes it leave comes before, or ends the stay.
    without_interrupts(|| {
        let loaded = loaded();
        if loaded != MmHandle(0) {
            let number = NEXT.fetch_add(1, Ordering::SeqCst);
            let stay = number * MAX_SPACES as u64 + loaded.0;
            STAYS[cpu::current()].store(stay, Ordering::SeqCst);
        }
    });
}

/// Ends the stay of this CPU, before it loads CR3, or a task runs.
pub fn leaves() {
    STAYS[cpu::current()].store(0, Ordering::SeqCst);
}

fn note(into: &Stays, mm: MmHandle) {
    for (into, stay) in into.iter().zip(&STAYS) {
        let stay = stay.load(Ordering::SeqCst);
        let is_there = stay % MAX_SPACES as u64 == mm.0;
        into.store(if is_there { stay } else { 0 }, Ordering::SeqCst);
    }
}

/// Returns the CPUs whose stays still stand.
fn standing(stays: &Stays) -> impl Iterator<Item = usize> {
    let still = |cpu: &usize| {
        let stay = stays[*cpu].load(Ordering::SeqCst);
        stay != 0 && stay == STAYS[*cpu].load(Ordering::SeqCst)
    };
    (0..MAX_CPUS).filter(still)
}

/// Takes note that a table of a space was unhooked.
pub fn unhooked(mm: MmHandle, table: PhysAddr) {
    note(&WHEN_UNHOOKED[frames::index(table)], mm);
}

/// Looks at whether a lazy CPU may walk a table that is about to be freed.
pub fn about_to_free(table: PhysAddr) {
    if let Some(walker) = standing(&WHEN_UNHOOKED[frames::index(table)]).next() {
        ending::violation(format_args!(
            "CPU {} is about to free the page table {:#x}, which CPU {walker} may walk: it is lazy in the space since before that \
             was unhooked",
            cpu::current(),
            table.0
        ));
    }
}

/// A flush of a space begins on this CPU.
pub fn flush_begins(mm: MmHandle) {
    note(&WHEN_BEGUN[cpu::current()], mm);
    INTERRUPTED[cpu::current()].store(0, Ordering::SeqCst);
}

/// This CPU is about to interrupt another one.
pub fn interrupts(target: usize) {
    let me = cpu::current();
    if standing(&WHEN_BEGUN[me]).any(|cpu| cpu == target) {
        INTERRUPTED[me].fetch_add(1, Ordering::SeqCst);
    }
}

/// Ends the flush; returns how many CPUs it interrupted that were lazy in the space since before it began.
pub fn flush_ended() -> u64 {
    let me = cpu::current();
    WHEN_BEGUN[me]
        .iter()
        .for_each(|stay| stay.store(0, Ordering::SeqCst));
    INTERRUPTED[me].load(Ordering::SeqCst)
}
