//! Whether a CR3 load may keep what it keeps: for each PCID of each CPU, whose it is and how far it is clean.
//!
//! No emulator here has a TLB with tags: a load that wrongly keeps something is followed by no wrong read. So this
//! kernel keeps books of its own, apart from the protocol's: a load may keep what is cached under a PCID only
//! if the same space was loaded under it last, and no flush of that space began and returned since then. What it says
//! is always right; with flushes under way when a CPU leaves a space, it may say nothing of as many.
//!
//! ```text
//! CPU 1 runs in S                    removals that began (returned or under way): 7; all that returned hit CPU 1
//! CPU 1 leaves S: clean to 7
//!                                    8 removals have returned: one at least missed CPU 1
//! CPU 1 loads S and keeps: wrong
//! ```

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lazytlb::{Cr3Load, MmHandle, MmId, Pcid, PhysAddr};

use crate::cpu::{self, MAX_CPUS};
use crate::ending;
use crate::limits::{MAX_SPACES, SLOTS};

/// What is known here of a space.
struct Known {
    /// 0 while it is dead.
    root: AtomicU64,
    id: AtomicU64,
    /// Removals whose flush has not returned, and those whose flush has.
    under_way: AtomicU64,
    returned: AtomicU64,
}

static SPACES: [Known; MAX_SPACES] = [const {
    Known {
        root: AtomicU64::new(0),
        id: AtomicU64::new(0),
        under_way: AtomicU64::new(0),
        returned: AtomicU64::new(0),
    }
}; MAX_SPACES];

/// What a CPU has under a PCID.
struct Tag {
    /// The space that was loaded last under it, by an identity that is never reused; 0 if none was.
    id: AtomicU64,
    /// What is cached is free of so many of the space's removals.
    clean_to: AtomicU64,
}

/// One CPU's books.
struct Books {
    tags: [Tag; SLOTS + 1],
    loaded: AtomicU64,
    /// Flushes may skip this CPU: it is clean to where it was when it became lazy.
    is_lazy: AtomicBool,
}

static BOOKS: [Books; MAX_CPUS] = [const {
    Books {
        tags: [const {
            Tag {
                id: AtomicU64::new(0),
                clean_to: AtomicU64::new(0),
            }
        }; SLOTS + 1],
        loaded: AtomicU64::new(0),
        is_lazy: AtomicBool::new(false),
    }
}; MAX_CPUS];

/// The root that each CPU has loaded, noted after the load: what stands here may be an older one, but never one that is
/// not in use any more once its CPU has said so to the protocol.
static ROOTS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

impl Known {
    fn of_root(root: PhysAddr) -> &'static Known {
        let found = SPACES
            .iter()
            .find(|space| space.root.load(Ordering::SeqCst) == root.0);
        found.expect("only roots of live spaces are loaded")
    }

    fn of_id(id: u64) -> Option<&'static Known> {
        SPACES
            .iter()
            .find(|space| space.id.load(Ordering::SeqCst) == id)
    }

    fn id(&self) -> u64 {
        self.id.load(Ordering::SeqCst)
    }

    /// Counts the removals that began: those under way first, or one that returns in between is missed.
    fn began(&self) -> u64 {
        let under_way = self.under_way.load(Ordering::SeqCst);
        under_way + self.returned.load(Ordering::SeqCst)
    }
}

/// Whose a PCID is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tagged {
    Nobody,
    ThisSpace,
    OtherSpace,
}

/// Takes note that there is a space.
pub fn created(handle: MmHandle, id: MmId, root: PhysAddr) {
    let space = &SPACES[handle.0 as usize];
    space.id.store(id.0, Ordering::SeqCst);
    space.returned.store(0, Ordering::SeqCst);
    space.root.store(root.0, Ordering::SeqCst);
}

/// Takes note that this CPU has loaded a root, with PCIDs or without.
pub fn loaded(root: PhysAddr) {
    ROOTS[cpu::current()].store(root.0, Ordering::SeqCst);
}

/// Takes note that a space is no more, before its root is freed: no CPU may have it loaded.
pub fn ended(handle: MmHandle) {
    let root = SPACES[handle.0 as usize].root.swap(0, Ordering::SeqCst);
    let holder = ROOTS
        .iter()
        .position(|loaded| loaded.load(Ordering::SeqCst) == root);
    if let Some(holder) = holder {
        let cpu = cpu::current();
        ending::violation(format_args!(
            "CPU {holder} has root {root:#x} loaded, which CPU {cpu} is about to free"
        ));
    }
}

