//! A state of the naive machine: memory, and what each CPU holds.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use lazytlb::{FlushRange, FrameKind, Spaces, VirtAddr};
use lazytlb_model::AtomicCell;

use super::number;
use crate::script::{ATOMICS, FRAMES, IDLE_ROOT, PLACES};

/// A page-table entry's place: the table's frame, and the index.
pub(super) type Location = (u8, u16);
/// A page-table store, named by the call that makes it: the CPU, and the place in its list.
pub(super) type StoreName = (u8, u8);
/// What page-table memory holds, by the stores that put it there; nothing means absent.
pub(super) type Tables = BTreeMap<Location, StoreName>;

/// A state. It shares its parts with the states in which they are the same.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) cpus: [Rc<Cpu>; 2],
    pub(super) memory: Rc<Memory>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Memory {
    pub(super) atomics: [u64; ATOMICS.len()],
    pub(super) tables: Tables,
    /// Page-table stores that were in memory once and are no more.
    pub(super) overwritten: BTreeSet<StoreName>,
    pub(super) frames: [Option<FrameKind>; FRAMES.len()],
    /// Flushes that have returned: what they cover must be out of use for ever.
    pub(super) returned: Vec<Rc<Flush>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Cpu {
    pub(super) position: u8,
    pub(super) in_handler: Option<u8>,
    pub(super) interrupts_off: bool,
    pub(super) pending: bool,
    pub(super) cr3: u8,
    pub(super) buffer: Vec<Buffered>,
    pub(super) cached: BTreeSet<Cached>,
    /// The promises that this CPU has begun and nobody has kept: the lowest free slot is taken first.
    pub(super) promises: [Option<Rc<Flush>>; 2],
}

/// An entry that is in a TLB (level 0), or in a paging-structure cache or a walk in flight (level 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Cached {
    pub(super) level: u8,
    pub(super) start: u64,
    pub(super) frame: u8,
    pub(super) writable: bool,
    /// The addresses at which it must not be used.
    pub(super) stale: Addresses,
    /// The stores that the walk read: of the root's entry, then of the table's.
    pub(super) read: (StoreName, Option<StoreName>),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Buffered {
    Atomic(AtomicCell, u64),
    Entry(StoreName),
    /// A store to user memory, the entry that translated it, and its address.
    User(Cached, VirtAddr),
}

/// Some of [`PLACES`]' addresses, a bit each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Addresses(u8);

impl Addresses {
    pub(super) const NONE: Addresses = Addresses(0);
    pub(super) const ALL: Addresses = Addresses(u8::MAX);

    pub(super) fn that(is_one: impl Fn(VirtAddr) -> bool) -> Addresses {
        let bit = |(bit, &addr): (usize, &VirtAddr)| u8::from(is_one(addr)) << bit;
        Addresses(PLACES.iter().enumerate().map(bit).sum())
    }

    pub(super) fn contains(self, addr: VirtAddr) -> bool {
        Addresses::that(|one| one == addr).0 & self.0 != 0
    }

    /// Returns those that an entry has: equal entries are equal.
    pub(super) fn of(self, entry: &Cached) -> Addresses {
        Addresses(self.0 & Addresses::that(|addr| entry.matches(addr)).0)
    }

    pub(super) fn union(self, other: Addresses) -> Addresses {
        Addresses(self.0 | other.0)
    }
}

/// A flush, and what its issuer relies on once it has returned.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Flush {
    pub(super) issuer: usize,
    pub(super) spaces: Spaces,
    pub(super) range: FlushRange,
    /// Whether whoever keeps the promise names the space's root, and not a number.
    pub(super) by_root: bool,
    /// The page tables when it began, with the issuer's own stores done.
    pub(super) tables: Tables,
    /// The stores that those had overwritten.
    pub(super) overwritten: BTreeSet<StoreName>,
}

impl State {
    pub(super) fn cpu(&mut self, cpu: usize) -> &mut Cpu {
        Rc::make_mut(&mut self.cpus[cpu])
    }

    pub(super) fn memory(&mut self) -> &mut Memory {
        Rc::make_mut(&mut self.memory)
    }

    pub(super) fn begin(&mut self, cpu: usize, flush: Flush) {
        let mut slots = self.cpu(cpu).promises.iter_mut();
        let free = slots.find(|slot| slot.is_none());
        *free.expect("no script has more open promises") = Some(Rc::new(flush));
    }

    /// Reads an atomic as a CPU sees it: its own newest buffered store, or memory.
    pub(super) fn load(&self, cpu: usize, wanted: AtomicCell) -> u64 {
        let mut newest_first = self.cpus[cpu].buffer.iter().rev();
        let own = newest_first.find_map(|store| match store {
            Buffered::Atomic(cell, value) if *cell == wanted => Some(*value),
            _ => None,
        });
        own.unwrap_or(self.memory.atomics[usize::from(wanted.0)])
    }
}

impl Cpu {
    /// Lists the page-table stores in the buffer, oldest first.
    pub(super) fn buffered_entries(&self) -> impl Iterator<Item = StoreName> {
        self.buffer.iter().filter_map(|store| match store {
            Buffered::Entry(name) => Some(*name),
            _ => None,
        })
    }
}

impl Cached {
    /// Says whether the entry translates an address, or leads to what does.
    pub(super) fn matches(&self, VirtAddr(addr): VirtAddr) -> bool {
        let len = if self.level == 0 { 1 << 12 } else { 1 << 21 };
        (self.start..self.start + len).contains(&addr)
    }
}

pub(super) fn first_state() -> State {
    let cpu = Rc::new(Cpu {
        position: 0,
        in_handler: None,
        interrupts_off: false,
        pending: false,
        cr3: number(IDLE_ROOT),
        buffer: Vec::new(),
        cached: BTreeSet::new(),
        promises: [None, None],
    });
    let memory = Rc::new(Memory {
        atomics: ATOMICS,
        tables: Tables::new(),
        overwritten: BTreeSet::new(),
        frames: FRAMES.map(Some),
        returned: Vec::new(),
    });
    State {
        cpus: [Rc::clone(&cpu), cpu],
        memory,
    }
}
