//! Physical frames: last freed, first reused, and poisoned while free.
//!
//! The poison is at once a page-table entry that leads to a decoy, and contents that no page has. So a
//! walk through a freed table, a read of a freed page, and a store into either are all noticed.

use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::PhysAddr;
use spin::Mutex;
use x86_64::instructions::interrupts::without_interrupts;

use crate::ending;

const FIRST: u64 = 16 << 20;
/// How many there are.
pub const COUNT: usize = 1024;
const WORDS: usize = 512;
/// Where [`crate::large_frames`] keeps its own, past all these.
pub const LARGE: core::ops::Range<u64> = 32 << 20..80 << 20;
/// The frame that the poison, read as an entry, maps: present, writable, for ring 3, not accessed.
const DECOY: u64 = FIRST + ((COUNT as u64) << 12);
/// What every word of a free frame holds.
pub const POISON: u64 = DECOY | 0b111;

struct Free {
    frames: [u64; COUNT],
    len: usize,
}

static FREE: Mutex<Free> = Mutex::new(Free {
    frames: [0; COUNT],
    len: 0,
});
/// Frames unhooked, whose flush has not returned; and the most that there ever were.
pub static HELD: AtomicU64 = AtomicU64::new(0);
pub static MOST_HELD: AtomicU64 = AtomicU64::new(0);

/// Fills the list.
pub fn set_up() {
    fill(PhysAddr(DECOY), POISON);
    for index in (0..COUNT as u64).rev() {
        free(PhysAddr(FIRST + (index << 12)));
    }
}

/// Returns a word of a frame, which lies in memory that is mapped one to one.
pub fn word(frame: PhysAddr, index: usize) -> &'static AtomicU64 {
    assert!(
        index < WORDS && ((FIRST..=DECOY).contains(&frame.0) || LARGE.contains(&frame.0)),
        "word {index} of {:#x} is not a frame's",
        frame.0
    );
    // SAFETY: frames are mapped one to one, used through atomics only, and used by nothing else.
    unsafe { AtomicU64::from_ptr((frame.0 as *mut u64).add(index)) }
}

/// Says whether an address is that of a frame.
pub fn is_one(frame: PhysAddr) -> bool {
    (FIRST..DECOY).contains(&frame.0)
}

/// Returns a frame's number, below [`COUNT`].
pub fn index(frame: PhysAddr) -> usize {
    assert!(is_one(frame), "{:#x} is no frame", frame.0);
    ((frame.0 - FIRST) >> 12) as usize
}

/// Writes the same word everywhere in a frame.
pub fn fill(frame: PhysAddr, value: u64) {
    for index in 0..WORDS {
        word(frame, index).store(value, Ordering::Relaxed);
    }
}

/// Takes a frame of zeros.
pub fn alloc() -> PhysAddr {
    let frame = without_interrupts(|| {
        let mut free = FREE.lock();
        assert!(free.len > 0, "out of frames");
        free.len -= 1;
        PhysAddr(free.frames[free.len])
    });
    clean(frame);
    frame
}

/// Looks at whether anybody has changed a free frame, and fills it with zeros.
pub fn clean(frame: PhysAddr) {
    for index in 0..WORDS {
        let found = word(frame, index).load(Ordering::Relaxed);
        if found != POISON {
            ending::violation(format_args!(
                "CPU {} found word {index} of the free frame {:#x} changed to {found:#x}: a store or a \
                 walk reached it after it was freed",
                crate::cpu::current(),
                frame.0
            ));
        }
    }
    fill(frame, 0);
}

/// Gives a frame back.
pub fn free(frame: PhysAddr) {
    fill(frame, POISON);
    without_interrupts(|| {
        let mut free = FREE.lock();
        let len = free.len;
        assert!(len < COUNT, "a frame was freed twice");
        free.frames[len] = frame.0;
        free.len += 1;
    });
}

/// Returns how many frames are free.
pub fn free_count() -> usize {
    without_interrupts(|| FREE.lock().len)
}

/// Counts frames that were unhooked and wait for a flush.
pub fn hold(count: u64) {
    let held = HELD.fetch_add(count, Ordering::Relaxed) + count;
    MOST_HELD.fetch_max(held, Ordering::Relaxed);
}
