//! Which words are inboxes. The protocol does not say, but no other word of a CPU has bits set in it.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::cpu::{self, MAX_CPUS};

/// The address of each CPU's inbox; 0 before anybody has told it something.
static INBOXES: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// Takes note of a CPU's inbox: a word of its state in which a bit is set.
pub fn note(cpu: usize, word: &AtomicU64) {
    INBOXES[cpu].store(&raw const *word as usize, Ordering::Relaxed);
}

/// Says whether a word is this CPU's inbox.
pub fn is_own(word: &AtomicU64) -> bool {
    owner(word) == Some(cpu::current())
}

/// Says whether a word is another CPU's inbox.
pub fn is_others(word: &AtomicU64) -> bool {
    owner(word).is_some_and(|owner| owner != cpu::current())
}

fn owner(word: &AtomicU64) -> Option<usize> {
    let address = &raw const *word as usize;
    INBOXES
        .iter()
        .position(|inbox| inbox.load(Ordering::Relaxed) == address)
}
