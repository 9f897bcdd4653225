//! Frames of 2 MiB, for pages of that size: last freed, first reused, and poisoned while free, as far as they are used.

use lazytlb::PhysAddr;
use spin::Mutex;
use x86_64::instructions::interrupts::without_interrupts;

use crate::frames;
use crate::page_id::PAGES_IN_REGION;

const BYTES: u64 = 2 << 20;
/// One for each region of the spaces, and some that are about to take the place of another.
const COUNT: usize = ((frames::LARGE.end - frames::LARGE.start) / BYTES) as usize;

/// Whether each is free.
static FREE: Mutex<[bool; COUNT]> = Mutex::new([false; COUNT]);

/// Makes all of them free.
pub fn set_up() {
    let all = (0..COUNT as u64).map(|index| PhysAddr(frames::LARGE.start + index * BYTES));
    all.for_each(free);
}

/// Returns the part of a frame that a page of 4 KiB would take.
pub fn part(frame: PhysAddr, index: usize) -> PhysAddr {
    PhysAddr(frame.0 + ((index as u64) << 12))
}

fn parts(frame: PhysAddr) -> impl Iterator<Item = PhysAddr> {
    (0..PAGES_IN_REGION).map(move |index| part(frame, index))
}

/// Takes a frame of zeros, if there is one.
pub fn alloc() -> Option<PhysAddr> {
    let index = without_interrupts(|| {
        let mut free = FREE.lock();
        let index = free.iter().position(|free| *free)?;
        free[index] = false;
        Some(index)
    })?;
    let frame = PhysAddr(frames::LARGE.start + index as u64 * BYTES);
    parts(frame).for_each(frames::clean);
    Some(frame)
}

/// Gives a frame back.
pub fn free(frame: PhysAddr) {
    parts(frame).for_each(|part| frames::fill(part, frames::POISON));
    let index = ((frame.0 - frames::LARGE.start) / BYTES) as usize;
    let was_free = without_interrupts(|| core::mem::replace(&mut FREE.lock()[index], true));
    assert!(!was_free, "a large frame was freed twice");
}

/// Returns how many are free.
pub fn free_count() -> usize {
    without_interrupts(|| FREE.lock().iter().filter(|free| **free).count())
}