/// Removes something from a space, with a flush of it before `remove` returns.
pub fn removing(handle: MmHandle, remove: impl FnOnce()) {
    let space = &SPACES[handle.0 as usize];
    space.under_way.fetch_add(1, Ordering::SeqCst);
    remove();
    space.returned.fetch_add(1, Ordering::SeqCst);
    space.under_way.fetch_sub(1, Ordering::SeqCst);
}

/// Takes note that this CPU has become lazy in the space that is loaded.
pub fn became_lazy() {
    let books = &BOOKS[cpu::current()];
    if !books.is_lazy.swap(true, Ordering::SeqCst) {
        books.note_clean();
    }
}

/// Takes note that this CPU is not lazy any more, and has caught up.
pub fn is_in_use() {
    BOOKS[cpu::current()].is_lazy.store(false, Ordering::SeqCst);
}

/// Says whose a PCID of this CPU is, as the space with this root is about to be loaded under it.
pub fn tagged(pcid: Pcid, root: PhysAddr) -> Tagged {
    let tag = BOOKS[cpu::current()].tag(pcid);
    match tag.id.load(Ordering::SeqCst) {
        0 => Tagged::Nobody,
        id if id == Known::of_root(root).id() => Tagged::ThisSpace,
        _ => Tagged::OtherSpace,
    }
}

/// Says whether this CPU has loaded a space under a PCID: always, if there are none.
pub fn is_loaded(pcid: Pcid) -> bool {
    BOOKS[cpu::current()].loaded.load(Ordering::SeqCst) == u64::from(pcid.number())
}

/// Says whether this CPU has had a space's kernel half under a PCID.
pub fn is_of_kernel_half(pcid: Pcid) -> bool {
    let tag = BOOKS[cpu::current()].tags.get(usize::from(pcid.number()));
    tag.is_some_and(|tag| tag.id.load(Ordering::SeqCst) != 0)
}

/// Judges a CR3 load of this CPU, and takes note of it. Interrupts are off.
pub fn load(pcid: Pcid, root: PhysAddr, load: Cr3Load) {
    let books = &BOOKS[cpu::current()];
    let (tag, space) = (books.tag(pcid), Known::of_root(root));
    if !books.is_lazy.swap(false, Ordering::SeqCst) {
        books.note_clean();
    }
    match load {
        Cr3Load::Flush => {
            tag.id.store(space.id(), Ordering::SeqCst);
            tag.clean_to.store(space.began(), Ordering::SeqCst);
        }
        Cr3Load::Keep => judge(pcid, tag, space),
    }
    books.loaded.store(pcid.number().into(), Ordering::SeqCst);
}

impl Books {
    fn tag(&self, pcid: Pcid) -> &Tag {
        &self.tags[usize::from(pcid.number())]
    }

    /// Takes note that what is cached of the loaded space is clean now: every flush of it that returned has been
    /// served here.
    fn note_clean(&self) {
        let tag = &self.tags[self.loaded.load(Ordering::SeqCst) as usize];
        if let Some(space) = Known::of_id(tag.id.load(Ordering::SeqCst)) {
            tag.clean_to.store(space.began(), Ordering::SeqCst);
        }
    }
}

/// Ends the run if what is cached under a PCID must not be kept for a space.
fn judge(pcid: Pcid, tag: &Tag, space: &Known) {
    if pcid == Pcid::KERNEL {
        // The kernel's own space has no mapping that is ever removed, and nothing else has its PCID.
        return;
    }
    let (cpu, pcid) = (cpu::current(), pcid.number());
    let (id, root) = (space.id(), space.root.load(Ordering::SeqCst));
    let owner = tag.id.load(Ordering::SeqCst);
    if owner != id {
        ending::violation(format_args!(
            "CPU {cpu} loaded root {root:#x} (space id {id}) and kept what PCID {pcid} has cached of another space (id {owner})"
        ));
    }
    let (clean_to, returned) = (
        tag.clean_to.load(Ordering::SeqCst),
        space.returned.load(Ordering::SeqCst),
    );
    if returned > clean_to {
        ending::violation(format_args!(
            "CPU {cpu} loaded root {root:#x} (space id {id}) and kept what PCID {pcid} has cached: clean to removal \
             {clean_to}, but the flush of removal {returned} has returned"
        ));
    }
}
