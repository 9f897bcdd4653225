//! A tiny scheduler: on each CPU, by chance, a task of some space, kernel work, or nothing.
//!
//! This is where a kernel calls the protocol most: [`lazytlb::Tlb::switch_mm`] before a task runs, and
//! [`lazytlb::Tlb::enter_lazy`] before kernel work or idling, which leaves the user space loaded.

use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{EnteredLazy, Kernel, MmHandle, Switched};
use x86_64::instructions::interrupts;

use crate::machine::{hw, tlb};
use crate::page_id::SpaceIndex;
use crate::space::{SPACES, Space};
use crate::user::{self, UserContext};
use crate::{ends, progress, slice, tags, walkers};

/// A source of chance with a seed: splitmix64.
#[derive(Clone, Copy)]
pub struct Random(pub u64);

impl Random {
    /// Returns the next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// What the switches of a storm did.
pub struct Switches {
    pub loaded: AtomicU64,
    pub loaded_behind: AtomicU64,
    pub kept: AtomicU64,
    pub resumed_up_to_date: AtomicU64,
    pub resumed_behind: AtomicU64,
    pub stayed_lazy: AtomicU64,
    pub left: AtomicU64,
}

pub static SWITCHES: Switches = Switches {
    loaded: AtomicU64::new(0),
    loaded_behind: AtomicU64::new(0),
    kept: AtomicU64::new(0),
    resumed_up_to_date: AtomicU64::new(0),
    resumed_behind: AtomicU64::new(0),
    stayed_lazy: AtomicU64::new(0),
    left: AtomicU64::new(0),
};

/// Halts until the next interrupt.
pub fn rest() {
    interrupts::enable_and_hlt();
}

/// One CPU's scheduler.
pub struct Scheduler {
    random: Random,
    /// The space whose task ran last and is still pinned.
    current: Option<usize>,
    /// Drops a reference to a space.
    unpin: fn(&Space, &mut Random),
    contexts: [UserContext; SPACES.len()],
}

impl Scheduler {
    /// Makes the scheduler of the CPU `cpu`, with a task in every space.
    pub fn new(cpu: usize, mut random: Random, unpin: fn(&Space, &mut Random)) -> Self {
        Scheduler {
            contexts: core::array::from_fn(|space| {
                UserContext::new(cpu, SpaceIndex(space), random.next() | 1)
            }),
            random,
            current: None,
            unpin,
        }
    }

    /// Runs something for a while: a task, which may ask for a change of its space, kernel work, or nothing.
    pub fn step(&mut self, change: fn(&Space, &mut Random), work: fn(&mut Random)) {
        match self.random.next() % 8 {
            0..5 => self.run_task(change),
            5..7 => {
                self.go_lazy();
                work(&mut self.random);
            }
            _ => {
                self.go_lazy();
                ends::reap();
                rest();
            }
        }
    }

    fn run_task(&mut self, change: fn(&Space, &mut Random)) {
        let next = self.random.next() as usize % SPACES.len();
        if self.current != Some(next) && !SPACES[next].pin() {
            return;
        }
        walkers::leaves();
        let counter = match tlb().switch_mm(hw(), SPACES[next].handle()) {
            Switched::AlreadyRunning => None,
            Switched::ResumedUpToDate => Some(&SWITCHES.resumed_up_to_date),
            Switched::ResumedBehind => Some(&SWITCHES.resumed_behind),
            Switched::Loaded => Some(&SWITCHES.loaded),
            Switched::LoadedBehind => Some(&SWITCHES.loaded_behind),
            Switched::Kept => Some(&SWITCHES.kept),
            other => unreachable!("this kernel knows no {other:?}"),
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        tags::is_in_use();
        // Only now: until the switch, the former space's task was running here.
        if let Some(former) = self.current.replace(next).filter(|&former| former != next) {
            (self.unpin)(&SPACES[former], &mut self.random);
        }
        slice::begin();
        while !slice::is_over() {
            user::run_user(&mut self.contexts[next], &SPACES[next], |space| {
                change(space, &mut self.random);
            });
        }
        progress::count();
    }

    fn go_lazy(&mut self) {
        match tlb().enter_lazy(hw()) {
            EnteredLazy::InInitMm => {}
            EnteredLazy::StaysLoaded => {
                tags::became_lazy();
                walkers::became_lazy(|| tlb().kernel().this_cpu(hw()).loaded_mm(hw()));
                SWITCHES.stayed_lazy.fetch_add(1, Ordering::Relaxed);
            }
            EnteredLazy::LeftForInitMm => _ = SWITCHES.left.fetch_add(1, Ordering::Relaxed),
            other => unreachable!("this kernel knows no {other:?}"),
        }
        if let Some(former) = self.current.take() {
            (self.unpin)(&SPACES[former], &mut self.random);
        }
    }

    /// Leaves for the kernel's own space, as before a CPU goes offline; returns the reads of its tasks.
    pub fn leave(mut self) -> u64 {
        self.go_lazy();
        tlb().switch_mm(hw(), MmHandle(0));
        self.contexts.iter().map(UserContext::reads).sum()
    }
}
