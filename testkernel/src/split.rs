//! Shootdowns in steps: several pages of two spaces are changed, then one wait; with interrupts off by chance, also for
//! the locks.

use core::sync::atomic::Ordering;

use lazytlb::{FlushRange, Pinned, Poll, Shootdown, Tables, VirtAddr};
use spin::MutexGuard;
use x86_64::instructions::interrupts::without_interrupts;

use crate::breaks::Break;
use crate::changes;
use crate::freeing;
use crate::limits::WORDS;
use crate::machine::{hw, tlb};
use crate::page_id::{Place, Region};
use crate::paging::{self, Level};
use crate::sched::Random;
use crate::space::{Page, Pages, SPACES, Space};
use crate::trap;
use crate::{breaking, clock, frames, patience};

/// Kernel code is never preempted here.
struct NeverPreempted;

impl Pinned for NeverPreempted {}

/// Frames that go once the shootdown is over.
#[derive(Default)]
struct Removed {
    frames: [Option<lazytlb::PhysAddr>; MOST_PAGES],
    len: usize,
}

/// Pages that are changed of each space, and of both: more than a CPU has requests.
const PAGES_OF_EACH: usize = 5;
const MOST_PAGES: usize = 2 * PAGES_OF_EACH;

/// Pages of a region that are changed together.
struct Part<'a> {
    space: &'a Space,
    pages: MutexGuard<'a, Pages>,
    region: Region,
    /// The first of them, and how many.
    first: usize,
    len: usize,
}

/// Changes pages of a space, and of another one if that is alive.
pub fn change(space: &Space, random: &mut Random) {
    let chance = random.next();
    let other =
        &SPACES[(space.index().0 + 1 + chance as usize % (SPACES.len() - 1)) % SPACES.len()];
    let other = other.pin().then_some(other);
    match chance >> 8 & 1 {
        0 => without_interrupts(|| change_both(space, other, random)),
        _ => change_both(space, other, random),
    }
    if let Some(other) = other {
        other.unpin();
    }
    changes::count_change();
}

fn change_both(space: &Space, other: Option<&Space>, random: &mut Random) {
    // Every CPU takes locks in the order of spaces.
    let (first, second) = match other {
        Some(other) if other.index().0 < space.index().0 => (other, Some(space)),
        other => (space, other),
    };
    let first = Part::lock(first, random.next());
    let second = second.map(|space| Part::lock(space, random.next()));
    let chance = random.next();
    let parts = [Some(first), second];
    let [first, second] = parts.each_ref().map(|part| part.as_ref()?.removes());
    match (first, second) {
        (Some(first), Some(second)) => {
            first.removing(|| second.removing(|| flush(parts, chance)));
        }
        (Some(one), None) | (None, Some(one)) => one.removing(|| flush(parts, chance)),
        (None, None) => flush(parts, chance),
    }
}

/// Changes the pages, with one shootdown for all.
fn flush(parts: [Option<Part<'_>>; 2], chance: u64) {
    let guard = NeverPreempted;
    let mut parts = parts;
    let mut removed = Removed::default();
    for part in parts.iter().flatten() {
        part.places()
            .filter_map(|(page, _)| part.pages[page].frame)
            .for_each(|frame| removed.push(frame));
    }
    let mut shootdown = tlb().start(hw(), &guard, removed);
    let last = parts.iter().flatten().count() - 1;
    for (n, part) in parts.iter_mut().flatten().enumerate() {
        if n == last && chance & 3 == 0 {
            send_and_forget(part);
        }
        let loses = n > 0 && n == last && breaking::is(Break::LoseAdd);
        part.change(chance >> (8 + 8 * n), (!loses).then_some(&mut shootdown));
        if chance >> 4 & 3 == 0 {
            tlb().send(hw(), &mut shootdown);
        }
    }
    if chance >> 6 & 1 == 0 {
        tlb().send(hw(), &mut shootdown);
        clock::wait_microseconds(chance >> 40 & 15);
    }
    let (removed, report) = patience::waiting(|| tlb().wait(hw(), shootdown));
    freeing::count(report);
    for part in parts.iter().flatten() {
        part.publish();
    }
    removed.free();
}

/// Sends a shootdown that nobody waits for: the one that is under way must not take its answers for its own.
fn send_and_forget(part: &Part<'_>) {
    let mut forgotten = tlb().start(hw(), &NeverPreempted, ());
    let page = FlushRange::page(VirtAddr(part.region.address()));
    let handle = part.space.handle();
    tlb().add(hw(), &mut forgotten, handle, page, Tables::Kept);
    tlb().send(hw(), &mut forgotten);
}

/// Pages that go from a space.
#[derive(Clone, Copy)]
struct Removing<'a> {
    space: &'a Space,
    places: [Option<Place>; PAGES_OF_EACH],
}

