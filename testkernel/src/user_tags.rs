//! Whether a CR3 load for ring 3 may keep what it keeps, page by page: [`crate::tags`] for user halves.
//!
//! With page-table isolation ring 3 has a PCID of its own, which is not loaded while the kernel flushes. So what is removed
//! from it must be seen to go: by an INVPCID of that page with that PCID, or by a CR3 load that flushes it. These books know
//! removals and invalidations of each page, and nothing of the protocol's words. A page table that is freed counts as one
//! more page, which no INVPCID of an address removes.
//!
//! What they say is always right: a removal is counted before the entry changes, and as returned once its flush has. They overlook an
//! invalidation that came in between, before the entry had changed.

use core::sync::atomic::{AtomicU64, Ordering};

use lazytlb::{Cr3Load, Invpcid, MmHandle, MmId, Pcid, PhysAddr};

use crate::cpu::{self, MAX_CPUS};
use crate::limits::{MAX_SPACES, SLOTS};
use crate::page_id::{PLACES, Place};
use crate::{ending, tags};

/// What can be removed: each page, and tables.
const PARTS: usize = PLACES + 1;

/// A set of what is removed together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parts(u64);

impl Parts {
    /// Tables, whichever.
    pub const TABLES: Parts = Parts(1 << PLACES);

    /// Returns the set of some pages.
    pub fn pages(places: impl Iterator<Item = Place>) -> Parts {
        Parts(places.fold(0, |set, place| set | 1 << place.slot()))
    }

    /// Returns what is in either set.
    pub fn and(self, other: Parts) -> Parts {
        Parts(self.0 | other.0)
    }

    fn indices(self) -> impl Iterator<Item = usize> {
        (0..PARTS).filter(move |index| self.0 >> index & 1 != 0)
    }
}

/// Removals of one part of a space.
struct Removals {
    /// Those that began: their entries may have changed.
    began: AtomicU64,
    /// Those whose flush has returned.
    returned: AtomicU64,
}

/// By handle. Handles are reused and the counts go on: a tag is of one space only.
static SPACES: [[Removals; PARTS]; MAX_SPACES] = [const {
    [const {
        Removals {
            began: AtomicU64::new(0),
            returned: AtomicU64::new(0),
        }
    }; PARTS]
}; MAX_SPACES];

/// What a CPU has under a PCID.
struct Tag {
    mm: AtomicU64,
    /// The space's identity, which is never reused; 0 if there is none.
    id: AtomicU64,
    /// Of how many removals of each part it is clean.
    clean_to: [AtomicU64; PARTS],
}

/// By PCID; those of kernel halves are not used.
static TAGS: [[Tag; 2 * SLOTS + 1]; MAX_CPUS] = [const {
    [const {
        Tag {
            mm: AtomicU64::new(0),
            id: AtomicU64::new(0),
            clean_to: [const { AtomicU64::new(0) }; PARTS],
        }
    }; 2 * SLOTS + 1]
}; MAX_CPUS];

fn tag(pcid: Pcid) -> &'static Tag {
    &TAGS[cpu::current()][usize::from(pcid.number())]
}

/// Removes parts of a space, with a flush of them before `remove` returns. Nobody else removes the same pages meanwhile.
pub fn removing(mm: MmHandle, parts: Parts, remove: impl FnOnce()) {
    let removals = &SPACES[mm.0 as usize];
    for part in parts.indices() {
        removals[part].began.fetch_add(1, Ordering::SeqCst);
    }
    remove();
    for part in parts.indices() {
        removals[part].returned.fetch_add(1, Ordering::SeqCst);
    }
}

/// Invalidates something on this CPU, and takes note of it.
pub fn invalidating(what: Invpcid, invalidate: impl FnOnce()) {
    let Invpcid::Address(pcid, addr) = what else {
        // This protocol has no use for the others under isolation: not to know of them accuses wrongly at worst.
        return invalidate();
    };
    let tag = tag(pcid);
    let removals = &SPACES[tag.mm.load(Ordering::SeqCst) as usize];
    let part = Place::of_address(addr.0).map(Place::slot);
    // Before: what begins after the instruction is not covered by it.
    let began = part.map(|part| removals[part].began.load(Ordering::SeqCst));
    invalidate();
    if let (Some(part), Some(began)) = (part, began) {
        // A handler that came in between may have noted more.
        tag.clean_to[part].fetch_max(began, Ordering::SeqCst);
    }
}

/// Says whether what this CPU has under a PCID is of a space.
pub fn is_of(pcid: Pcid, id: MmId) -> bool {
    tag(pcid).id.load(Ordering::SeqCst) == id.0
}

/// Judges the load of a space's user half on this CPU, which comes next, and takes note of it. Interrupts are off.
pub fn load(mm: MmHandle, id: MmId, root: PhysAddr, pcid: Pcid, load: Cr3Load) {
    if tags::is_of_kernel_half(pcid) {
        ending::violation(format_args!(
            "CPU {} is to load user root {:#x} under PCID {}, which is that of a kernel half",
            cpu::current(),
            root.0,
            pcid.number()
        ));
    }
    let (tag, removals) = (tag(pcid), &SPACES[mm.0 as usize]);
    match load {
        Cr3Load::Flush => {
            tag.mm.store(mm.0, Ordering::SeqCst);
            tag.id.store(id.0, Ordering::SeqCst);
            for (clean_to, removals) in tag.clean_to.iter().zip(removals) {
                clean_to.store(removals.began.load(Ordering::SeqCst), Ordering::SeqCst);
            }
        }
        Cr3Load::Keep => judge(tag, removals, id, root, pcid),
    }
}

/// Ends the run if what is cached under a PCID must not be kept.
fn judge(tag: &Tag, removals: &[Removals; PARTS], id: MmId, root: PhysAddr, pcid: Pcid) {
    let (cpu, pcid, owner) = (cpu::current(), pcid.number(), tag.id.load(Ordering::SeqCst));
    let MmId(id) = id;
    let (root, kept) = (root.0, "and kept for ring 3 what PCID");
    if owner != id {
        ending::violation(format_args!(
            "CPU {cpu} loaded user root {root:#x} (space id {id}) {kept} {pcid} has cached of another space (id {owner})"
        ));
    }
    for (part, (clean_to, removals)) in tag.clean_to.iter().zip(removals).enumerate() {
        let clean_to = clean_to.load(Ordering::SeqCst);
        let returned = removals.returned.load(Ordering::SeqCst);
        if returned <= clean_to {
            continue;
        }
        let late = format_args!(
            "clean to removal {clean_to}, but the flush of removal {returned} has returned"
        );
        match Place::of_slot(part as u64) {
            Some(place) => ending::violation(format_args!(
                "CPU {cpu} loaded user root {root:#x} (space id {id}) {kept} {pcid} has cached of {:#x}: {late}",
                place.address()
            )),
            None => ending::violation(format_args!(
                "CPU {cpu} loaded user root {root:#x} (space id {id}) {kept} {pcid} has cached of page tables: {late}"
            )),
        }
    }
}