impl Removing<'_> {
    fn removing(self, remove: impl FnOnce()) {
        self.space
            .removing(self.places.into_iter().flatten(), remove);
    }
}

impl Removed {
    fn push(&mut self, frame: lazytlb::PhysAddr) {
        self.frames[self.len] = Some(frame);
        self.len += 1;
    }

    fn free(self) {
        self.frames.into_iter().flatten().for_each(frames::free);
    }
}

impl<'a> Part<'a> {
    fn lock(space: &'a Space, chance: u64) -> Part<'a> {
        let region = Region::by_chance(chance);
        let len = 1 + (chance >> 8) as usize % PAGES_OF_EACH;
        let first = (chance >> 16) as usize % (crate::page_id::PAGES_IN_REGION - len + 1);
        Part {
            space,
            pages: lock(space, region),
            region,
            first,
            len,
        }
    }

    /// Returns what will be removed, if anything.
    fn removes(&self) -> Option<Removing<'a>> {
        let mut removing = Removing {
            space: self.space,
            places: [None; PAGES_OF_EACH],
        };
        let removed = self
            .places()
            .filter(|&(page, _)| self.pages[page].frame.is_some());
        for (slot, (_, place)) in removing.places.iter_mut().zip(removed) {
            *slot = Some(place);
        }
        removing.places[0].is_some().then_some(removing)
    }

    /// Returns the pages, each with its number in the region.
    fn places(&self) -> impl Iterator<Item = (usize, Place)> + use<> {
        let pages = self.first..self.first + self.len;
        let places = self.region.places().enumerate();
        places.filter(move |(page, _)| pages.contains(page))
    }

    /// Maps what is absent, and replaces or unmaps what is there, with an add for each.
    fn change(&mut self, chance: u64, mut shootdown: Option<&mut Shootdown<'_, Removed, WORDS>>) {
        for (index, place) in self.places() {
            let Page { version, frame } = self.pages[index];
            let version = version + u32::from(frame.is_some());
            let new = (frame.is_none() || chance >> index & 1 == 0)
                .then(|| self.space.page_frame(place, version));
            let addr = VirtAddr(place.address());
            let entry = match frame {
                Some(_) => {
                    paging::find(self.space.root(), addr, Level::Pages).expect("it is mapped")
                }
                None => paging::make(self.space.root(), addr),
            };
            entry.store(
                new.map_or(0, |new| new.0 | paging::WRITABLE),
                Ordering::Release,
            );
            self.pages[index] = Page {
                version,
                frame: new,
            };
            if let Some(shootdown) = &mut shootdown
                && frame.is_some()
            {
                let page = FlushRange::page(addr);
                tlb().add(hw(), shootdown, self.space.handle(), page, Tables::Kept);
            }
        }
    }

    fn publish(&self) {
        for (index, place) in self.places() {
            self.space.publish(place, self.pages[index].version);
        }
    }
}

/// Locks a region's pages, and serves meanwhile: whoever has them may wait for this CPU.
fn lock(space: &Space, region: Region) -> MutexGuard<'_, Pages> {
    patience::waiting(|| {
        hw().poll(|hw| {
            let locked = space.try_pages_of(region);
            if locked.is_none() && !breaking::is(Break::LockWithoutServing) {
                without_interrupts(|| trap::count(tlb().serve_inbox(hw)));
            }
            locked
        })
    })
}
